"""Mutants: a single mistake is planted in the library, and a test that executes its line has to fail.

`make mutants` runs it, `make test` does not. First all tests run once without a mistake, which shows what each of them
executes and how long it takes; then each mistake meets the tests of its line, the quick ones first. Which of all
mistakes are planted is drawn with a seed, so that a campaign can be repeated, and survivors of one can be looked at.
"""

import argparse
import ast
import copy
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Queue
from time import monotonic

from coverage import CoverageData

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "lib/whoknows"
PAGES = ("claims", "controls", "differences", "grading", "shift", "worth")
ROOMS = (
    "models",
    "estimators",
    "stages",
    "evaluation",
    "data/grading",
    "data/positions",
    "data/prompts",
    "data/rows",
    *(f"report/pages/{page}" for page in PAGES),
)
SLOW = {
    "test_smoke",
    "test_workflow",
    "test_book",
    "test_explore",
    "test_notebooks",
    "test_packaging",
    "test_bring",
    "test_outside",
}  # which run whole stages, and see less of each
SWAPPED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
MADE = (".venv", ".snakemake", "_build", "results", "__pycache__")  # what is no part of the text
ENOUGH = 0.9  # of the mutants have to be caught
# Arguments that change no number on a CPU, only time or looks.
UNSEEN = {"desc", "device", "indent", "only_auroc", "strict", "unit", "unit_scale"}
# Constants that say how much is done at a time, and change time and memory alone.
SIZES = {"ALONE", "CACHE_TOKENS", "FEW", "FEW_TOKENS", "LESSONS", "MOST"}
SIZES |= {"PASS_TOKENS", "PART", "PART_BYTES", "PART_QUESTIONS", "ROWS", "SCORES", "SHARE", "SHORT"}
QUICK = ["evaluation", "report", "data", "stages", "use", "run", "models", "lab"]  # rooms of tests, from quick to slow
LONGEST = 300  # seconds beyond three times those of the tests; what never ends is caught, since a person would see it


@dataclass(frozen=True)
class Mutant:
    """A module's text with one mistake in it, and the lines of it that a function executes."""

    module: str
    line: int
    lines: range
    old: str
    new: str
    text: str

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line}: `{' '.join(self.old.split())}` → `{self.new}`"


def mutants(module: str) -> list[Mutant]:
    """All of a module, in the order of its text."""
    text = (LIBRARY / f"{module}.py").read_text(encoding="utf-8")
    lines = [line.encode() for line in text.splitlines(keepends=True)]  # columns of the syntax tree are bytes
    starts = [sum(map(len, lines[:row])) for row in range(len(lines))]
    whole, found, tree = text.encode(), [], ast.parse(text)
    functions = [node.body for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    called = {line for body in functions for line in range(body[0].lineno, body[-1].end_lineno + 1)}
    for node in _mutable(tree):
        if not (made := [*_mistakes(node)]):
            continue
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        for new in made:
            changed = (whole[:start] + new.encode() + whole[end:]).decode()
            inside = range(node.lineno, node.end_lineno + 1 if node.lineno in called else node.lineno)
            found.append(Mutant(module, node.lineno, inside, whole[start:end].decode(), new, changed))
    return found


def _mutable(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that decide what is computed: not what is said, what types are noted, or how a module runs as a program."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if (
                isinstance(child, ast.AST)
                and not isinstance(child, ast.JoinedStr | ast.Raise | ast.Import | ast.ImportFrom | ast.Assert)
                and not _is_aside(child)
            ):
                yield child
                yield from _mutable(child)


def _is_aside(node: ast.AST) -> bool:
    """How a chart or a table looks, what a sentence says, how much is done at a time, how a module runs."""
    if isinstance(node, ast.keyword):
        return node.arg in UNSEEN
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).startswith("alt.")
    if isinstance(node, ast.Assign | ast.BinOp | ast.IfExp):
        return any(isinstance(name, ast.Name) and name.id in SIZES for name in ast.walk(node))
    if isinstance(node, ast.FunctionDef):
        return (
            node.name.endswith(("_chart", "_html", "_sentences"))
            or bool(node.returns)
            and ast.unparse(node.returns).startswith("alt.")
        )
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _mistakes(node: ast.AST) -> Iterator[str]:
    """What may stand in place of a node."""
    match node:
        case ast.Compare(ops=[op]):
            yield _with(node, ops=[SWAPPED[type(op)]()])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPPED and not _is_text(node):
            yield _with(node, op=SWAPPED[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield f"({ast.unparse(operand)})"
        case ast.Constant(value=bool(value)):
            yield str(not value)
        case ast.Constant(value=int(value)):
            yield str(value + 1)
        case ast.Constant(value=float(value)):
            yield repr(value / 2 if value else 1.0)
        case ast.Name(id="seed", ctx=ast.Load()) | ast.Attribute(attr="seed", ctx=ast.Load()):
            yield "0"
        case ast.Call(keywords=[*keywords]) if keywords:
            for left_out in (word for word in keywords if word.arg not in UNSEEN):
                yield _with(node, keywords=[word for word in keywords if word is not left_out])
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield "pass"
        case ast.IfExp(body=body, orelse=orelse):
            yield from (f"({ast.unparse(one)})" for one in (body, orelse))


def _with(node: ast.AST, **changes) -> str:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return f"({ast.unparse(changed)})"


def _is_text(node: ast.AST) -> bool:
    return any(
        isinstance(one, ast.JoinedStr) or isinstance(one, ast.Constant) and isinstance(one.value, str)
        for one in ast.walk(node)
    )


def concerned(module: str) -> list[str]:
    """Test files that name a module, or one that imports it: first those of its name, then its room's."""
    paths = [path for path in (ROOT / "tests").rglob("test_*.py") if path.stem not in SLOW]
    rooms = [module.split("/")[0], *QUICK]
    ordered = sorted(
        paths, key=lambda path: (rooms.index(path.parent.name) if path.parent.name in rooms else len(rooms), path.name)
    )
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in ordered}
    near = [name for name in texts if _names(texts[name], module)]
    users = [user for user in _modules(".") if _names((LIBRARY / f"{user}.py").read_text(encoding="utf-8"), module)]
    far = [name for name in texts if any(_names(texts[name], user) for user in users)]
    first = [name for name in texts if Path(name).stem == f"test_{Path(module).name}"]
    return list(dict.fromkeys(first + near + far))


def _modules(room: str) -> list[str]:
    """The modules of a folder of the library, or the one of that name, as paths without their ending.

    The tiny models of the tests and the smoke grid are no part of a published number.
    """
    paths = (LIBRARY / room).rglob("*.py") if (LIBRARY / room).is_dir() else [LIBRARY / f"{room}.py"]
    return sorted(
        str(path.relative_to(LIBRARY).with_suffix("")) for path in paths if path.stem not in ("__init__", "tiny")
    )


def _names(text: str, module: str) -> bool:
    room, _, name = f"whoknows/{module}".replace("/", ".").rpartition(".")
    return bool(
        re.search(
            rf"^(?:from {re.escape(room)} import .*\b{name}\b|from {re.escape(room)}\.{name} import)",
            text,
            re.MULTILINE,
        )
    )


class Executed:
    """Which tests execute a line of the library, as a run of all of them without a mistake has shown."""

    def __init__(self, checkout: Path, folder: Path, jobs: int):
        """Runs them.

        Raises:
            SystemExit: a test fails without any mutant.
        """
        files = sorted(str(path) for path in (checkout / "tests").rglob("test_*.py") if path.stem not in SLOW)
        options = ["-p", "executed", "-n", str(jobs), "--dist", "loadfile"]
        if failed := _failures(checkout, [*options, *files], {"EXECUTED": str(folder)}, None):
            raise SystemExit(f"without any mutant, mend first: {failed}")
        self.seconds: dict[str, float] = {}
        self.tests: dict[tuple[str, int], set[str]] = defaultdict(set)
        for path in folder.glob("*.json"):
            self.seconds |= json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("*.coverage"):
            (data := CoverageData(str(path))).read()
            for name in data.measured_files():
                module = str(Path(name).relative_to(checkout / "lib/whoknows").with_suffix(""))
                for line, tests in data.contexts_by_lineno(name).items():
                    self.tests[module, line] |= {*tests} - {""}

    def by(self, mutant: Mutant) -> list[str]:
        """The tests of a mutant, the quick files first; a file where setting up its tests executes the line.

        A line that runs when its module is imported, or in another process, meets the files that concern the module.
        """
        tests = set().union(*(self.tests[mutant.module, line] for line in mutant.lines)) or {*concerned(mutant.module)}
        files = defaultdict(list)
        for test in sorted(tests, key=self._cost):
            if (file := test.partition("::")[0]) not in tests or test == file:
                files[file].append(test)
        return [test for file in sorted(files, key=lambda file: self.cost(files[file])) for test in files[file]]

    def cost(self, tests: list[str]) -> float:
        """Seconds that tests or whole files take."""
        return sum(map(self._cost, tests))

    def _cost(self, test: str) -> float:
        return self.seconds.get(test, 0.0)


def caught_by(mutant: Mutant, executed: Executed, checkouts: Queue) -> str | None:
    """The test that fails, or None if all pass."""
    checkout = checkouts.get()
    module = checkout / f"lib/whoknows/{mutant.module}.py"
    right, began, tests = module.read_text(encoding="utf-8"), monotonic(), executed.by(mutant)
    try:
        module.write_text(mutant.text, encoding="utf-8")
        killer = _failures(checkout, ["-x", *tests], {}, LONGEST + 3 * executed.cost(tests))
    finally:
        module.write_text(right, encoding="utf-8")
        checkouts.put(checkout)
    print(
        f"{'caught  ' if killer else 'SURVIVED'} {monotonic() - began:4.0f} s  {mutant}"
        + (f"  by {killer}" if killer else f"  {len(tests)} tests"),
        flush=True,
    )
    return killer


def _failures(checkout: Path, arguments: list[str], variables: dict[str, str], longest: float | None) -> str | None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-rfE", *arguments]
    environment = os.environ | {
        "PYTHONPATH": f"{checkout / 'lib'}{os.pathsep}{checkout / 'tests'}",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        done = subprocess.run(
            command, cwd=checkout, env=environment | variables, capture_output=True, text=True, timeout=longest
        )
    except subprocess.TimeoutExpired:
        return "the clock"
    if not done.returncode:
        return None
    return ", ".join(re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", done.stdout, re.MULTILINE)) or "an import"


def main() -> int:
    """Plants a sample of all mistakes; returns 1 if too few were caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "modules",
        nargs="*",
        default=ROOMS,
        help="or rooms of the library, such as models/packing; without any, all that a published number comes from",
    )
    parser.add_argument("--count", type=int, default=120, help="mutants in the sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    told = parser.parse_args()
    every = [mutant for room in told.modules for module in _modules(room) for mutant in mutants(module)]
    sample = sorted(random.Random(told.seed).sample(every, min(told.count, len(every))), key=str)
    print(f"{len(sample)} of {len(every)} mutants of {', '.join(told.modules)}", flush=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(told.jobs) as pool:
        checkouts: Queue = Queue()
        for job in range(told.jobs):
            shutil.copytree(ROOT, Path(folder) / str(job), symlinks=True, ignore=shutil.ignore_patterns(*MADE))
            checkouts.put(Path(folder) / str(job))
        (Path(folder) / "executed").mkdir()
        executed = Executed(Path(folder) / "0", Path(folder) / "executed", told.jobs)
        print(f"{len(executed.seconds)} tests and files pass without a mistake", flush=True)
        killers = list(pool.map(partial(caught_by, executed=executed, checkouts=checkouts), sample))
    survivors = [mutant for mutant, killer in zip(sample, killers) if not killer]
    print(f"{len(sample) - len(survivors)} of {len(sample)} caught; these survived:", *survivors, sep="\n  ")
    return int(len(survivors) > (1 - ENOUGH) * len(sample))


if __name__ == "__main__":
    sys.exit(main())
