"""Every metric against values worked out by hand, and against scikit-learn."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as sklearn

from made_up import make_rows
from whoknows import WhoknowsError
from whoknows.evaluation import metrics, scores

CERTAIN = [np.inf, -np.inf]  # confidences of exactly 1 and 0
ALONE = [name for name, measure in scores.MEASURES.items() if measure.of]  # of confidences and grades
HALF = ([3, 2, 1, 0], [True, False, True, False])


def log_odds(*p):
    return np.log(np.divide(p, np.subtract(1, p)))


def test_ece_by_hand_counts_zero_and_one():
    # P: 0 and 1 exactly (right and wrong, both missed by 1), and 0.75, 0.75 with one right (missed by 0.25)
    logit = [-np.inf, np.inf, np.log(3), np.log(3)]
    assert metrics.ece(logit, [True, False, True, False]) == pytest.approx((1 + 1 + 2 * 0.25) / 4)
    assert metrics.ece(CERTAIN, [True, False]) == 0.0


@pytest.mark.parametrize("name", ALONE)
def test_confidences_of_single_precision_are_measured_in_double(name):
    logit = np.random.default_rng(0).normal(0, 4, 60).astype(np.float32)
    correct = np.arange(60) % 3 > 0
    measure = scores.MEASURES[name].of
    assert measure(logit, correct) == measure(logit.astype(np.float64), correct)


def test_ece_bins_are_of_equal_width():
    # 0.15 and 0.25 stand in different bins of ten, but in one bin of two
    logit = log_odds(0.15, 0.25)
    assert metrics.ece(logit, [True, False], bins=10) == pytest.approx((0.85 + 0.25) / 2)
    assert metrics.ece(logit, [True, False], bins=2) == pytest.approx(abs(0.40 - 1) / 2)


def test_ece_in_bins_of_equal_mass():
    # the lower two and the upper two: |0.1 + 0.2 - 1| and |0.8 + 0.9 - 2|
    logit = log_odds(0.1, 0.2, 0.8, 0.9)
    assert metrics.ece_equal_mass(logit, [False, True, True, True], bins=2) == pytest.approx((0.7 + 0.3) / 4)
    assert metrics.ece_equal_mass(np.zeros(5), [True, False, False, False, False]) == pytest.approx(0.3)
    assert metrics.ece_equal_mass(CERTAIN, [False, True], bins=2) == 1.0


def test_smooth_ece_is_small_where_confidence_fits_and_large_where_not():
    rng = np.random.default_rng(0)
    logit = rng.normal(size=5000)
    correct = rng.random(5000) < expit(logit)
    assert metrics.smooth_ece(logit, correct) < 0.03
    assert metrics.smooth_ece(np.full(100, 3.0), np.zeros(100, bool)) == pytest.approx(expit(3.0), abs=0.02)
    assert metrics.smooth_ece(CERTAIN * 50, [False, True] * 50) > 0.4


def test_brier_and_log_loss_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    logit, correct = rng.normal(size=300) * 3, rng.random(300) < 0.3
    assert metrics.brier(logit, correct) == pytest.approx(sklearn.brier_score_loss(correct, expit(logit)))
    assert metrics.log_loss(logit, correct) == pytest.approx(sklearn.log_loss(correct, expit(logit)))


def test_brier_and_log_loss_of_certain_answers():
    assert metrics.brier(CERTAIN, [False, True]) == 1.0 and metrics.brier(CERTAIN, [True, False]) == 0.0
    assert metrics.log_loss(CERTAIN, [True, False]) == 0.0
    assert metrics.log_loss(CERTAIN, [False, False]) == np.inf
    assert metrics.log_loss([800.0], [False]) == pytest.approx(800.0)  # no overflow


def test_risk_coverage_by_hand():
    assert metrics.risk_coverage(*HALF) == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4])
    assert metrics.aurc(*HALF) == pytest.approx((1 / 2 + 1 / 3 + 2 / 4) / 4)
    # chance is 1/2, the perfect order has (0 + 0 + 1/3 + 1/2) / 4
    assert metrics.prr(*HALF) == pytest.approx((1 / 2 - 1 / 3) / (1 / 2 - 5 / 24))


def test_prr_ends():
    correct = [True, True, False, False, False]
    assert metrics.prr([4, 3, 2, 1, 0], correct) == 1.0
    assert metrics.prr([0, 1, 2, 3, 4], correct) < 0


def test_a_constant_scorer_gains_nothing_in_whatever_order_its_rows_stand():
    for correct in ([True, True, False, False, False], [False, False, True, False, True]):
        assert metrics.risk_coverage(np.zeros(5), correct) == pytest.approx([0.6] * 5)
        assert metrics.prr(np.zeros(5), correct) == pytest.approx(0.0)


def test_threshold_by_hand():
    assert metrics.best_threshold(*HALF) == 3
    assert metrics.best_threshold([3, 2, 1, 0], [True, True, False, True]) == 2
    assert metrics.best_threshold([3, 2], [False, False]) == np.inf
    assert metrics.best_threshold([1, 1, 0], [True, False, True]) == 0  # a tie goes as a whole
    assert metrics.threshold_accuracy(*HALF, 1) == 3 / 4
    assert metrics.threshold_accuracy(*HALF, np.inf) == 2 / 4
    assert np.isnan(metrics.threshold_accuracy(*HALF, np.nan))


@pytest.mark.parametrize("name", ALONE)
def test_without_answers_every_metric_is_missing(name):
    assert np.isnan(scores.MEASURES[name].of([], []))


@pytest.mark.parametrize("name", ALONE)
def test_nan_confidence_is_refused(name):
    with pytest.raises(WhoknowsError, match="1 of 2 confidences"):
        scores.MEASURES[name].of([np.nan, 0], [True, False])


def test_nan_confidence_is_named():
    with pytest.raises(WhoknowsError, match="reader=a, trained_on=a, scored=b, task=trivia_qa"):
        scores.by_task(make_rows([np.nan, 0], [True, False]))
