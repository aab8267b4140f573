"""What a run's numbers come from: versions, machine and commit."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path

from whoknows.data import cache

PACKAGES = ("torch", "transformers", "peft", "scikit-learn", "numpy", "pandas", "altair", "papermill")
STAMP = ".snakemake_timestamp"  # Snakemake leaves it in a folder, once the stage that wrote the folder has ended


def surroundings() -> dict:
    """Versions of Python and the packages that make the numbers, the machine, and the commit ("" without git)."""
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"versions": versions, "machine": machine(), "commit": git("describe", "--always", "--dirty")}


def inputs(values: dict) -> dict[str, str]:
    """SHA-256, the first sixteen digits, of the files and folders that parameters name, as far as they are there."""
    return {str(path): _digest(path) for path in map(Path, named(values)) if path.exists()}


def named(values: dict) -> list[str]:
    """What may be paths among a notebook's parameters, but for what the run writes."""
    read = {key: value for key, value in values.items() if key != "out" and not key.endswith("_out")}
    texts = [text for value in read.values() for text in (value.values() if isinstance(value, dict) else [value])]
    return [text for text in texts if isinstance(text, str) and "/" in text and len(text) < 4096]


def outputs(values: dict) -> dict[str, str]:
    """SHA-256, as of `inputs`, of the files and folders that a notebook with these parameters wrote."""
    paths = [Path(values[key]) for key in ("out", "rows_out") if values.get(key)]
    return {str(path): _digest(path) for path in paths if path.exists()}


def changed(results: Path, name: str) -> dict[str, str]:
    """For each page, by name, whose files are no longer those that its stage wrote, a sentence that says which.

    Only what was written after the page is read, since the hidden states of large models take minutes to read.
    """
    sentences = {}
    for page in sorted((results / "notebooks").glob("*.ipynb")):
        recorded = json.loads(page.read_text(encoding="utf-8"))["metadata"].get("whoknows", {}).get("outputs", {})
        for text, digest in recorded.items():
            path = results / text.removeprefix(f"results/{name}/")
            if path.exists() and _is_younger(path, page) and _digest(path) != digest:
                way = f"keep a copy if you want one, delete {page}, and `make book` makes both anew"
                sentences[page.stem] = f"{path} was changed after its stage wrote it: {way}."
    return sentences


def _is_younger(path: Path, page: Path) -> bool:
    """Whether a file, or a part of a folder, may have been written after a page: a copy may keep an old time."""
    made, states = page.stat(), [part.stat() for part in (path, *path.rglob("*"))]
    return any(one.st_mtime_ns > made.st_mtime_ns or one.st_ctime_ns > made.st_ctime_ns for one in states)


def precision(values: dict) -> dict[str, str]:
    """As `precision` the number format of a notebook with these parameters, if it loads a language model."""
    asked = values.get("precision") if "batch_tokens" in values else None
    if asked == "auto":
        from whoknows.models import loading  # takes seconds to import

        asked = str(loading.dtype(asked)).removeprefix("torch.")
    return {"precision": asked} if asked else {}


def code(text: str) -> str:
    """A text as Markdown's code on one line, whatever it holds: names come from grids and files that others wrote."""
    line = " ".join(str(text).split()).replace("|", "¦") or " "  # a bar would end the cell of a table even here
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"{fence}{line}{fence}"


def _digest(path: Path) -> str:
    """Of a file's bytes, or of the names and digests of a folder's files, which a stage wrote."""
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*") if part.is_file() and part.name != STAMP)
        listing = "".join(f"{part.relative_to(path)} {_digest(part)}\n" for part in parts)
        return hashlib.sha256(listing.encode()).hexdigest()[:16]
    return cache.sha256(path)[:16]


def machine() -> str:
    """The processor, its cores and the graphics cards, as Linux names them."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    cards = [path.read_text() for path in Path("/proc/driver/nvidia").glob("gpus/*/information")]
    names = re.findall(r"Model:\s*(.*)", "\n".join(cards))
    return ", ".join([model[1] if model else platform.machine(), f"{os.cpu_count()} cores", *names])


def git(*command: str, at: Path = Path(__file__).parent) -> str:
    """What a command of git says of a checkout; "" without git."""
    try:
        return subprocess.run(["git", *command], capture_output=True, text=True, cwd=at).stdout.strip()
    except OSError:
        return ""
