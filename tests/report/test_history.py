"""The page The run says which numbers, versions and settings are no longer those of the run before."""

import dataclasses
import json
import re

import pandas as pd
from test_parameters import GRID

from whoknows.report import history

ABOUT = {"commit": "abc", "machine": "a machine", "precision": "bfloat16", "versions": {"torch": "2.8", "peft": "1"}}
EVIL = "`a` | {eval}`1` <script>x</script>"


def scores(*values, reading="A", **names):
    """Cells of one estimator that scores models named by their numbers: (auroc, low, high) of each."""
    place = {"test_set": "in-distribution", "method": "probe", "reader": "a", "trained_on": "b"} | names
    table = pd.DataFrame(values, columns=["auroc", "low", "high"], dtype=float)
    return table.assign(reading=reading, scored=[str(at) for at in range(len(values))], **place)


def told(old, now, about=ABOUT, grid=GRID):
    return history.section(history.summary(old, ABOUT, GRID), history.summary(now, about, grid))


def cells_of(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_each_value_that_moved_is_compared_with_the_old_interval():
    old = scores((0.7, 0.65, 0.75), (0.6, 0.5, 0.7), (0.8, 0.7, 0.9), (0.5, 0.4, 0.6))
    now = scores((0.76, 0.7, 0.8), (0.5876, 0.5, 0.7), (0.8004, 0.7, 0.9), (None, None, None), (0.9, 0.8, 0.95))
    text = told(pd.concat([old, old.assign(reading="B")]), pd.concat([now, now.assign(reading="B")]))
    assert "2 of 4 values of AUROC differ from the last run; 1 of them lie outside the old 95 % interval" in text
    assert "; 1 are new; 1 are gone." in text
    head, _, *lines = cells_of(text)
    assert head[-3:] == ["Now", "Difference", "Within"]
    names = ["Probe", "`a`", "`b`"]
    assert lines == [
        [*names, "`0`", "in-distribution", "0.700 (0.650 – 0.750)", "0.760", "+0.060", "no"],
        [*names, "`1`", "in-distribution", "0.600 (0.500 – 0.700)", "0.588", "−0.012", "yes"],
    ]


def test_a_value_without_an_interval_is_neither_within_nor_outside():
    lines = cells_of(told(scores((0.7, None, None)), scores((0.9, 0.8, 1.0))))
    assert lines[2][-4:] == ["0.700", "0.900", "+0.200", "—"]


def test_versions_machine_and_settings_that_changed_are_named():
    about = ABOUT | {"machine": EVIL, "versions": {"torch": "2.9", "altair": "5"}}
    tasks = tuple(dataclasses.replace(task, size=7) if not at else task for at, task in enumerate(GRID.tasks))
    text = told(scores((0.7, 0.6, 0.8)), scores((0.7, 0.6, 0.8)), about, dataclasses.replace(GRID, tasks=tasks))
    _, _, *lines = cells_of(text)
    size = f"`tasks.{GRID.tasks[0].name}.size`"
    assert [line[0] for line in lines] == ["`machine`", "`torch`", "`peft`", "`altair`", size]
    assert [line[1:] for line in lines[1:]] == [
        ["`2.8`", "`2.9`"],
        ["`1`", "—"],
        ["—", "`5`"],
        [f"`{GRID.tasks[0].size}`", "`7`"],
    ]
    assert lines[0][1] == "`a machine`" and lines[0][2].startswith("`` ") and "|" not in lines[0][2]
    assert "0 of 1 values of AUROC differ from the last run." in text and "<details>" not in text


def test_the_same_run_changed_nothing():
    text = told(scores((0.7, 0.6, 0.8)), scores((0.7001, 0.6, 0.8)))
    assert "0 of 1 values" in text and "are the same." in text and cells_of(text) == []


def test_a_book_that_is_built_again_is_compared_with_the_same_run(tmp_path):
    path = tmp_path / "history.json"
    first, second, third = (history.summary(scores((value, 0.5, 0.9)), ABOUT, GRID) for value in (0.6, 0.7, 0.8))
    assert history.before(path, first) is None and history.before(path, first) is None
    assert history.section(None, first).endswith(f"{history.NOTHING}\n")
    assert history.before(path, second) == first == history.before(path, second)
    assert history.before(path, third) == second
    assert json.loads(path.read_text()) == {"now": third, "before": second}, "no older one is kept"
    path.write_text("{")
    assert history.before(path, third) is None, "a damaged file is no reason to have no book"


def test_a_run_whose_stages_failed_is_not_compared():
    text = history.section(None, None)
    assert re.fullmatch(rf"{history.TITLE}\n\n{history.UNFINISHED}\n", text)
