"""Runs or plans the stages of a grid with Snakemake: `python -m whoknows workflow GRID [--plan]`.

Jobs run on this machine, or wherever a profile of Snakemake's sends them: a cluster, Kubernetes, a cloud.
"""

import argparse
import base64
import csv
import fcntl
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import yaml

from whoknows import WhoknowsError
from whoknows.data import files, processes
from whoknows.run import cost, gpus, grid, provenance
from whoknows.run.notebook import WORKFLOW
from whoknows.run.stages import STAGES

STATE, PROFILES = Path(".snakemake"), Path("profiles")
# Snakemake's reasons to run a stage again.
REASONS = {
    "ok": "an earlier stage runs",
    "missing": "not there yet",
    "updated input files": "a file that it reads changed",
    "rule implementation changed": "its rule in the Snakefile changed",
    "set of input files changed": "it reads other files than before",
    "params changed": "the grid, its notebook or a module that it imports changed",
}


def run(path: str, cores: str, profile: str | None = None) -> int:
    """Runs what is missing or out of date, and goes on where a killed run stopped; returns an exit status.

    The run's folder says in `grid.yml` all values that it used, those that the grid leaves out among them.

    Args:
        profile: where jobs run, if not here: a name in `profiles/`, or a folder with a Snakemake profile.

    Raises:
        WhoknowsError: the grid or the profile is wrong, files of the run were changed or have no record, or another run
            is at work in this checkout.
    """
    chosen = _load(path)
    results = Path("results") / chosen.name
    how = elsewhere(profile) if profile else _here(cores)
    if mixed := provenance.changed(results, results.name):
        raise WhoknowsError("\n".join(mixed.values()))
    if not (profile and _settings(profile)[1].get("default-storage-provider")):  # else the run is there, not here
        check_records(results)
    lock, start = _take_turn(), time.time()
    files.write_text(results / "grid.yml", grid.text(chosen, results))
    # We alone are at work here, so a lock of Snakemake's own was left by a run that was killed.
    if any((STATE / "locks").glob("*")):
        subprocess.run([*_snakemake(path), "--unlock", "--quiet", "all"], check=True, stderr=subprocess.DEVNULL)
    command = [*_snakemake(path, how), "--keep-going", "--rerun-incomplete"]
    environment = os.environ | {WORKFLOW: f"{os.uname().nodename}:{os.getpid()}"}
    # Snakemake shares the lock, so that it lasts as long as either of the two, and stops when this process is gone.
    tied = {"pass_fds": [lock], "preexec_fn": partial(processes.end_with_parent, signal.SIGINT)}
    process = subprocess.Popen([*command, "--quiet", "all"], env=environment, **tied)
    interrupted = []
    signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))  # a terminal sends it to Snakemake as well
    status = _follow(process, results / "logs", start) if profile else process.wait()
    if interrupted:
        print("Stopped. What was finished is kept, and the next run goes on from there.", file=sys.stderr)
        return 130
    if status:
        pages = sorted(results.glob("notebooks/*.failed.ipynb"))
        failed = [str(page) for page in pages if page.stat().st_mtime > start]
        why = f"See what Snakemake says: {shlex.join(command)}"
        print("Not all stages ended well.", *(failed or [why]), sep="\n", file=sys.stderr)
    return min(abs(status), 1)


def plan(path: str) -> str:
    """What a run would do: a line for each stage with the reason, in the order of the stages, and what they cost."""
    chosen = _load(path)
    check_records(Path("results") / chosen.name)
    done = subprocess.run([*_snakemake(path), "--summary"], capture_output=True, text=True)
    if done.returncode:
        raise WhoknowsError(f"Snakemake could not make a plan: {done.stderr.strip()}")
    files = csv.DictReader(done.stdout.splitlines(), delimiter="\t")
    due = [row for row in files if row["plan"] != "no update" and row["output_file"].endswith(".ipynb")]
    why = {Path(row["output_file"]).stem: row["status"] for row in due}
    stages = sorted(why, key=lambda name: (list(STAGES).index(name.split("-")[0]), name))
    lines = [f"{name:60} {REASONS.get(why[name], why[name])}" for name in stages]
    jobs = Counter(name.split("-")[0] for name in stages)
    costs = ["", cost.table(chosen, jobs), ""] if jobs else []
    mixed = provenance.changed(Path("results") / chosen.name, chosen.name).values()
    return "\n".join([*lines, *costs, *mixed, f"{len(lines)} stages to run."])


def _load(path: str) -> grid.Grid:
    """The grid; a WhoknowsError if its path is none to Snakemake, which takes it for YAML and strips quotes."""
    with suppress(yaml.YAMLError):  # what is no YAML is a text
        if yaml.load(str(path).strip("'\""), yaml.BaseLoader) != str(path):
            raise WhoknowsError(f"{path}: Snakemake takes no such path; rename it, without `: ` and ` #`.")
    return grid.load(path)


def check_records(results: Path) -> None:
    """Raises a WhoknowsError if Snakemake has no record of some pages: it would take them for those of any grid."""
    pages = [page for page in sorted(results.glob("notebooks/*.ipynb")) if not page.stem.endswith(".failed")]
    # What a killed run was at work on is marked as incomplete, and runs again. Snakemake removes such a mark after it
    # has written the record, so whoever reads the marks first misses no page of a run that is at work.
    known = {*_recorded(STATE / "incomplete"), *_recorded(STATE / "metadata")}
    unknown = [page for page in pages if base64.urlsafe_b64encode(str(page).encode()).decode() not in known]
    if unknown:
        raise WhoknowsError(
            f"{results}: {STATE} has no record of what {len(unknown)} of its {len(pages)} pages were made with, "
            f"such as {unknown[0].name}, so nobody can tell whether they are out of date; copy {STATE} of the checkout "
            f"that made them here, too (cp -a), or move {results} away, and `make book` makes all anew."
        )


def _recorded(folder: Path) -> list[str]:
    """The files that Snakemake's records in a folder are about, in base64; long ones are cut into folders."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return ["".join(part.removeprefix("@") for part in path.parts) for path in paths]


def elsewhere(profile: str) -> list[str]:
    """Snakemake's options for a profile; a WhoknowsError if there is none, or its executor is not installed."""
    file, values = _settings(profile)
    folder = file.parent
    blanks = re.findall(r"\b[A-Z]{5,}\b", str(values)) if folder.parent == PROFILES else []
    if blanks:
        raise WhoknowsError(
            f"PROFILE={profile}: copy {folder}, put your names in the place of {', '.join(dict.fromkeys(blanks))}, "
            "and name the copy, as in PROFILE=./mine"
        )
    executor = values.get("executor")
    if not executor:
        raise WhoknowsError(f"{file}: it names no `executor`; name the one that should run the jobs, such as slurm")
    if executor != "local" and not importlib.util.find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}"):
        install = f"{sys.executable} -m pip install -c constraints.txt snakemake-executor-plugin-{executor}"
        raise WhoknowsError(f"{file}: its executor {executor} is not installed: {install}")
    return ["--profile", str(folder)]


def _settings(profile: str) -> tuple[Path, dict]:
    """The file of a profile, and what it says."""
    folder = Path(profile) if os.sep in profile else PROFILES / profile
    file = next(iter(sorted(folder.glob("config*.yaml"))), None)
    if not file:
        known = ", ".join(sorted(path.name for path in PROFILES.glob("*")))
        raise WhoknowsError(
            f"PROFILE={profile}: there is no {folder / 'config.yaml'}; name one of {known}, "
            "or a folder with a profile of Snakemake's"
        )
    return file, files.read_yaml(file) or {}


def _here(cores: str) -> list[str]:
    """Snakemake's options for jobs that run here, and take turns on the GPUs if there are some."""
    cards = gpus.here()
    os.environ[gpus.SHARED] = ",".join(cards)
    return ["--cores", cores, *(["--resources", f"gpu={len(cards)}"] if cards else [])]


def _follow(process: subprocess.Popen, logs: Path, start: float) -> int:
    """Prints what a cluster's jobs write to their logs, line by line, until the workflow ends; returns its status."""
    read: dict[Path, int] = {}
    while True:
        status = process.poll()
        for log in sorted(logs.glob("*.txt")):
            if log.stat().st_mtime >= start:
                new = log.read_bytes()[read.get(log, 0) :]
                whole = new[: new.rfind(b"\n") + 1]
                read[log] = read.get(log, 0) + len(whole)
                print(whole.decode(errors="replace"), end="", file=sys.stderr, flush=True)
        if status is not None:
            return status
        time.sleep(1)


def _snakemake(path: str, how: list[str] | None = None) -> list[str]:
    # Jobs call `python`, which has to be this one.
    folder = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ["PATH"]])
    away = ["cluster=1"] if how and "--profile" in how else []
    return [f"{folder}/snakemake", *(how or ["--cores", "1"]), "--config", f"grid={path}", *away]


def _take_turn() -> int:
    """Holds this checkout's lock until the process ends; returns the open file."""
    STATE.mkdir(exist_ok=True)
    lock = os.open(STATE / "whoknows.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        why = f"Another run (process {os.read(lock, 20).decode()}) is at work in this checkout"
        raise WhoknowsError(f"{why}; wait until it ends, or stop it.") from None
    os.truncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def main(arguments: list[str]) -> int:
    """The command line; its exit status is 1 if a stage failed and 2 if nothing could be run."""
    parser = argparse.ArgumentParser(prog="whoknows workflow", description=__doc__)
    parser.add_argument("grid")
    parser.add_argument("--plan", action="store_true", help="only say what would run")
    parser.add_argument("--cores", default="all")
    where = "run the jobs elsewhere: a name in profiles/, or a folder with a Snakemake profile"
    parser.add_argument("--profile", help=where)
    options = parser.parse_args(arguments)
    if not options.plan:
        return run(options.grid, options.cores, options.profile or None)
    print(plan(options.grid))
    return 0
