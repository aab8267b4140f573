"""What runs elsewhere: the workflow and Colab name existing targets and files, Binder has its needs, Slurm is read."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from cluster import parsed
from whoknows.data import cache
from whoknows.report import strip
from whoknows.run import grid

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".github/workflows/book.yml").read_text()
JOBS = yaml.safe_load(TEXT)["jobs"]
STEPS = [step for job in JOBS.values() for step in job["steps"]]


def test_every_command_is_a_target_of_the_makefile():
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    commands = [step["run"].split() for step in STEPS if "run" in step]
    assert commands and all(program == "make" and target in targets for program, target, *_ in commands)


def test_every_file_is_there():
    named = set(re.findall(r"\b(?:grids|lib|notebooks|book|tests)/[\w./-]+\.\w+|[\w-]+\.txt", TEXT))
    assert {"grids/smoke.yml", "constraints.txt"} <= named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_it_publishes_the_book_that_it_builds_and_keeps_the_cache(monkeypatch):
    for variable in ("WHOKNOWS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    folders = [step["with"]["path"] for step in STEPS if "path" in step.get("with", {})]
    built = next(
        part.removeprefix("GRID=") for step in STEPS for part in step.get("run", "").split() if part.startswith("GRID=")
    )
    assert f"results/{grid.load(ROOT / built).name}/book/_build/html" in folders
    assert cache.root() in [Path(folder).expanduser() for folder in folders]


def test_actions_are_pinned_to_major_versions_and_may_do_no_more_than_they_need():
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in STEPS if "uses" in step)
    assert yaml.safe_load(TEXT)["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job} == {
        "publish": {"pages": "write", "id-token": "write"}
    }


def test_colab_gets_a_notebook_without_results_that_makes_a_book_of_a_grid_that_is_there():
    notebook = nbformat.read(ROOT / strip.COLAB, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    grids = re.findall(r"grids/\w+\.yml", code)
    assert "!make book GRID={grid}" in code and grids and all((ROOT / name).is_file() for name in grids)


@pytest.mark.parametrize("name", ["binder", ".binder", "Dockerfile", "requirements.txt", "apt.txt", "runtime.txt"])
def test_binder_reads_environment_yml_since_nothing_stands_before_it(name):
    assert (ROOT / "environment.yml").is_file() and not (ROOT / name).exists()


def test_a_job_that_waits_for_a_node_is_read_as_well_as_one_that_runs():
    shown = (
        "JobId={} JobState={} Reason={} Partition=cards AllocNode:Sid=host:9 ReqNodeList=(null) "
        "NodeList={} NumNodes=1 TRES=cpu=1,mem=4000M,gres/gpu=1 Comment=\n"
    )
    waits, runs = parsed(shown.format(7, "PENDING", "Resources", "") + shown.format(6, "RUNNING", "None", "n2"))
    assert waits == {**runs, "JobId": "7", "JobState": "PENDING", "Reason": "Resources", "NodeList": ""}
    assert runs["NodeList"] == "n2" and runs["TRES"] == "cpu=1,mem=4000M,gres/gpu=1"
    assert parsed("No jobs in the system\n") == []
