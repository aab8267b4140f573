"""The executed notebooks of a grid's stages, and the pages that the book makes of them."""

import itertools
import json
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import nbformat
import pandas as pd
from nbformat.v4 import new_markdown_cell

from whoknows.data import files
from whoknows.evaluation.cells import ALL
from whoknows.evaluation.scores import CELL
from whoknows.report import outdated, readable
from whoknows.report.pages.heatmaps import values_text
from whoknows.report.pages.style import percent
from whoknows.run import page as pages
from whoknows.run.grid import Grid
from whoknows.run.parameters import compared, lora_variants, searched
from whoknows.run.provenance import code
from whoknows.run.stages import STAGES

FAILED = ".failed"
BOX = 'class="facts rests-on"'  # of the first page, of what its answer rests on
SPEED = """The plain way answers by transformers' `generate`, with the whole few-shot prompt before each question. It
reads by one forward pass for each answer and another for the query, and trains by PEFT with the `Trainer`. Model,
texts and precision are the same, and both ways take turns in the same run. The last column is the arithmetic that
cannot be avoided, per second, over the rate of the machine itself. That rate is the one of products
with all matrices of the model's blocks, of 1,024 rows on a CPU and 16,384 on a GPU."""

ESTIMATORS = """An {term}`estimator` has a {term}`method`, a {term}`reader`, and the model whose graded answers it was
{term}`trained on`. Its page shows its ROC curve, calibration, and risk by coverage on the answers of any
{term}`scored` model. It also shows how the estimator was trained, and where it was most wrong. A cell of a heatmap
leads to the same page."""

OF_MANY = "Of so many models only the cells of the heatmaps stand here; an estimator's page has the others."


@dataclass(frozen=True)
class Chapter:
    """One executed notebook."""

    name: str  # of its file, without the ending; its stage comes first
    notebook: nbformat.NotebookNode
    parameters: dict
    failed: bool
    outdated: bool = False  # as `outdated.names` says

    @property
    def stage(self) -> str:
        return self.name.split("-")[0]

    @property
    def about(self) -> dict:
        """The record of the run; empty if it failed."""
        return self.notebook.metadata.get("whoknows", {})

    @property
    def seconds(self) -> float:
        return self.about.get("seconds", 0)

    @property
    def heading(self) -> str:
        lines = "\n".join(cell.source for cell in self.notebook.cells if cell.cell_type == "markdown").splitlines()
        return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), self.name)


def collect(folder: Path, grid: Grid) -> list[Chapter]:
    """The notebooks in a folder that belong to a grid as it is now, in the order of the stages.

    A failed notebook takes the place of an older one that ran well.
    """
    chapters = {}
    for path in sorted(folder.glob("*.ipynb"), key=lambda path: path.stem.endswith(FAILED)):
        chapter = read(path)
        if chapter.stage in STAGES and _belongs(chapter, grid):
            chapters[chapter.name] = chapter
    run = sorted(chapters.values(), key=lambda chapter: (list(STAGES).index(chapter.stage), chapter.name))
    old = outdated.names(run, grid)
    return [replace(chapter, outdated=chapter.name in old) for chapter in run]


def read(path: Path) -> Chapter:
    """Reads an executed notebook, with its prose as it is now, and its tables in words; cleans one that failed."""
    notebook, failed = nbformat.read(path, as_version=4), path.stem.endswith(FAILED)
    readable.tables(notebook)
    readable.percents(notebook)
    readable.without_empty(notebook)
    name = path.stem.removesuffix(FAILED)
    if not failed:
        pages.reword(notebook)
        return Chapter(name, notebook, notebook.metadata.get("whoknows", {}).get("parameters", {}), failed)
    values = notebook.metadata.get("papermill", {}).get("parameters", {})
    notebook.cells = [
        cell
        for cell in notebook.cells
        if not cell.get("id", "").startswith("papermill-error")
        and "papermill-error-cell-tag" not in cell.metadata.get("tags", [])
    ]
    names = " trained on ".join(values[key] for key in ("model", "reader", "trained_on") if key in values)
    seed = f", seed {values['seed']}" if "seed" in values else ""
    return Chapter(name, pages.clean(notebook, f"{names}{seed} · failed" if names else "failed", {}), values, failed)


def mark_changed(page: Chapter, sentence: str) -> None:
    """Says on a page that the files of its stage are no longer those that it wrote."""
    text = f":::{{admonition}} Changed files\n:class: warning\n{sentence}\n:::"
    page.notebook.cells.insert(1, new_markdown_cell(text, id="changed"))


def mark_outdated(page: Chapter, run: list[Chapter]) -> None:
    """Says on a page that it is outdated, and how much of its run is."""
    text = f""":::{{admonition}} Earlier settings
:class: warning
In whole or in part, this page was made with other settings than the grid has now, or from files that changed since.
So were {sum(chapter.outdated for chapter in run)} of the {len(run)} notebooks of this run; the page *The run* says
which. `make book` makes them anew.
:::"""
    page.notebook.cells.insert(1, new_markdown_cell(text, id="outdated"))


def facts(chapters: list[Chapter], *keys: str) -> dict[str, list[str]]:
    """The different values that the records of some notebooks have of facts, and of the version of each package."""
    versions = [chapter.about.get("versions", {}) for chapter in chapters]
    records = [chapter.about | each for chapter, each in zip(chapters, versions)]
    names = [*keys, *dict.fromkeys(itertools.chain(*versions))]
    return {name: [*filter(None, dict.fromkeys(record.get(name) for record in records))] for name in names}


def precision(chapters: list[Chapter]) -> str:
    """The number format of the language models that a run loaded; several where its machines differ, "" if unknown."""
    return "; ".join(facts(chapters, "precision")["precision"])


def mark_packed(page: Chapter, name: str, about: Path, here: str) -> None:
    """Says on a page of results that its rows are those of another run, of the grid `name`, with its record `about`.

    Args:
        here: number format of the models of this book's run.
    """
    record = files.read_json(about)
    facts = {key: record[key] for key in ("commit", "machine", "precision") if record.get(key)}
    facts |= record.get("versions", {})
    measured = ", ".join(code(f"{key} {value}") for key, value in facts.items())  # whoever packed it wrote them
    unknown = "a number format that is not recorded"
    there, here = (code(name) if name else unknown for name in (record.get("precision"), here))
    seeds = len(page.parameters.get("seeds", []))
    text = (
        f"The rows of this page were measured by a {f'{seeds}-seed ' if seeds > 1 else ''}run of the grid `{name}`"
        f"{f' ({measured})' if measured else ''}, not by this book's own run. "
        f"Its models computed in {there}, those of this run in {here}. In another number format, or on another "
        "machine, a model gives some other answers, so the numbers of right answers differ."
    )
    page.notebook.metadata["whoknows"]["precision"] = record.get("precision", "")
    page.notebook.cells.insert(1, new_markdown_cell(f":::{{admonition}} Reference run\n{text}\n:::", id="packed"))
    for cell in page.notebook.cells:
        if cell.cell_type == "markdown":  # its links are those of a first page
            cell.source = cell.source.replace("](book/", "](../book/").replace("](run/", "](beside-")


def lead_on(page: Chapter, text: str, parts: list[Chapter]) -> None:
    """Ends a page with a text in Markdown and links to the pages that it is about, if there are some."""
    if parts:
        links = [f"[{STAGES[part.name.removeprefix('beside-')]}]({part.name}.ipynb)" for part in parts]
        page.notebook.cells.append(new_markdown_cell(f"{text}: {', '.join(links)}.", id="parts"))


def landing(first: Chapter, others: list[Chapter], byline: str) -> nbformat.NotebookNode:
    """The heatmaps' notebook as the first page, with its `citation.byline`, what failed, and how long the run took."""
    notebook = first.notebook.copy()
    notebook.cells = [part for cell in notebook.cells for part in (cell, *_ran(cell, [first, *others]))]
    failed = [f"- [{other.heading}](run/{other.name}.ipynb)" for other in others if other.failed]
    if failed:
        lead = ":::{admonition} Some cells are missing\n:class: warning\nThese stages failed:\n"
        text = "\n".join([lead, *failed, ":::"])
        notebook.cells.insert(1, new_markdown_cell(text, id="failed-stages"))
    notebook.cells.insert(1, new_markdown_cell(byline, id="byline"))
    return notebook


def _ran(cell: nbformat.NotebookNode, run: list[Chapter]) -> list[nbformat.NotebookNode]:
    """A line beneath the box of the first page with the machine and the time of the run; none beneath another cell."""
    outputs = ["".join(output.get("data", {}).get("text/html", "")) for output in cell.get("outputs", [])]
    if not any(BOX in html for html in outputs):
        return []
    run = [chapter for chapter in run if chapter.stage != "beside"]
    seconds = sum(chapter.seconds for chapter in run)
    known = [*map(code, facts(run, "machine")["machine"]), f"{_seconds(seconds)} of notebooks" if seconds else ""]
    known += [f"computed in {code(text)}" if (text := precision(run)) else ""]
    text = " · ".join(filter(None, known))
    linked = f"Machine and time: {text} ([the run](run/record.md))."
    return [new_markdown_cell(f":::{{container}} ran\n{linked}\n:::", id="ran")] if text else []


def choose(page: Chapter, cells: list[Chapter]) -> None:
    """Puts the switches that lead from one estimator's page to another's beneath the title of a cell's page."""
    page.notebook.cells.insert(1, new_markdown_cell(_switches(cells, page.parameters), id="choose"))


def estimators(cells: list[Chapter], scores: Path) -> str:
    """The page on all estimators, as Markdown: switches that lead to the page of one, and what each of them reaches.

    Args:
        scores: the table of the heatmaps; where there is none, the page has no values.
    """
    lines = ["# One estimator", "", ESTIMATORS, "", _switches(cells, {}), "", "## All estimators", ""]
    values, scored = {}, []
    if scores.is_file():
        table = files.read_parquet(scores)
        first = table[table["test_set"] == table["test_set"].iloc[0]].drop_duplicates(CELL)
        values = dict(zip(first[CELL].itertuples(index=False, name=None), values_text(first)))
        scored = list(first["scored"].unique())
        lines += [f"AUROC on {first['test_set'].iloc[0]} test questions, with its 95 % interval, by scored model."]
        is_whole = ALL in {*table["reading"]} or len(scored) == 1
        lines += [*([] if is_whole else [OF_MANY]), ""]
    lines += [f"| Estimator |{''.join(f' {model} |' for model in scored)}", f"|---|{'---|' * len(scored)}"]
    for cell in cells:
        place = method, reader, trained_on = tuple(cell.parameters[name] for name in CELL[:3])
        reached = "".join(f" {values.get((*place, model), '—')} |" for model in scored)
        lines.append(f"| [{STAGES[method]}, {reader} trained on {trained_on}]({cell.name}.ipynb) |{reached}")
    return "\n".join([*lines, ""])


def _switches(cells: list[Chapter], chosen: dict) -> str:
    """A form as HTML, on one line, with a list for each part of an estimator's name, which cells.js reads."""
    lists = ""
    for name, title in zip(CELL, ("Method", "Reader", "Trained on")):
        options = ""
        for value in dict.fromkeys(cell.parameters[name] for cell in cells):
            selected = " selected" if value == chosen.get(name) else ""
            text = escape(STAGES.get(value, value) if name == "method" else value)
            options += f'<option value="{escape(value)}"{selected}>{text}</option>'
        lists += f'<label>{title} <select name="{name}">{options}</select></label>'
    pages = escape(json.dumps([cell.name for cell in cells]))
    return f'<form class="choose" data-pages="{pages}">{lists}<button>Show</button><output></output></form>'


def record(chapters: list[Chapter], written: str, full: str, changes: str) -> str:
    """The page on the run itself, as Markdown: how notebooks ended, times, machines, versions, commits, the grid.

    Args:
        written: the grid as its file has it.
        full: the grid with all that its file leaves out.
        changes: as `history.section` returns.
    """
    lines = ["# The run", "", "## Every notebook", "", *_folded_stages(chapters)]
    lines += [changes, "## Where it ran, and on what", "", "| of | in this run |", "|---|---|"]
    for name, values in facts(chapters, "machine", "commit", "precision").items():
        lines.append(f"| {name} | {', '.join(f'`{value}`' for value in values) or 'not known'} |")
    lines += ["", *_warnings(chapters), "## The grid", "", "```yaml", written.rstrip(), "```", ""]
    lines += ["With all that it leaves out:", "", "```yaml", full.rstrip(), "```", ""]
    return "\n".join(lines)


def _folded_stages(chapters: list[Chapter]) -> list[str]:
    """A table of the notebooks of each stage, which folds away; its line has what they took together."""
    *times, whole = times_by_stage(chapters)
    lines = [f"{whole[1]} notebooks took {_unbroken(whole[2])}: by stage, their number and time.", ""]
    for (stage, count, time), (_, of_stage) in zip(times, itertools.groupby(chapters, lambda chapter: chapter.stage)):
        lines += [f"<details><summary>{escape(stage)} · {count} · {time}</summary>", ""]
        lines += ["| notebook | status | time |", "|---|---|---|"]
        lines += map(_line, of_stage)
        lines += ["", "</details>", ""]
    return lines


def _line(chapter: Chapter) -> str:
    """A notebook in that table."""
    count, page = len(chapter.about.get("warnings", [])), "../index" if chapter.stage == "heatmaps" else chapter.name
    status = "earlier settings" if chapter.outdated else "ok"
    status += f", {count} warning{'s' if count > 1 else ''}" if count else ""
    ended = "failed | failed" if chapter.failed else f"{status} | {_unbroken(_seconds(chapter.seconds))}"
    return f"| [{chapter.heading}]({page}.ipynb) | {ended} |"


def _warnings(chapters: list[Chapter]) -> list[str]:
    """A section with what the notebooks were warned of while they ran, each once; nothing if there was nothing."""
    first = {}
    for chapter in chapters:
        for text in chapter.about.get("warnings", []):
            first.setdefault(text, f"{chapter.name}: {text}")
    head = ["## Warnings", "", "Each once, with the first notebook that had it.", "", "```text"]
    return [*head, *first.values(), "```", ""] if first else []


def speed(measured: pd.DataFrame) -> str:
    """The section on speed, as Markdown, from the table of `bench.bench`."""
    lines = ["| model | stage | unit | this library, a second | plain, a second | ratio | of the matrix-product rate |"]
    lines += ["|---|---|---|--:|--:|--:|--:|"]
    for line in measured.itertuples():
        rates = f"{line.ours_per_second:.1f} | {line.plain_per_second:.1f} | {line.ratio:.1f}"
        lines.append(
            f"| {line.model} | {STAGES[line.stage]} | {line.unit} | {rates} | {percent(line.share_of_matmul_rate)} |"
        )
    where = f"Measured by `make bench` on {measured['device'].iloc[0]}, in {measured['precision'].iloc[0]}"
    random = "random_weights" in measured and measured["random_weights"].any()  # an older table does not say
    where += ", with random weights in models of the same shapes." if random else "."
    return "\n".join(["## Speed", "", where, "", *lines, "", SPEED, ""])


def summary(chapters: list[Chapter]) -> str:
    """How long each stage took, for the terminal."""
    lines = [("stage", "notebooks", "time"), *times_by_stage(chapters)]
    return "\n".join(f"{stage:<27} {count:>14} {time:>10}" for stage, count, time in lines)


def times_by_stage(chapters: list[Chapter]) -> list[tuple[str, str, str]]:
    """(stage, how many notebooks, how long they took together), and a last line for all of them."""
    lines = []
    for stage, group in itertools.groupby(chapters, lambda chapter: chapter.stage):
        of_stage = list(group)
        failed = sum(chapter.failed for chapter in of_stage)
        count = f"{len(of_stage)} ({failed} failed)" if failed else f"{len(of_stage)}"
        lines.append((STAGES[stage], count, _seconds(sum(chapter.seconds for chapter in of_stage))))
    return [*lines, ("all", f"{len(chapters)}", _seconds(sum(chapter.seconds for chapter in chapters)))]


def _belongs(chapter: Chapter, grid: Grid) -> bool:
    stage, values, variants = chapter.stage, chapter.parameters, lora_variants(grid)
    names = {model.name for model in grid.models}
    answered = {model.name for model in grid.models if model.answered_by == stage}
    known = {"model": answered if stage.startswith("answer") else names, "reader": grid.readers, "seed": grid.seeds}
    known["trained_on"] = names | {change.get("trained_on") for change in variants.values()}
    is_asked = all(values[key] in known[key] for key in known if key in values)
    is_asked &= "trained_on" not in values or values.get("method", stage) in (*grid.methods, *variants)
    is_asked &= stage != "beside" or grid.beside is not None
    is_asked &= stage != "judge" or compared(grid)
    return is_asked and (stage not in ("search", "settings") or searched(grid))


def _unbroken(text: str) -> str:
    """Markdown that a narrow column leaves in one line."""
    return text.replace(" ", "&nbsp;")


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
