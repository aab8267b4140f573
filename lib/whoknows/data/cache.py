"""Folders outside the checkout that are made once, and are there whole or not at all."""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from whoknows import WhoknowsError
from whoknows.data import files

ABOUT = "about.json"  # in every folder: what it is, and the size and the SHA-256 of each of its files


def root() -> Path:
    """The folder that WHOKNOWS_CACHE names, else `whoknows` in the user's cache folder."""
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("WHOKNOWS_CACHE") or f"{user}/whoknows").expanduser().absolute()


def folder(name: str, fill: Callable[[Path, Path], dict]) -> Path:
    """The folder of that name, which `fill` makes if it is not there yet.

    Args:
        name: name of the folder in the cache.
        fill: called with a folder to fill and one for temporary files; what it returns is kept in `about.json`.

    Raises:
        WhoknowsError: the disk is full, the cache cannot be written, or files of the folder were lost or cut short.
    """
    place = root() / name
    if not place.is_dir():
        with _sentences(name), _lock(name):
            if not place.is_dir():  # another process may have made it while this one waited
                _make(place, fill)
    _check(place, lambda path: path.stat().st_size, "files")
    return place


def verify(place: Path) -> None:
    """Raises a WhoknowsError if a folder of the cache lacks files, or their bytes are not those that it was made of."""
    about = json.loads((place / ABOUT).read_text(encoding="utf-8"))
    if "sha256" not in about:  # an earlier version made it: what is there now is what later runs are held against
        with _sentences(place.name):
            _seal(place, about)
    _check(place, sha256, "sha256")


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(paths: list[Path]) -> str:
    """SHA-256, the first sixteen digits, of files with their names; kept, so that unchanged files are read once."""
    states = [(str(path), (state := path.stat()).st_size, state.st_mtime_ns, state.st_ctime_ns) for path in paths]
    known = root() / "digests" / hashlib.sha256(repr(states).encode()).hexdigest()
    if not known.exists():
        with _sentences("digests"):
            text = "".join(f"{path.name} {sha256(path)}\n" for path in paths)
            files.write_text(known, hashlib.sha256(text.encode()).hexdigest()[:16])
    return known.read_text(encoding="utf-8")


def say(line: str) -> None:
    """Prints a line to stderr, above the progress bars."""
    tqdm.write(line, file=sys.stderr)


def _make(place, fill):
    """Fills a folder beside `place` and renames it; what a killed process left there is thrown away."""
    for stale in place.parent.glob(f".{place.name}.*.part"):
        shutil.rmtree(stale, ignore_errors=True)
    # A new name for each process: pip may go on writing to the folder of a process that was killed.
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    whole, temporary = part / "files", part / "temporary"
    whole.mkdir(parents=True)
    temporary.mkdir()
    try:
        _seal(whole, fill(whole, temporary))
        os.replace(whole, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _seal(folder, about):
    """Writes down what the folder holds, and sends it to the disk."""
    held = {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / ABOUT
    }
    sums = {
        "files": {name: path.stat().st_size for name, path in held.items()},
        "sha256": {name: sha256(path) for name, path in held.items()},
    }
    files.flush(folder)  # else a power cut after the rename could leave empty files in the folder
    files.write_text(folder / ABOUT, json.dumps(about | sums, indent=1))


def _check(place, measure, key):
    """Raises if `measure` of a file is not what `about.json` has under `key`; sizes take but a millisecond."""
    try:
        known = json.loads((place / ABOUT).read_text(encoding="utf-8"))[key]
        whole = all(measure(place / path) == value for path, value in known.items())
    except (OSError, ValueError, KeyError):
        whole = False
    if not whole:
        raise WhoknowsError(f"{place}: files of this folder are missing or damaged; delete it and run again.")


@contextmanager
def _lock(name):
    """Lets one process at a time make a folder; the system releases the lock of a process that dies."""
    root().mkdir(parents=True, exist_ok=True)
    with open(root() / f".{name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: waiting for another process, which is making it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _sentences(name):
    try:
        yield
    except OSError as error:
        if files.is_full(error):
            why = "the disk is full; free some space, or set WHOKNOWS_CACHE to a folder on another disk"
        else:
            why = f"the cache {root()} cannot be written ({error.strerror}); set WHOKNOWS_CACHE to another folder"
        raise WhoknowsError(f"{name}: {why}.") from None
