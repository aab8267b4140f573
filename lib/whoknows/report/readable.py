"""Tables of executed notebooks as readers see them: methods by their titles, and counts with separated thousands.

A stage's own notebook shows what its files hold. That is put into words where the book is made of it: a change of a
title, or of how a number is written, is no reason to train anything again.
"""

import re

from nbformat import NotebookNode

from whoknows.data.methods import METHOD_TITLES
from whoknows.report.pages.shift import LEFT_OUT, ONLY
from whoknows.report.pages.style import MINUS

TABLE = re.compile(r'<table[^>]*class="dataframe(?![^"]*(?:texts|examples))[^"]*">.*?</table>', re.DOTALL)
ROW = re.compile(r"<tr\b.*?</tr>", re.DOTALL)
CELL = re.compile(r"(<t[hd][^>]*>)([^<]*)(</t[hd]>)")
PERCENT = re.compile(r"(?<=\d) (?=%)")
NAMES = {"seed", "task", "scored", "reader", "model", "trained on"}  # columns whose digits are no counts
VARIANTS = {  # of a method, by what is added to its name
    rf"{LEFT_OUT}([\w.-]+)": ", without {}",
    rf"{ONLY}([\w.-]+)": ", {} alone",
    r"_n(\d+)": ", {} training answers",
    r"_one_each()": ", one answer to each question",
    r"_all_models()": ", all models",
}


def tables(notebook: NotebookNode) -> None:
    """Puts the tables of a notebook's outputs into words, in place; those that hold texts stay as they are.

    A table of headings alone is left out.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if html := output.get("data", {}).get("text/html"):
                output["data"]["text/html"] = TABLE.sub(lambda table: _in_words(table[0]), "".join(html))


def percents(notebook: NotebookNode) -> None:
    """Keeps each number and its % in one line, in the texts of a notebook's outputs; a chart draws its own."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts = {kind: "".join(data[kind]) for kind in ("text/html", "text/markdown") if kind in data}
            data.update({kind: PERCENT.sub("\u00a0", text) for kind, text in texts.items() if "<script" not in text})


def without_empty(notebook: NotebookNode) -> None:
    """Leaves out outputs whose text is empty, in place: a page would show what Python calls them instead."""
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if "" not in output.get("data", {}).values()]


def numbers(csv: str) -> str:
    """A table as CSV, for a page that shows it: its numbers have a true minus."""
    return re.sub(r"(?m)(^|,)-(?=[\d.])", rf"\g<1>{MINUS}", csv)


def title(method: str) -> str:
    """What pages call a method, or a variant of one, such as `probe_without_sciq`; another name stays as it is."""
    for added, words in VARIANTS.items():
        matched = re.fullmatch(rf"(\w+?){added}", method)
        if method not in METHOD_TITLES and matched and matched[1] in METHOD_TITLES:
            return METHOD_TITLES[matched[1]] + words.format(_grouped(matched[2]) if "answers" in words else matched[2])
    return METHOD_TITLES.get(method, method)


def _in_words(table: str) -> str:
    if "<td" not in table:
        return ""
    heads: list[str] = []

    def row(line: re.Match) -> str:
        nonlocal heads
        if "<td" not in line[0]:
            heads = [text for _, text, _ in CELL.findall(line[0])]
            return CELL.sub(lambda cell: f"{cell[1]}{_breakable(cell[2])}{cell[3]}", line[0])
        of = iter(heads)
        return CELL.sub(lambda cell: f"{cell[1]}{_cell(cell[2], next(of, ''), '<th' in cell[1])}{cell[3]}", line[0])

    return ROW.sub(row, table)


def _cell(text: str, head: str, is_heading: bool) -> str:
    if head.lower() == "method":
        return title(text)
    if is_heading or head.lower() in NAMES:  # such as a task called 2024
        return _breakable(text)
    return "—" if text == "NaN" else _breakable(_grouped(text))


def _breakable(text: str) -> str:
    """A name that a narrow column may break after each of its parts."""
    return re.sub(r"_(?=\w)", "_<wbr>", text) if re.fullmatch(r"\w+", text) else text


def _grouped(text: str) -> str:
    return f"{int(text):,}" if text.isdecimal() else text
