"""A bundle has all that is left of a finished run, says what it holds, and is the same each time."""

import hashlib
import json
import os
import zipfile

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from test_pack import results  # noqa: F401 (a fixture)
from test_parameters import GRID, ROOT

from whoknows import WhoknowsError, __main__
from whoknows.data import files
from whoknows.evaluation import cells
from whoknows.report import archive, citation
from whoknows.run import cost

SMOKE = ROOT / "grids/smoke.yml"
NAMES = [model.name for model in GRID.models]
TOP = f"whoknows-smoke-{citation.read()['version']}"


@pytest.fixture
def finished(results):  # noqa: F811
    """A run with as many notebooks of each stage as it has jobs, and its report."""
    for stage, work in cost.work(GRID).items():
        for at in range(work.jobs):
            name, about = f"{stage}-{at}", {"parameters": {}}
            if stage == "answer":
                name, about = f"answer-{NAMES[at]}", {"parameters": {"model": NAMES[at]}, "machine": "a machine"}
            elif work.jobs == 1:
                name = stage
            page = new_notebook(metadata={"whoknows": about | {"commit": "abc", "versions": {"torch": "2"}}})
            files.write_text(results / f"notebooks/{name}.ipynb", nbformat.writes(page))
    shown = new_output("display_data", {"text/markdown": '<p class="answer">Training helps &amp; so on.</p>'})
    index = new_notebook(cells=[new_code_cell("1", outputs=[shown])])
    files.write_text(results / "book/index.ipynb", nbformat.writes(index))
    for name in ("index.html", "run/claims.html", "_static/vega.js"):
        files.write_text(results / "book/_build/html" / name, f"this is {name}")
    files.write_text(results / "book/_build/html.whole", "")
    files.write_text(results / "book/_build/.doctrees/index.doctree", "for Sphinx alone")
    return results


def unpacked(path, folder):
    with zipfile.ZipFile(path) as zipped:
        zipped.extractall(folder)
    return folder / TOP


def rewrite(path, **values):
    """Has a page say that its stage was told other values."""
    page = nbformat.read(path, as_version=4)
    page.metadata["whoknows"]["parameters"] |= values
    files.write_text(path, nbformat.writes(page))


def names_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_holds_the_report_the_rows_and_a_manifest_of_every_file(finished, tmp_path):
    files.write_text(finished / "book/_build/whoknows.pdf", "a print")
    path = archive.archive(SMOKE, finished, tmp_path / "archive")
    assert path.name == f"{TOP}.zip"
    beside = {path.name, "manifest.json", "zenodo.json", "whoknows.pdf"}
    assert names_in(tmp_path / "archive") == beside
    place = unpacked(path, tmp_path / "unpacked")
    there = names_in(place)
    expected = {"whoknows.pdf", "CITATION.cff", "LICENSE", ".zenodo.json", "manifest.json", "data/grid.yml"}
    expected |= {"html/index.html", "html/run/claims.html", "html/_static/vega.js", "notebooks/heatmaps.ipynb"}
    assert expected <= there and not [name for name in there if "doctree" in name or "whole" in name]
    manifest = json.loads((place / "manifest.json").read_text())
    assert {*manifest["files"]} == there - {"manifest.json"}
    for name, about in manifest["files"].items():
        data = (place / name).read_bytes()
        assert about == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}, name
    facts = {"grid": "smoke", "version": "0.1.0", "commit": "abc", "machine": "a machine", "versions": {"torch": "2"}}
    assert {key: manifest[key] for key in facts} == facts
    assert (tmp_path / "archive/manifest.json").read_bytes() == (place / "manifest.json").read_bytes()
    packed, rows = (cells.read_rows(folder / "rows", NAMES, ["probe"], [0]) for folder in (place / "data", finished))
    keys = ["trained_on", "question_id"]
    both = (table.sort_values(keys, ignore_index=True)[[*keys, "logit"]] for table in (packed, rows))
    pd.testing.assert_frame_equal(*both, check_dtype=False)


def test_the_same_files_make_the_same_bundle(finished, tmp_path):
    first = archive.archive(SMOKE, finished, tmp_path / "one").read_bytes()
    for path in finished.rglob("*"):
        os.utime(path, (2e9, 2e9))
    assert archive.archive(SMOKE, finished, tmp_path / "two").read_bytes() == first
    (finished / "book/_build/html/run/claims.html").write_text("another")
    assert archive.archive(SMOKE, finished, tmp_path / "two").read_bytes() != first


def test_large_notebooks_are_left_out(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 100)
    path = archive.archive(SMOKE, finished, tmp_path / "archive")
    there = names_in(unpacked(path, tmp_path / "unpacked"))
    assert "html/index.html" in there and not [name for name in there if name.startswith("notebooks/")]
    assert "whoknows.pdf" not in there and not (tmp_path / "archive/whoknows.pdf").exists(), "there is none"


def test_zenodo_is_told_what_is_to_be_cited(finished, tmp_path):
    archive.archive(SMOKE, finished, tmp_path / "archive")
    metadata = json.loads((tmp_path / "archive/zenodo.json").read_text())
    about = files.read_yaml(ROOT / "CITATION.cff")
    assert metadata["title"] == about["title"] and metadata["upload_type"] == "software"
    assert metadata["creators"] == [{"name": "The whoknows authors"}] and metadata["license"] == "apache-2.0"
    assert metadata["related_identifiers"] == [{"identifier": "arXiv:2406.08391", "relation": "references"}]
    assert metadata["description"].startswith("<p>Training helps &amp; so on.</p>")
    cited = "type: software\ntitle: T\nmessage: <m>\nversion: 2\nlicense: MIT\n"
    files.write_text(tmp_path / "c.cff", cited + "authors: [{family-names: B, given-names: A}, {name: Us}]\n")
    other = citation.zenodo(citation.read(tmp_path / "c.cff"), "")
    assert other["creators"] == [{"name": "B, A"}, {"name": "Us"}] and other["related_identifiers"] == []
    assert "&lt;m&gt;" in other["description"]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda run: (run / "notebooks/probe-1.ipynb").unlink(), "notebooks are missing, 1 of Probe; run make book"),
        (lambda run: (run / "notebooks/heatmaps.ipynb").unlink(), "notebooks are missing, 1 of Heatmaps; run"),
        (
            lambda run: os.rename(run / "notebooks/sweep-0.ipynb", run / "notebooks/sweep-0.failed.ipynb"),
            "has no finished run of .*smoke.yml: failed are sweep-0; run make book GRID=",
        ),
        (
            lambda run: rewrite(run / f"notebooks/answer-{NAMES[0]}.ipynb", max_new_tokens=7),
            f"has no finished run of .*smoke.yml: 1 of its .* notebooks, such as answer-{NAMES[0]}, were made before "
            "the grid, or what they read, was changed; run make book GRID=",
        ),
        (
            lambda run: (run / "book/_build/html.whole").unlink(),
            "html is missing or not whole: the report of .* is not built; run",
        ),
        (lambda run: os.utime(run / "notebooks/claims.ipynb", (4e9, 4e9)), "is older than the run of .*smoke.yml; run"),
    ],
)
def test_what_is_not_finished_is_no_bundle(finished, tmp_path, damage, why):
    damage(finished)
    with pytest.raises(WhoknowsError, match=why):
        archive.archive(SMOKE, finished, tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


def test_other_files_are_not_replaced_by_a_bundle(finished, tmp_path):
    files.write_text(tmp_path / "Documents/manifest.json", "of an app")
    with pytest.raises(WhoknowsError, match="Documents: other files are there, .* name a new or an empty folder"):
        archive.archive(SMOKE, finished, tmp_path / "Documents")
    assert names_in(tmp_path / "Documents") == {"manifest.json"}


def test_the_command_says_where_the_bundle_is(finished, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert __main__.main(["archive", str(SMOKE)]) == 2
    assert "results/smoke has no finished run of" in capsys.readouterr().err
    os.rename(finished, tmp_path / "moved")
    (tmp_path / "here/results").mkdir()
    os.rename(tmp_path / "moved", tmp_path / "here/results/smoke")
    assert __main__.main(["archive", str(SMOKE)]) == 0
    bundle = tmp_path / f"here/results/smoke/archive/{TOP}.zip"
    assert capsys.readouterr().out.startswith(f"The archive: {bundle} (") and bundle.is_file()
