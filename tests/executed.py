"""A plugin of pytest for mutants.py: which test executes which lines of the library, and how long each takes.

What setting up a test executes is noted for its file, whose other tests may use what was set up. Functions that keep
their results forget them before each test, so that the first one to call them is not the only one that is noted.
"""

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from time import monotonic

import coverage
import pytest

FOLDER, SECONDS = Path(os.environ["EXECUTED"]), defaultdict(float)
LINES = coverage.Coverage(
    FOLDER / f"{os.getpid()}.coverage", source_pkgs=["whoknows"], config_file=False, messages=False
)


def pytest_configure():
    LINES.start()


def pytest_unconfigure():
    LINES.stop()
    LINES.save()
    (FOLDER / f"{os.getpid()}.json").write_text(json.dumps(SECONDS), encoding="utf-8")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    modules = [module for name, module in sys.modules.items() if name.startswith("whoknows.")]
    for kept in (value for module in modules for value in vars(module).values() if hasattr(value, "cache_clear")):
        kept.cache_clear()
    return (yield from _noted(_file(item), _file(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _noted(item.nodeid, item.nodeid, _file(item)))


def _noted(context, *names):
    LINES.switch_context(context)
    began = monotonic()
    try:
        return (yield)
    finally:
        LINES.switch_context("")
        for name in names:
            SECONDS[name] += monotonic() - began


def _file(item):
    return item.nodeid.partition("::")[0]
