"""Runs compared: which questions a difference rests on, what is missing, and what the page and the terminal say."""

import json
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
import vl_convert

import browser
from made_up import make_rows
from whoknows import __main__
from whoknows.data import files
from whoknows.evaluation.auroc import auroc
from whoknows.evaluation.bootstrap import FEW
from whoknows.evaluation.plateau import IMPROVING, RELEASED
from whoknows.report import compare
from whoknows.run import grid

NATIVE = ("probe", "ash", "ash", "ash")
NUMBERS = ["difference", "low", "high"]


def a_run(
    folder,
    strength=1.0,
    models=("ash", "birch"),
    first=0,
    count=200,
    tasks=("sciq",),
    shift="cities",
    seeds=1,
    named="{task}{at}",
    asked="What is {task}{at}?",
):
    """A run's folder: reading A and the answer likelihood; a probe's confidence is noise and `strength` times grade.

    Args:
        first, count: which of a task's questions it asks; its grades and noise are those of any other run that does.
        shift: which of the tasks is one.
        seeds: the second one is as wrong about sciq as the first is right.
        named, asked: id and words of a task's question.
    """
    values = {"name": folder.name, "models": [{"name": name, "source": "tiny-llama"} for name in models]}
    values["tasks"] = [{"name": name, "size": 9, "role": "shift" if name == shift else "train"} for name in tasks]
    files.write_text(folder / "grid.yml", grid.text(grid.build(values | {"seeds": [*range(seeds)]}), folder))
    parts = []
    places = [("probe", name, name, scored) for name, scored in product(models, repeat=2)]
    for (method, reader, trained_on, scored), task in product([*places, ("likelihood", "", "", "ash")], tasks):
        rng = np.random.default_rng([*f"{scored}{task}".encode()])
        noise, correct = rng.normal(size=1200), rng.random(1200) < 0.4
        names = {"method": method, "reader": reader, "trained_on": trained_on, "scored": scored}
        for seed in range(seeds if trained_on else 1):
            logit = noise + (strength if trained_on else 1) * correct
            logit = -logit if seed and task == "sciq" else logit
            ids = [named.format(task=task, at=at) for at in range(1200)]
            rows = make_rows(logit, correct, task, seed=seed, **names).assign(question_id=ids)
            parts.append(rows[first : first + count])
    files.write_parquet(folder / "rows/all.parquet", pd.concat(parts))
    places = [{"task": task, "at": at} for task in tasks for at in range(1200)]
    answers = pd.DataFrame({"question_id": [named.format(**place) for place in places]})
    answers["question"] = [asked.format(**place) for place in places]
    files.write_parquet(folder / f"answers/{models[0]}.parquet", answers)
    return folder


def aurocs(folder):
    """AUROC of the native cell with the first seed, by task."""
    rows = files.read_parquet(folder / "rows/all.parquet").query(
        "trained_on == 'ash' and scored == 'ash' and seed == 0"
    )
    return {task: auroc(part["logit"], part["correct"]) for task, part in rows.groupby("task")}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A run, and a better one that asked the same questions."""
    folder = tmp_path_factory.mktemp("pair")
    return [
        a_run(folder / f"run{at}/mine", strength, tasks=("sciq", "cities")) for at, strength in ((1, 1.0), (2, 1.4))
    ]


@pytest.fixture(scope="module")
def table(pair):
    return compare.of_folders(pair)


def test_the_same_questions_are_compared_one_by_one(pair, table):
    assert set(table["how"]) == {"paired, on the 200 questions that both ask"} and set(table["says"]) == {""}
    assert table.groupby("test_set").size().to_dict() == {"in-distribution": 5, "shift": 5}
    before, after = map(aurocs, pair)
    for test_set, task in (("in-distribution", "sciq"), ("shift", "cities")):
        line = table[table["test_set"] == test_set].set_index(compare.CELL).loc[NATIVE]
        assert [line["before"], line["after"]] == pytest.approx([before[task], after[task]])
        assert line["difference"] == pytest.approx(after[task] - before[task]) and 0 < line["low"] < line["high"]
        assert line["high"] - line["low"] < 0.06, "noise that both runs share is no reason for a wide interval"
    assert (table.loc[table["method"] == "likelihood", NUMBERS] == 0).all(axis=None)


@pytest.mark.parametrize("first, count", [(200, 200), (151, 300)], ids=["none in common", "49 in common"])
def test_other_questions_are_compared_as_two_samples(tmp_path, first, count):
    table = compare.of_folders([a_run(tmp_path / "base"), a_run(tmp_path / "other", first=first, count=count)])
    assert set(table["how"]) == {f"unpaired, on 200 and {count} questions"}
    assert set(table["questions"]) == {"200" if count == 200 else f"200 and {count}"}
    # each AUROC has a standard error of 0.035, and 300 questions one of 0.03
    assert (table["high"] - table["low"]).between(0.14, 0.23).all()


def test_a_question_is_the_same_in_typographic_quotes(tmp_path):
    asked = {"base": "Is “{task}{at}” it?", "other": 'Is "{task}{at}" it'}
    runs = [a_run(tmp_path / name, asked=text) for name, text in asked.items()]
    assert set(compare.of_folders(runs)["how"]) == {"paired, on the 200 questions that both ask"}


def test_a_question_is_the_same_by_its_words_and_not_by_its_id(tmp_path):
    """A user's file may have no ids, or be written anew and count from 1 again."""
    base = a_run(tmp_path / "base", tasks=("sciq", "cities"))
    renamed = a_run(tmp_path / "renamed", tasks=("sciq", "cities"), named="{task}-id-{at}")
    table = compare.of_folders([base, renamed])
    assert set(table["how"]) == {"paired, on the 200 questions that both ask"} and (table[NUMBERS] == 0).all(axis=None)
    table = compare.of_folders([base, a_run(tmp_path / "other", asked="Where is {task}{at}?")])
    assert set(table["how"]) == {"unpaired, on 200 and 200 questions"}


def test_the_questions_that_both_ask_count_whatever_their_role(tmp_path):
    runs = [a_run(tmp_path / "base"), a_run(tmp_path / "other", first=50, tasks=("sciq", "capitals"), shift="sciq")]
    table = compare.of_folders(runs)
    assert set(table["how"]) == {"paired, on the 150 questions that both ask"} and (table[NUMBERS] == 0).all(axis=None)


def test_a_model_is_compared_on_what_it_has_answered_in_both_runs(tmp_path):
    """What it has not answered in one of them would look like a difference, since the other one has it."""
    base, other = a_run(tmp_path / "base"), a_run(tmp_path / "other", models=("ash", "birch", "cedar"))
    rows = files.read_parquet(other / "rows/all.parquet")
    answered = ~((rows["scored"] == "ash") & (rows["logit"] > 0.5) & ~rows["correct"])  # its best mistakes are missing
    files.write_parquet(other / "rows/all.parquet", rows[answered])
    table = compare.of_folders([base, other])
    assert set(table["how"]) == {"paired, on the 200 questions that both ask"}
    both = table[table["says"] == ""]
    assert set(both["scored"]) == {"ash", "birch"} and (both[NUMBERS] == 0).all(axis=None)
    kept = rows[answered & (rows[compare.CELL] == [*NATIVE]).all(axis=1)]
    assert len(kept) < 190
    expected = auroc(kept["logit"], kept["correct"])
    assert both.set_index(compare.CELL).loc[NATIVE, ["before", "after"]].tolist() == pytest.approx([expected] * 2)
    alone = table[table["scored"] == "cedar"]
    assert len(alone) and set(alone["says"]) == {"missing in base"}


def test_a_cell_is_compared_on_what_it_has_in_both_runs(tmp_path):
    """An answer may have no likelihood in one of them."""
    base, other = a_run(tmp_path / "base"), a_run(tmp_path / "other")
    rows = files.read_parquet(other / "rows/all.parquet")
    known = (rows["method"] != "likelihood") | (rows["logit"] < 0.5) | rows["correct"]
    files.write_parquet(other / "rows/all.parquet", rows[known])
    table = compare.of_folders([base, other])
    left = 200 - (~known).sum()
    assert left < 190 and (table[NUMBERS] == 0).all(axis=None)
    assert table["questions"].eq(np.where(table["method"] == "likelihood", f"{left}", "200")).all()
    (lines,) = compare.sections(table).values()
    assert lines.set_index("Method").loc["Answer likelihood", "Questions"] == f"{left}"


def test_what_a_run_lacks_and_what_was_still_improving_is_said(tmp_path):
    base, other = a_run(tmp_path / "base"), a_run(tmp_path / "other", models=("ash", "cedar"))
    card = {"method": "probe", "reader": "ash", "trained_on": "ash", "seed": 0}
    looks = [{"validation_auroc": value} for value in (0.6, 0.7, 0.8, 0.9)]
    files.write_text(other / "estimators/probe.json", json.dumps(card | {"history": looks}))
    table = compare.of_folders([base, other]).set_index(compare.CELL)
    assert table["says"].value_counts().to_dict() == {"missing in base": 3, "missing in other": 3, IMPROVING: 1, "": 1}
    lacking = table.loc[("probe", "birch", "birch", "birch")]
    assert lacking["says"] == "missing in other" and lacking["before"] > 0.5
    assert lacking[["after", *NUMBERS]].isna().all() and table.loc[NATIVE, "says"] == IMPROVING
    drawn = vl_convert.vegalite_to_svg(compare.chart(table.reset_index()).to_dict())
    assert drawn.count('fill="lightgray"') == 6, "the cells of one run alone"


def test_a_released_adapter_is_named_on_the_page(tmp_path, table):
    base, other = a_run(tmp_path / "base"), a_run(tmp_path / "other", strength=2.0)
    card = {"method": "probe", "reader": "ash", "trained_on": "ash", "seed": 0, "origin": {"name": "theirs"}}
    files.write_text(other / "estimators/probe.json", json.dumps(card))
    mine = compare.of_folders([base, other])
    # Two of the five cells are of the estimator trained on ash, scored on two models.
    assert mine["says"].value_counts().to_dict() == {"": 3, RELEASED: 2} and mine["difference"].notna().all()
    assert f"concluded from a cell {RELEASED}: others trained it" in compare.page(mine)
    assert RELEASED not in compare.page(table)


def test_too_few_answers_have_no_value(tmp_path):
    table = compare.of_folders([a_run(tmp_path / "small", count=40), a_run(tmp_path / "other")])
    assert set(table["how"]) == {"paired, on the 40 questions that both ask"} and set(table["says"]) == {FEW}
    assert table[["before", "after", *NUMBERS]].isna().all(axis=None)


def test_a_value_is_the_mean_within_task_and_over_seeds(tmp_path):
    base, other = (a_run(tmp_path / f"{seeds}", tasks=("sciq", "capitals"), seeds=seeds) for seeds in (1, 2))
    line, by_task = compare.of_folders([base, other]).set_index(compare.CELL).loc[NATIVE], aurocs(base)
    assert line["before"] == pytest.approx(sum(by_task.values()) / 2)
    assert line["after"] == pytest.approx((0.5 + by_task["capitals"]) / 2)
    assert line["low"] < line["difference"] < line["high"] < 0


@pytest.mark.parametrize("case", ["one", "twice", "no run", "no rows", "no answers", "nothing in common"])
def test_what_cannot_be_compared_is_one_sentence(tmp_path, capsys, case):
    base = a_run(tmp_path / "base")
    files.write_text(tmp_path / "empty/grid.yml", (base / "grid.yml").read_text())
    strangers = a_run(tmp_path / "other", models=("cedar", "elm"))
    files.write_parquet(strangers / "rows/all.parquet", files.read_parquet(strangers / "rows/all.parquet")[:800])
    bare = a_run(tmp_path / "bare")
    (bare / "answers/ash.parquet").unlink()
    runs, expected = {
        "one": ([base], "There is nothing to compare: name two different runs or more"),
        "twice": ([base, base / "../base"], "There is nothing to compare"),
        "no run": ([base, tmp_path / "nowhere"], "nowhere: this is no finished run, which has grid.yml, answers"),
        "no rows": ([base, tmp_path / "empty"], "empty: this is no finished run"),
        "no answers": ([base, bare], "bare: this is no finished run, which has grid.yml, answers and their rows"),
        "nothing in common": ([base, strangers], "base and other have no cell in common: compare runs that share"),
    }[case]
    assert __main__.main(["compare", *map(str, runs)]) == 2
    shown = capsys.readouterr()
    assert expected in shown.err and shown.err.count("\n") == 1 and not shown.out


def test_the_tables_and_the_heatmaps_say_the_same(table):
    sections = compare.sections(table)
    questions = "test questions, paired, on the 200 questions that both ask"
    assert [*sections] == [f"mine (2) less mine (1), {name} {questions}" for name in ("in-distribution", "shift")]
    lines = sections[f"mine (2) less mine (1), in-distribution {questions}"]
    spec = compare.chart(table).to_dict()
    spec["params"] = [param | {"value": "A"} if param["name"] == "reading" else param for param in spec["params"]]
    drawn = re.findall(r">([+\u2212-]0\.\d\d)</text>", vl_convert.vegalite_to_svg(spec))
    expected = [f"{float(value):+.2f}" for value in lines["Difference"][lines["Reader"] != ""]]
    assert sorted(drawn[: len(expected)]) == sorted(expected) and len(expected) == 4
    assert not lines.isna().any(axis=None)


@pytest.mark.slow
def test_the_page_needs_no_network(pair, tmp_path, capsys):
    path = tmp_path / "compare.html"
    assert __main__.main(["compare", *map(str, pair), "--output", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"The page: {path}" in out and "nan" not in out
    differences = re.findall(r"<td>([+-]0\.\d{3}|0\.000)</td>", path.read_text())
    assert len(differences) == 10 and all(value in out for value in differences)
    with browser.open_book(path) as tab:
        tab.visit()
        assert {"Probe", "Trained On", "ash", "birch"} <= {*tab.texts()} and not tab.requests and not tab.errors
