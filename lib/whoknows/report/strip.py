"""The strip under a figure: what made it, from what, and where to get it."""

import html
import os
import re
from pathlib import Path
from urllib.parse import quote

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from whoknows.data import files, tables
from whoknows.data.files import ROOT
from whoknows.report.pack import SMALL
from whoknows.run import provenance

COLAB = "notebooks/colab.ipynb"
REPOSITORY, HUB = "WHOKNOWS_REPOSITORY", "WHOKNOWS_JUPYTERHUB"
CAPTION = '<p class="figure-caption">'
LARGEST = 100_000  # letters of a CSV file; a longer table is offered as Parquet alone, a tenth as large
SHOWN = 600  # letters of a value
# Parameters that name a table which the notebook wrote, and what the strip calls it.
TABLES = {"out": "table", "rows_out": "rows"}


def add(notebook: NotebookNode, name: str, static: Path, up: str, precision: str = "") -> None:
    """Puts a line under every chart of a page and its caption, and at its end what the line is short for.

    Args:
        notebook: a page with the record of its run in its metadata, without which nothing is added.
        name: of its file, without the ending.
        static: the book's folder of static files, which gets the tables to download.
        up: from the page to the book's root: "" or "../".
        precision: number format of the run's language models, for a page that loaded none itself.
    """
    about = notebook.metadata.get("whoknows", {})
    if not about:
        return
    about = {"precision": precision} | about
    links = {title: f"{up}_static/tables/{file}" for title, file in _tables(about, name, static).items()}
    links["notebook"] = f"{up}_sources/{'run/' if up else ''}{name}.ipynb"
    line = new_markdown_cell(_line(about, links))
    cells = []
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], {}]):
        ends = _has(CAPTION, cell) or (_has("vegaEmbed", cell) and not _has(CAPTION, after))
        cells += [cell, line] if ends else [cell]
    # Sphinx refuses two cells of one name, so each line gets its own.
    notebook.cells = [cell if cell is not line else new_markdown_cell(line.source) for cell in cells]
    notebook.cells.append(new_markdown_cell(_section(about, links)))


def launch(path: str, commit: str) -> dict[str, str]:
    """Addresses that open a file of this repository, at a commit, elsewhere; empty if it has no public home."""
    home = repository()
    if not home:
        return {}
    owner, at = home.removeprefix("https://github.com/"), commit.removesuffix("-dirty") or "HEAD"
    hub = os.environ.get(HUB, "").rstrip("/")
    binder = f"https://mybinder.org/v2/gh/{owner}/{at}?urlpath={quote(f'lab/tree/{path}', safe='')}"
    links = {f"open {path} in Binder": binder}
    if hub:  # whose git-pull takes a branch, but no commit; without one it takes the default branch
        tree = quote(f"lab/tree/{owner.split('/')[-1]}/{path}", safe="")
        query = f"repo={quote(home, safe='')}&urlpath={tree}"
        links[f"open {path} in JupyterHub"] = f"{hub}/hub/user-redirect/git-pull?{query}"
    # It opens notebooks but no scripts, so it gets the one that fetches all the others.
    return links | {"run a grid in Colab": f"https://colab.research.google.com/github/{owner}/blob/{at}/{COLAB}"}


def repository() -> str:
    """Where this repository is on GitHub, https://github.com/owner/name, by the environment or git; "" if nowhere."""
    remote = os.environ.get(REPOSITORY) or provenance.git("remote", "get-url", "origin", at=ROOT)
    place = re.search(r"(?:^|//|@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", remote.strip())
    return f"https://github.com/{place[1]}" if place else ""


def _has(text: str, cell: NotebookNode) -> bool:
    """Whether a cell shows HTML with a text in it, such as a chart's script."""
    return any(text in "".join(output.get("data", {}).get("text/html", "")) for output in cell.get("outputs", []))


def _tables(about: dict, name: str, static: Path) -> dict[str, str]:
    """Copies the tables that the notebook wrote, as CSV if small, and as Parquet; gives file names by links' texts."""
    names = {}
    for key, title in TABLES.items():
        path, stem = Path(str(about["parameters"].get(key, ""))), f"{name}-{title}"
        if path.suffix == ".parquet" and path.exists():
            (static / "tables").mkdir(parents=True, exist_ok=True)
            table = files.read_parquet(path)
            words = table.select_dtypes(exclude=["number", "bool"])
            text = table.assign(**{name: table[name].map(tables.inert) for name in words}).to_csv(index=False)
            if len(text) <= LARGEST:
                files.write_text(static / "tables" / f"{stem}.csv", text)
                names[f"{title} as CSV"] = f"{stem}.csv"
            files.write_parquet(static / "tables" / f"{stem}.parquet", table, **SMALL)
            names[f"{title} as Parquet"] = f"{stem}.parquet"
    return names


def _line(about: dict, links: dict[str, str]) -> str:
    notebook, precision = f"notebooks/{about['stage']}.py", about["precision"] and f"computed in {about['precision']}"
    facts = [notebook, about.get("commit"), _time(about), about.get("machine"), precision]
    text = " · ".join(_short(fact) for fact in facts if fact)
    more = " · ".join([*(_link(*link) for link in links.items()), _link("how it was made", "#how-this-page-was-made")])
    return f'<div class="strip">{text}<span class="get"> · {more}</span></div>'


def _section(about: dict, links: dict[str, str]) -> str:
    notebook = f"notebooks/{about['stage']}.py"
    facts = {"notebook": notebook} | {key: about.get(key) for key in ("commit", "machine", "precision")}
    facts |= {"time": _time(about)} | about.get("versions", {})
    run = {key: value for key, value in facts.items() if value}
    parts = [_table("Run", run), _table("Parameters", about["parameters"])]
    parts += [_table("Inputs, SHA-256", about["inputs"])] if about.get("inputs") else []
    got = " · ".join(_link(*link) for link in (links | launch(notebook, about.get("commit", ""))).items())
    # A link to a place within opens what is folded.
    top = f'<summary>How this page was made</summary><div class="strip" id="how-this-page-was-made">{got}</div>'
    return f'<details class="made">{top}{"".join(parts)}</details>'


def _table(caption: str, values: dict) -> str:
    rows = "".join(f"<tr><th>{_short(key)}</th><td>{_short(value)}</td></tr>" for key, value in values.items())
    return f"<table><caption>{caption}</caption><tbody>{rows}</tbody></table>"


def _short(value) -> str:
    """HTML of a value, on one line: a blank line would end the block, and Markdown would be read again."""
    if isinstance(value, dict):
        value = ", ".join(f"{key}: {item}" for key, item in value.items())
    text = " ".join(str(value).split())
    return html.escape(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")


def _link(title: str, address: str) -> str:
    return f'<a href="{html.escape(address)}">{html.escape(title)}</a>'


def _time(about: dict) -> str:
    return f"{about['seconds']:.0f} s" if "seconds" in about else ""
