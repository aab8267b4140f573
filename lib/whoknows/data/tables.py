"""Tables that users bring: JSON lines, CSV, TSV or Parquet, read line by line, with names of their own."""

import csv
import difflib
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow

from whoknows import WhoknowsError
from whoknows.data import files

ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")  # of names of files that can be read
SPELT = {",": "comma", ";": "semicolon", "\t": "tab"}  # what parts columns; spreadsheets of many countries write ;
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
SHOWN = 12  # columns that a sentence names at most


def read(path: Path | str, columns: dict[str, str] | None = None, needed: Iterable[str] = ()) -> pd.DataFrame:
    """A user's table.

    Args:
        path: a file whose name ends with .jsonl, .csv, .tsv or .parquet. Text is UTF-8, with or without a byte order
            mark; a CSV file's columns are parted by commas, semicolons or tabs, whichever its head holds most of.
        columns: our name -> the file's, for columns with other names than ours; `answers.text` is what structs in
            the column answers hold as text, unless a column is called just that.
        needed: columns, by our names, that have to be there.

    Returns:
        Its rows with our names, and other columns under their own. A cell is text in CSV and TSV, and None where it is
        empty; it is what JSON or Parquet holds otherwise. The index is the line on which each row begins (in Parquet
        its number), from 1.

    Raises:
        WhoknowsError: the file cannot be read, has no row or lacks a column; the sentence names the line if one is bad.
    """
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        try:
            table = pd.read_parquet(io.BytesIO(files.read_bytes(path)))
        except (pyarrow.ArrowException, OSError, ValueError):
            raise WhoknowsError(f"{path}: this is no Parquet file, or a damaged one; write it anew.") from None
        table = table.astype(object).where(table.notna(), None).set_axis(range(1, len(table) + 1))
    elif path.suffix.lower() in ENDINGS:
        rows = dict(_objects(path, _text(path)) if path.suffix.lower() == ".jsonl" else _cells(path, _text(path)))
        table = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
        table = table.where(table.notna(), None)
    else:
        known = f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        raise WhoknowsError(f"{path}: its name should end with {known}; convert or rename it.")
    if table.empty:
        raise WhoknowsError(f"{path}: there is no row in this file; add one, or name another file.")
    return _named(path, table, columns or {}, needed)


def mistake(path: Path | str, line: int, what: str) -> WhoknowsError:
    """The error to raise for a bad line, or row of a Parquet file: which one it is, and what is wrong with it."""
    return WhoknowsError(f"{path}, {'row' if Path(path).suffix.lower() == '.parquet' else 'line'} {line}: {what}.")


def delimiter(path: Path | str, head: str) -> str:
    """What parts the columns of a CSV or TSV file, by its name and its first line."""
    return "\t" if Path(path).suffix.lower() == ".tsv" else max(SPELT, key=head.count)


def inert(cell):
    """A cell to write into CSV: an apostrophe stands before text that a spreadsheet would take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def texts(value) -> list:
    """The items of a cell that holds a list: a list, or text that is one as JSON, or texts parted by |, or just one."""
    if not isinstance(value, str):
        return [value] if isinstance(value, dict) or not hasattr(value, "__iter__") else list(value)
    try:
        items = json.loads(value) if value.lstrip().startswith("[") else None
    except ValueError:
        items = None
    return items if isinstance(items, list) else [part.strip() for part in value.split("|")]


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


def _cells(path: Path, text: str) -> Iterator[tuple[int, dict]]:
    parted = delimiter(path, text.lstrip("\r\n").partition("\n")[0])
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=parted, strict=True)
    names, begins = None, 1
    try:
        for cells in lines:
            begins, here = lines.line_num + 1, begins
            if not any(cells):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                twice = next((name for at, name in enumerate(names) if name and name in names[:at]), None)
                if twice:
                    raise mistake(path, here, f"two columns are called {twice!r}; rename one of them")
                continue
            if len(cells) != len(names):
                what = f"this row has {len(cells)} cells, but there are {len(names)} columns"
                raise mistake(path, here, f'{what}; put "quotes" around a cell that holds a {SPELT[parted]}')
            yield here, {name: cell or None for name, cell in zip(names, cells) if name}
    except csv.Error as error:
        raise mistake(path, begins, f"this is no good CSV ({error}); save the file from a spreadsheet anew") from None


def _named(path: Path, table: pd.DataFrame, columns: dict[str, str], needed: Iterable[str]) -> pd.DataFrame:
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
