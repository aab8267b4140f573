"""Which slice of the tensor a heatmap shows: swapped axes must fail here."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from made_up import make_rows
from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.rows import ALL_MODELS
from whoknows.evaluation import cells, scores
from whoknows.report.pages import cell, controls, heatmaps

TASKS = [
    {"name": "trivia_qa", "role": "train"},
    {"name": "sciq", "role": "train"},
    {"name": "nq_open", "role": "shift"},
]
FEW = "24 answers of the rarer grade within tasks, and a value takes 25"


def tensor(models=("m1", "m2", "m3")):
    # a value that spells its own place: reader.trained_on.scored
    places = itertools.product(models, repeat=3)
    return pd.DataFrame(
        [(r, t, s, f"{r}.{t}.{s}") for r, t, s in places], columns=["reader", "trained_on", "scored", "value"]
    )


def test_reading_a_is_estimator_transfer():
    # "m1's estimator judges m2's answers": column m1, row m2
    shown = cells.heatmap_axes(tensor(), "A").set_index(["model", "trained_on"])["value"]
    assert shown["m2", "m1"] == "m1.m1.m2"
    assert len(shown) == 9


def test_reading_b_is_data_transfer():
    # "m2 (Model) trained on m1 (Dataset)": row m2, column m1
    shown = cells.heatmap_axes(tensor(), "B").set_index(["model", "trained_on"])["value"]
    assert shown["m2", "m1"] == "m2.m1.m2"
    assert len(shown) == 9


def test_both_readings_share_their_diagonal():
    a, b = (cells.heatmap_axes(tensor(), which) for which in "AB")
    native = [set(x.loc[x["model"] == x["trained_on"], "value"]) for x in (a, b)]
    assert native[0] == native[1] == {"m1.m1.m1", "m2.m2.m2", "m3.m3.m3"}


def test_test_sets():
    measured = ["nq_open", "sciq", "trivia_qa"]
    assert cells.test_sets(TASKS, measured) == {
        "in-distribution": ["trivia_qa", "sciq"],
        "trivia_qa": ["trivia_qa"],
        "sciq": ["sciq"],
        "shift": ["nq_open"],
    }


def test_subjects_belong_to_the_task_with_the_longest_name():
    tasks = [{"name": "mmlu", "role": "shift"}, {"name": "mmlu_mc", "role": "train"}]
    sets = cells.test_sets(tasks, ["mmlu_anatomy", "mmlu_law", "mmlu_mc_law"])
    assert sets["in-distribution"] == ["mmlu_mc_law"] and sets["shift"] == ["mmlu_anatomy", "mmlu_law"]


def test_the_categories_of_mmlu_are_test_sets_with_and_without_rows():
    tasks = [{"name": "sciq", "role": "train"}, {"name": "nq_open", "role": "shift"}, {"name": "mmlu", "role": "shift"}]
    sets = cells.test_sets(
        tasks, ["sciq", "nq_open", "mmlu_anatomy", "mmlu_virology", "mmlu_philosophy", "mmlu_astronomy"]
    )
    assert (
        sets["mmlu, other"] == ["mmlu_anatomy", "mmlu_virology"]
        and sets["mmlu, humanities"] == ["mmlu_philosophy"]
        and sets["mmlu, STEM"] == ["mmlu_astronomy"]
    )
    rows = pd.concat([make_rows([1, 0], [True, False], task) for task in ("sciq", "nq_open", "mmlu_anatomy")])
    table = cells.heatmap_table(cells.measure(rows, scores.by_task(rows), tasks), ["a", "b"], tasks)
    assert set(table["test_set"]) == set(sets) == set(cells.test_sets(tasks, []))
    auroc = table[
        (table["reading"] == "A")
        & (table["method"] == "probe")
        & (table["model"] == "b")
        & (table["trained_on"] == "a")
    ].set_index("test_set")["auroc"]
    assert auroc["mmlu, other"] == auroc["mmlu"] == 1.0 and auroc[["mmlu, STEM", "mmlu, humanities"]].isna().all()


def test_a_task_without_rows_stays_in_its_test_set():
    assert cells.test_sets(TASKS, ["sciq"])["in-distribution"] == ["trivia_qa", "sciq"]


def test_measure_averages_over_tasks_and_seeds():
    rows = pd.concat(
        [
            make_rows([2, 1, 0], [True, False, False], task="trivia_qa"),
            make_rows([0, 1, 2], [True, False, False], task="sciq"),
            make_rows([2, 1, 0], [True, False, False], task="trivia_qa", seed=1),
            make_rows([2, 1, 0], [True, False, False], task="sciq", seed=1),
        ]
    )
    measured = cells.measure(rows, scores.by_task(rows), TASKS)
    assert measured.index.tolist() == list(range(len(measured))) and len(measured) == 3
    lines = measured.set_index("test_set")
    both = lines.loc["in-distribution"]
    assert both["auroc"] == pytest.approx((0.5 + 1.0) / 2)
    assert (both["seeds"], both["n_right"], both["n_tasks"], both["of_tasks"]) == (2, 2, 2, 2)
    assert lines.loc["sciq", "auroc"] == pytest.approx(0.5)
    assert "shift" not in lines.index


def test_measure_keeps_a_missing_cell_missing():
    rows = make_rows([1, 2], [False, False])
    line = cells.measure(rows, scores.by_task(rows), TASKS).set_index("test_set").loc["trivia_qa"]
    assert np.isnan(line["auroc"]) and "no right answer" in line["reason"]


def test_what_rests_on_too_few_answers_has_a_reason_in_place_of_values():
    few, some = ([i % 2 == 0 and i < 2 * right for i in range(80)] for right in (24, 25))
    rows = pd.concat(
        [
            make_rows(np.arange(80), few, "trivia_qa", scored="a"),
            make_rows(np.arange(80), some, "trivia_qa"),
            make_rows(np.arange(80), few, "sciq"),
        ]
    )
    measured = cells.measure(rows, scores.by_task(rows), TASKS)
    table = cells.enough(measured).set_index(["scored", "test_set"])
    assert measured["auroc"].notna().all() and table["auroc"].isna().to_dict() == {
        ("a", "in-distribution"): True, ("b", "in-distribution"): False,
        ("a", "trivia_qa"): True, ("b", "trivia_qa"): False, ("b", "sciq"): True,
    }  # fmt: skip
    gone = table[table["auroc"].isna()]
    assert set(gone["reason"]) == {FEW} and set(table.drop(gone.index)["reason"]) == {""}
    assert gone[["low", "high", "ece", "pooled_auroc", "lowest_seed"]].isna().all(axis=None) and gone[
        ["accuracy", "n_right", "n"]
    ].notna().all(axis=None)
    places = cells.heatmap_table(table.reset_index(), ["a", "b"], TASKS)
    notes = heatmaps.with_labels(places, 2).loc[(places["reason"] != "") & places["n"].notna(), "note"]
    assert set(notes) == {"too few"} and "25 right" in set(heatmaps.with_labels(places, 2)["note"])
    html = heatmaps.heatmaps_html(places, ["a", "b"])
    assert f"— ({FEW})" in html
    beneath = cell.cell_html(table.reset_index())
    assert beneath.count(FEW) == 3 and "No value because" in beneath
    assert "No value because" not in cell.cell_html(table.drop(gone.index).reset_index()), (
        "an empty column says nothing"
    )


def test_what_all_tasks_together_have_enough_of_but_none_within_itself_says_so_too():
    parts = [make_rows(np.arange(43), np.arange(43) < right, task) for task, right in (("trivia_qa", 40), ("sciq", 1))]
    rows = pd.concat(parts)
    lines = cells.enough(cells.measure(rows, scores.by_task(rows), TASKS)).set_index("test_set")
    line = lines.loc["in-distribution"]
    assert (line["n_right"], line["n"] - line["n_right"], line["n_rarer"]) == (41, 45, 4)
    assert np.isnan(line["auroc"]) and line["reason"] == FEW.replace("24", "4")
    assert lines.loc["sciq", "reason"].startswith("1 answer of")


def test_where_no_task_has_both_grades_the_pooled_value_is_no_more_shown_than_the_mean_over_tasks():
    rows = pd.concat(
        [make_rows(range(20), [right] * 20, task) for task, right in (("sciq", True), ("trivia_qa", False))]
    )
    line = cells.enough(cells.measure(rows, scores.by_task(rows), TASKS)).set_index("test_set").loc["in-distribution"]
    assert "no wrong answer" in line["reason"] and line.filter(regex="^(pooled_auroc|low|high)").isna().all()


def test_no_place_of_the_heatmaps_is_left_out():
    rows = make_rows([1, 0], [True, False], scored="a")
    table = cells.heatmap_table(cells.measure(rows, scores.by_task(rows), TASKS), ["a", "b"], TASKS)
    assert len(table) == len(cells.test_sets(TASKS, [])) * 2 * (4 + 4 + 8)  # methods; places of A, B and all
    assert table["auroc"].isna().equals(table["reason"] != "")
    there = table[table["auroc"].notna() & (table["test_set"] == "trivia_qa")]
    assert list(zip(there["reading"], there["method"], there["model"], there["trained_on"])) == [
        ("A", "probe", "a", "a"),
        ("B", "probe", "a", "a"),
        ("all", "probe", "a\nread by a", "a"),
    ]
    alone = cells.heatmap_table(cells.measure(rows, scores.by_task(rows), TASKS), ["a", "b"], TASKS, None, ["probe"])
    assert {*table["method"]} == {"probe", "lora_prompt"} and {*alone["method"]} == {"probe"}, "what the grid has"


def read(folder):
    return cells.read_rows(folder, ["a", "b"], ["probe"], [0])


def test_training_free_methods_among_the_controls_are_read_and_no_other_control(tmp_path):
    for folder, method in (("rows", "probe"), ("rows", "likelihood"), ("more", "token_min"), ("more", "lora")):
        rows = make_rows([1.0, 0.0], [True, False], method=method)
        files.write_parquet(tmp_path / folder / f"{method}.parquet", rows)
    rows = cells.read_with_baselines(tmp_path / "rows", tmp_path / "more", ["a", "b"], ["probe"], [0])
    assert rows["method"].drop_duplicates().tolist() == ["likelihood", "probe", "token_min"]


def test_controls_that_a_grid_no_longer_asks_for_are_not_read(tmp_path):
    for path, method in (("rows/a", "probe"), ("controls/lora/no_query/a", "lora"), ("controls/surface", "token_min")):
        rows = make_rows([1.0, 0.0], [True, path != "controls/lora/no_query/a"], method=method)
        files.write_parquet(tmp_path / f"{path}.parquet", rows)
    asked = tmp_path / "rows", tmp_path / "controls", ["a", "b"], ["probe"], [0]
    assert cells.read_with_controls(*asked, [])["method"].drop_duplicates().tolist() == ["probe", "token_min"]
    with pytest.raises(WhoknowsError, match="right in one row and wrong in another; delete .* and controls"):
        cells.read_with_controls(*asked, ["no_query"])


def test_without_any_rows_everything_is_missing(tmp_path):
    rows = read(tmp_path)
    table = cells.heatmap_table(cells.measure(rows, scores.by_task(rows), TASKS), ["a", "b"], TASKS)
    assert len(table) == len(cells.test_sets(TASKS, [])) * 2 * (4 + 4 + 8)
    assert set(table["reason"]) == {cells.ABSENT}
    assert table[["auroc", "low", "ece", "accuracy", "n", "n_right", "seeds"]].isna().all(axis=None)
    json.dumps(heatmaps.heatmaps_chart(table, ["a", "b"], "heatmaps").to_dict(), allow_nan=False)
    assert controls.baselines_html(cells.baseline_table(cells.measure(rows, scores.by_task(rows), TASKS))) == ""


def test_a_cell_with_rows_of_another_test_set_alone_has_no_test_answers_there():
    rows = make_rows(np.arange(60), np.arange(60) % 2 == 0, "trivia_qa")
    table = cells.heatmap_table(cells.measure(rows, scores.by_task(rows), TASKS), ["a", "b"], TASKS)
    there = table[
        (table["method"] == "probe") & (table[["reader", "trained_on", "scored"]] == ["a", "a", "b"]).all(axis=1)
    ]
    why = {"in-distribution": "", "trivia_qa": "", "sciq": "no test answers", "shift": "no test answers"}
    assert dict(zip(there["test_set"], there["reason"])) == why
    assert table.loc[table["trained_on"] == "b", "reason"].str.startswith("no rows").all()


@pytest.mark.parametrize(
    "gone", [{"scored": "gone"}, {"reader": "gone"}, {"trained_on": "gone"}, {"seed": 1}, {"method": "lora_prompt"}]
)
def test_rows_that_the_grid_no_longer_has_are_left_out(tmp_path, gone):
    kept = [{}, {"method": "probe_mlp"}, {"reader": "", "trained_on": "", "method": "likelihood"}]
    kept += [{"trained_on": ALL_MODELS}]
    for place, names in enumerate([*kept, gone]):
        make_rows([1, 0], [True, False], **names).to_parquet(tmp_path / f"{place}.parquet")
    rows = read(tmp_path)
    assert len(rows) == 8 and set(rows["method"]) == {"probe", "probe_mlp", "likelihood"}
    assert set(rows["scored"]) == {"b"} and set(rows["seed"]) == {0}


def test_a_question_in_two_splits_is_refused():
    held = make_rows([1, 0], [True, False], split="validation")
    cells.check(pd.concat([make_rows([1, 0], [True, False], task="sciq"), held]))
    with pytest.raises(WhoknowsError, match="the question trivia_qa0 is in the test split and in another"):
        cells.check(pd.concat([make_rows([1, 0], [True, False]), held]))


def test_train_and_validation_may_change_with_the_seed():
    cells.check(
        pd.concat(
            [make_rows([1], [True], split=split, seed=seed) for seed, split in enumerate(("train", "validation"))]
        )
    )
