"""Parts: long work is done in parts, each on the disk as soon as it is done, so that a stage that was killed goes on.

They lie beside what the stage writes, in `<out>.parts/<key>/`. The key is a digest of all that they depend on, so parts
of another grid or another version of the code are never taken for these. Several jobs may share a stage's parts: the
one that comes last finds most of them done.
"""

import hashlib
import json
import shutil
from pathlib import Path

from whoknows.data import sources


def folder(out: Path | str, module: str, **depends) -> Path:
    """The folder for the parts of a stage; those that lie there under another key are removed.

    Args:
        module: `__file__` of the module that does the work; its code and that of the modules it imports are in the key.
        depends: what else the parts depend on, as far as JSON can say it.
    """
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode())
    digest.update(sources.digest(module).encode())
    parts = Path(f"{out}.parts") / digest.hexdigest()[:16]
    for other in parts.parent.glob("*"):
        if other != parts:
            shutil.rmtree(other, ignore_errors=True)  # another process may be at it too
    return parts


def slices(count: int, size: int) -> list[slice]:
    """`count` items in slices of `size`."""
    return [slice(at, min(at + size, count)) for at in range(0, count, size)]


def mine(parts: list, shard: list[int] | None) -> list:
    """The parts that a job does: its shard is [which, of how many] jobs, and without one it does all."""
    which, jobs = shard or (0, 1)
    return parts[which::jobs]


def clear(out: Path | str) -> None:
    """Removes the folder of a stage's parts once all that the stage makes is written."""
    shutil.rmtree(f"{out}.parts", ignore_errors=True)
