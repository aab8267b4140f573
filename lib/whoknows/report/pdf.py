"""Prints a grid's book as an article, and links its first page to the print: `python -m whoknows pdf GRID`.

The page's style, in book/_static/page.css, says what is not printed.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.report import book

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NAME = "whoknows.pdf"
# In this width heatmaps stand side by side; the page's style shrinks charts to the paper.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --window-size=1300,1200 "
    "--allow-file-access-from-files --virtual-time-budget=15000 --no-pdf-header-footer --generate-pdf-document-outline"
).split()
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND"


def build(grid_file: Path, results: Path | None = None) -> Path:
    """Builds a book, as `book.build`, and prints its results, method and limits to a PDF beside the pages' folder.

    Raises:
        WhoknowsError: there is no browser, or as of `book.build`.
    """
    browser = find()
    source = book.write(grid_file, results)
    pdf = source / "_build" / NAME
    print_page(browser, book.sphinx(source, "singlehtml"), pdf)
    shutil.copy(pdf, source / "book" / "_static")
    landing = nbformat.read(source / "index.ipynb", as_version=4)
    text = (
        f'<div class="strip"><span class="get"><a href="_static/{NAME}">The report as an article (PDF)</a></span></div>'
    )
    landing.cells.insert(1, new_markdown_cell(text, id="pdf"))
    files.write_text(source / "index.ipynb", nbformat.writes(landing))
    book.sphinx(source)
    return pdf


def find() -> str:
    """The browser on the PATH that prints; a WhoknowsError if there is none."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        names = ", ".join(BROWSERS)
        raise WhoknowsError(
            f"There is no Chromium or Chrome on the PATH to print the book with: install one as one of {names}."
        )
    return browser


def print_page(browser: str, page: Path, pdf: Path) -> None:
    """Prints a page, once its charts are drawn, without a network; a WhoknowsError if the browser does not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        more = [f"--user-data-dir={profile}", NO_NETWORK, f"--print-to-pdf={pdf.resolve()}", page.resolve().as_uri()]
        done = subprocess.run([browser, *FLAGS, *more], capture_output=True, text=True)
    if done.returncode or not pdf.exists():
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise WhoknowsError(f"{browser} could not print the book: {last}")


def main(arguments: list[str]) -> None:
    """The command line; prints the path of the PDF."""
    options = book.parser("pdf", __doc__).parse_args(arguments)
    print(f"The report as PDF: {build(options.grid, options.grid_results).resolve()}")
