"""Source files that a notebook's results depend on: itself, and the modules of this library that it imports.

A file of Python counts by what it does: a change of comments, docstrings, error messages or layout re-runs no stage.
"""

import ast
import hashlib
import os
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).parents[1]
SHOWN = ("report", "use")  # rooms of charts and model cards, on which no number of a stage depends


def closure(notebook: Path | str) -> list[str]:
    """The notebook, then every module of the library that it imports, directly or through another, as relative paths.

    Imports are read, not run. Those within functions count too, save in `main`, which no notebook calls. A notebook
    that runs a stage does not depend on the charts that it draws then, nor on the README that it writes.
    """
    reached: dict[Path, None] = {}
    first = Path(os.path.abspath(notebook))
    waiting = [LIBRARY / "__init__.py", first]
    left_out = SHOWN if "stages" in map(_room, _imported(first)) else ()
    while waiting:
        path = waiting.pop()
        if path not in reached and _room(path) not in left_out:
            reached[path] = None
            waiting += _imported(path)
    return [os.path.relpath(path) for path in reached]


def digest(notebook: Path | str, *others: Path | str) -> str:
    """SHA-256, the first sixteen digits, of the notebook, the modules in its closure, and other files that it reads.

    Their names count as they are within the checkout: wherever it lies, and whoever asks, the same code has one digest.
    """
    total, checkout = hashlib.sha256(), LIBRARY.resolve().parents[1]
    for path in (Path(name).resolve() for name in (*closure(notebook), *others)):
        total.update(f"{os.path.relpath(path, checkout)} {content(path)}\n".encode())
    return total.hexdigest()[:16]


@cache
def content(path: Path | str) -> str:
    """SHA-256 of what a file of Python does, or of the bytes of another file."""
    text = Path(path).read_bytes()
    if Path(path).suffix == ".py":
        text = ast.unparse(_Silent().visit(ast.parse(text, str(path)))).encode()
    return hashlib.sha256(text).hexdigest()


class _Silent(ast.NodeTransformer):
    """Leaves out texts that change no result: docstrings, and the messages of exceptions."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if is_text else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        for part in ast.walk(node):
            if isinstance(part, ast.JoinedStr):
                part.values = [value for value in part.values if isinstance(value, ast.FormattedValue)]
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                part.value = ""
        return node


@cache
def _imported(path: Path) -> list[Path]:
    names, tree = [], ast.parse(path.read_text(encoding="utf-8"), str(path))
    tree.body = [node for node in tree.body if getattr(node, "name", None) != "main"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from whoknows import x`: x may be a module or a name within the package.
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [module for name in names if name.startswith("whoknows.") for module in _modules(name.split(".")[1:])]


def _room(path: Path) -> str:
    """The folder of the library that a file is in; "" for all other files."""
    return path.relative_to(LIBRARY).parts[0] if LIBRARY in path.parents else ""


def _modules(parts: list[str]) -> list[Path]:
    """The files that an import of `whoknows.<parts>` runs: of the packages on the way and, if it is one, the module."""
    packages = [LIBRARY.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [path for path in [*packages, LIBRARY.joinpath(*parts).with_suffix(".py")] if path.exists()]
