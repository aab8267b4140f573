"""AUROC against hand-worked values and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from made_up import make_rows
from whoknows.data.rows import one_class
from whoknows.evaluation.auroc import auroc, by_task, html, mean_auroc


def test_auroc_by_hand():
    # right 2, 1; wrong 1, 0: the pairs are 2>1, 2>0, 1=1 (half), 1>0
    assert auroc([2, 1, 1, 0], [True, True, False, False]) == pytest.approx(3.5 / 4)
    assert auroc([0, 1], [True, False]) == 0.0


def test_auroc_of_a_constant_scorer_is_a_half():
    assert auroc(np.zeros(7), [1, 0, 0, 1, 1, 0, 0]) == 0.5


def test_auroc_agrees_with_scikit_learn_with_ties_and_infinities():
    rng = np.random.default_rng(0)
    logit = rng.normal(size=400).round(1)
    correct = rng.random(400) < 0.2
    assert auroc(logit, correct) == pytest.approx(roc_auc_score(correct, logit), abs=1e-12)
    logit[:3] = [np.inf, -np.inf, np.inf]
    assert auroc(logit, correct) == pytest.approx(roc_auc_score(correct, np.clip(logit, -99, 99)), abs=1e-12)


def test_a_temperature_never_changes_auroc():
    rng = np.random.default_rng(1)
    logit, correct = rng.normal(size=50), rng.random(50) < 0.4
    assert auroc(logit / 7, correct) == auroc(logit, correct)


@pytest.mark.parametrize(
    ("correct", "why"),
    [([], "no test answers"), ([False, False], "no right answer"), ([True, True], "no wrong answer")],
)
def test_one_class_is_missing_with_a_reason_and_never_a_half(correct, why):
    assert np.isnan(auroc(np.zeros(len(correct)), correct))
    assert why in one_class(correct)


def test_an_estimators_own_table_has_a_line_per_scored_model_and_task():
    rows = pd.concat(
        [
            make_rows([1, 0] * 25, [True, False] * 25),
            make_rows([1, 0] * 30, [True] * 3 + [False] * 57, task="sciq"),
            make_rows([1, 0] * 30, [False] + [True] * 59, task="nq_open"),
            make_rows([0, 9], [True, False], split="validation"),
        ]
    )
    table = by_task(rows).set_index("task")
    assert table.loc["trivia_qa", ["auroc", "n", "n_right", "reason"]].tolist() == [1.0, 50, 25, ""]
    assert table["auroc"].isna().tolist() == [False, True, True]
    assert table["reason"].tolist()[1:] == [
        "3 right answers, and a value takes 25",
        "1 wrong answer, and a value takes 25",
    ]
    shown = html(rows)
    assert (
        shown.count("<td>—</td>") == 2
        and "nan" not in shown.lower()
        and "<th>Test answers</th>" in shown
        and "n_right" not in shown
    )
    assert list(by_task(rows[rows["task"] == "trivia_qa"])) == ["method", "scored", "task", "auroc", "n", "n_right"], (
        "no reason, no column for it"
    )


def test_answers_are_counted_once_however_many_estimators_judge_them():
    names = [{"trained_on": trained_on, "seed": seed} for trained_on in "ab" for seed in (0, 1)]
    table = by_task(pd.concat([make_rows([1, 0] * 25, [True, False] * 25, **name) for name in names]))
    assert table["n"].tolist() == [50] * 4 and not table.duplicated(["trained_on", "seed", "scored"]).any()


def test_mean_over_tasks_leaves_out_those_of_one_class():
    assert mean_auroc([1, 0, 5, 6], [True, False, False, False], ["a", "a", "b", "b"]) == 1.0
    assert np.isnan(mean_auroc([1, 0], [True, True], ["a", "b"]))
