"""Temperature and Platt scaling: what they find, and on which answers."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from made_up import make_rows
from whoknows.evaluation import scores


def graded(count=4000, slope=0.5, offset=-1.0, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=count) * scale
    return logit, rng.random(count) < expit(slope * logit / scale + offset)


@pytest.mark.parametrize("scale", [1.0, 40.0, 0.01])
def test_platt_scaling_agrees_with_scikit_learn(scale):
    logit, correct = graded(scale=scale)
    fitted = scores.fit(logit, correct)
    other = LogisticRegression(C=np.inf, tol=1e-8).fit(logit[:, None] / scale, correct)
    assert fitted.slope * scale == pytest.approx(other.coef_[0, 0], rel=1e-3)
    assert fitted.offset == pytest.approx(other.intercept_[0], rel=1e-3)


def test_temperature_is_found():
    logit, correct = graded(count=40_000, slope=0.5, offset=0.0)
    assert scores.fit(logit, correct).temperature == pytest.approx(2, rel=0.05)


def test_confidence_that_goes_against_the_grades_is_cooled_to_a_half():
    logit, correct = graded(slope=-1.0, offset=0.0)
    assert scores.fit(logit, correct).temperature == np.inf


def test_one_class_cannot_be_fitted():
    fitted = scores.fit([1.0, 2.0], [False, False])
    assert np.isnan([fitted.temperature, fitted.slope, fitted.offset]).all()
    assert fitted.threshold == np.inf and fitted.n == 2


@pytest.mark.parametrize("sure", [[np.inf], [np.inf, -np.inf]])
def test_what_is_infinite_takes_no_part_in_the_scaling(sure):
    logit, correct = graded(count=200)
    fitted, of_finite = scores.fit([*logit, *sure], [*correct, *[True] * len(sure)]), scores.fit(logit, correct)
    assert (fitted.temperature, fitted.slope, fitted.offset) == (
        of_finite.temperature,
        of_finite.slope,
        of_finite.offset,
    )
    assert fitted.threshold == of_finite.threshold and fitted.n == 200 + len(sure)
    assert np.isnan(scores.fit([np.inf, -np.inf, 1.0], [True, False, True]).temperature), "one is left"


@pytest.mark.parametrize("value", [0.3, 0.0, -7.0])
def test_confidences_that_are_all_equal_have_no_slope(value):
    fitted = scores.fit([value] * 400, [True] * 300 + [False] * 100)
    assert fitted.slope == 0 and fitted.offset == pytest.approx(np.log(3), rel=1e-5)
    assert fitted.temperature == (pytest.approx(0.3 / np.log(3), rel=1e-5) if value > 0 else np.inf)


def rows_of(scored, split, seed, **names):
    logit, correct = graded(count=60, seed=seed)
    return make_rows(logit, correct, scored=scored, split=split, **names)


def test_an_estimator_is_calibrated_on_the_model_it_was_trained_on():
    rows = pd.concat(
        [rows_of("a", "validation", 1), rows_of("b", "validation", 2), rows_of("a", "test", 3), rows_of("b", "test", 4)]
    )
    fitted = scores.fit_all(rows)
    native = scores.fit(rows_of("a", "validation", 1)["logit"], rows_of("a", "validation", 1)["correct"])
    assert set(fitted) == {("probe", "a", "a", 0, "a"), ("probe", "a", "a", 0, "b")}
    assert set(fitted.values()) == {native}


def test_what_nobody_trained_is_calibrated_on_the_scored_model():
    names = {"method": "likelihood", "reader": "", "trained_on": ""}
    rows = pd.concat(
        [
            rows_of(m, s, i, **names)
            for i, (m, s) in enumerate([("a", "validation"), ("b", "validation"), ("a", "test"), ("b", "test")])
        ]
    )
    fitted = scores.fit_all(rows)
    assert fitted["likelihood", "", "", 0, "a"] != fitted["likelihood", "", "", 0, "b"]


def test_test_answers_never_count():
    held = rows_of("a", "validation", 1)
    one, other = (scores.fit_all(pd.concat([held, rows_of("a", "test", seed)])) for seed in (2, 3))
    assert one == other
