"""AUROC, ECE and the means over tasks, against hand-worked values and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from whoknows import WhoknowsError, metrics


def make_rows(logit, correct, task="trivia_qa", **names):
    key = {"method": "probe", "reader": "a", "trained_on": "a", "scored": "b", "split": "test", "seed": 0}
    n = len(logit)
    ids = [f"{task}{i}" for i in range(n)]
    values = {"logit": np.float32(logit), "correct": np.array(correct, bool)}
    return pd.DataFrame(values | {"task": task, "question_id": ids} | {k: [v] * n for k, v in (key | names).items()})


def test_auroc_by_hand():
    # right 2, 1; wrong 1, 0: the pairs are 2>1, 2>0, 1=1 (half), 1>0
    assert metrics.auroc([2, 1, 1, 0], [True, True, False, False]) == pytest.approx(3.5 / 4)
    assert metrics.auroc([0, 1], [True, False]) == 0.0


def test_auroc_of_a_constant_scorer_is_a_half():
    assert metrics.auroc(np.zeros(7), [1, 0, 0, 1, 1, 0, 0]) == 0.5


def test_auroc_agrees_with_scikit_learn_with_ties_and_infinities():
    rng = np.random.default_rng(0)
    logit = rng.normal(size=400).round(1)
    correct = rng.random(400) < 0.2
    assert metrics.auroc(logit, correct) == pytest.approx(roc_auc_score(correct, logit), abs=1e-12)
    logit[:3] = [np.inf, -np.inf, np.inf]
    assert metrics.auroc(logit, correct) == pytest.approx(roc_auc_score(correct, np.clip(logit, -99, 99)), abs=1e-12)


def test_a_temperature_never_changes_auroc():
    rng = np.random.default_rng(1)
    logit, correct = rng.normal(size=50), rng.random(50) < 0.4
    assert metrics.auroc(logit / 7, correct) == metrics.auroc(logit, correct)


@pytest.mark.parametrize(
    ("correct", "why"),
    [([], "no test answers"), ([False, False], "no right answer"), ([True, True], "no wrong answer")],
)
def test_one_class_is_missing_with_a_reason_and_never_a_half(correct, why):
    assert np.isnan(metrics.auroc(np.zeros(len(correct)), correct))
    assert why in metrics.one_class(correct)


def test_ece_by_hand_counts_zero_and_one():
    # P: 0 and 1 exactly (right and wrong, both missed by 1), and 0.75, 0.75 with one right (missed by 0.25)
    logit = [-np.inf, np.inf, np.log(3), np.log(3)]
    assert metrics.ece(logit, [True, False, True, False]) == pytest.approx((1 + 1 + 2 * 0.25) / 4)
    assert metrics.ece([np.inf, -np.inf], [True, False]) == 0.0


def test_ece_bins_are_of_equal_width():
    # 0.15 and 0.25 stand in different bins of ten, but in one bin of two
    logit = np.log([0.15 / 0.85, 0.25 / 0.75])
    assert metrics.ece(logit, [True, False], bins=10) == pytest.approx((0.85 + 0.25) / 2)
    assert metrics.ece(logit, [True, False], bins=2) == pytest.approx(abs(0.40 - 1) / 2)


def test_nan_confidence_is_refused_and_named():
    with pytest.raises(WhoknowsError, match="1 of 2 confidences"):
        metrics.ece([np.nan, 0], [True, False])
    with pytest.raises(WhoknowsError, match="reader=a, trained_on=a, scored=b, task=trivia_qa"):
        metrics.scores(make_rows([np.nan, 0], [True, False]))


def test_scores_use_test_rows_only():
    test = make_rows([1, 0, 2], [True, False, False])
    validation = make_rows([0, 9], [True, False], split="validation")
    line = metrics.scores(pd.concat([test, validation])).iloc[0]
    assert (line["auroc"], line["n"], line["n_right"], line["reason"]) == (0.5, 3, 1, "")
    assert line["accuracy"] == pytest.approx(1 / 3)


def test_within_task_gives_nothing_for_knowing_the_task():
    # confidence is the task's base rate and nothing else: pooled sees a signal, within task there is none
    easy = make_rows([1] * 10, [True] * 8 + [False] * 2, task="easy")
    hard = make_rows([-1] * 10, [True] * 2 + [False] * 8, task="hard")
    rows = pd.concat([easy, hard])
    mean = metrics.within_task(metrics.scores(rows), ["easy", "hard"]).iloc[0]
    assert (mean["auroc"], mean["n_tasks"], mean["n_right"], mean["n"]) == (0.5, 2, 10, 20)
    assert metrics.pooled(rows, ["easy", "hard"])["pooled_auroc"].iloc[0] == pytest.approx(0.8)


def test_within_task_says_over_how_many_tasks_and_why_not():
    good = make_rows([1, 0], [True, False], task="good")
    bad = make_rows([1, 0], [False, False], task="bad")
    by_task = metrics.scores(pd.concat([good, bad]))
    both = metrics.within_task(by_task, ["good", "bad", "absent"]).iloc[0]
    assert (both["auroc"], both["n_tasks"], both["of_tasks"], both["n_right"]) == (1.0, 1, 3, 1)
    none = metrics.within_task(by_task, ["bad"]).iloc[0]
    assert np.isnan(none["auroc"])
    assert none["reason"] == "bad: no right answer among the test answers"
