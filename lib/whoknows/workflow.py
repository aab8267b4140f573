"""Runs or plans the stages of a grid with Snakemake: `python -m whoknows.workflow GRID [--plan]`."""

import argparse
import csv
import ctypes
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from whoknows import WhoknowsError, grid
from whoknows.chapters import STAGES
from whoknows.command import command
from whoknows.run import WORKFLOW

STATE = Path(".snakemake")
# Snakemake's reasons to run a stage again.
REASONS = {
    "ok": "an earlier stage runs",
    "missing": "not there yet",
    "updated input files": "a file that it reads changed",
    "rule implementation changed": "its rule in the Snakefile changed",
    "set of input files changed": "it reads other files than before",
    "params changed": "the grid changed what it is told",
}


def run(path: str, cores: str) -> int:
    """Runs what is missing or out of date, and goes on where a killed run stopped; returns an exit status.

    Raises:
        WhoknowsError: the grid is wrong, or another run is at work in this checkout.
    """
    results = Path("results") / grid.load(path).name
    lock, start = _take_turn(), time.time()
    # We alone are at work here, so a lock of Snakemake's own was left by a run that was killed.
    if any((STATE / "locks").glob("*")):
        subprocess.run([*_snakemake(path, cores), "--unlock", "--quiet", "all"], check=True, stderr=subprocess.DEVNULL)
    command = [*_snakemake(path, cores), "--keep-going", "--rerun-incomplete"]
    environment = os.environ | {WORKFLOW: f"{os.uname().nodename}:{os.getpid()}"}
    # Snakemake shares the lock, so that it lasts as long as either of the two, and stops when this process is gone.
    process = subprocess.Popen([*command, "--quiet", "all"], env=environment, pass_fds=[lock], preexec_fn=_stop_with_parent)
    interrupted = []
    signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))  # a terminal sends it to Snakemake as well
    status = process.wait()
    if interrupted:
        print("Stopped. What was finished is kept, and the next run goes on from there.", file=sys.stderr)
        return 130
    if status:
        failed = [str(page) for page in sorted(results.glob("notebooks/*.failed.ipynb")) if page.stat().st_mtime > start]
        why = f"See what Snakemake says: {shlex.join(command)}"
        print("Not all stages ended well.", *(failed or [why]), sep="\n", file=sys.stderr)
    return min(abs(status), 1)


def plan(path: str) -> str:
    """What a run would do: a line for each stage with the reason, in the order of the stages.

    Raises:
        WhoknowsError: the grid is wrong.
    """
    grid.load(path)
    done = subprocess.run([*_snakemake(path, "1"), "--summary"], capture_output=True, text=True)
    if done.returncode:
        raise WhoknowsError(f"Snakemake could not make a plan: {done.stderr.strip()}")
    files = csv.DictReader(done.stdout.splitlines(), delimiter="\t")
    why = {Path(row["output_file"]).stem: row["status"] for row in files if _is_due_page(row)}
    stages = sorted(why, key=lambda name: (list(STAGES).index(name.split("-")[0]), name))
    lines = [f"{name:60} {REASONS.get(why[name], why[name])}" for name in stages]
    return "\n".join([*lines, f"{len(lines)} stages to run."])


def _is_due_page(row: dict) -> bool:
    return row["output_file"].endswith(".ipynb") and row["plan"] != "no update"


def _snakemake(path: str, cores: str) -> list[str]:
    # Jobs call `python`, which has to be this one.
    folder = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ["PATH"]])
    return [f"{folder}/snakemake", "--cores", cores, "--config", f"grid={path}"]


def _stop_with_parent() -> None:
    """Has Linux interrupt the process that calls this when the one that started it dies (prctl, PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)


def _take_turn() -> int:
    """Holds this checkout's lock until the process ends; returns the open file."""
    STATE.mkdir(exist_ok=True)
    lock = os.open(STATE / "whoknows.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.read(lock, 20).decode()
        raise WhoknowsError(f"Another run (process {other}) is at work in this checkout; wait until it ends, or stop it.") from None
    os.truncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line; its exit status is 1 if a stage failed and 2 if nothing could be run."""
    parser = argparse.ArgumentParser(prog="python -m whoknows.workflow", description=__doc__)
    parser.add_argument("grid")
    parser.add_argument("--plan", action="store_true", help="only say what would run")
    parser.add_argument("--cores", default="all")
    options = parser.parse_args(arguments)
    if not options.plan:
        return run(options.grid, options.cores)
    print(plan(options.grid))
    return 0


if __name__ == "__main__":
    sys.exit(main())
