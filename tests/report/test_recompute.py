"""What the page computes in the browser: the library's numbers, for any choice; and no name is more than text.

The page's script runs in a browser, from a file; the library measures the rows that pandas chooses in the same way.
"""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import browser
from made_up import FOUR, THREE, a_run, make_rows
from whoknows.evaluation import bootstrap, cells, plateau, scores
from whoknows.evaluation.scores import CELL
from whoknows.report.pages import cell, heatmaps, recompute

ROOT = Path(__file__).parents[2]
HOME = ["sciq", "trivia_qa"]
SILENT = 7  # answers that one model has not given
STEADY = ("probe", "ash", "ash", "cedar")  # a cell that is equally confident of all answers
SURE = ("probe", "cedar", "cedar", "ash")  # one whose confidences are exactly 0 and 1, and some infinite
SHORT = ("probe", "birch", "ash", "birch")  # one of which a seed lacks some answers
USUAL = {"tasks": HOME, "words": {"low": None, "high": None}, "disagree": False, "metric": "auroc", "resamples": 2000}
CHOICES = {
    "as it opens": {},
    "one task": {"tasks": ["nq_open"]},
    "a task of which one model has no right answer": {"tasks": ["nq_open", "capitals"]},
    "short answers": {"words": {"low": None, "high": 2}},
    "answers of some lengths": {"words": {"low": 2, "high": 3}, "tasks": [*HOME, "nq_open"]},
    "where models disagree": {"disagree": True, "tasks": [task["name"] for task in FOUR]},
}


def a_page(folder: Path, rows, table, models, readers, tasks) -> Path:
    """A page with nothing but the widget, and the book's script and style."""
    static = ROOT / "book/_static"
    head = "".join(f"<link rel=stylesheet href='{static / name}.css'>" for name in ("page", "recompute"))
    head += f"<script src='{static / 'recompute.js'}'></script>"
    path = folder / "page.html"
    path.write_text(
        f"<!DOCTYPE html><html><meta charset=utf-8>{head}<article class=bd-article>"
        f"{recompute.html(rows, table, models, readers, tasks)}</article>"
    )
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Rows and answers with ties, a constant, certain confidences, missing answers and a missing estimator."""
    folder = tmp_path_factory.mktemp("run")
    a_run(folder)
    rows = plateau.mark(
        cells.read_rows(folder / "rows", THREE, ["probe", "lora_prompt"], [0, 1]), folder / "estimators"
    )
    test, place = rows["split"] == "test", rows[CELL].apply(tuple, axis=1)
    rows.loc[test & (place == STEADY), "logit"] = 0.25
    sure = test & (place == SURE)
    rows.loc[sure, "logit"] = np.float32([-np.inf, np.inf, -900, 900, 0])[np.arange(sure.sum()) % 5]
    lacks = test & (place == SHORT) & (rows["seed"] == 1) & (rows["task"] == "trivia_qa")
    rows = rows.drop(rows.index[lacks][:9])
    test = rows["split"] == "test"
    silent = sorted(rows.loc[test & (rows["task"] == "sciq"), "question_id"].unique())[:SILENT]
    rows = rows[~((rows["scored"] == "cedar") & rows["question_id"].isin(silent))]
    for at, model in enumerate(THREE):
        frame = pd.read_parquet(folder / f"answers/{model}.parquet")
        words = (np.arange(len(frame)) * (at + 3)) % 5  # none to four
        frame.assign(answer=[" ".join(["word"] * count) for count in words]).to_parquet(
            folder / f"answers/{model}.parquet"
        )
    answers = {model: str(folder / f"answers/{model}.parquet") for model in THREE}
    return rows, recompute.answer_table(rows, answers)


@pytest.fixture(scope="module")
def opened(run, tmp_path_factory):
    page = a_page(tmp_path_factory.mktemp("page"), *run, THREE, THREE, FOUR)
    with browser.open_book(page) as tab:
        tab.packed = json.dumps(recompute.packed(*run, THREE, THREE, FOUR))
        yield tab


@pytest.fixture
def few_draws(monkeypatch):
    for name in ("draws", "samples", "metric_samples"):
        usual = getattr(bootstrap, name)
        defaults = tuple(20 if value == bootstrap.DRAWS else value for value in usual.__defaults__)
        monkeypatch.setattr(usual, "__defaults__", defaults)


def chosen(rows, table, choice) -> pd.DataFrame:
    """The test rows that a choice leaves of both readings and of the baselines, and all validation rows."""
    graded = table[table["task"].isin(choice["tasks"])]
    if choice["disagree"]:
        graded = graded[graded.groupby("question_id")["correct"].transform("nunique") == 2]
    low, high = choice["words"]["low"] or 0, choice["words"]["high"]
    graded = graded[graded["words"].between(low, 99 if high is None else high)]
    test = rows[rows["split"] == "test"].merge(graded[["scored", "question_id"]], on=["scored", "question_id"])
    a, b, free = test["reader"] == test["trained_on"], test["reader"] == test["scored"], test["reader"] == ""
    return pd.concat([test[a & ~free | b | free], rows[rows["split"] == "validation"]], ignore_index=True)


def by_library(run, choice) -> pd.DataFrame:
    """The cells of a choice as the library measures them."""
    rows, tasks = chosen(*run, choice), [{"name": name, "role": "train"} for name in choice["tasks"]]
    measured = cells.measure(rows, scores.by_task(rows), tasks)
    return cells.enough(measured[measured["test_set"] == "in-distribution"]).set_index(CELL)


def by_page(tab, choice) -> dict:
    """What the page's script computes of all cells of a choice, by cell."""
    if not tab.read("window.packed !== undefined"):
        tab.visit()
        tab.read(f"window.packed = {tab.packed}; 0")
    script = f"""whoknowsRecompute.compute(whoknowsRecompute.unpack(packed), {json.dumps(choice)}).map((result) => ({{
        ...result.cell, ...result, value: String(result.value), low: String(result.low), high: String(result.high),
        seeds: 0, cell: 0}}))"""
    return {tuple(line[name] for name in CELL): line for line in tab.read(script)}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOICES)
def test_every_number_of_a_cell_is_the_librarys(run, opened, few_draws, name):
    choice = USUAL | CHOICES[name] | {"resamples": 1}
    there, missing = by_library(run, choice), 0
    assert len(there) == (24 if name == "answers of some lengths" else 35), "one model has none of those lengths"
    for metric in heatmaps.METRICS:
        page = by_page(opened, choice | {"metric": metric})
        for key, line in there.iterrows():
            here = page.pop(key)
            assert float(here["value"]) == pytest.approx(line[metric], abs=1e-9, nan_ok=True), (metric, key)
            assert [here[name] for name in COUNTS] == [line[name] for name in COUNTS], (metric, key)
            assert not line["n_tasks"] or here["reason"] == line["reason"], (metric, key)
            missing += np.isnan(line[metric])
        assert all(np.isnan(float(line["value"])) and line["reason"] for line in page.values()), "of no rows"
    assert missing < 0.7 * len(there) * len(heatmaps.METRICS)


@pytest.fixture(scope="module")
def drawn(run):
    """The library's intervals."""
    return by_library(run, USUAL | {"tasks": [*HOME, "nq_open"]})


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["auroc", "pooled_auroc", "prr", "aurc", "threshold_accuracy", "brier"])
def test_intervals_are_the_librarys_but_for_the_luck_of_the_draw(drawn, opened, metric):
    choice = USUAL | {"metric": metric, "resamples": 5000, "tasks": [*HOME, "nq_open"]}
    there, suffix = drawn, "" if metric == "auroc" else f"_{metric}"
    for key, here in by_page(opened, choice).items():
        low, high = there.loc[key, [f"low{suffix}", f"high{suffix}"]]
        if np.isnan(low):
            assert here["low"] == "NaN"
            continue
        assert [float(here["low"]), float(here["high"])] == pytest.approx([low, high], abs=0.1 * (high - low) + 1e-12)
    assert (there[f"high{suffix}"] > there[f"low{suffix}"]).sum() >= 34


@pytest.mark.slow
def test_calibration_errors_have_no_interval_and_the_same_seed_gives_the_same_one(opened):
    choice = USUAL | {"resamples": 300}
    assert {line["low"] for line in by_page(opened, choice | {"metric": "ece"}).values()} == {"NaN"}
    first, again = by_page(opened, choice), by_page(opened, choice)
    assert first == again and {line["low"] for line in first.values()} != {"NaN"}
    assert [float(first[STEADY][end]) for end in ("low", "value", "high")] == [0.5] * 3


@pytest.mark.slow
@pytest.mark.parametrize("scaled", [False, True])
def test_the_reliability_diagram_is_that_of_the_cells_page(run, opened, scaled):
    rows, _ = run
    key = ("probe", "birch", "birch", "cedar")
    by_page(opened, USUAL)
    bins = opened.read(f"""(() => {{
        const data = whoknowsRecompute.unpack(packed), choice = {json.dumps(USUAL)};
        const cell = data.cells.find((one) => one.key === {json.dumps("/".join(key))});
        const prepared = whoknowsRecompute.prepare(data, choice, whoknowsRecompute.select(data, choice), cell);
        return whoknowsRecompute.reliability(data, prepared, {json.dumps(scaled)});
    }})()""")
    ordered = rows.sort_values(["seed", "task", "question_id"])
    of_cell = ordered[
        (ordered["method"] == "probe") & (ordered["reader"] == "birch") & (ordered["trained_on"] == "birch")
    ]
    table = cell.curves(of_cell, FOUR)
    table = table[(table["scored"] == "cedar") & (table["test_set"] == "in-distribution")]
    expected = table[(table["curve"] == "reliability") & (table["series"] == cell.SCALED[scaled])]
    assert 5 < len(bins) == len(expected) <= 10
    for name in ("x", "y", "low", "high"):
        assert [one[name] for one in bins] == pytest.approx([*expected[name]], abs=1e-9)


COUNT = "document.querySelectorAll('.recompute button.cell').length"
IDLE = f"{COUNT} > 0 && !document.querySelector('.recompute').hasAttribute('aria-busy')"
STATUS = "document.querySelector('.recompute [role=status]').textContent"
IGNORED = "((one) => (one.hidden ? '' : one.textContent))(document.querySelector('.recompute .ignored'))"
BAR = "document.querySelector('.recompute .bar').textContent"
SHOWN = "[...document.querySelectorAll('.recompute .cell')].map((cell) => cell.innerText)"
CONTROLS = (
    "[...document.querySelectorAll('.recompute :is(input, select)')]"
    ".map((one) => (one.type === 'checkbox' ? one.checked : one.value))"
)


def at(label: str) -> str:
    """A control by the text of its label."""
    return (
        "[...document.querySelectorAll('.recompute label')]"
        f".find((label) => label.textContent.startsWith({json.dumps(label)})).querySelector('input, select')"
    )


def give(tab, label: str, value) -> None:
    """Changes a control as a reader does."""
    how = (
        f"control.checked = {json.dumps(value)}" if isinstance(value, bool) else f"control.value = {json.dumps(value)}"
    )
    tab.read(f"((control) => {{ {how}; control.dispatchEvent(new Event('input', {{bubbles: true}})); }})({at(label)})")


def click(tab, text: str) -> None:
    tab.read(
        "[...document.querySelectorAll('.recompute button')]"
        f".find((one) => one.textContent === {json.dumps(text)}).click()"
    )


@pytest.mark.slow
def test_what_is_chosen_stands_in_the_address_and_a_link_to_it_shows_the_same(opened):
    opened.visit("page.html?1")
    opened.wait(IDLE)
    usual, opens = opened.read(SHOWN), opened.read(CONTROLS)
    assert opened.read("location.hash") == ""
    give(opened, "sciq", False)
    give(opened, "nq_open", True)
    give(opened, "Words, from", "1")
    give(opened, "to", "3")
    give(opened, "only where models disagree", True)
    give(opened, "Metric", "brier")
    give(opened, "Reading", "B")
    give(opened, "Second heatmap", "probe")
    give(opened, "Resamples", "500")
    opened.wait(IDLE)
    opened.read("[...document.querySelectorAll('.recompute button.cell')].at(-1).click()")
    link, shown, controls = (opened.read(script) for script in ("location.hash", SHOWN, CONTROLS))
    assert link == (
        "#task=trivia_qa&task=nq_open&words=1-3&disagree=yes&metric=brier&reading=B&right=probe&resamples=500"
        "&cell=likelihood%2F%2F%2Fash"
    )
    assert shown != usual and opens != controls
    opened.visit(f"page.html?2{link}")
    opened.wait(IDLE)
    assert opened.read(SHOWN) == shown and opened.read(CONTROLS) == controls
    assert opened.read("document.querySelector('.recompute [aria-pressed=true]').ariaLabel").startswith(
        "Answer likelihood"
    )
    click(opened, "Reset")
    opened.wait(IDLE)
    assert (opened.read("location.hash"), opened.read(SHOWN), opened.read(CONTROLS)) == ("", usual, opens)
    opened.read("document.querySelectorAll('.recompute button.cell')[1].click()")
    assert opened.read("location.hash") == "#cell=probe%2Fcedar%2Fcedar%2Fbirch"
    give(opened, "Reading", "B")
    assert opened.read("location.hash") == "#reading=B", "which does not have that cell"
    assert opened.errors == [] and opened.requests == []


@pytest.mark.slow
def test_lengths_end_where_they_are_cut_and_what_is_not_known_is_within_none(opened):
    words = base64.b64encode(bytes([3, recompute.MOST_WORDS, recompute.MOST_WORDS + 1])).decode()
    data = {"models": ["m"], "tasks": [{"name": "t", "role": "train", "parts": [["t", 3]]}], "cells": [], "bins": 10}
    data |= {"answers": [{"grades": "101", "words": words}]}
    opened.visit("page.html?6#words=300-260")
    opened.wait(IDLE)
    script = "[...whoknowsRecompute.select(whoknowsRecompute.unpack({}), {})[0]]"
    for low, high, kept in ((None, None, [1, 1, 1]), (None, 260, [1, 1, 0]), (254, None, [0, 1, 0])):
        choice = {"tasks": ["t"], "words": {"low": low, "high": high}, "disagree": False}
        assert opened.read(script.format(*map(json.dumps, (data, choice)))) == kept
    assert [opened.read(f"{at(end)}.value") for end in ("Words, from", "to")] == ["254", "254"]
    give(opened, "to", "255")
    assert opened.read("location.hash") == "#words=254-254"
    for text in ("2.5", "1e1", "-3"):
        give(opened, "to", text)
        assert [opened.read(script) for script in (f"{at('to')}.value", "location.hash")] == ["", "#words=254-"]


@pytest.mark.slow
def test_an_address_that_names_what_is_not_there_shows_what_is_usual(opened):
    opened.visit("page.html?3")
    opened.wait(IDLE)
    usual = opened.read(CONTROLS)
    assert opened.read(IGNORED) == "", "of an address without a choice"
    opened.visit(
        "page.html?4#metric=nonsense&resamples=1e9&words=x-y&cell=<b>&reading=C&left=&constructor=x&disagree=no&task=mine"
    )
    opened.wait(IDLE)
    assert opened.read(CONTROLS) == usual
    assert opened.read(IGNORED) == (
        "Ignored in the address, as this page has no such choice: metric=nonsense, resamples=1e9, words=x-y, cell=<b>, "
        "reading=C, left=, constructor=x, disagree=no, task=mine."
    )
    opened.read("void (location.hash = 'metric=ece&words=-2&disagree=yes&task=sciq&task=mine')")
    opened.wait(f"{at('Metric')}.value === 'ece' && {IDLE}")
    assert opened.read(IGNORED).endswith("no such choice: task=mine.") and opened.read(at("to") + ".value") == "2"
    assert opened.read(f"[{at('sciq')}.checked, {at('trivia_qa')}.checked, {at('only')}.checked]") == [
        True,
        False,
        True,
    ]
    give(opened, "Metric", "brier")
    assert opened.read(IGNORED) == "" and "mine" not in opened.read("location.hash"), "chosen anew"
    opened.read("void (location.hash = 'metric=ece&cell=probe/birch/ash/birch')")
    opened.wait(f"{at('Metric')}.value === 'ece' && {IDLE}")
    assert opened.read(IGNORED).endswith(": cell=probe/birch/ash/birch."), "reading B alone shows it"
    opened.read("void (location.hash = 'a-heading')")  # a place on the page is no choice
    assert opened.read(f"new Promise((done) => setTimeout(() => done({at('Metric')}.value), 50))") == "ece"
    opened.visit("page.html?5#task=")
    opened.wait(f"{STATUS} === 'No task is chosen.'")
    assert set(opened.read("[...document.querySelectorAll('.recompute .cell b')].map((one) => one.textContent)")) == {
        "—"
    }
    assert opened.read(BAR) == "", "nothing has a colour"
    give(opened, "sciq", True)
    opened.wait(IDLE)
    assert opened.read(BAR).endswith(", better") and opened.read(BAR)[0] == "0"


@pytest.mark.slow
def test_a_baseline_has_the_colour_that_a_cell_of_its_value_has(opened):
    opened.visit("page.html?9#metric=brier")
    opened.wait(IDLE)
    script = """[...document.querySelectorAll('.recompute button.cell:not(.missing)')].map((one) => [
        one.firstChild.textContent, one.style.background, one.style.color, Boolean(one.closest('.panels'))])"""
    cells = [(float(value.split()[0]), *rest) for value, *rest in opened.read(script)]
    assert {colour for _, colour, _, in_panel in cells if not in_panel} - {""}, "baselines are coloured"
    darkness = {value: sum(map(int, re.findall(r"\d+", colour))) for value, colour, *_ in sorted(cells)}
    assert len(darkness) > 4 and [*darkness.values()] == sorted(darkness.values(), reverse=True), "less is lighter"
    low, high = (float(text) for text in re.findall(r"\d\.\d\d", opened.read(BAR))[::-1])
    assert low <= min(darkness) and max(darkness) <= high, "the bar has the values of all"


@pytest.mark.slow
def test_the_newest_choice_ends_what_an_older_one_began(opened):
    opened.visit("page.html?6")
    opened.wait(IDLE)
    opened.read(
        f"window.said = []; new MutationObserver(() => said.push({STATUS}))"
        ".observe(document.querySelector('.recompute [role=status]'), {childList: true}); 0"
    )
    give(opened, "Resamples", "10000")
    assert not opened.read(IDLE), "it has not computed everything before it gave way"
    give(opened, "Resamples", "500")
    opened.wait(IDLE)
    said = opened.read("said")
    assert len(said) == 1 and "from 500 resamples" in said[0]


@pytest.mark.slow
def test_the_page_says_what_it_computed_and_of_what(run, opened, few_draws):
    _, table = run
    opened.visit("page.html?7")
    opened.wait(IDLE)
    home = table[table["task"].isin(HOME)]
    assert opened.read(STATUS).startswith(
        f"AUROC on {len(home)} answers to {home['question_id'].nunique()} questions: Probe 0."
    )
    assert len(home) == 3 * home["question_id"].nunique() - SILENT
    line = by_library(run, USUAL).loc[("probe", "birch", "birch", "birch")]
    label = f"Probe, reader birch, trained on birch, scored on birch: AUROC {line['auroc']:.3f}, 95\u00a0% interval "
    first = opened.read("document.querySelector('.recompute button.cell').ariaLabel")
    assert first.startswith(label) and first.endswith(f"{line['n_right']} of {line['n']} answers right")
    give(opened, "Reading", "B")
    opened.wait(IDLE)
    labels = opened.read(
        "[...document.querySelectorAll('.recompute .cell')].map((one) => one.ariaLabel ?? one.innerText)"
    )
    assert len(labels) == 9 + 9 + 3 + 3 and [labels.index("no rows"), labels.count("no rows")] == [9 + 6 + 1, 1]
    improving = [label.split(":")[0] for label in labels if label.endswith("still improving when its training ended")]
    assert improving == [
        "LoRA + Prompt, reader cedar, trained on birch, scored on cedar",
        "LoRA + Prompt, reader ash, trained on ash, scored on ash",
    ]
    opened.read("window.copied = []; navigator.clipboard.writeText = async (text) => void copied.push(text); 0")
    click(opened, "Copy link")
    opened.wait(f"{STATUS} === 'The link is copied.'")
    assert opened.read("copied") == [opened.read("location.href")]
    opened.read("navigator.clipboard.writeText = async () => { throw new Error('not from a file'); }; 0")
    click(opened, "Copy link")
    opened.wait(f"/copied|http|file/.test({STATUS})")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_as_wide_as_the_window(opened, width):
    opened.visit("page.html?8", width)
    opened.wait(IDLE)
    assert opened.overflow() <= 0


@pytest.mark.slow
def test_a_name_is_shown_and_never_run(tmp_path):
    evil = "</script><img src=x onerror='window.hit=1'><script>window.hit=2</script>"
    correct = np.arange(80) % 2 == 0
    names = {"reader": evil, "trained_on": evil, "scored": evil}
    rows = pd.concat(
        [
            make_rows(np.sin(np.arange(80)), correct, evil, **names),
            make_rows(
                np.cos(np.arange(80)), correct, evil, **names | {"reader": "", "trained_on": "", "method": "likelihood"}
            ),
        ]
    )
    tasks = [{"name": evil, "role": "train"}]
    page = a_page(tmp_path, rows, recompute.answer_table(rows, {}), [evil], [evil], tasks)
    with browser.open_book(page) as tab:
        tab.visit()
        tab.wait(IDLE)
        assert tab.read("window.hit") is None and tab.read("document.querySelectorAll('img').length") == 0
        assert tab.read("document.querySelector('.recompute').textContent").count(evil) > 4
        assert tab.read(COUNT) == 2 and tab.errors == []
        give(tab, evil, False)
        assert "%3C%2Fscript%3E" not in tab.read("location.hash") and tab.read("location.hash") == "#task="


@pytest.mark.slow
def test_without_trained_methods_there_is_neither_a_range_nor_a_bar_of_heatmaps(tmp_path):
    names = {"method": "likelihood", "reader": "", "trained_on": "", "scored": "m"}
    rows = make_rows(np.sin(np.arange(80)), np.arange(80) % 2 == 0, "sciq", **names)
    tasks = [{"name": "sciq", "role": "train"}]
    page = a_page(tmp_path, rows, recompute.answer_table(rows, {}), ["m"], ["m"], tasks)
    with browser.open_book(page) as tab:
        tab.visit()
        tab.wait(IDLE)
        assert tab.read(STATUS).startswith("AUROC on 80 answers to 80 questions. 95\u00a0% intervals from")
        assert tab.read("document.querySelector('.recompute .panels').textContent") == "" and tab.errors == []
        give(tab, "Metric", "threshold_accuracy")
        tab.wait(IDLE)
        label = tab.read("document.querySelector('.recompute button.cell').ariaLabel")
        assert label.endswith(": no Accuracy at the threshold: no validation answers calibrate it")


def test_words_of_answers_are_counted_and_missing_where_the_file_is(tmp_path):
    rows = make_rows([0.0, 1.0, 2.0], [True, False, True], scored="b")
    frame = pd.DataFrame(
        {"question_id": ["trivia_qa0", "trivia_qa1", "trivia_qa2"], "answer": ["", " two  words ", "one"]}
    )
    frame.to_parquet(tmp_path / "b.parquet")
    there = recompute.answer_table(rows, {"b": str(tmp_path / "b.parquet")})
    assert there["words"].tolist() == [0, 2, 1] and there["correct"].tolist() == [True, False, True]
    gone = recompute.answer_table(rows, {"b": str(tmp_path / "gone.parquet")})
    assert gone["words"].isna().all() and len(gone) == 3
    validation = recompute.answer_table(rows.assign(split="validation"), {})
    assert validation.empty


def test_what_the_page_has_no_room_for_is_left_out_and_said():
    parts = [
        make_rows(np.arange(30.0), np.arange(30) % 2 == 0, task, seed=seed)
        for seed in (3, 5)
        for task in ("sciq", "nq_open")
    ]
    free = make_rows(np.arange(30.0), np.arange(30) % 2 == 0, "sciq", method="likelihood", reader="", trained_on="")
    rows = pd.concat([*parts, free], ignore_index=True)  # 150 confidences of 16 / 3 letters
    whole, said = recompute.fitting(rows, 800)
    assert len(whole) == 150 and said == ""
    first, said = recompute.fitting(rows, 799)
    assert len(first) == 90 and set(first.loc[first["method"] == "probe", "seed"]) == {3}
    assert said == f"Computed with each estimator's first seed alone: {NO_ROOM}."
    other = rows.assign(reader=rows["reader"].mask(rows["seed"] == 5, "c"))  # which has that seed alone
    assert len(recompute.fitting(other, 799)[0]) > 100 and set(recompute.fitting(other, 799)[0]["reader"]) == {
        *"ac",
        "",
    }
    some, said = recompute.fitting(rows, 240)  # half of what is left
    assert some.groupby(["method", "task"]).size().to_dict() == {
        ("likelihood", "sciq"): 15,
        ("probe", "nq_open"): 15,
        ("probe", "sciq"): 15,
    }
    same = some[some["task"] == "sciq"].groupby("method")["question_id"].agg(set)
    assert same["probe"] == same["likelihood"], "all cells have the same questions"
    assert said == f"Computed with each estimator's first seed alone and on 30 of 60 test questions: {NO_ROOM}."


def test_a_page_of_a_run_without_rows_is_there():
    nothing = cells.NO_ROWS
    packed = recompute.packed(nothing, recompute.answer_table(nothing, {}), THREE, THREE, FOUR)
    assert packed["cells"] == [] and [task["parts"] for task in packed["tasks"]] == [[]] * 4


NO_ROOM = "the page has no room for all rows, so its numbers are not those of the other pages"
COUNTS = ["n", "n_right", "n_rarer", "n_tasks", "of_tasks"]
