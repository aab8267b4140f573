"""Every notebook can be opened and run by itself, and stays as it is when JupyterLab saves it."""

import re
from pathlib import Path

import altair as alt
import jupytext
import pandas as pd
import pytest
from jupytext.config import load_jupytext_config

from whoknows import lab

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_its_first_cell_says_what_it_needs(path):
    title, parameters = jupytext.read(path, fmt="py:percent").cells[:2]
    assert title.cell_type == "markdown" and title.source.startswith("# ")
    assert re.search(r"\bNeeds\b", title.source + parameters.source), "the parameters' cell is on no page, the title's is on the first"
    assert parameters.metadata.tags == ["parameters"]


def test_its_functions_are_in_the_library(path):
    assert not re.search(r"^\s*(def|class) ", path.read_text(), re.MULTILINE)


def test_saving_it_in_jupyterlab_changes_no_cell(path):
    config = load_jupytext_config(str(path))
    opened = jupytext.read(path, config=config)
    assert [cell.metadata.get("tags") for cell in opened.cells].count(["parameters"]) == 1
    header = re.compile(r"\A(?:# ---\n(?:#.*\n)*# ---\n\n)?")
    assert jupytext.writes(opened, fmt="py:percent", config=config) == header.sub("", path.read_text())


def test_what_make_lab_tells_a_kernel_draws_charts_without_another_host(monkeypatch):
    (told,) = re.findall(r"exec_lines = \['(.+?)'\]", (ROOT / "Makefile").read_text())
    chart = alt.Chart(pd.DataFrame({"a": [1]})).mark_point().encode(x="a:Q")
    before = alt.renderers.active
    try:
        exec(told, {})
        shown = chart._repr_mimebundle_()
    finally:
        alt.renderers.enable(before)
    assert list(shown) == [lab.CHART, "text/plain"] and shown[lab.CHART]["mark"]["type"] == "point"


@pytest.mark.parametrize("name", ["grids", "results"])
def test_from_notebooks_the_same_files_are_found_as_from_the_root(name):
    link = ROOT / "notebooks" / name
    assert link.is_symlink() and link.resolve() == ROOT / name
