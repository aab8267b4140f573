"""The GPUs of this machine: runs side by side take different ones."""

import fcntl
import os
import re
import subprocess
import time
from pathlib import Path

# In the environment of a workflow: those that its runs share, as CUDA_VISIBLE_DEVICES names them.
SHARED = "WHOKNOWS_GPUS"
LOCKS = Path(".snakemake")


def here() -> list[str]:
    """Those that CUDA may use on this machine: what CUDA_VISIBLE_DEVICES names, else all that nvidia-smi lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except OSError:
        return []
    return re.findall(r"^GPU (\d+):", listed, re.MULTILINE)


def shared() -> list[str]:
    """Those among which the runs of this workflow take turns; none on a cluster, which gives each job its own."""
    return list(filter(None, os.environ.get(SHARED, "").split(",")))


def take(count: int) -> None:
    """Has this process, and what it starts, use some of the shared GPUs that no other run uses, until it ends.

    The workflow starts no more runs than there are GPUs for, so that one is free, or is about to be.
    """
    names, taken = shared(), []
    while len(taken) < min(count, len(names)):
        free = next((name for name in names if name not in taken and _lock(name)), None)
        if free is None:
            time.sleep(1)
        else:
            taken.append(free)
    if taken:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)


def _lock(name: str) -> bool:
    """Whether this process now holds a GPU, which it then does as long as it lives."""
    LOCKS.mkdir(exist_ok=True)
    file = os.open(LOCKS / f"gpu-{name}.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True
