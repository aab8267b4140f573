"""Files that are whole or not there: Parquet, safetensors, text and folders.

Every file is written under a temporary name in the same folder and renamed into place, so a stage that is killed
never leaves half a file for the next one to read. What writes raises a WhoknowsError if the disk is full, and what
reads does if a file is missing or damaged.
"""

import errno
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from whoknows import WhoknowsError

ROOT = Path(__file__).resolve().parents[3]  # of the checkout that this library is used from
HOST = platform.node().replace(".", "-") or "here"
DAY = 24 * 60 * 60  # seconds


class _Loader(yaml.CSafeLoader):
    """Refuses a key that is given twice, of which plain YAML silently keeps the last; leaves dates as written.

    Nor is a number another than what is written.
    """

    yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
        for letter, known in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node, deep=False):
        seen = []
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key `{key.value}` is given twice", problem_mark=key.start_mark)
            seen.append(key.value)
        return super().construct_mapping(node, deep)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    """Refuses what YAML 1.1 takes for another number than is written: 0100 would be 64, and 1:30 would be 90."""
    number = loader.construct_yaml_int(node)
    if str(number) != node.value.removeprefix("+"):
        problem = f"`{node.value}` is read as {number}: write a plain number, or put a text in quotes"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return number


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def read_yaml(path: Path | str):
    """Reads a YAML file; raises a WhoknowsError if it is missing, is not text or is not YAML."""
    try:
        return yaml.load(read_bytes(path).decode("utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}" if error.problem_mark else "the file"
        raise WhoknowsError(f"{path}: {where} is not good YAML: {error.problem}.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise WhoknowsError(f"{path}: this file is not YAML; write it as plain UTF-8 text.") from None


def read_bytes(path: Path | str) -> bytes:
    """Reads a file of a user; raises a WhoknowsError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise WhoknowsError(f"{path}: this file cannot be read ({error.strerror}); check its name.") from None


def digest(path: Path | str) -> str:
    """SHA-256, the first sixteen digits, of what `read_bytes` reads: a stage that is told it depends on the file."""
    return hashlib.sha256(read_bytes(path)).hexdigest()[:16]


def read_json(path: Path | str):
    """Reads a JSON file."""
    with _naming(path, ValueError):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def write_parquet(path: Path | str, frame, **options) -> None:
    """Writes a pandas data frame, without its index, as Parquet; options are those of `to_parquet`."""
    with _replacing(path) as temporary:
        frame.to_parquet(temporary, index=False, **options)


def read_parquet(path: Path | str):
    """Reads a Parquet file into a pandas data frame."""
    import pandas
    import pyarrow

    with _naming(path, (pyarrow.ArrowException, OSError)):
        return pandas.read_parquet(path)


def write_safetensors(path: Path | str, tensors: dict, metadata: dict[str, str] | None = None) -> None:
    """Writes named torch tensors, no two of which share their storage, as safetensors, with metadata in the header."""
    from safetensors.torch import save_file

    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with _replacing(path) as temporary:
        save_file(packed, temporary, metadata)


def write_rows(
    path: Path | str, name: str, pieces: Callable[[], Iterable], others: dict | None = None,
    metadata: dict[str, str] | None = None,
) -> tuple:  # fmt: skip
    """Writes a torch tensor that need not fit into memory, and others, as `write_safetensors` does; gives its shape.

    `pieces` gives its rows, some at a time; it is called once for their number and once for themselves.
    """
    from safetensors.torch import save
    from torch import uint8

    shapes, size = [], 0
    for piece in pieces():
        shapes.append(piece.shape)
        size += piece.nbytes
    # The library writes the header, for no rows at all; then the rows are put in.
    small = save((others or {}) | {name: piece[:0].contiguous()})
    length = int.from_bytes(small[:8], "little")
    header, rest = json.loads(small[8 : 8 + length]), small[8 + length :]
    header[name] |= {
        "shape": (shape := (sum(part[0] for part in shapes), *shapes[0][1:])),
        "data_offsets": (len(rest), len(rest) + size),
    }
    # The library would write metadata in another order each time.
    text = json.dumps(({"__metadata__": metadata} if metadata else {}) | header).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned
    with _replacing(path) as temporary, open(temporary, "wb") as file:
        file.writelines([len(text).to_bytes(8, "little"), text, rest])
        for piece in pieces():
            file.write(piece.contiguous().flatten().view(uint8).numpy().data)
    return shape


def read_safetensors(path: Path | str) -> dict:
    """Reads a safetensors file into a dict of name to torch tensor, memory-mapped: pages are read when first used."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with _naming(path, (SafetensorError, OSError)):
        return load_file(path)


def read_metadata(path: Path | str) -> dict[str, str]:
    """The metadata in the header of a safetensors file; nothing if there is none."""
    from safetensors import SafetensorError, safe_open

    with _naming(path, (SafetensorError, OSError)), safe_open(path, "pt") as file:
        return file.metadata() or {}


def write_torch(path: Path | str, state: dict) -> None:
    """Writes a dict of tensors, numbers, strings, lists and dicts in torch's format."""
    import torch

    with _replacing(path) as temporary:
        torch.save(state, temporary)


def read_torch(path: Path | str) -> dict:
    """Reads what `write_torch` wrote, tensors on the CPU; nothing in the file is run."""
    import pickle

    import torch

    with _naming(path, (pickle.UnpicklingError, RuntimeError, EOFError, OSError)):
        return torch.load(path, map_location="cpu", weights_only=True)


def write_text(path: Path | str, text: str) -> None:
    """Writes a string as UTF-8."""
    with _replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_folder(path: Path | str, save: Callable[[Path], object]) -> None:
    """Writes a folder, in place of the one that is there; `save` is called with where, as `save_pretrained` is."""
    with _replacing(path) as temporary:
        temporary.mkdir()
        save(temporary)


def check_replaceable(folder: Path, *marks: str) -> None:
    """Raises a WhoknowsError if anything but an empty folder is there, or one with the files that mark a product."""
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free and not all((folder / name).is_file() for name in marks):
        raise WhoknowsError(f"{folder}: other files are there, which would be lost; name a new or an empty folder.")


@contextmanager
def _replacing(path):
    """Gives a temporary path beside `path`, which takes the place of `path` if the block ends well."""
    path = Path(path)
    if path.is_symlink() and path.is_dir():  # the link stays, and the folder is replaced
        path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    # A process that was killed leaves its temporary file behind, and nobody else would ever remove it.
    for other in path.parent.glob(f".{path.name}.*.tmp"):
        if _is_left(other):
            _remove(other)
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.tmp")
    try:
        yield temporary
        flush(temporary)
        if path.is_dir():  # the system replaces a file by a file, but no folder that holds something
            shutil.rmtree(path)
        os.replace(temporary, path)
    except Exception as error:
        if is_full(error):
            raise WhoknowsError(f"{path}: the disk is full; free some space and run `make book` again.") from None
        raise
    finally:
        _remove(temporary)


def _is_left(temporary):
    """Whether its writer is gone, and not a process that writes the same file now, as two may in the shared cache."""
    host, pid = temporary.name.split(".")[-3:-1]
    if host != HOST:  # another machine's: whether its process lives cannot be asked here
        with suppress(FileNotFoundError):
            return time.time() - temporary.stat().st_mtime > DAY
        return False
    try:
        os.kill(int(pid), 0)  # sends nothing
    except ProcessLookupError:
        return True
    except PermissionError:  # it is somebody else's
        pass
    return False


def flush(path: Path) -> None:
    """Sends a file, or all files of a folder, to the disk."""
    for part in path.rglob("*") if path.is_dir() else [path]:
        if part.is_file():
            with open(part, "rb") as file:
                os.fsync(file.fileno())


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_full(error: Exception) -> bool:
    """Whether an error says that the disk is full."""
    # safetensors raises its own exception, which has the system's error number only in its text.
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error)


@contextmanager
def _naming(path, damaged):
    """Turns a reader's exceptions into a sentence that names the file."""
    if not Path(path).exists():
        raise WhoknowsError(f"{path}: there is no such file; run `make book` to make it.")
    try:
        yield
    except damaged:
        raise WhoknowsError(f"{path}: this file is damaged; delete it and run `make book` again.") from None
