"""Tables that users bring: JSON lines, CSV, TSV or Parquet, read line by line, with names of their own."""

import csv
import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow
from pyarrow import parquet

from whoknows import WhoknowsError
from whoknows.data import files

ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")  # of names of files that can be read
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")  # of those that a spreadsheet program alone can read
SPELT = {",": "comma", ";": "semicolon", "\t": "tab"}  # what parts columns; spreadsheets of many countries write ;
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
# An amount, a date or a time with a sign before it names no function, cell or file; nor does an E between digits.
AMOUNT = re.compile(r"[+-]([\d .,:/+%'()$£¤¥\u20a0-\u20cf\u00a0\u202f-]|(?<=\d)[eE](?=[+-]?\d))*", re.ASCII)
# Where a spreadsheet could not compute a cell, in any language: #NAME? and #¿NOMBRE?, #DIV/0!, #N/A and #N/D and #NV,
# Err:502; or could not show it: #####.
ERROR = re.compile(r"\s*(#[¡¿]?[^\W\d_]+(/0)?[!?]|#N/[AD]|#NV|Err:\d{3}|#{5,})\s*")
SHOWN, LONGEST = 12, 60  # columns that a sentence names at most, and characters of each
IN_GRID = "write columns: {{{ours}: {theirs}}} in the grid"
csv.field_size_limit(2**31 - 1)  # of a cell; it is 2**17 otherwise, and who reads a table says what is too long


class Sheet(NamedTuple):
    """A user's table as its file has it."""

    rows: pd.DataFrame  # under the file's names; see `read`
    columns: dict[str, str]  # our names -> the file's, of all columns that mean something
    delimiter: str = ""  # of CSV and TSV
    mark: str = ""  # the byte order mark of CSV and TSV, if they have one


def read(
    path: Path | str, columns: dict[str, str] | None = None, needed: Iterable[str] = (), known: Iterable[str] = ()
) -> pd.DataFrame:
    """A user's table.

    Args:
        path: a file whose name ends with one of `ENDINGS`. Text is UTF-8, with or without a byte order mark; commas,
            semicolons or tabs part a CSV file's columns, see `delimiter`.
        columns: our name -> the file's, where they differ; `answers.text` is what structs in the column answers hold
            as text, unless a column is called just that.
        needed: columns, by our names, that have to be there.
        known: all columns that mean something, by our names. One that is neither there as written nor in `columns` is
            the file's column of that name in other letters, such as Answer.

    Returns:
        Its rows with our names, and other columns under their own. A cell is text in CSV and TSV, None if empty; else
        what JSON or Parquet holds. The index is the line on which each row begins (in Parquet its number), from 1.

    Raises:
        WhoknowsError: the file cannot be read, has no row or lacks a column, or a column that means something holds an
            error of a spreadsheet; the sentence names the line if one is bad.
    """
    rows, columns, *_ = load(path, columns or {}, needed, known)
    hidden = [name for name in columns if name in rows.columns and name not in columns.values()]
    return rows.drop(columns=hidden).rename(columns={theirs: ours for ours, theirs in columns.items()})


def load(
    path: Path | str,
    columns: dict[str, str],
    needed: Iterable[str] = (),
    known: Iterable[str] = (),
    mend: str = IN_GRID,
    blank: bool = False,
) -> Sheet:
    """A user's table under the file's own names; of what is not said here see `read`.

    Args:
        mend: what to do if the column `ours` has another name, `theirs`.
        blank: whether the blank rows below the head of CSV and TSV are rows, too, of None alone.
    """
    path = Path(path)
    refuse_workbook(path)
    end = path.suffix.lower()
    if end not in ENDINGS:
        endings = f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        raise WhoknowsError(f"{path}: its name should end with {endings}; convert or rename it.")
    find = partial(_find, path, columns, [*needed], [*known], mend)
    if end in (".csv", ".tsv"):
        return _spread(path, find, blank)
    rows = _columnar(path) if end == ".parquet" else _frame(_objects(path, _text(path)[1]))
    _refuse_empty(path, rows)
    return Sheet(*find(rows))


def refuse_workbook(path: Path | str) -> None:
    """Raises a WhoknowsError if a file is a workbook, by its name."""
    if Path(path).suffix.lower() in WORKBOOKS:
        raise WhoknowsError(f"{path}: this is a workbook; save it as CSV (UTF-8), and name that file.")


def mistake(path: Path | str, line: int, what: str) -> WhoknowsError:
    """The error to raise for a bad line, or row of a Parquet file: which one it is, and what is wrong with it."""
    return WhoknowsError(f"{path}, {'row' if Path(path).suffix.lower() == '.parquet' else 'line'} {line}: {what}.")


def delimiter(path: Path | str, text: str) -> str:
    """What parts the columns of a CSV or TSV file: what its first record has more of, outside of quotes.

    What parts the second record into as many cells goes before, and then a tab in a TSV file.
    """

    def fitness(sign: str) -> tuple[bool, bool, int]:
        first, second = _widths(text, sign)
        is_tabbed = sign == "\t" and Path(path).suffix.lower() == ".tsv"
        return 1 < first == second, 1 < first and is_tabbed, first

    return max(SPELT, key=fitness)


def _widths(text: str, sign: str) -> list[int]:
    """Cells of the first two records that are not blank, if a sign parts columns; 0 where there is none."""
    records = csv.reader(io.StringIO(text, newline=""), delimiter=sign)
    full = (len(cells) for cells in records if any(cell.strip() for cell in cells))
    return [*islice(full, 2), 0, 0][:2]


def inert(cell):
    """A cell to write into CSV: an apostrophe stands before text that a spreadsheet would take for a formula.

    Text that begins with just such an apostrophe gets another one, and `read` takes one away: no text is changed.
    """
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell.lstrip("'")) else cell


def line_feeds(text: str) -> str:
    """A text with a line feed at each line's end, where a spreadsheet may have written a carriage return as well."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def tidy(text: str) -> str:
    """A text in lines without blank ones, and with single spaces."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def texts(value) -> list:
    """The items of a cell that holds a list: a list, or text that is one as JSON, or texts parted by |, or just one.

    A text that begins as a list and is none is a ValueError: pandas, say, writes other quotes.
    """
    if not isinstance(value, str):
        return [value] if isinstance(value, dict) or not hasattr(value, "__iter__") else list(value)
    if not value.lstrip().startswith("["):
        return [part.strip() for part in value.split("|")]
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f'{value!r:.60} is no list; write ["Sn", "stannum"] or Sn|stannum') from None


def _is_formula(text: str) -> bool:
    return bool(FORMULA.match(text)) and not AMOUNT.fullmatch(text)


def _meant(cell: str) -> str:
    """What `inert` was given where it wrote a cell."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell.lstrip("'")) else cell


def _text(path: Path) -> tuple[str, str]:
    """The byte order mark of a file, if it has one, and the text behind it."""
    raw = files.read_bytes(path)
    bad = raw.find(b"\0")  # half a character of UTF-16
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        raise mistake(path, raw[:bad].count(b"\n") + 1, "this is not UTF-8; save the file as UTF-8")
    mark = text[: text.startswith("\ufeff")]
    return mark, text.removeprefix(mark)


def _objects(path: Path, text: str) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise mistake(path, number, 'this is no JSON object; write one a line, such as {"question": "…"}')
            yield number, row


def _frame(rows: Iterable[tuple[int, dict]]) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(dict(rows), orient="index", dtype=object)
    return table.where(table.notna(), None)


def _columnar(path: Path) -> pd.DataFrame:
    """The rows of a Parquet file."""
    try:
        columnar = parquet.ParquetFile(io.BytesIO(files.read_bytes(path))).read()
    except (pyarrow.ArrowException, OSError, ValueError):
        raise WhoknowsError(f"{path}: this is no Parquet file, or a damaged one; write it anew.") from None
    _check_names(path, columnar.column_names)
    # An index of pandas is a column as any other, and a whole number with a gap beneath it stays whole.
    table = columnar.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return table.astype(object).where(table.notna(), None).set_axis(range(1, len(table) + 1))


def _spread(path: Path, find: Callable[[pd.DataFrame], tuple[pd.DataFrame, dict[str, str]]], blank: bool) -> Sheet:
    """What `load` returns of a CSV or TSV file, in whose rows `find` finds the columns."""
    mark, text = _text(path)
    sign = delimiter(path, text)
    records = _records(path, text, sign)
    names = [_meant(cell.strip()) for cell in next((cells for _, cells in records if cells), [])]
    # Before the rows are looked at: they do not fit a line that stands above the names.
    columns = find(pd.DataFrame(columns=[*filter(None, names)]))[1] if names else {}
    _check_names(path, names)
    rows = _frame(_rows(path, records, names, sign, blank))
    _refuse_empty(path, rows)
    for name in columns.values():
        _check_computed(path, rows[name])
    return Sheet(rows, columns, sign, mark)


def _records(path: Path, text: str, sign: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each record, none if it is blank, after the line on which it begins."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True)
    begins = 1
    try:
        for cells in lines:
            begins, here = lines.line_num + 1, begins
            if here > 1 or cells not in (["sep=", ""], ["SEP=", ""]):  # for a spreadsheet, which takes it as we do
                yield here, cells if any(cell.strip() for cell in cells) else []
    except csv.Error as error:
        raise mistake(path, begins, f"this is no good CSV ({error}); save the file from a spreadsheet anew") from None


def _rows(
    path: Path, records: Iterable[tuple[int, list[str]]], names: list[str], sign: str, blank: bool
) -> Iterator[tuple[int, dict]]:
    for line, cells in records:
        if not cells:
            if blank:
                yield line, dict.fromkeys(filter(None, names))
            continue
        if len(cells) < len(names) or any(cells[len(names) :]):
            what = f"this row has {len(cells)} cells, but there are {len(names)} columns"
            fix = f'put "quotes" around a cell that holds a {SPELT[sign]}'
            if len(cells) < len(names):  # Excel leaves out what is empty at the end of sixteen rows
                fix = "fill it up, or move a column without empty cells to the end"
            raise mistake(path, line, f"{what}; {fix}")
        yield line, {name: _meant(cell) or None for name, cell in zip(names, cells) if name}


def _check_names(path: Path, names: list[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if name and count > 1), None)
    if twice:
        raise WhoknowsError(f"{path}: two columns are called {twice!r}; rename one of them.")


def _check_computed(path: Path, cells: pd.Series) -> None:
    """Raises if a cell is an error of the spreadsheet that wrote it."""
    wrong = next(((line, cell) for line, cell in cells.items() if cell and ERROR.fullmatch(cell)), None)
    if wrong:
        what = "the spreadsheet could not compute or show this cell, or took a text for a formula"
        fix = "widen its column, or write its text anew, with an apostrophe before it"
        raise mistake(path, wrong[0], f"{wrong[1].strip()!r} is an error: {what}; {fix}")


def _refuse_empty(path: Path, rows: pd.DataFrame) -> None:
    if rows.empty:
        raise WhoknowsError(f"{path}: there is no row in this file; add one, or name another file.")


def _find(
    path: Path, columns: dict[str, str], needed: list[str], known: list[str], mend: str, rows: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows, with what `columns` names inside of structs, and our names -> theirs of all that are there."""
    wanted = [name for name in dict.fromkeys([*needed, *known]) if name not in columns]
    free = [name for name in rows if name not in columns.values()]
    names = columns | {name: name for name in wanted if name in free}
    names |= _in_other_letters(path, free, [name for name in wanted if name not in rows.columns])
    for ours in dict.fromkeys([*columns, *needed]):
        theirs = names.setdefault(ours, ours)
        if theirs not in rows.columns and (cells := _inside(rows, theirs)):
            rows = rows.assign(**{theirs: pd.Series(cells, rows.index, dtype=object)})
        if theirs not in rows.columns:
            raise _missing(path, rows, ours, theirs, mend)
    return rows, names


def _missing(path: Path, rows: pd.DataFrame, ours: str, theirs: str, mend: str) -> WhoknowsError:
    """The error to raise for a column that is not there. A spreadsheet may have a title above the columns' names."""
    known = [name for column in rows for name in _names(str(column), rows[column])][:SHOWN]
    known = ["".join(sign if sign.isprintable() else "?" for sign in name)[:LONGEST] for name in known]
    has, do = "it has", "Rename one"
    if path.suffix.lower() in (".csv", ".tsv"):
        has, do = "its first line, which has to name the columns, has", "Put the names there, rename one"
    near = difflib.get_close_matches(theirs, known, 1) or ["NAME"]
    mend = mend.format(ours=ours, theirs=near[0])
    return WhoknowsError(f"{path}: there is no column {theirs!r}; {has} {', '.join(known)}. {do}, or {mend}.")


def _in_other_letters(path: Path, there: list[str], names: list[str]) -> dict[str, str]:
    """For each of our names the file's column that is called the same in other letters, if there is one."""
    theirs: dict[str, list[str]] = {}
    for name in there:
        theirs.setdefault(str(name).strip().lower(), []).append(name)
    several = next((theirs[name] for name in names if len(theirs.get(name, [])) > 1), None)
    if several:
        raise WhoknowsError(f"{path}: two columns are called {several[0]!r} and {several[1]!r}; rename one of them.")
    return {name: theirs[name][0] for name in names if name in theirs}


def _inside(table: pd.DataFrame, path: str) -> list | None:
    """What the cells of a column hold at a dotted path, None where they do not; None if no cell does."""
    name, *steps = path.split(".")
    if name not in table.columns or not steps:
        return None
    cells, is_there = [*table[name]], False
    for step in steps:
        is_there = any(isinstance(cell, dict) and step in cell for cell in cells)
        cells = [cell.get(step) if isinstance(cell, dict) else None for cell in cells]
    return cells if is_there else None


def _names(name: str, cells: Iterable) -> Iterator[str]:
    """What a column can be called in `columns`: its name, or paths to what its structs hold."""
    structs = [cell for cell in cells if isinstance(cell, dict)] if name.count(".") < SHOWN else []
    for part in dict.fromkeys(part for struct in structs for part in struct):
        yield from _names(f"{name}.{part}", [struct.get(part) for struct in structs])
    if not structs:
        yield name
