"""Turns a notebook that papermill has run into a page: titled, with a record of its run, free of local paths."""

import ast
import json
import re
from functools import cache
from pathlib import Path

from nbformat import NotebookNode, from_dict

from whoknows.data import hub
from whoknows.data.cache import root
from whoknows.data.files import ROOT


def parameters(notebook: NotebookNode) -> dict:
    """Names and defaults of the cell tagged `parameters`; a default that is no literal is given as its source."""
    defaults = {}
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for node in ast.parse(cell.source).body:
                for target in getattr(node, "targets", [getattr(node, "target", None)]):
                    if isinstance(target, ast.Name):
                        defaults[target.id] = _literal(node.value)
    return defaults


def clean(notebook: NotebookNode, title: str, about: dict) -> NotebookNode:
    """The page of a notebook that papermill has executed.

    Args:
        title: what this run is of, added to the first heading; may be empty.
        about: record of the run, kept in the notebook's metadata as `whoknows`.
    """
    page = NotebookNode(nbformat=notebook.nbformat, nbformat_minor=notebook.nbformat_minor)
    kept = ("kernelspec", "language_info")
    page.metadata = {name: notebook.metadata[name] for name in kept if name in notebook.metadata} | {"whoknows": about}
    page.cells = [_clean_cell(cell) for cell in notebook.cells]
    _title(page, title)
    return from_dict(json.loads(scrub(json.dumps(page, ensure_ascii=False))))


def reword(page: NotebookNode) -> None:
    """Puts the current prose of a page's notebook into the page: a change of it is no reason to run a stage again.

    A page stays as it is if its notebook is gone, or has another number of prose cells.
    """
    about = page.metadata.get("whoknows", {})
    path = ROOT / f"notebooks/{about.get('stage')}.py"
    if not path.exists():
        return
    notebook, title = _source(path), about.get("title", "")
    prose, new = ([cell for cell in one.cells if cell.cell_type == "markdown"] for one in (page, notebook))
    if len(prose) == len(new):
        for cell, now in zip(prose, new):
            cell.source = now.source
        _title(page, title)


@cache
def _source(path: Path) -> NotebookNode:
    import jupytext  # takes a while to import, and whoever runs a notebook has it anyway

    return jupytext.read(path, fmt="py:percent")


def _title(page: NotebookNode, title: str) -> None:
    """Adds a title to the first heading."""
    first = next((cell for cell in page.cells if cell.cell_type == "markdown" and cell.source.startswith("# ")), None)
    if first and title:
        first.source = re.sub(r"^# .*", lambda heading: f"{heading[0]} · {title}", first.source, count=1)


def scrub(text: str) -> str:
    """Text without tokens, in which paths of the checkout, cache and home folder say nothing of this machine."""
    text = hub.hide(text)
    for folder, name in ((ROOT, ""), (root(), "$WHOKNOWS_CACHE/"), (Path.home(), "~/")):
        if folder == Path("/"):  # the home of some containers' users; it says nothing, and is in every closing tag
            continue
        # Only where a path begins: the same letters may occur within a longer path or an encoded picture.
        start = rf"(?<![\w.~/+-]){re.escape(str(folder))}"
        text = re.sub(rf"{start}/", lambda _: name, text)
        text = re.sub(rf"{start}(?![\w.-])", lambda _: name.rstrip("/") or ".", text)
    return text


def _clean_cell(cell: NotebookNode) -> NotebookNode:
    tags = cell.metadata.get("tags", [])
    if "parameters" in tags or "injected-parameters" in tags:
        tags = [*tags, "remove-cell"]
    timed = ("papermill", "execution")  # what they put here are times of day
    cell.metadata = {key: value for key, value in cell.metadata.items() if key not in (*timed, "tags")}
    cell.metadata |= {"tags": tags} if tags else {}
    if cell.cell_type == "code":
        cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
    return cell


def _is_progress(output: NotebookNode) -> bool:
    # Progress bars and warnings were shown while the notebook ran, and are in its log.
    return output.get("name") == "stderr" or any("jupyter.widget" in kind for kind in output.get("data", {}))


def _literal(node: ast.expr):
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
