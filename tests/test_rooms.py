"""The rooms of the library: data flows one way, so that a change in a report touches no number."""

import ast
from graphlib import TopologicalSorter

import pytest

from whoknows.data.files import ROOT

LIBRARY = ROOT / "lib/whoknows"
BELOW = {  # what each room may import, besides itself
    "data": set(),
    "models": {"data"},
    "evaluation": {"data"},
    "estimators": {"data", "models", "evaluation"},
    "stages": {"data", "models", "evaluation", "estimators"},
    "run": {"data", "models", "stages"},
    "report/pages": {"data", "evaluation"},
    "report": {"data", "evaluation", "report/pages", "run"},
    "use": {"data", "models", "evaluation", "estimators", "stages", "run"},
    "lab": {"data", "models", "evaluation", "estimators", "stages", "run", "report/pages", "report", "use"},
}
MODULES = sorted(
    str(path.relative_to(LIBRARY).with_suffix(""))
    for path in LIBRARY.rglob("*.py")
    if path.stem not in ("__init__", "__main__")
)


def room(module: str) -> str:
    return module.rpartition("/")[0]


def imported(module: str, at_once: bool = False) -> set[str]:
    """The modules that a module imports, anywhere or as soon as it is imported itself."""
    tree = ast.parse((LIBRARY / f"{module}.py").read_text(encoding="utf-8"))
    nodes = [
        node
        for node in (tree.body if at_once else ast.walk(tree))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("whoknows.")
    ]
    names = [[node.module, *(f"{node.module}.{alias.name}" for alias in node.names)] for node in nodes]
    calls = [] if at_once else [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    by_name = [call.args[0] for call in calls if ast.unparse(call.func).endswith("import_module")]
    names += [[name.value] for name in by_name if isinstance(name, ast.Constant)]
    paths = {name.removeprefix("whoknows.").replace(".", "/") for both in names for name in both}
    return paths & {*MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_to_lower_rooms(module):
    there = {other: room(other) for other in imported(module)}
    assert {
        other for other, where in there.items() if where != room(module) and where not in BELOW[room(module)]
    } == set()


def test_no_room_leads_back_to_itself():
    assert [*TopologicalSorter(BELOW).static_order()]
    assert [*TopologicalSorter({module: imported(module, at_once=True) for module in MODULES}).static_order()]


def test_what_the_pages_and_the_statistics_need_is_no_language_model():
    reached, waiting = set(), [module for module in MODULES if room(module) in ("evaluation", "report/pages")]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += imported(module)
    assert {room(module) for module in reached} == {"data", "evaluation", "report/pages"}


def test_a_forbidden_import_is_seen(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/one.py").write_text("def late():\n    from whoknows.models import loading\n")
    (tmp_path / "data/two.py").write_text(
        "import importlib\ndef f():\n    importlib.import_module('whoknows.models.tiny')\n"
    )
    monkeypatch.setattr("test_rooms.LIBRARY", tmp_path)
    assert imported("data/one") == {"models/loading"} and imported("data/one", at_once=True) == set()
    assert imported("data/two") == {"models/tiny"} and imported("data/two", at_once=True) == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_takes_what_is_another_ones_own(module):
    tree = ast.parse((LIBRARY / f"{module}.py").read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module.startswith("whoknows")]
    assert [alias.name for node in nodes for alias in node.names if alias.name.startswith("_")] == []
