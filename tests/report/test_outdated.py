"""Pages that were made with other settings than the grid has now are known by their records."""

import json
import shutil
from dataclasses import replace

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook
from test_parameters import GRID

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.report import book, chapters, compare, history
from whoknows.run import grid, parameters
from whoknows.run.page import scrub

ONE = replace(GRID, models=GRID.models[:1], methods=("probe",), search=grid.Search())
TINY = ONE.models[0].name


def names() -> dict[str, tuple]:
    """The pages of a run of one model, and what its stages go by."""
    told = {f"answer-{TINY}": (TINY,), f"extract-{TINY}": (TINY,), f"probe-{TINY}_{TINY}_seed0": (TINY, TINY, "0")}
    told |= {f"cell-probe_{TINY}_{TINY}": ("probe", TINY, TINY), f"ablate-{TINY}": (TINY,)}
    return {"questions": (), **told, "surface": (), "heatmaps": (), "claims": ()}


def write(folder, name, values, reads=None, wrote=None, suffix=""):
    about = {"parameters": values, "inputs": reads or {}, "outputs": wrote or {}}
    metadata = {"papermill": about} if suffix else {"whoknows": about | {"stage": name.partition("-")[0]}}
    page = new_notebook(cells=[new_markdown_cell(f"# {name}")], metadata=metadata)
    files.write_text(folder / f"{name}{suffix}.ipynb", nbformat.writes(page))


@pytest.fixture
def run(tmp_path):
    """A run's pages, in whose records a digest is a file's own path."""
    for name, told in names().items():
        values = json.loads(parameters.of(name.partition("-")[0])(ONE, *told))
        paths = [*values.get("answers", {}).values()] + [values[key] for key in ("features", "rows") if key in values]
        outputs = [values[key] for key in ("out", "rows_out") if key in values]
        write(tmp_path / "notebooks", name, values, *(dict(zip(each, each)) for each in (paths, outputs)))
    return tmp_path / "notebooks"


def outdated(folder, chosen):
    return [page.name for page in chapters.collect(folder, chosen) if page.outdated]


AFTER_PROBE = [f"probe-{TINY}_{TINY}_seed0", "heatmaps", f"cell-probe_{TINY}_{TINY}", "claims"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"name": "other", "beside": None}, []),
        ({"probe": replace(ONE.probe, strengths=(5.0,))}, AFTER_PROBE),
        ({"controls": replace(ONE.controls, sizes=(7,))}, [f"ablate-{TINY}"]),
        ({"answer": replace(ONE.answer, max_new_tokens=7)}, [name for name in names() if name != "questions"]),
    ],
)
def test_a_page_of_other_settings_is_outdated_and_so_is_what_reads_its_files(run, change, expected):
    assert sorted(outdated(run, replace(ONE, **change))) == sorted(expected)


def test_a_run_whose_grid_was_changed_after_it_is_not_compared(run):
    now = replace(ONE, probe=replace(ONE.probe, strengths=(5.0,)))
    files.write_text(run.parent / "grid.yml", grid.text(now, run.parent))
    old = f"{len(AFTER_PROBE)} of its {len(names())} notebooks, such as {AFTER_PROBE[0]}, were made before the grid"
    with pytest.raises(WhoknowsError, match=f"{old}.*; run make book"):
        compare.read(run.parent)


def test_what_read_the_files_of_a_stage_that_failed_or_wrote_others_since_is_outdated(run):
    values = json.loads(parameters.probe(ONE, TINY, TINY, "0"))
    write(run, f"probe-{TINY}_{TINY}_seed0", values, suffix=".failed")
    assert outdated(run, ONE) == ["heatmaps", f"cell-probe_{TINY}_{TINY}", "claims"]
    (run / f"probe-{TINY}_{TINY}_seed0.failed.ipynb").unlink()
    values = json.loads(parameters.extract(ONE, TINY))
    write(run, f"extract-{TINY}", values, {}, {values["out"]: "another"})
    assert sorted(outdated(run, ONE)) == sorted([*AFTER_PROBE, f"ablate-{TINY}"])


def test_other_places_and_files_that_are_not_here_are_no_other_settings(tmp_path):
    task = grid.Task("mine", "train", file="there/q.csv", size=3)
    chosen = replace(ONE, tasks=(task,), models=(grid.Model("far", answers="there/a.csv"), ONE.models[0]))
    told = {"model": "far", "answers": "/before/a.csv", "columns": {}, "digest": "0123"}
    write(tmp_path, "answer_file-far", told)
    asked = {"name": "mine", "role": "train", "size": 3, "file": "/before/q.csv", "digest": "0123"}
    write(tmp_path, "questions", {"tasks": [asked]})
    assert outdated(tmp_path, chosen) == [], "neither file is here"
    for name in "qa":
        files.write_text(tmp_path / f"there/{name}.csv", "question,answer\nWhy?,so\n")
    models = (replace(chosen.models[0], answers=str(tmp_path / "there/a.csv")), ONE.models[0])
    here = replace(chosen, models=models, tasks=(replace(task, file=str(tmp_path / "there/q.csv")),))
    assert outdated(tmp_path, here) == ["questions", "answer_file-far"], "others are"
    digest = files.digest(tmp_path / "there/a.csv")
    write(tmp_path, "answer_file-far", told | {"digest": digest})
    write(tmp_path, "questions", {"tasks": [asked | {"digest": digest}]})
    assert outdated(tmp_path, here) == [], "the same are"


def test_the_packed_run_of_another_folder_is_outdated(tmp_path):
    packed = files.ROOT / "book/data/embedded-full"
    shutil.copytree(packed, tmp_path / "other")
    chosen = replace(ONE, beside=str(packed))
    values = json.loads(scrub(parameters.beside(chosen, "claims")))
    write(tmp_path, "beside-claims", values)
    assert outdated(tmp_path, chosen) == []
    assert outdated(tmp_path, replace(chosen, beside=str(tmp_path / "other"))) == ["beside-claims"]


def test_what_is_known_by_the_name_of_its_page_is_compared_too(tmp_path):
    chosen = replace(GRID, controls=replace(GRID.controls, lora=("left_out",)))
    variant = next(iter(parameters.lora_variants(chosen)))
    write(tmp_path, f"ablate_lora-{TINY}_{variant}", json.loads(parameters.ablate_lora(chosen, TINY, variant)))
    assert outdated(tmp_path, chosen) == []
    changed = replace(chosen, lora_prompt=replace(chosen.lora_prompt, r=32))
    assert outdated(tmp_path, changed) == [f"ablate_lora-{TINY}_{variant}"]


def test_a_book_says_which_of_its_pages_show_earlier_settings(run, tmp_path, monkeypatch):
    asked = replace(ONE, controls=replace(ONE.controls, sizes=(7,)))
    files.write_text(tmp_path / "grid.yml", grid.text(asked, tmp_path))
    monkeypatch.setattr(book.notebook, "run", lambda _, path, values: write(path.parent, path.stem, values))
    source = book.write(tmp_path / "grid.yml", tmp_path)
    first, ablated, answered = (
        (source / f"{name}.ipynb").read_text() for name in ("index", f"run/ablate-{TINY}", f"run/answer-{TINY}")
    )
    assert [text.count("Earlier settings") for text in (first, ablated, answered)] == [1, 1, 0]
    assert "So were 1 of the 9 notebooks" in first
    record = (source / "run/record.md").read_text()
    assert f"| [ablate-{TINY}](ablate-{TINY}.ipynb) | earlier settings |" in record and history.UNFINISHED in record
