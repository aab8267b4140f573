"""Tables that users bring: JSON lines, CSV, TSV or Parquet, read line by line, with names of their own."""

import csv
import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

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
# Err:502.
ERROR = re.compile(r"\s*(#[¡¿]?[^\W\d_]+(/0)?[!?]|#N/[AD]|#NV|Err:\d{3})\s*")
SHOWN = 12  # columns that a sentence names at most
csv.field_size_limit(2**31 - 1)  # of a cell; it is 2**17 otherwise, and who reads a table says what is too long


def read(
    path: Path | str,
    columns: dict[str, str] | None = None,
    needed: Iterable[str] = (),
    known: Iterable[str] = (),
    blank: bool = False,
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
        blank: whether the blank rows below the head of CSV and TSV are rows, too, of None alone.

    Returns:
        Its rows with our names, and other columns under their own. A cell is text in CSV and TSV, None if empty; else
        what JSON or Parquet holds. The index is the line on which each row begins (in Parquet its number), from 1.

    Raises:
        WhoknowsError: the file cannot be read, has no row or lacks a column; the sentence names the line if one is bad.
    """
    path = Path(path)
    refuse_workbook(path)
    if path.suffix.lower() == ".parquet":
        try:
            columnar = parquet.ParquetFile(io.BytesIO(files.read_bytes(path))).read()
        except (pyarrow.ArrowException, OSError, ValueError):
            raise WhoknowsError(f"{path}: this is no Parquet file, or a damaged one; write it anew.") from None
        _check_names(path, columnar.column_names)
        # An index of pandas is a column as any other, and a whole number with a gap beneath it stays whole.
        table = columnar.to_pandas(ignore_metadata=True, integer_object_nulls=True)
        table = table.astype(object).where(table.notna(), None).set_axis(range(1, len(table) + 1))
    elif path.suffix.lower() in ENDINGS:
        rows = _objects(path, _text(path)) if path.suffix.lower() == ".jsonl" else _cells(path, _text(path), blank)
        table = pd.DataFrame.from_dict(dict(rows), orient="index", dtype=object)
        table = table.where(table.notna(), None)
    else:
        known = f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        raise WhoknowsError(f"{path}: its name should end with {known}; convert or rename it.")
    if table.empty:
        raise WhoknowsError(f"{path}: there is no row in this file; add one, or name another file.")
    return _named(path, table, columns or {}, [*needed], [*known])


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


def check_computed(path: Path | str, cells: Iterable) -> None:
    """Raises a ValueError if one of a line's cells is an error of the spreadsheet that wrote a CSV or TSV file."""
    is_written = Path(path).suffix.lower() in (".csv", ".tsv")
    wrong = next((cell for cell in cells if is_written and isinstance(cell, str) and ERROR.fullmatch(cell)), None)
    if wrong:
        why = "the spreadsheet could not compute this cell, or took a text for a formula"
        raise ValueError(f"{wrong.strip()!r} is an error: {why}; write its text anew, with an apostrophe before it")


def _is_formula(text: str) -> bool:
    return bool(FORMULA.match(text)) and not AMOUNT.fullmatch(text)


def _meant(cell: str) -> str:
    """What `inert` was given where it wrote a cell."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell.lstrip("'")) else cell


def _text(path: Path) -> str:
    raw = files.read_bytes(path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise mistake(path, line, "this is not UTF-8; save the file as UTF-8") from None


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


def _cells(path: Path, text: str, blank: bool) -> Iterator[tuple[int, dict]]:
    parted = delimiter(path, text)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=parted, strict=True)
    names, begins = None, 1
    try:
        for cells in lines:
            begins, here = lines.line_num + 1, begins
            if not any(cell.strip() for cell in cells):
                if blank and names is not None:
                    yield here, dict.fromkeys(filter(None, names))
                continue
            if names is None and cells in (["sep=", ""], ["SEP=", ""]):  # for a spreadsheet, which takes it as we do
                continue
            if names is None:
                names = [_meant(cell.strip()) for cell in cells]
                _check_names(path, names)
                continue
            if len(cells) < len(names) or any(cells[len(names) :]):
                what = f"this row has {len(cells)} cells, but there are {len(names)} columns"
                quotes = f'put "quotes" around a cell that holds a {SPELT[parted]}'
                raise mistake(path, here, f"{what}; {quotes if len(cells) > len(names) else 'fill it up'}")
            yield here, {name: _meant(cell) or None for name, cell in zip(names, cells) if name}
    except csv.Error as error:
        raise mistake(path, begins, f"this is no good CSV ({error}); save the file from a spreadsheet anew") from None


def _check_names(path: Path, names: list[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if name and count > 1), None)
    if twice:
        raise WhoknowsError(f"{path}: two columns are called {twice!r}; rename one of them.")


def _named(
    path: Path, table: pd.DataFrame, columns: dict[str, str], needed: list[str], known_to_us: list[str]
) -> pd.DataFrame:
    unseen = [name for name in dict.fromkeys([*needed, *known_to_us]) if name not in {*columns, *table.columns}]
    columns = columns | _in_other_letters(path, [name for name in table if name not in columns.values()], unseen)
    for ours in dict.fromkeys([*columns, *needed]):
        theirs = columns.get(ours, ours)
        if theirs not in table.columns and (cells := _inside(table, theirs)):
            table = table.assign(**{theirs: pd.Series(cells, table.index, dtype=object)})
        if theirs not in table.columns:
            known = [name for column in table for name in _names(str(column), table[column])][:SHOWN]
            known = ["".join(sign if sign.isprintable() else "?" for sign in name) for name in known]
            near = difflib.get_close_matches(theirs, known, 1) or known[:1]
            raise WhoknowsError(
                f"{path}: there is no column {theirs!r}; it has {', '.join(known)}. "
                f"Rename one, or write columns: {{{ours}: {near[0]}}} in the grid."
            )
    hidden = [name for name in columns if name in table.columns and name not in columns.values()]
    return table.drop(columns=hidden).rename(columns={theirs: ours for ours, theirs in columns.items()})


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
