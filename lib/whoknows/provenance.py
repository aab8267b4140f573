"""What a run's numbers come from: versions, machine and commit."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

PACKAGES = ("torch", "transformers", "peft", "scikit-learn", "numpy", "pandas", "altair", "papermill")


def surroundings() -> dict:
    """Versions of Python and the packages that make the numbers, the machine, and the checkout's git commit."""
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"versions": versions, "machine": machine(), "commit": commit()}


def machine() -> str:
    """The processor, its cores and the graphics cards, as Linux names them."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    cards = [re.search(r"Model:\s*(.*)", info.read_text()) for info in Path("/proc/driver/nvidia").glob("gpus/*/information")]
    parts = [model[1] if model else platform.machine(), f"{os.cpu_count()} cores", *(card[1] for card in cards if card)]
    return ", ".join(parts)


def commit() -> str:
    """The commit of the checkout, with `-dirty` if files differ from it; empty without git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    except OSError:
        return ""
