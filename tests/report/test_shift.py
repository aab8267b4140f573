"""What a shift costs, and what it costs to leave a task out of training."""

import numpy as np
import pandas as pd
import pytest

from made_up import graded, make_rows
from whoknows.evaluation import bootstrap, scores
from whoknows.report.pages import shift

FEW = "20 answers of the rarer grade within tasks, and a value takes 25"
TASKS = [
    {"name": "trivia_qa", "role": "train"},
    {"name": "sciq", "role": "train"},
    {"name": "nq_open", "role": "shift"},
]


def falling(home: float, away: float, **names) -> pd.DataFrame:
    """Rows of a probe whose confidence follows the grades more or less well in-distribution and on nq_open."""
    parts = [graded({"probe": strength}, **names) for strength in (home, away)]
    return pd.concat([parts[0][parts[0]["task"] != "nq_open"], parts[1][parts[1]["task"] == "nq_open"]])


def test_a_change_is_the_value_on_the_shift_less_that_in_distribution():
    rows = falling(2.0, 0.3)
    table = shift.shift(rows, TASKS).set_index("test_set")
    assert list(table.index) == ["in-distribution", "nq_open"]
    auroc = scores.by_task(rows, only_auroc=True).set_index("task")["auroc"]
    line = table.loc["nq_open"]
    assert line["auroc"] == auroc["nq_open"]
    assert line["change"] == pytest.approx(auroc["nq_open"] - auroc[["trivia_qa", "sciq"]].mean())
    assert line["change_low"] < line["change"] < line["change_high"] < 0 and line["says"] == bootstrap.EXPLORATORY
    assert pd.isna(table.loc["in-distribution", ["change", "says"]]).all()
    # of two independent values the difference is less sure than either
    widths = (table["high"] - table["low"]).tolist()
    assert max(widths) < line["change_high"] - line["change_low"] < sum(widths)


def test_a_shift_whose_name_begins_that_of_a_train_task_has_an_interval_of_its_own():
    renamed = {"sciq": "sciq_passage", "nq_open": "sciq"}
    rows = falling(2.0, 0.3).replace({"task": renamed})
    named = [task | {"name": renamed.get(task["name"], task["name"])} for task in TASKS]
    line = shift.shift(rows, named).set_index("test_set").loc["sciq"]
    assert line["change_low"] < line["change"] < line["change_high"] < 0
    cell, draws = line[scores.CELL], bootstrap.samples(rows)
    there, home = (bootstrap.by_cell(draws, of).loc[tuple(cell)] for of in (["sciq"], ["trivia_qa", "sciq_passage"]))
    assert [line["change_low"], line["change_high"]] == pytest.approx(np.quantile(there - home, [0.025, 0.975]))


def test_each_shift_stands_by_itself_and_few_right_answers_get_no_verdict():
    few = make_rows(
        np.linspace(0, 1, 60), np.arange(60) % 3 == 0, task="mmlu_anatomy", reader="a", trained_on="a", scored="a"
    )
    alone = make_rows([1.0, 0.0], [False, False], task="mmlu_astronomy", reader="a", trained_on="a", scored="a")
    table = shift.shift(
        pd.concat([falling(2.0, 2.0), few, alone]), [*TASKS, {"name": "mmlu", "role": "shift"}]
    ).set_index("test_set")
    assert "shift" not in table.index and {"nq_open", "mmlu", "mmlu, STEM", "mmlu, other"} < {*table.index}
    assert table.loc["nq_open", "says"] == bootstrap.EXPLORATORY and table.loc["mmlu", "says"] == bootstrap.FEW
    assert table.loc["mmlu", ["n_right", "n_tasks", "of_tasks"]].tolist() == [20, 1, 2]
    assert table.loc[["mmlu", "mmlu, STEM"], ["auroc", "low", "change", "change_low", "p"]].isna().all(axis=None)
    assert table.loc["mmlu", "reason"] == FEW
    text = shift.shift_sentences(table.reset_index())
    assert f"on mmlu, no value ({FEW})" in text and "STEM" not in text and "nan" not in text
    html = shift.shift_html(table.reset_index())
    assert "1 of 2" in html and "<td>—</td>" in html


def test_a_model_that_answers_all_of_a_shift_right_is_shown_with_all_its_answers():
    rows = graded({"probe": 1.0})
    table = shift.shift(rows.assign(correct=rows["correct"] | (rows["task"] == "nq_open")), TASKS)
    assert table.set_index("test_set").loc["nq_open", ["n", "n_right", "n_rarer"]].tolist() == [400, 400, 0]
    assert "on nq_open, no value (nq_open: no wrong answer among the test answers)" in shift.shift_sentences(table)


def test_what_is_shown_is_native_and_of_methods_that_a_reader_would_choose():
    others = [
        graded({"probe": 1.0}, trained_on="b"),
        graded({"probe_shuffled": 1.0}),
        graded({"likelihood": 2.0}, reader="", trained_on=""),
    ]
    rows = pd.concat([graded({"probe": 1.0, "lora_prompt": 0.5}), *others])
    table = shift.shift(rows, TASKS)
    assert sorted(table["method"]) == sorted(["probe", "lora_prompt", "likelihood"] * 2)
    text = shift.shift_sentences(table)
    assert text.index("Probe") < text.index("LoRA + Prompt") < text.index("Answer likelihood")
    drawn = shift.shift_chart(table).to_dict()
    values = [line for lines in drawn["datasets"].values() for line in lines]
    assert sorted(line["auroc"] for line in values) == pytest.approx(sorted(table["auroc"]), abs=1e-4)
    html = shift.shift_html(table)
    assert all(f"{value:.3f}" in html for value in table["auroc"])


def test_a_grid_without_shift_says_so():
    rows = graded({"probe": 1.0})
    table = shift.shift(rows[rows["task"] != "nq_open"], TASKS[:2])
    assert set(table["test_set"]) == {"in-distribution"} and table["says"].isna().all()
    assert shift.shift_sentences(table) == "This grid has no task that nobody is trained on."
    assert shift.shift_chart(table).to_dict() and "in-distribution" in shift.shift_html(table)


def test_a_task_left_out_is_compared_on_its_own_answers_with_the_same_method():
    rows = graded(
        {
            "probe": 1.0,
            "probe_without_sciq": 0.2,
            "lora_prompt": 2.0,
            "lora_prompt_without_sciq": 2.0,
            "probe_without_trivia_qa": 1.0,
        }
    )
    table = shift.left_out(rows).set_index(["method", "task"])
    assert set(table.index) == {("probe", "sciq"), ("probe", "trivia_qa"), ("lora_prompt", "sciq")}
    line = table.loc[("probe", "sciq")]
    assert (
        line["without_task"] < line["with_task"]
        and line["high"] < 0
        and line["low"] < line["without_task"] - line["with_task"] < line["high"]
    )
    same = table.loc[("lora_prompt", "sciq")]
    assert same["without_task"] == same["with_task"] and same["low"] == same["high"] == 0
    assert "LoRA + Prompt" in shift.left_out_html(table.reset_index())
    assert "changes by" in shift.left_out_sentences(table.reset_index())
    assert shift.left_out(graded({"probe": 1.0})).empty


def test_the_topics_of_a_task_left_out_are_compared_each():
    rows = graded({"lora_prompt": 2.0, "lora_prompt_without_mine": 0.5, "probe": 1.0, "probe_without_mine_x": 0.2})
    rows = rows[rows["task"] != "nq_open"].replace({"task": {"trivia_qa": "mine_x", "sciq": "mine_y"}})
    table = shift.left_out(rows).set_index(["method", "task"])
    assert set(table.index) == {("lora_prompt", "mine_x"), ("lora_prompt", "mine_y"), ("probe", "mine_x")}
    assert (table["without_task"] < table["with_task"]).all()


def test_a_task_left_out_with_few_right_answers_or_none_tells_nothing():
    rows = graded({"probe": 1.0, "probe_without_sciq": 0.2, "probe_without_trivia_qa": 0.2})
    none = rows.assign(correct=rows["correct"] & (rows["task"] != "sciq"))
    table = shift.left_out(none)
    assert table.set_index("task")["n_right"].to_dict() == {
        "sciq": 0,
        "trivia_qa": rows.query("task == 'trivia_qa' and method == 'probe'")["correct"].sum(),
    }
    missing = shift.left_out_html(table.assign(with_task=np.nan))
    assert "None" not in missing and missing.count("<td>—</td>") == 5
    html = shift.left_out_html(table)
    assert html.count("<td>—</td>") == 3 and "nan" not in html.lower()
    assert "in 1 of 1 cases" in shift.left_out_sentences(table) and "; 1 more rest" in shift.left_out_sentences(table)
    assert shift.left_out_sentences(table[table["task"] == "sciq"]).startswith(
        "None of the tasks that were left out here has the 25 right and as many wrong answers"
    )


def test_a_task_left_out_is_compared_on_the_seeds_that_both_have():
    with_it = pd.concat([graded({"probe": 1.0}, seed=0), graded({"probe": 5.0}, seed=1)])
    table = shift.left_out(pd.concat([with_it, graded({"probe_without_sciq": 1.0}, seed=0)]))
    assert table["with_task"].tolist() == table["without_task"].tolist() and len(table) == 1


def perfect(share: float, correct: np.ndarray) -> np.ndarray:
    """Confidences by which that share of the wrong answers is below all right ones, and the rest above: the AUROC."""
    wrong = np.flatnonzero(~correct)
    logit = np.where(correct, 0.0, 1.0)
    logit[wrong[: round(share * len(wrong))]] = -1.0
    return logit


def taught(method: str, shares: dict[str, float], **names) -> pd.DataFrame:
    """Rows of a probe with an AUROC that is known by hand, by task; each task has 40 right of 140 answers."""
    correct = np.arange(140) % 7 < 2
    names = {"method": method, "reader": "a", "trained_on": "a", "scored": "a"} | names
    return pd.concat([make_rows(perfect(share, correct), correct, task, **names) for task, share in shares.items()])


def graded_answers(**counts: int) -> pd.DataFrame:
    """Answers to as many train questions by task, and to one of each for validation."""
    tasks = [task for task, count in counts.items() for _ in range(count + 1)]
    last = [at == count for count in counts.values() for at in range(count + 1)]
    return pd.DataFrame({"task": tasks, "split": np.where(last, "validation", "train")})


ONE, TWO, BOTH = (
    {"trivia_qa": 0.9, "sciq": 0.6, "nq_open": 0.5},
    {"trivia_qa": 0.4, "sciq": 0.8, "nq_open": 0.7},
    {"trivia_qa": 0.95, "sciq": 0.85, "nq_open": 0.75},
)


def test_a_probe_of_one_of_two_tasks_is_the_one_without_the_other():
    parts = [taught("probe", BOTH), taught("probe_without_sciq", ONE), taught("probe_without_trivia_qa", TWO)]
    other = taught("probe_without_sciq", dict.fromkeys(ONE, 0.1), trained_on="b")  # native neither to a nor to b
    rows = pd.concat([*parts, other, taught("lora_prompt_without_sciq", TWO)], ignore_index=True)
    table = shift.transfer(rows, {"a": graded_answers(trivia_qa=30, sciq=12)}, TASKS, ["a", "b"])
    cells = table.set_index(["learned", "test_set"])
    expected = {"trivia_qa": ONE, "sciq": TWO, shift.TOGETHER: BOTH}
    assert cells["auroc"].to_dict() == pytest.approx(
        {(learned, task): value for learned, values in expected.items() for task, value in values.items()}
    )
    assert list(cells.index) == [(learned, task) for learned in expected for task in ONE], "in the grid's order"
    assert {*cells["n"]} == {140} and {*cells["n_right"]} == {40} and {*cells["reason"]} == {""}
    assert (cells["low"] < cells["auroc"]).all() and (cells["auroc"] < cells["high"]).all()
    counts = {"trivia_qa": 30, "sciq": 12, shift.TOGETHER: 42}
    assert cells["training_answers"].groupby("learned").unique().str[0].to_dict() == counts
    assert shift.transfer_sentences(table, TASKS).splitlines()[-1] == (
        "- **a**, on its own answers: 0.80 to 0.90 on its own task, "
        "0.40 to 0.60 on another task of the mixture, 0.50 to 0.70 on a shift."
    )
    low, high = cells.loc[("sciq", "nq_open"), ["low", "high"]]
    assert f"<td>0.700 ({low:.3f} – {high:.3f}) of 140</td>" in shift.transfer_html(table)
    drawn = [line for lines in shift.transfer_chart(table).to_dict()["datasets"].values() for line in lines]
    assert {(line["learned"], line["test_set"]): line["auroc"] for line in drawn} == pytest.approx(
        cells["auroc"].to_dict()
    ) and {line["row"] for line in drawn} == {
        "trivia_qa\n30 answers",
        "sciq\n12 answers",
        f"{shift.TOGETHER}\n42 answers",
    }
    spec = shift.transfer_chart(table).to_dict()
    assert {panel["width"] for panel in spec["vconcat"]} == {54 * len(ONE)}, "in pixels, which a phone takes away from"


def test_of_three_tasks_each_has_a_probe_of_its_own_and_what_is_missing_says_why():
    tasks = [*TASKS[:2], {"name": "cities", "role": "train"}, TASKS[2], {"name": "capitals", "role": "shift"}]
    few = make_rows(
        np.arange(60), np.arange(60) < 20, "capitals", method="probe_only_sciq", reader="a", trained_on="a", scored="b"
    ).assign(trained_on="b")
    names = {"trained_on": "b", "scored": "b"}  # whose answers a reads
    parts = [taught("probe_only_sciq", TWO, **names), few, taught("probe_without_cities", ONE, **names)]
    answers = {"b": graded_answers(trivia_qa=30, sciq=12, cities=5), "a": graded_answers(sciq=1)}
    table = shift.transfer(pd.concat(parts, ignore_index=True), answers, tasks, ["a"])
    assert shift.transfer_chart(table).to_dict() and "- **a**, on its own answers: no value." in (
        shift.transfer_sentences(table, tasks)
    )
    of_a, table = (table[table["scored"] == scored].reset_index(drop=True) for scored in "ab")
    assert of_a["auroc"].isna().all() and len(of_a) == 3 * 5, "without a row for probes that the run does not have"
    why = of_a.groupby("learned")[["reason", "training_answers"]].agg(["unique"]).map(list).to_numpy().tolist()
    assert dict(zip(sorted({*of_a["learned"]}), why)) == {
        **dict.fromkeys(("trivia_qa", "cities"), [[shift.UNTAUGHT], [0]]),
        "sciq": [[shift.ONE_TASK], [1]],
    }
    cells = table.set_index(["learned", "test_set"])
    assert len(cells) == 3 * 5
    assert cells["auroc"].dropna().to_dict() == pytest.approx({("sciq", task): value for task, value in TWO.items()})
    assert cells.loc[("sciq", "capitals"), "reason"] == FEW
    assert cells.loc[("sciq", "cities"), "reason"] == "no test answers"
    for absent in ("trivia_qa", "cities"):
        assert {*cells.loc[absent, "reason"]} == {shift.ABSENT}
    assert cells.loc["cities", "training_answers"].eq(5).all()
    text = shift.transfer_sentences(table, tasks)
    assert text.splitlines()[-1] == (
        "- **b**, with a as its reader: 0.80 on its own task, 0.40 on another task of the mixture, 0.70 on a shift."
    )
    alone = table[~table["learned"].isin(["trivia_qa", "cities"])]
    assert shift.transfer_sentences(alone, tasks).endswith("0.40 on another task of the mixture, 0.70 on a shift."), (
        "a train task that no probe learned alone is no shift"
    )
    assert shift.transfer_sentences(table.assign(auroc=np.nan), tasks).endswith("reader: no value.")
    html = shift.transfer_html(table)
    assert (
        f"<td>— ({shift.ABSENT})</td>" in html and "nan" not in html.lower() and shift.transfer_chart(table).to_dict()
    )


def test_a_model_with_two_of_three_train_tasks_has_a_probe_of_each_alone():
    tasks = [*TASKS[:2], {"name": "cities", "role": "train"}, TASKS[2]]
    parts = [taught("probe", BOTH), taught("probe_without_sciq", ONE), taught("probe_without_trivia_qa", TWO)]
    parts += [part.assign(method="probe_without_cities", scored="b", trained_on="b", reader="b") for part in parts[:1]]
    answers = {"a": graded_answers(trivia_qa=30, sciq=12), "b": graded_answers(trivia_qa=30, sciq=12, cities=5)}
    table = shift.transfer(pd.concat(parts, ignore_index=True), answers, tasks, ["a", "b"])
    of_a, of_b = (table[table["scored"] == scored].set_index(["learned", "test_set"]) for scored in "ab")
    expected = {"trivia_qa": ONE, "sciq": TWO, shift.TOGETHER: BOTH}
    assert of_a["auroc"].dropna().to_dict() == pytest.approx(
        {(learned, task): value for learned, values in expected.items() for task, value in values.items()}
    )
    assert {*of_a.loc["cities", "reason"]} == {shift.UNTAUGHT} and of_b["auroc"].isna().all()


def test_each_topic_of_a_file_is_a_task_of_its_own():
    tasks = [TASKS[1], {"name": "mine", "role": "train"}, TASKS[2]]
    shares = {"sciq": 0.6, "mine_sea": 0.9, "mine_sky": 0.7, "nq_open": 0.5}
    parts = [taught(method, shares) for method in ("probe", "probe_only_sciq", "probe_only_mine_sea")]
    answers = {"a": graded_answers(sciq=30, mine_sea=20, mine_sky=10)}
    table = shift.transfer(pd.concat(parts, ignore_index=True), answers, tasks)
    cells = table.set_index(["learned", "test_set"])
    assert [*cells.index.unique("learned")] == ["sciq", "mine_sea", "mine_sky", shift.TOGETHER]
    assert cells["auroc"].loc["mine_sea"].to_dict() == pytest.approx(shares)
    assert {*cells.loc["mine_sky", "reason"]} == {shift.ABSENT} and (cells.loc["mine_sea", "reason"] == "").all()
    assert cells.loc["mine_sea", "training_answers"].eq(20).all()
    assert "0.60 to 0.90 on its own task, 0.60 to 0.90 on another" in shift.transfer_sentences(table, tasks)


def test_where_no_probe_learned_from_one_task_alone_there_is_one_sentence():
    table = shift.transfer(taught("probe", BOTH), {"a": graded_answers(sciq=3)}, TASKS, ["a"])
    assert table.empty and shift.transfer_chart(table) is None and shift.transfer_html(table) == ""
    assert shift.transfer_sentences(table, TASKS) == "There is no probe that was trained on one task alone."
    text = shift.transfer_sentences(table, TASKS[1:])
    assert text == "This grid trains on one task, so there is no transfer between tasks to train on."
