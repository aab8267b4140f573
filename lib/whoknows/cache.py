"""Folders outside the checkout that are made once, and are there whole or not at all."""

import errno
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from whoknows import WhoknowsError

ABOUT = "about.json"  # in every folder: what it is, and the size of each of its files


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
    _check(place)
    return place


def say(line: str) -> None:
    """Prints a line to stderr, above the progress bars."""
    tqdm.write(line, file=sys.stderr)


def _make(place, fill):
    """Fills a folder beside `place` and renames it; what a killed process left there is thrown away."""
    for stale in place.parent.glob(f".{place.name}.*.part"):
        shutil.rmtree(stale, ignore_errors=True)
    # A name of its own: pip may go on writing to the folder of a process that was killed.
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    files, temporary = part / "files", part / "temporary"
    files.mkdir(parents=True)
    temporary.mkdir()
    try:
        _seal(files, fill(files, temporary))
        os.replace(files, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _seal(files, about):
    """Writes down what the folder holds, and sends it to the disk."""
    sizes = {str(path.relative_to(files)): path.stat().st_size for path in sorted(files.rglob("*")) if path.is_file()}
    (files / ABOUT).write_text(json.dumps(about | {"files": sizes}, indent=1), encoding="utf-8")
    for path in (*sizes, ABOUT):  # else a power cut after the rename could leave empty files in the folder
        with open(files / path, "rb") as file:
            os.fsync(file.fileno())


def _check(place):
    """Looks at the sizes, which takes a millisecond, to find files that were lost or cut short since."""
    try:
        sizes = json.loads((place / ABOUT).read_text(encoding="utf-8"))["files"]
        whole = all((place / path).stat().st_size == size for path, size in sizes.items())
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
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = "the disk is full; free some space, or set WHOKNOWS_CACHE to a folder on another disk"
        else:
            why = f"the cache {root()} cannot be written ({error.strerror}); set WHOKNOWS_CACHE to another folder"
        raise WhoknowsError(f"{name}: {why}.") from None
