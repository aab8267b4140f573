"""The lists of versions agree, and set-up says in one sentence what is missing."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import whoknows
from whoknows.__main__ import COMMANDS
from whoknows.report import pdf

ROOT = Path(__file__).parents[1]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(marked):
    """Canonical name -> version of the lines of constraints.txt, of those with or without a marker."""
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#") and (";" in line) is marked]
    parsed = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)(?: ; .+)?", line) for line in lines]
    assert all(parsed), "every line is an exact pin without a local version"
    return {canonical(name): version for name, version in (match.groups() for match in parsed)}


def environment():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return next(part["pip"] for part in dependencies if isinstance(part, dict))


def test_environment_yml_has_the_versions_of_constraints_txt():
    *listed, package = environment()
    assert package == "-e ."
    assert {canonical(line.split("==")[0]): line.split("==")[1] for line in listed} == pins(marked=False)


def test_no_package_is_pinned_twice():
    assert not pins(marked=False).keys() & pins(marked=True).keys()
    assert len(environment()) == len(set(environment()))


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {canonical(re.match(r"[A-Za-z0-9._-]+", line)[0]) for line in wanted}
    assert names <= pins(marked=False).keys()


def test_jupyter_book_stays_below_2():
    assert pins(marked=False)["jupyter-book"].startswith("1.")


def test_citation_names_this_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == whoknows.__version__
    assert citation["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


@pytest.fixture
def clone(tmp_path):
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


@pytest.mark.parametrize(
    "script, sentence",
    [
        # 3.9 fails the first question it is asked, and then says what it is
        ('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit\nexit 1\n', "needs Python 3.11 or newer"),
        # a Python without venv fails only the question about ensurepip
        ('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\n', "install its venv package"),
    ],
)
def test_setup_says_what_is_missing(clone, script, sentence):
    python = clone / "fake-python"
    python.write_text(script)
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "book", f"PYTHON={python}"], cwd=clone, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode != 0
    assert sentence in done.stderr.splitlines()[0]
    assert not (clone / ".venv").exists()


def test_a_missing_python_is_named(clone):
    done = subprocess.run(["make", "test", "PYTHON=python0"], cwd=clone, capture_output=True, text=True)
    assert done.returncode != 0
    assert "There is no python0 on the PATH" in done.stderr


def test_the_makefile_and_the_library_look_for_the_same_browsers():
    assert tuple(re.search(r"^BROWSERS := (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()) == pdf.BROWSERS


def test_a_profile_reaches_the_workflow_and_only_then_is_its_plugin_installed():
    for asked, wanted in ([], False), (["PROFILE=slurm"], True):
        command = subprocess.run(
            ["make", "-n", "-o", ".venv/ready", "book", *asked], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert ("--profile 'slurm'" in command) == wanted
    rule = re.search(r"^book pdf: (.+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    assert rule == "$(READY) $(if $(PROFILE),$(CLUSTER))"


def test_make_runs_the_library_of_this_checkout_whatever_venv_it_has():
    show = ["make", "--no-print-directory", "--eval", "show:; @echo $$PYTHONPATH", "show"]
    assert subprocess.run(show, cwd=ROOT, capture_output=True, text=True).stdout == f"{ROOT}/lib\n"


def test_help_names_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.+)$", makefile, re.M)[1].split()) - {"help"}
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make ([\w-]+)", shown, re.M)) == targets


def test_the_readme_names_targets_modules_and_files_that_there_are():
    readme = (ROOT / "README.md").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert set(re.findall(r"(?:^|`)make ([\w-]+)", readme, re.M)) <= set(phony)
    assert (
        {"check", "workflow", "book", "pdf", "run", "pack"}
        <= {*re.findall(r"python -m whoknows (\w+)", readme)}
        <= COMMANDS.keys()
    )
    for path in set(re.findall(r"\b(?:grids|notebooks|lib|book|tests)/[\w.-]+\.(?:yml|py|json)", readme)) - {
        "grids/mine.yml"
    }:
        assert (ROOT / path).exists(), path
