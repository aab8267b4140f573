"""Every notebook can be opened and run by itself, and stays as it is when JupyterLab saves it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import altair as alt
import jupytext
import pandas as pd
import pytest
from jupytext.config import load_jupytext_config

import browser
from made_up import spied
from whoknows.data import files
from whoknows.models import loading
from whoknows.report import book
from whoknows.report.pages import cell, style
from whoknows.run import page
from whoknows.stages import (
    ablations,
    answer,
    answer_api,
    answer_file,
    extract,
    judge,
    lora_prompt,
    probe,
    search,
    sweep,
)

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_its_first_cell_says_what_it_needs(path):
    title, parameters = jupytext.read(path, fmt="py:percent").cells[:2]
    assert title.cell_type == "markdown" and title.source.startswith("# ")
    assert re.search(r"\bNeeds\b", title.source + parameters.source), (
        "the parameters' cell is on no page, the title's is on the first"
    )
    assert parameters.metadata.tags == ["parameters"]


def test_its_functions_are_in_the_library(path):
    assert not re.search(r"^\s*(def|class) ", path.read_text(), re.MULTILINE)


@pytest.mark.slow
def test_those_that_load_no_language_model_do_not_wait_for_transformers():
    loading_one = {"answer", "extract", "lora_prompt", "search"}
    imports = re.compile(r"^from whoknows.*$", re.MULTILINE)
    lines = [line for path in NOTEBOOKS if path.stem not in loading_one for line in imports.findall(path.read_text())]
    assert len(lines) > 20
    code = "\n".join([*lines, "import sys", "sys.exit('transformers' in sys.modules)"])
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_saving_it_in_jupyterlab_changes_no_cell(path):
    config = load_jupytext_config(str(path))
    opened = jupytext.read(path, config=config)
    assert [cell.metadata.get("tags") for cell in opened.cells].count(["parameters"]) == 1
    assert opened.metadata.kernelspec.name == "python3", "or JupyterLab asks which kernel it should have"
    assert jupytext.writes(opened, fmt="py:percent", config=config) == path.read_text()


def test_by_hand_it_writes_into_no_run(path):
    values = page.parameters(jupytext.read(path, fmt="py:percent"))
    written = {key: value for key, value in values.items() if key in ("out", "rows_out", "log")}
    assert all(value.startswith("results/by-hand/") for value in written.values()) and bool(written) == (
        path.stem != "explore"
    )


class Handed(Exception):
    """The function that does a stage was called."""


READ, LOADED = {"a": "read answers"}, "the model"
# Who does a stage, and what it is handed besides its notebook's parameters of the same names.
DONE_BY = {
    "answer": (answer, "run", {"reader": LOADED, "questions": "read questions", "shard": None}),
    "answer_file": (answer_file, "run", {"questions": "read questions"}),
    "answer_api": (answer_api, "run", {"questions": "read questions"}),
    "extract": (extract, "run", {"name": "reader", "reader": LOADED, "answers": READ, "folder": "out", "shard": None}),
    "probe": (probe, "run", {"name": "reader", "answers": READ, "folder": "features"}),
    "lora_prompt": (lora_prompt, "cell", {}),
    "surface": (ablations, "without_reader", {"answers": READ}),
    "ablate": (ablations, "of_reader", {"name": "reader", "answers": READ, "folder": "features"}),
    "search": (search, "cell", {}),
    "sweep": (sweep, "run", {"name": "reader", "answers": READ, "folder": "features"}),
    "judge": (judge, "grade", {"answers": "read answers", "model": "judge_model", "log": Path("log")}),
}


@pytest.mark.parametrize("stage", DONE_BY)
def test_it_hands_its_parameters_on_to_the_function_that_does_its_stage(stage, monkeypatch):
    owner, name, others = DONE_BY[stage]
    source = jupytext.read(ROOT / f"notebooks/{stage}.py", fmt="py:percent")
    values = {
        key: {"a": key} if key == "answers" and isinstance(value, dict) else key
        for key, value in page.parameters(source).items()
    }

    def stop(*_, **__):
        raise Handed

    monkeypatch.setattr(files, "read_parquet", lambda path: f"read {path}")
    loaded, handed = spied(monkeypatch, loading, "load", lambda *_: LOADED), spied(monkeypatch, owner, name, stop)
    code = [cell.source for cell in source.cells if cell.cell_type == "code"]
    with pytest.raises(Handed):
        exec(code[1], dict(values))
    given = handed[0] | handed[0].pop("used", {})
    assert given == {key: others[key] if key in others else values[key] for key in given}
    reading = {"source", "precision", "template", "digest"} & values.keys()
    assert loaded == [{key: key for key in reading}] if LOADED in given.values() else reading <= given.keys()


def test_what_make_lab_tells_a_kernel_draws_charts_without_another_host(monkeypatch):
    (line,) = re.findall(r"exec_lines = \['(.+?)'\]", (ROOT / "Makefile").read_text())
    chart = alt.Chart(pd.DataFrame({"a": [1]})).mark_point().encode(x="a:Q").properties(width="container")
    before = alt.renderers.active
    try:
        exec(line, {})
        shown = chart._repr_mimebundle_()
    finally:
        alt.renderers.enable(before)
    assert list(shown) == [style.CHART, "text/plain"] and shown[style.CHART]["mark"]["type"] == "point"
    assert shown[style.CHART]["width"] == style.WIDTH and chart.to_dict()["width"] == "container"


@pytest.mark.slow
def test_where_there_is_no_room_yet_a_chart_has_a_picture(tmp_path):
    """JupyterLab draws a chart in a cell that is not laid out, and again and again until the PNG of it is not empty."""
    spec = cell.layer_curve([{"layer": layer, "strength": 1.0, "validation_auroc": 0.5} for layer in (0, 1)]).to_dict()
    specs = {"book": spec, "lab": style.bundle(spec)[style.CHART]}
    book.write_charts(tmp_path)
    (tmp_path / "index.html").write_text("<script src='vega.js'></script><div id='none' style='width: 0'></div>")
    draw = (
        "whoknowsVega.vegaEmbed('#none', {}, {{renderer: 'canvas'}}).then(drawn => drawn.view.toImageURL('png'))"
        ".then(url => (url.split(',')[1] ?? '').length)"
    )
    with browser.open_book(tmp_path / "index.html") as tab:
        tab.visit()
        drawn = {name: tab.read(draw.format(json.dumps(one))) for name, one in specs.items()}
    assert drawn["book"] == 0 and drawn["lab"] > 1000


@pytest.mark.parametrize("name", ["grids", "results"])
def test_from_notebooks_the_same_files_are_found_as_from_the_root(name):
    link = ROOT / "notebooks" / name
    assert link.is_symlink() and link.resolve() == ROOT / name
