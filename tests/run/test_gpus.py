"""Runs side by side take different GPUs, and give them back however they end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from whoknows.run import gpus

LIB = Path(gpus.__file__).parents[1]
TAKE = """import os, sys; from whoknows.run import gpus; gpus.take(int(sys.argv[1]))
print(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); sys.stdin.read()"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder to work in, and an nvidia-smi that lists two cards."""
    listing = tmp_path / "nvidia-smi"
    listing.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA H100 (UUID: GPU-2)'\n")
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_this_machines_gpus_are_those_that_cuda_may_use(machine, monkeypatch):
    assert gpus.here() == ["0", "1"]
    for visible, expected in {"1": ["1"], "GPU-2,GPU-1": ["GPU-2", "GPU-1"], "": [], "-1": []}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpus.here() == expected
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (machine / "nvidia-smi").unlink()
    assert gpus.here() == []


def holder(folder, count, shared):
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"} | {
        "PYTHONPATH": str(LIB),
        gpus.SHARED: shared,
    }
    return subprocess.Popen(
        [sys.executable, "-c", TAKE, str(count)],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_runs_take_different_gpus_and_a_third_waits_until_one_was_killed(machine):
    first, second = holder(machine, 1, "0,1"), holder(machine, 1, "0,1")
    taken = [first.stdout.readline().strip(), second.stdout.readline().strip()]
    assert sorted(taken) == ["0", "1"]
    third = holder(machine, 1, "0,1")
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(timeout=2)
    second.kill()
    assert third.stdout.readline().strip() == taken[1]
    for process in (first, third):
        process.communicate()


def test_a_run_may_take_several_and_one_that_needs_none_is_left_alone(machine):
    for count, shared, expected in [(2, "0,1", "0,1"), (3, "5,7", "5,7"), (0, "0,1", "None"), (1, "", "None")]:
        process = holder(machine, count, shared)
        assert process.communicate()[0].strip() == expected
