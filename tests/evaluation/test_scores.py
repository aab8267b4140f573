"""Tables from rows: which rows count, and what a mean over tasks is over."""

import numpy as np
import pandas as pd
import pytest

from made_up import make_rows
from whoknows.evaluation import scores


def test_scores_use_test_rows_only():
    test = make_rows([1, 0, 2], [True, False, False])
    validation = make_rows([0, 9], [True, False], split="validation")
    line = scores.by_task(pd.concat([test, validation])).iloc[0]
    assert (line["auroc"], line["n"], line["n_right"], line["reason"]) == (0.5, 3, 1, "")
    assert line["accuracy"] == pytest.approx(1 / 3)


def test_within_task_gives_nothing_for_knowing_the_task():
    # confidence is the task's base rate and nothing else: pooled sees a signal, within task there is none
    easy = make_rows([1] * 10, [True] * 8 + [False] * 2, task="easy")
    hard = make_rows([-1] * 10, [True] * 2 + [False] * 8, task="hard")
    rows = pd.concat([easy, hard])
    mean = scores.within_task(scores.by_task(rows), ["easy", "hard"]).iloc[0]
    assert (mean["auroc"], mean["n_tasks"], mean["n_right"], mean["n"]) == (0.5, 2, 10, 20)
    thrown_together = scores.pooled(rows, ["easy", "hard"], {})
    assert (
        thrown_together["pooled_auroc"].iloc[0] == pytest.approx(0.8) and thrown_together["pooled_brier"].isna().all()
    )


def test_pooled_measures_are_of_all_answers_together():
    parts = [make_rows([2, 2, 2, -1], [True, True, False, False], task="a"), make_rows([3, 0], [True, False], task="b")]
    rows = pd.concat([*parts, make_rows([1, 0, 2], [True, False, True], scored="a", split="validation")])
    pooled = scores.pooled(rows, ["a", "b"], scores.fit_all(rows)).iloc[0]
    every = pd.concat(parts)
    logit, correct = every["logit"].to_numpy(), every["correct"].to_numpy()
    for name in ("auroc", "brier", "log_loss", "ece", "aurc", "prr"):
        assert pooled[f"pooled_{name}"] == pytest.approx(scores.MEASURES[name].of(logit, correct)), name
    mean = scores.within_task(scores.by_task(rows), ["a", "b"]).iloc[0]
    assert pooled["pooled_brier"] != pytest.approx(mean["brier"]), "the larger task weighs more"
    assert not np.isnan(pooled["pooled_ece_platt"])


def test_within_task_says_over_how_many_tasks_and_why_not():
    good = make_rows([1, 0], [True, False], task="good")
    bad = make_rows([1, 0], [False, False], task="bad")
    by_task = scores.by_task(pd.concat([good, bad]))
    both = scores.within_task(by_task, ["good", "bad", "absent"]).iloc[0]
    assert (both["auroc"], both["n_tasks"], both["of_tasks"]) == (1.0, 1, 3)
    assert (both["n"], both["n_right"], both["n_rarer"]) == (4, 1, 1), "all its answers, as the first page counts them"
    none = scores.within_task(by_task, ["bad"]).iloc[0]
    assert np.isnan(none["auroc"]) and (none["n"], none["n_right"], none["n_rarer"]) == (2, 0, 0)
    assert none["reason"] == "bad: no right answer among the test answers"


def test_a_task_of_one_class_has_a_reason_and_no_measure():
    held = make_rows([1, 0, 2], [True, False, False], split="validation", scored="a")
    line = scores.by_task(pd.concat([held, make_rows([3, 0], [False, False])])).iloc[0]
    assert line["reason"] == "no right answer among the test answers"
    assert (line["accuracy"], line["n"], line["n_right"]) == (0, 2, 0)
    assert line[[name for name in scores.MEASURES if "accuracy" != name.removeprefix("commoner_")]].isna().all()


def test_calibration_comes_from_validation_and_moves_no_order():
    # on validation half of the answers are right at whatever confidence: both scalings learn to say a half
    held = make_rows([4, 4, 4, 4], [True, False, True, False], split="validation", scored="a")
    test = make_rows([4, 4, 2, 2], [True, False, True, False])
    line = scores.by_task(pd.concat([held, test])).iloc[0]
    assert line["ece"] > 0.4
    assert line["ece_platt"] == pytest.approx(0, abs=1e-3)
    alone = scores.by_task(test).iloc[0]
    assert line["auroc"] == alone["auroc"]
    assert np.isnan(alone[["ece_platt", "ece_temperature", "threshold_accuracy"]].astype(float)).all()


def test_auroc_alone_is_the_same_auroc():
    rows = pd.concat([make_rows([2, 0, 1], [True, False, False]), make_rows([1, 1], [True, False], task="sciq")])
    every, some = scores.by_task(rows), scores.by_task(rows, only_auroc=True)
    same = ["method", "task", "auroc", "accuracy", "n", "n_right", "reason"]
    pd.testing.assert_frame_equal(every[same], some[same])
    assert some[["brier", "ece", "ece_platt"]].isna().all(axis=None) and every["brier"].notna().all()


def test_all_measures_are_averaged_within_task():
    rows = pd.concat([make_rows([1, 0], [True, False], task="a"), make_rows([0, 1], [True, False], task="b")])
    by_task = scores.by_task(rows)
    mean = scores.within_task(by_task, ["a", "b"]).iloc[0]
    for name in ("auroc", "brier", "aurc", "ece"):
        assert mean[name] == pytest.approx(by_task[name].mean()), name


def test_every_measure_goes_its_direction_when_confidences_are_turned_round():
    logit, correct = [2, 3, 2, 1, -2, -3, -2, -1] * 5, ([True] * 3 + [False] * 4 + [True]) * 5
    held = make_rows(logit, correct, split="validation", scored="a")
    good, bad = (
        scores.by_task(pd.concat([held, make_rows(sign * np.array(logit), correct)])).iloc[0] for sign in (1, -1)
    )
    for name, measure in scores.MEASURES.items():
        if name in ("accuracy", "commoner_accuracy"):  # of the grades alone
            assert good[name] == bad[name] and measure.is_high_better
        else:
            assert (good[name] > bad[name]) == measure.is_high_better and good[name] != bad[name], name
