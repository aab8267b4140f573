"""Smooth ECE against the package of those who proposed it, and against what it must be."""

import numpy as np
import pytest
from scipy.special import expit, logit

from whoknows import WhoknowsError
from whoknows.evaluation.metrics import smooth_ece


def graded(count, slope=1.0, offset=0.0, seed=0):
    """Confidences, and grades that they fit only at slope 1 and offset 0."""
    rng = np.random.default_rng(seed)
    confidence = rng.normal(-1, 2, size=count)
    return confidence, rng.random(count) < expit(slope * confidence + offset)


CASES = {
    **{f"{count} that fit": graded(count) for count in (2, 10, 300, 5000)},
    "too bold": graded(400, slope=0.3),
    "too high": graded(400, offset=-2.0),
    "the wrong way round": graded(400, slope=-1.0),
    "all wrong": (np.full(100, 3.0), np.zeros(100, bool)),
    "all near 0": (np.linspace(-20, -8, 200), np.arange(200) % 9 == 0),
    "certain, half of them wrongly": (np.repeat([np.inf, -np.inf], 50), np.arange(100) % 2 == 0),
    "few steps": (logit(np.round(expit(graded(500)[0]), 1)), graded(500)[1]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_it_agrees_with_relplot(case):
    from relplot.metrics import smECE

    confidence, correct = CASES[case]
    assert smooth_ece(confidence, correct) == pytest.approx(smECE(expit(confidence), correct.astype(float)), abs=1e-4)


def test_the_more_answers_fit_the_smaller_it_is():
    assert smooth_ece(*graded(20_000)) < 0.02 < smooth_ece(*graded(20_000, offset=-0.5))


def test_the_order_of_answers_is_nothing_to_it():
    confidence, correct = graded(300, slope=0.3)
    other = np.random.default_rng(1).permutation(300)
    assert smooth_ece(confidence[other], correct[other]) == pytest.approx(smooth_ece(confidence, correct), abs=1e-12)


def test_nothing_and_nan():
    assert np.isnan(smooth_ece([], []))
    with pytest.raises(WhoknowsError, match="1 of 2 confidences"):
        smooth_ece([np.nan, 0], [True, False])
