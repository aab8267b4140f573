"""Resampling of questions: weights, pairing of cells, coverage, and corrected p-values."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from made_up import make_rows
from whoknows.evaluation import bootstrap
from whoknows.evaluation.auroc import auroc


def noisy(count=120, seed=0, signal=1.0, share=0.3, **names):
    rng = np.random.default_rng(seed)
    correct = np.arange(count) < share * count
    return make_rows((rng.normal(size=count) + signal * correct).round(1), correct, **names)


def test_a_resample_has_as_many_questions_as_there_are():
    drawn = bootstrap.draws("sciq", 30, times=50)
    assert drawn.shape == (50, 30) and (drawn.sum(axis=1) == 30).all()
    assert drawn.std(axis=0).min() > 0.5
    assert (drawn == bootstrap.draws("sciq", 30, times=50)).all() and (
        drawn != bootstrap.draws("nq_open", 30, times=50)
    ).any()


def test_each_resample_agrees_with_scikit_learn():
    rows = noisy()
    weights = bootstrap.draws("sciq", len(rows), times=20)
    logit, correct = rows["logit"].to_numpy(), rows["correct"].to_numpy()
    values = bootstrap.resampled_auroc(logit[correct], logit[~correct], weights[:, correct], weights[:, ~correct])
    for value, weight in zip(values, weights):
        assert value == pytest.approx(roc_auc_score(rows["correct"], rows["logit"], sample_weight=weight), abs=1e-6)


def test_a_constant_scorer_has_a_half_in_every_resample():
    assert (bootstrap.samples(make_rows(np.zeros(20), [True] * 5 + [False] * 15), times=50) == 0.5).all(axis=None)


def test_a_resample_of_one_class_is_missing():
    rows = make_rows([1.0, 0.0, 0.0], [True, False, False])
    drawn = bootstrap.samples(rows, times=200)
    assert drawn.isna().any(axis=None) and drawn.notna().any(axis=None)


def test_cells_share_their_resamples_in_whatever_order_their_rows_stand():
    one, other = noisy(reader="a"), noisy(reader="b").sample(frac=1, random_state=1)
    both = bootstrap.by_cell(bootstrap.samples(pd.concat([one, other]), times=100), ["trivia_qa"])
    difference = both.xs("a", level="reader").to_numpy() - both.xs("b", level="reader").to_numpy()
    assert difference == pytest.approx(np.zeros((1, 100))) and both.iloc[0].std() > 0.01


def test_a_cell_is_the_mean_over_seeds_of_its_means_over_tasks():
    lines = [
        ("probe", "a", "a", "b", seed, task, value)
        for seed, values in enumerate([(0.1, 0.2, 0.9), (0.5, np.nan, 0.7), (0.3, 0.3, 0.3)])
        for task, value in zip("xyz", values)
    ]
    table = pd.DataFrame(lines, columns=[*bootstrap.CELL, "seed", "task", 0]).set_index(
        [*bootstrap.CELL, "seed", "task"]
    )
    assert bootstrap.by_cell(table, ["x", "y", "z"]).iloc[0, 0] == pytest.approx((0.4 + 0.6 + 0.3) / 3)
    assert bootstrap.by_cell(table, ["x", "y"]).iloc[0, 0] == pytest.approx((0.15 + 0.5 + 0.3) / 3)


@pytest.mark.parametrize("less", [0, 1, 40])
def test_no_task_is_drawn_like_another(less):
    """Their mean has less spread than either: two tasks of equal, or nearly equal, size vary independently."""
    one = noisy(seed=1)
    drawn = bootstrap.samples(pd.concat([one, one[: len(one) - less].assign(task="sciq")])).to_numpy()
    assert abs(np.corrcoef(drawn)[0, 1]) < 0.1
    assert drawn.mean(axis=0).std() == pytest.approx(np.sqrt(drawn.var(axis=1).sum()) / 2, rel=0.1)


def test_an_interval_holds_95_percent():
    ends = bootstrap.interval(
        pd.DataFrame([np.random.default_rng(0).permutation(1001), [np.nan] * 600 + [*range(401)]])
    )
    assert ends["low"].tolist() == pytest.approx([25, 10]) and ends["high"].tolist() == pytest.approx([975, 390])


def test_validation_rows_do_not_count():
    extra = noisy(seed=5, signal=-3, split="validation")
    assert bootstrap.samples(pd.concat([noisy(), extra]), times=10).equals(bootstrap.samples(noisy(), times=10))


def test_means_are_over_tasks_and_then_over_seeds():
    parts = [noisy(seed=1).assign(task=task, seed=seed) for task in ("a", "b") for seed in (0, 1)]
    rows = pd.concat(parts).assign(logit=lambda r: r["logit"] * r["seed"])
    cells = bootstrap.by_cell(bootstrap.samples(rows, times=300), ["a", "b"])
    # seed 0 says the same of all answers, seed 1 has the value of noisy(): half-way between
    expected = (0.5 + auroc(noisy(seed=1)["logit"], noisy(seed=1)["correct"])) / 2
    assert len(cells) == 1 and cells.iloc[0].mean() == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say():
    truth, covered = 0.7602, 0  # of two unit normals one apart: Phi(1 / sqrt 2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        correct = rng.random(150) < 0.3
        rows = make_rows(rng.normal(size=150) + correct, correct, task=f"task{seed}")
        ends = bootstrap.interval(bootstrap.samples(rows, times=200)).iloc[0]
        covered += ends["low"] <= truth <= ends["high"]
    assert 0.88 <= covered / 200 <= 0.99


def test_p_values():
    resampled = np.random.default_rng(0).normal(0.03, 0.01, size=20_000)
    assert bootstrap.p_value(0.0196, resampled) == pytest.approx(0.05, rel=0.05), "1.96 standard deviations"
    assert bootstrap.p_value(-0.0196, resampled) == bootstrap.p_value(0.0196, resampled)
    assert bootstrap.p_below(0.0054, resampled, 0.025) == pytest.approx(0.05, rel=0.05)
    assert bootstrap.p_below(0.05, resampled, 0.025) == 1.0
    assert 1e-10 < bootstrap.p_value(0.06, resampled) < 1e-8, "a resample of each sign is not needed"
    assert bootstrap.p_value(0.01, np.append(resampled, np.nan)) == bootstrap.p_value(0.01, resampled)
    assert bootstrap.p_value(0.0, np.zeros(99)) == 1.0 and bootstrap.p_value(0.3, np.full(99, 0.3)) == 0.0
    assert np.isnan([bootstrap.p_value(np.nan, resampled), bootstrap.p_value(0.1, np.full(99, np.nan))]).all()


def test_the_p_value_of_two_aurocs_is_that_of_delong():
    rng = np.random.default_rng(3)
    correct, shared = rng.random(400) < 0.4, rng.normal(size=400)
    one, other = (shared + rng.normal(size=400) + by * correct for by in (1.0, 0.5))
    rows = pd.concat([make_rows(one, correct), make_rows(other, correct, method="other")])
    estimate = roc_auc_score(correct, one) - roc_auc_score(correct, other)
    drawn = bootstrap.samples(rows).groupby("method").mean()
    p = bootstrap.p_value(estimate, (drawn.loc["probe"] - drawn.loc["other"]).to_numpy())
    # DeLong et al. (1988): each answer's share of those of the other grade that it is ordered against
    order = [(x[correct][:, None] > x[~correct]) for x in (one, other)]
    right, wrong = (order[0].mean(axis) - order[1].mean(axis) for axis in (1, 0))
    spread = np.sqrt(right.var(ddof=1) / len(right) + wrong.var(ddof=1) / len(wrong))
    assert 0.001 < p < 0.2 and p == pytest.approx(2 * norm.sf(abs(estimate) / spread), rel=0.15)


def test_holm_by_hand():
    # 0.01 * 3, then 0.03 * 2, then 0.04 * 1, which may not be below the one before
    corrected = bootstrap.holm(pd.Series({"a": 0.04, "b": 0.01, "c": np.nan, "d": 0.03}))
    assert corrected.drop("c").to_dict() == pytest.approx({"a": 0.06, "b": 0.03, "d": 0.06}) and np.isnan(
        corrected["c"]
    )


def test_the_order_of_rows_is_nothing_to_it():
    rows = pd.concat([noisy(), noisy().assign(method="other", logit=lambda rows: -rows["logit"])])
    assert bootstrap.samples(rows.sample(frac=1, random_state=0), times=10).equals(bootstrap.samples(rows, times=10))
