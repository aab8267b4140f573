"""Metrics of resamples, in which an answer counts as often as it was drawn: what `metrics` gives if each is written out so often.

Of ECE, in bins of any kind or in none, a percentile interval would mislead. It is a mean of absolute values, to which chance in the choice
of answers only adds, and a resample adds as much once more: the interval lies too high, and above the value itself where an
estimator is calibrated well. The metrics here have no such bias (`tests/test_weighted.py` counts how often both hold the truth).
"""

import numpy as np
from scipy.special import expit

RESAMPLED = ("brier", "log_loss", "threshold_accuracy", "aurc", "prr")


def resampled(logit: np.ndarray, correct: np.ndarray, weights: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """Each of `RESAMPLED` in every resample: [times]; NaN where a resample has one class only, and log loss throughout where an answer's is infinite.

    Args:
        logit, correct: confidences and grades, shape [n].
        weights: how often each answer is in each resample, [n, times].
        threshold: confidence from which on an answer is called right; NaN leaves the accuracy NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # one class, or an answer that was certain and wrong
        called = np.where(np.isnan(threshold), np.nan, (logit >= threshold) == correct)
        each = np.stack([(expit(logit) - correct) ** 2, np.logaddexp(0, np.where(correct, -logit, logit)), called])
        count, right = weights.sum(axis=0, dtype=float), weights[correct].sum(axis=0, dtype=float)
        values = [*(np.where(np.isinf(each), np.nan, each) @ weights / count), *_ranked(logit, correct, weights, count, right)]
        return {name: np.where((right > 0) & (right < count), value, np.nan) for name, value in zip(RESAMPLED, values)}


def _ranked(logit: np.ndarray, correct: np.ndarray, weights: np.ndarray, count: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AURC and PRR of every resample.

    Of w answers of one confidence, e of them wrong, after n more confident ones, c of them wrong, the risks at the coverages that they
    bring sum to those of c + j e / w wrong among n + j, j = 1 … w: to e + (c - n e / w) (H(n + w) - H(n)) with the harmonic numbers H.
    """
    order = np.argsort(-logit, kind="stable")
    starts = np.flatnonzero(np.r_[True, logit[order][1:] != logit[order][:-1]])  # of equal confidences
    answers, wrong = (np.add.reduceat(part, starts, axis=0) for part in (weights[order], weights[order] * ~correct[order, None]))
    until = answers.cumsum(axis=0)
    harmonic = np.cumsum([0, *(1 / np.arange(1, count.max() + 1))])
    passed = np.diff(harmonic[until.astype(np.int32)], axis=0, prepend=0)
    surplus = wrong.cumsum(axis=0) - wrong - (until - answers) * (wrong / np.maximum(answers, 1))
    aurc = (count - right + np.einsum("nt,nt->t", surplus, passed)) / count
    best = (count - right - right * (harmonic[count.astype(int)] - harmonic[right.astype(int)])) / count
    chance = 1 - right / count
    return aurc, (chance - aurc) / (chance - best)
