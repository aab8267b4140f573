"""What `whoknows score` reads and writes: JSON lines, CSV, TSV and Parquet, and what a killed run has left."""

import csv
import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

from whoknows import WhoknowsError
from whoknows.data import tables

TABLES = tables.ENDINGS[1:]
ADDED = ("p_correct", "logit")


def kind(path: Path | str) -> str:
    """How a file is read and written, by the end of its name: one of TABLES, of workbooks, or .jsonl for any other."""
    end = Path(path).suffix.lower()
    return end if end in (*TABLES, *tables.WORKBOOKS) else ".jsonl"


class Table:
    """A user's table, of a kind in TABLES, with columns of questions and answers: our names -> the file's.

    Raises:
        WhoknowsError: it cannot be read, has no row, lacks one of the two columns or has a spreadsheet's error there,
            or has one of `ADDED`.
    """

    def __init__(self, path: Path | str, columns: dict[str, str]):
        self.path, self.kind = path, kind(path)
        mend = "name the one with the {ours}s: --columns {ours}={theirs}"
        frame, _, self.delimiter, self.mark = tables.load(path, columns, mend=mend, blank=True)
        there = next((name for name in ADDED if name in frame.columns), None)
        if there:
            raise WhoknowsError(f"{path}: it has a column {there!r} already; rename or remove it.")
        self.names = [*map(str, frame.columns), *ADDED]
        self.blank = frame.isna().all(axis=1)
        if self.kind == ".parquet":  # of which other columns may hold what JSON cannot
            frame = frame[[*columns.values()]]
        else:
            answers = frame[columns["answer"]]
            frame[columns["answer"]] = answers.where(answers.notna(), "")  # an empty cell is an empty answer
            frame = frame[~self.blank]
        self.rows = list(zip(frame.index, frame.to_dict("records")))
        if not self.rows:
            raise WhoknowsError(f"{path}: there is no row in this file; add one, or name another file.")

    def form(self, rows: Iterable[dict]) -> Iterator[str]:
        """Lines of CSV or TSV, as the file has it: its delimiter, its blank rows, a byte order mark if it has one."""
        # `writerow` gives what `write` does; its line ends have it quote a cell with either half of them.
        writer = csv.writer(SimpleNamespace(write=str), delimiter=self.delimiter)
        rows, mark = iter(rows), self.mark
        with_blanks = (dict.fromkeys(self.names) if blank else next(rows) for blank in self.blank)
        for cells in chain([self.names], ([row[name] for name in self.names] for row in with_blanks)):
            yield mark + writer.writerow(map(tables.inert, cells)).removesuffix("\r\n") + "\n"
            mark = ""


def as_lines(rows: Iterable[dict]) -> Iterator[str]:
    """Lines of JSON."""
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(path: Path, form: Callable[[Iterable[dict]], Iterator[str]], rows: Iterable[dict]) -> None:
    """Writes a file of text, whole or not at all."""
    with (
        _whole(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        file.writelines(form(rows))


def write_parquet(path: Path, source: Path | str, rows: Iterable[dict]) -> None:
    """Writes a copy of a Parquet file with the confidence of its rows; other columns keep their types."""
    import pyarrow
    from pyarrow import parquet

    table, rows = parquet.read_table(source), list(rows)
    for name in ADDED:
        table = table.append_column(name, pyarrow.array([row[name] for row in rows], pyarrow.float64()))
    with _whole(path) as temporary:
        parquet.write_table(table, temporary)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path, which takes the place of `path` if the block ends well; a `Part` keeps others away."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with writing(path):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class Part:
    """What a run has scored, in a file beside its output, so that one that was killed goes on from there.

    A line of JSON holds the rows of a chunk with their confidence, after all that it depends on besides the rows. A
    chunk is taken only whole: scored together with other rows, its numbers would be rounded differently.

    Args:
        output: the file that will hold all rows; a WhoknowsError if it cannot be written, or another run writes it.
        depends: on what the confidence depends besides the rows, as far as JSON can say it.
    """

    def __init__(self, output: Path, depends: list):
        with writing(output):
            if output.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if output.exists() and not output.is_file():
                raise WhoknowsError(f"{output}: this is no regular file; leave out --output, or name another file.")
            if output.is_symlink():  # what it leads to is written, and the link stays
                output = Path(os.path.realpath(output))
            self.output, self.path = output, output.with_name(f"{output.name}.part")
            self.depends = json.dumps(depends)
            if not output.parent.exists():
                output.parent.mkdir(parents=True)
            self.file = open(self.path, "a+b")
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WhoknowsError(
                    f"{output}: another run is writing this file; wait for it, or name another."
                ) from None
            self.file.seek(0)

    def take(self, rows: list[dict]) -> list[dict] | None:
        """The next rows with their confidence, if just these were scored together; if not, what comes is forgotten."""
        begin = self.file.tell()
        try:
            depends, results = json.loads(self.file.readline())
            scored = [row | {name: old[name] for name in ADDED} for row, old in zip(rows, results, strict=True)]
            # As text: 1, 1.0 and true are equal, but not the same.
            if json.dumps(depends) == self.depends and json.dumps(scored) == json.dumps(results):
                return scored
        except (ValueError, KeyError, TypeError):
            pass  # there is no other line, or it is not whole, or has other rows
        self.file.seek(begin)
        self.file.truncate()
        return None

    def put(self, rows: list[dict]) -> None:
        """Adds rows that were scored together."""
        line = f"[{self.depends}, {json.dumps(rows, ensure_ascii=False)}]\n"
        with writing(self.path):
            self.file.write(line.encode("utf-8", "backslashreplace"))
            self.file.flush()

    def rows(self) -> Iterator[dict]:
        """All rows with their confidence, once all of them were taken or put."""
        self.file.truncate()
        self.file.seek(0)
        for line in self.file:
            yield from json.loads(line)[1]

    def remove(self) -> None:
        self.path.unlink()

    def close(self) -> None:
        """Lets another run write the output."""
        self.file.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says in one sentence why a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise WhoknowsError(
            f"{path}: this file cannot be written ({error.strerror}); mend that, or name another file."
        ) from None
