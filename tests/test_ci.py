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
JOBS, TRIGGERS = yaml.safe_load(TEXT)["jobs"], yaml.safe_load(TEXT)[True]  # "on" is a boolean to YAML
STEPS = [step for job in JOBS.values() for step in job["steps"]]


def test_every_command_is_a_target_of_the_makefile():
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    commands = [
        step["run"].split() for name in JOBS if name != "attach" for step in JOBS[name]["steps"] if "run" in step
    ]
    assert commands and all(program == "make" and target in targets for program, target, *_ in commands)
    assert {*JOBS} == {"test", "cluster", "report", "publish", "attach"}


def test_every_file_is_there():
    named = set(re.findall(r"\b(?:grids|lib|notebooks|book|tests)/[\w./-]+\.\w+|[\w-]+\.txt", TEXT))
    assert {"grids/smoke.yml", "grids/embedded.yml", "constraints.txt"} <= named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_it_publishes_the_default_grids_report_and_keeps_the_cache_and_the_last_run(monkeypatch):
    for variable in ("WHOKNOWS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    steps = JOBS["report"]["steps"]
    makefile = (ROOT / "Makefile").read_text()
    usual = re.search(r"^GRID \?= (.+)$", makefile, re.M)[1]
    assert [step["run"] for step in steps if "run" in step] == [f"make pdf GRID={usual}", f"make archive GRID={usual}"]
    results = f"results/{grid.load(ROOT / usual).name}"
    paths = {step["uses"].partition("@")[0]: [] for step in steps if "uses" in step}
    for step in steps:
        paths.get(step.get("uses", "").partition("@")[0], []).append(step.get("with", {}).get("path"))
    assert paths["actions/upload-pages-artifact"] == [f"{results}/book/_build/html"]
    assert paths["actions/upload-artifact"] == [f"{results}/archive"]
    kept = paths["actions/cache"]
    assert [Path(kept[0]).expanduser(), kept[1]] == [cache.root(), f"{results}/history.json"]
    assert JOBS["report"]["timeout-minutes"] < 360, "a runner ends a job then"
    assert JOBS["publish"]["needs"] == JOBS["attach"]["needs"] == "report" and JOBS["report"]["needs"] == "test"


def test_a_release_gets_all_that_the_archive_has_and_a_pull_request_runs_no_large_grid():
    assert TRIGGERS["release"] == {"types": ["published"]} and JOBS["attach"]["if"] == "github.event_name == 'release'"
    assert JOBS["report"]["if"] == "github.event_name != 'pull_request'"
    got, sent = JOBS["attach"]["steps"]
    (given,) = [step for step in JOBS["report"]["steps"] if "upload-artifact" in step.get("uses", "")]
    assert got["with"]["name"] == given["with"]["name"]
    assert sent["run"] == f'gh release upload "$TAG" {got["with"]["path"]}/* --clobber --repo "$GITHUB_REPOSITORY"'
    assert {*sent["env"]} == {"GH_TOKEN", "TAG"} and "${{" not in "".join(step.get("run", "") for step in STEPS)


def test_actions_are_pinned_to_major_versions_and_may_do_no_more_than_they_need():
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in STEPS if "uses" in step)
    assert yaml.safe_load(TEXT)["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job} == {
        "publish": {"pages": "write", "id-token": "write"},
        "attach": {"contents": "write"},
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
