"""Stitches the executed notebooks of a grid into a Jupyter Book: `python -m whoknows book GRID`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import vl_convert
import yaml
from altair.vegalite.v6 import display

from whoknows import WhoknowsError
from whoknows.data import assets, files
from whoknows.data.files import ROOT
from whoknows.report import chapters, citation, history, pack, readable, slim, strip
from whoknows.run import grid, notebook, parameters, provenance, stages

# Stages whose pages end with links to those of another, and the text before these.
LEAD_ON = {
    "differences": (
        "recompute",
        """## With other questions

The heatmaps, their intervals and the calibration, computed anew in the page from the questions that you choose""",
    ),
    "controls": (
        "settings",
        """## Settings of LoRA + Prompt

How its learning rate was chosen, and what each training cost, on validation answers""",
    ),
    "shift": (
        "worth",
        """## Decisions by confidence

Where the models disagree, what each estimator adds to the likelihood, and what is gained where decisions are made by
confidence""",
    ),
    "claims": (
        "beside",
        """## The reference run

The same pages, computed from the rows of the run that this grid names for comparison""",
    ),
}


def build(grid_file: Path, results: Path | None = None) -> Path:
    """Builds the book of a grid from the notebooks that its stages have written so far, and returns its first page.

    Args:
        results: folder of the grid's results; results/<name of the grid> if not given.

    Raises:
        WhoknowsError: the grid is wrong, or the book has warnings (its pages are there nevertheless).
    """
    return sphinx(write(grid_file, results))


def write(grid_file: Path, results: Path | None = None) -> Path:
    """Writes the sources of a book and returns their folder, which is made anew each time to hold nothing stale."""
    chosen = grid.load(grid_file)
    results = results or Path("results") / chosen.name
    source = results / "book"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns("data"))
    write_charts(source / "book" / "_static")
    pages = chapters.collect(results / "notebooks", chosen)
    texts = _pages(pages, chosen, grid_file, results)
    for name, text in texts.items():
        files.write_text(source / name, text)
    config, landing = files.read_yaml(ROOT / "_config.yml"), nbformat.reads(texts["index.ipynb"], as_version=4)
    preview = citation.preview(landing, citation.read(), source / "book" / "_static")
    config["sphinx"]["config"]["html_context"]["preview"] = preview
    files.write_text(source / "_config.yml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    toc = existing(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")), source)
    files.write_text(source / "_toc.yml", yaml.safe_dump(toc, sort_keys=False))
    return source


def _pages(pages: list[chapters.Chapter], chosen: grid.Grid, grid_file: Path, results: Path) -> dict[str, str]:
    """File names and texts of what this run puts into the book."""
    first, *more = (from_rows(stage, pages, chosen, results) for stage in parameters.PAGES)
    order = [*stages.STAGES, *(model.name for model in chosen.models)]
    cells = [page for page in pages if page.stage == "cell"]
    cells.sort(key=lambda page: [order.index(page.parameters[name]) for name in ("method", "reader", "trained_on")])
    precision, mixed = chapters.precision(pages), provenance.changed(results, chosen.name)
    others = [*(page for page in pages if page.stage not in parameters.PAGES), *more]
    for page in others:
        if page.stage in LEAD_ON:
            stage, text = LEAD_ON[page.stage]
            chapters.lead_on(page, text, [other for other in others if other.stage == stage])
        if page.stage == "beside" and not page.failed:
            chapters.mark_packed(page, parameters.packed(chosen).name, Path(chosen.beside) / "about.json", precision)
    for page in (first, *others):
        if page.name in mixed:
            chapters.mark_changed(page, mixed[page.name])
        if page.outdated:
            chapters.mark_outdated(page, pages)
        name, up = ("index", "") if page is first else (page.name, "../")
        strip.add(page.notebook, name, results / "book" / "book" / "_static", up, precision)
        # Charts and tables want the width that a list of headings would take.
        page.notebook.metadata["html_theme.sidebar_secondary.remove"] = "true"
    for page in cells:
        chapters.choose(page, cells)
    about, date = citation.read(), citation.date()
    byline = citation.byline(about, date, strip.repository())
    texts = {"index.ipynb": nbformat.writes(chapters.landing(first, others, byline))}
    formats = (ROOT / "book/number_formats.csv").read_text(encoding="utf-8")
    texts["book/number_formats.csv"] = readable.numbers(formats)
    texts["book/cite.md"] = citation.dated((ROOT / "book/cite.md").read_text(encoding="utf-8"), about, date)
    texts |= {f"run/{page.name}.ipynb": nbformat.writes(page.notebook) for page in others}
    if cells:
        texts["run/cell.md"] = chapters.estimators(cells, Path(first.parameters.get("out", "")))
    written, full = Path(grid_file).read_text(encoding="utf-8"), grid.text(chosen, Path(grid_file).parent)
    bench = results / "bench.parquet"
    speed = chapters.speed(files.read_parquet(bench)) if bench.exists() else ""
    texts["run/record.md"] = chapters.record(pages, written, full, _changes(pages, first, chosen, results)) + speed
    texts["run/assets.md"] = licences()
    return texts


def _changes(pages: list[chapters.Chapter], first: chapters.Chapter, chosen: grid.Grid, results: Path) -> str:
    """What this run changed, as Markdown; a finished one is kept to compare the next one with."""
    scores = Path(first.parameters.get("out", ""))
    if any(page.failed or page.outdated for page in (first, *pages)) or not scores.is_file():
        return history.section(None, None)
    now = history.summary(files.read_parquet(scores), pack.about(pages), chosen)
    return history.section(history.before(results / "history.json", now), now)


def from_rows(stage: str, pages: list[chapters.Chapter], chosen: grid.Grid, results: Path) -> chapters.Chapter:
    """The page of a stage that reads all rows; run here, from those there are, if some stages failed or are outdated.

    It is outdated if any of these rows may be.
    """
    ready = [page for page in pages if page.stage == stage and not page.failed]
    if ready and not any(page.failed or page.outdated for page in pages):
        return ready[0]
    path = results / "book" / f"{stage}.ipynb"
    values = parameters.from_folder(chosen, stage, str(results), str(path.with_suffix(".parquet")))
    try:
        notebook.run(ROOT / "notebooks" / f"{stage}.py", path, json.loads(values))
    except notebook.StageFailed:
        path = path.with_suffix(".failed.ipynb")
    is_old = any(page.outdated for page in pages if page.stage not in parameters.PAGES)
    return replace(chapters.read(path), outdated=is_old)


def licences() -> str:
    """The table of assets, as Markdown."""
    lines = ["| asset | packages | licence | taken from |", "|---|---|---|---|"]
    for name, asset in assets.ASSETS.items():
        packages = ", ".join(f"`{wheel.package} {wheel.version}`" for wheel in asset.wheels)
        lines.append(f"| {name} | {packages} | {asset.licence} | {asset.source} |")
    return "\n".join(lines) + "\n"


def existing(toc, source: Path):
    """A table of contents, or a part of it, without the entries that name no page: Sphinx warns about each of them."""
    if isinstance(toc, list):
        return [entry for entry in (existing(entry, source) for entry in toc) if _has_page(entry, source)]
    if isinstance(toc, dict):
        kept = {key: existing(value, source) for key, value in toc.items()}
        return {key: value for key, value in kept.items() if value != []}
    return toc


def _has_page(entry: dict, source: Path) -> bool:
    if "caption" in entry:
        return "chapters" in entry
    pattern = entry.get("glob") or entry["file"]
    return any(list(source.glob(f"{pattern}{suffix}")) for suffix in (".md", ".ipynb"))


def sphinx(source: Path, builder: str = "html") -> Path:
    """Runs a builder of Sphinx, `html` or `singlehtml`, over the sources of a book, and returns the first page.

    Warnings raise a WhoknowsError in the end: they are mistakes, but a book with one of them is worth more than none.
    """
    how = ["--builder", builder, "-W", "-n", "--keep-going", "--quiet"]
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source), *how]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})
    index = source / "_build" / builder / "index.html"
    if index.exists():
        slim.slim(index.parent)
        files.write_text(whole(index), "")
    if done.returncode or not index.exists():
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "WARNING" in line or "ERROR" in line]
        where = f"its pages are in {index.parent}" if index.exists() else "it has no pages"
        lines = lines or [done.stderr[-2000:]]
        raise WhoknowsError("\n".join([f"The book was built with warnings ({where}):", *lines]))
    return index


def whole(index: Path) -> Path:
    """A file that is there once the book of a first page is whole: what is killed leaves that page, and others."""
    return index.parent.with_suffix(".whole")


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """The command line of what builds a book: a grid, and where its results lie."""
    options = argparse.ArgumentParser(prog=f"whoknows {command}", description=description)
    options.add_argument("grid", type=Path)
    where = "folder of the results; results/<name of the grid> if not given"
    options.add_argument("--grid-results", type=Path, help=where)
    return options


def main(arguments: list[str]) -> int:
    """The command line; prints how long each stage took and the path of the first page. Exit status 1: no heatmaps."""
    options = parser("book", __doc__).parse_args(arguments)
    index = build(options.grid, options.grid_results)
    chosen = grid.load(options.grid)
    results = options.grid_results or Path("results") / chosen.name
    print(chapters.summary(chapters.collect(results / "notebooks", chosen)))
    print(f"\nThe book: {index.resolve()}")
    if (results / "book" / "heatmaps.failed.ipynb").exists():
        print("It has no heatmaps: its first page shows why.", file=sys.stderr)
        return 1
    return 0


def write_charts(folder: Path) -> None:
    """Writes charts.js, which every page loads, and vega.js, which charts.js loads where there is a chart."""
    # Altair's pages load Vega from another host unless they find these very versions.
    names = ("vega", "vegalite", "vegaembed")
    versions = {f"{name}_version": getattr(display, f"{name.upper()}_VERSION") for name in names}
    debug = f"window.VEGA_DEBUG = {versions};\n"
    files.write_text(folder / "charts.js", debug + (ROOT / "book/_static/charts.js").read_text(encoding="utf-8"))
    # In a function of its own, so that its many short names do not become the page's.
    bundle = vl_convert.javascript_bundle("window.whoknowsVega = { vegaEmbed };", bundled_version())
    files.write_text(folder / "vega.js", f"(() => {{\n{bundle}\n}})();\n")


def bundled_version() -> str:
    """The Vega-Lite version that Altair's specifications are written for, as vl-convert names it."""
    return ".".join(display.VEGALITE_VERSION.split(".")[:2])
