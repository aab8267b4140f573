"""Source files that a notebook's results depend on: itself, and the modules of this library that it imports."""

import ast
import hashlib
import os
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).parent


def closure(notebook: Path | str) -> list[str]:
    """The notebook, and then every module of the library that it imports, directly or through another, as relative paths.

    Imports are read, not run. Those within functions count too, save in `main`, which no notebook calls.

    Args:
        notebook: py:percent source.
    """
    found, waiting = {}, [LIBRARY / "__init__.py", Path(notebook)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = None
            waiting += _imported(path)
    return [os.path.relpath(path) for path in found]


def digest(notebook: Path | str, *others: Path | str) -> str:
    """SHA-256, the first sixteen digits, of the notebook, of the modules in its closure, and of other files that it reads."""
    found = hashlib.sha256()
    for path in (*closure(notebook), *others):
        found.update(f"{path} {_sha256(Path(path))}\n".encode())
    return found.hexdigest()[:16]


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    parts = [name.split(".") for name in names if name.startswith("whoknows.")]
    return [module for _, name, *_ in parts if (module := LIBRARY / f"{name}.py").exists()]
