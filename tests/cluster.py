"""The smoke grid on a Slurm of two nodes, one of which dies; `make test-cluster` runs it, `make test` does not.

Both nodes are this machine, each with a GPU that is none. Wants root, since Slurm reads its settings in /etc/slurm.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import yaml

from whoknows.data import assets

ROOT = Path(__file__).parents[1]
COPIED = ("Snakefile", "book", "grids", "lib", "notebooks", "profiles")
SETTINGS, OURS = Path("/etc/slurm"), "# written by the tests of whoknows\n"
NODES = {"n1": 17001, "n2": 17002}
CONF = """
ClusterName=whoknows
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/ended
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,batch_sched_delay=0
ReturnToService=2
MinJobAge=3600
SlurmdTimeout=20
KillWait=5
MpiDefault=none
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=64000 Gres=gpu:1\n"
PARTITION = "PartitionName={name} Nodes=n1,n2 Default={default} MaxTime=INFINITE State=UP\n"
ASKED = {"answer": {"gpus": 1, "cores": 1, "memory": 4, "minutes": 30, "partition": "cards"}}


class Slurm:
    """A controller and two nodes, as processes of this one."""

    def __init__(self, folder: Path):
        self.folder, self.daemons = folder, {}
        host = os.uname().nodename
        nodes = "".join(NODE.format(name=name, host=host, port=port) for name, port in NODES.items())
        partitions = PARTITION.format(name="usual", default="YES") + PARTITION.format(name="cards", default="NO")
        conf = SETTINGS / "slurm.conf"
        if conf.exists() and not conf.read_text().startswith(OURS):
            raise RuntimeError(f"{conf} is not of these tests: they want a machine without a Slurm of its own")
        SETTINGS.mkdir(exist_ok=True)
        conf.write_text(OURS + CONF.format(host=host, folder=folder) + nodes + partitions)
        (SETTINGS / "gres.conf").write_text(OURS + "NodeName=n[1-2] Name=gpu File=/dev/null\n")
        (folder / "state").mkdir()
        self._start("slurmctld", "slurmctld", "-D", "-c")
        for name in NODES:
            self._start(name, "slurmd", "-D", "-N", name)
        wait_for(lambda: self.ask("sinfo", "--noheader", "--Node", "--format=%N %t").count(" idle") >= len(NODES))

    def _start(self, name: str, *command: str) -> None:
        environment = os.environ | {"WHOKNOWS_NODE": name}  # what a node starts has it too, and so can be found
        with open(self.folder / f"{name}.out", "w") as out:
            self.daemons[name] = subprocess.Popen(
                command, env=environment, stdout=out, stderr=out, start_new_session=True
            )

    def ask(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True).stdout

    def kill(self, name: str) -> None:
        """Ends a daemon and all that it started, as a power cut does: none of them can say that another one ended."""
        jobs = self.ask("squeue", "--noheader", f"--nodelist={name}", "--format=%A").split()
        marks = [f"WHOKNOWS_NODE={name}", f"SLURMD_NODENAME={name}", *(f"slurmstepd: [{job}." for job in jobs)]
        processes = [
            int(process.name)
            for process in Path("/proc").glob("[0-9]*")
            if any(mark in _about(process) for mark in marks)
        ]
        for how in (signal.SIGSTOP, signal.SIGKILL):
            for process in processes:
                with suppress(ProcessLookupError):  # it has ended by itself
                    os.kill(process, how)
        self.daemons.pop(name).wait()

    def stop(self) -> None:
        for name in reversed([*self.daemons]):  # the nodes first
            self.kill(name)
        for name in ("slurm.conf", "gres.conf"):
            (SETTINGS / name).unlink()

    def jobs(self) -> list[dict[str, str]]:
        """What Slurm knows of every job of the last hour."""
        return parsed(self.ask("scontrol", "--oneliner", "show", "job"))


def parsed(listing: str) -> list[dict[str, str]]:
    """The jobs of `scontrol --oneliner show job`; a value may be empty, as the nodes of a job that waits for one."""
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in listing.splitlines() if line.startswith("JobId=")]


def _about(process: Path) -> str:
    """A process's environment, and what it calls itself."""
    try:
        return ((process / "environ").read_bytes() + (process / "cmdline").read_bytes()).decode(errors="replace")
    except OSError:  # it has ended by itself
        return ""


def wait_for(condition, seconds: int = 300):
    for _ in range(seconds * 10):
        if result := condition():
            return result
        time.sleep(0.1)
    raise AssertionError(f"waited for {seconds} s in vain")


def checkout(folder: Path) -> Path:
    """A copy of what a run needs; its grid says what the answers' jobs get."""
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, symlinks=True) if (ROOT / name).is_dir() else shutil.copy(
            ROOT / name, folder
        )
    grid = folder / "grids/smoke.yml"
    grid.write_text(
        yaml.safe_dump(yaml.safe_load(grid.read_text()) | {"resources": {"stages": ASKED}}, sort_keys=False)
    )
    return folder


def start(folder: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "whoknows", "workflow", "grids/smoke.yml", *options]
    environment = os.environ | {"PYTHONPATH": str(folder / "lib")}
    with open(folder / "output", "w") as output:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)


def _has_just_begun(job: dict[str, str], node: str) -> bool:
    """Whether a job runs on a node, and cannot end before the node does: a stage takes longer than three seconds."""
    return job["NodeList"] == node and job["JobState"] == "RUNNING" and job["RunTime"] in ("00:00:01", "00:00:02")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    yield slurm
    slurm.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The grid's results as this machine makes them without Slurm, each stage on as many cores as there."""
    assets.fetch("questions")
    folder = checkout(tmp_path_factory.mktemp("local"))
    assert start(folder, "--cores", "2").wait() == 0, (folder / "output").read_text()
    return folder


@pytest.fixture(scope="module")
def away(slurm, local, tmp_path_factory):
    """The same through Slurm, where one node dies while it runs a job."""
    folder = checkout(tmp_path_factory.mktemp("away"))
    process = start(folder, "--profile", "slurm")
    try:
        wait_for(
            lambda: len(list(folder.glob("results/smoke/logs/extract-*.txt"))) == 2 or process.poll() is not None, 1200
        )
        wait_for(lambda: any(_has_just_begun(job, "n2") for job in slurm.jobs()))
        slurm.kill("n2")
        assert process.wait() == 0, (folder / "output").read_text()
    finally:
        process.kill()
    return folder


def test_a_run_that_lost_a_node_ends_with_the_numbers_of_a_local_run(local, away):
    tables = [pd.read_parquet(folder / "results/smoke/scores.parquet") for folder in (local, away)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert {path.name for path in away.glob("results/smoke/notebooks/*")} == {
        path.name for path in local.glob("results/smoke/notebooks/*")
    }


def test_the_job_of_the_lost_node_was_sent_again_and_no_other(slurm, away):
    jobs = slurm.jobs()
    lost = [job for job in jobs if job["JobState"] == "NODE_FAIL"]
    assert len(lost) == 1 and lost[0]["NodeList"] == "n2"
    stages = len(list(away.glob("results/smoke/notebooks/*.ipynb")))
    assert len(jobs) == stages + 1
    assert {job["JobState"] for job in jobs} == {"NODE_FAIL", "COMPLETED"}


def test_a_job_gets_what_the_grid_says_and_else_what_the_profile_says(slurm, away):
    jobs = slurm.jobs()
    got = {"cards": [], "usual": []}
    for job in jobs:
        got[job["Partition"]].append((job["TimeLimit"], re.search(r"mem=(\w+)", job["TRES"])[1], job.get("TresPerJob")))
    assert got["cards"] == [("00:30:00", "4000M", "gres:gpu:1")] * 2
    assert set(got["usual"]) == {("04:00:00", "16000M", None)}


def test_gpus_that_no_node_has_are_refused_and_not_taken_from_two(slurm, away):
    refused = subprocess.run(["sbatch", "--nodes=1", "--gpus=2", "--wrap=true"], capture_output=True, text=True)
    assert refused.returncode and "not available" in refused.stderr


def test_the_terminal_shows_what_the_jobs_say(away):
    text = (away / "output").read_text()
    assert re.search(r"^answer tiny-llama: started$", text, re.M) and re.search(
        r"^heatmaps: done in \d+ s$", text, re.M
    )


def test_nothing_is_left_to_do_and_other_resources_change_nothing(away):
    grid = away / "grids/smoke.yml"
    grid.write_text(grid.read_text().replace("memory: 4", "memory: 8"))
    process = start(away, "--plan")
    assert process.wait() == 0 and (away / "output").read_text().strip().endswith("0 stages to run.")
