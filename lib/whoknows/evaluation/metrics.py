"""How well confidences fit grades: one function a metric, from arrays alone.

Confidences are log-odds that an answer is right, shape [n]; grades are bool, shape [n]. `scores` makes tables of them.
"""

import numpy as np
from scipy.special import expit

from whoknows.data.rows import one_class
from whoknows.evaluation.auroc import auroc, checked
from whoknows.evaluation.smooth import smooth_ece

BINS = 10


def brier(logit: np.ndarray, correct: np.ndarray) -> float:
    """Mean squared distance of P(correct) from the grade (Brier, 1950), in [0, 1]; NaN without answers."""
    logit, correct = checked(logit, correct)
    return float(np.mean((expit(logit) - correct) ** 2)) if correct.size else float("nan")


def log_loss(logit: np.ndarray, correct: np.ndarray) -> float:
    """Mean negative log-probability of the grade, in nats; infinite if an answer was certain and it was wrong."""
    logit, correct = checked(logit, correct)
    return float(np.mean(np.logaddexp(0, np.where(correct, -logit, logit)))) if correct.size else float("nan")


def ece(logit: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of P(correct), in bins of equal width over [0, 1].

    Naeini, Cooper and Hauskrecht, 2015, on P(correct) instead of the top class's probability.

    Args:
        bins: number of bins; confidences of exactly 0 and 1 fall in the first and the last.

    Returns:
        A value in [0, 1], or NaN where there are no answers.

    Raises:
        WhoknowsError: a confidence is NaN.
    """
    logit, correct = checked(logit, correct)
    confidence = expit(logit)
    return _binned(confidence, correct, np.minimum((confidence * bins).astype(int), bins - 1))


def ece_equal_mass(logit: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error in bins of equally many answers (Nguyen and O'Connor, 2015).

    Equal confidences are never parted: a tie belongs to the bin of its middle rank.
    """
    logit, correct = checked(logit, correct)
    _, place, counts = np.unique(logit, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2)[place]
    return _binned(expit(logit), correct, (middle * bins / max(1, correct.size)).astype(int))


def _binned(confidence: np.ndarray, correct: np.ndarray, which: np.ndarray) -> float:
    if not correct.size:
        return float("nan")
    return float(np.abs(np.bincount(which, weights=confidence - correct)).sum() / correct.size)


def risk_coverage(logit: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Share of wrong answers among the k most confident ones, for k = 1 … n (El-Yaniv and Wiener, 2010).

    Among equal confidences the order is chance, and the value is its mean.

    Returns:
        Shape [n]; the coverage of place k is (k + 1) / n.
    """
    logit, correct = checked(logit, correct)
    order = np.argsort(-logit, kind="stable")
    _, place, counts = np.unique(-logit[order], return_inverse=True, return_counts=True)
    wrong = np.bincount(place, weights=~correct[order]) / counts
    return np.cumsum(wrong[place]) / np.arange(1, correct.size + 1)


def aurc(logit: np.ndarray, correct: np.ndarray) -> float:
    """Area under the risk-coverage curve (Geifman and others, 2019): lower is better; NaN without answers."""
    curve = risk_coverage(logit, correct)
    return float(curve.mean()) if curve.size else float("nan")


def prr(logit: np.ndarray, correct: np.ndarray) -> float:
    """Prediction rejection ratio (Malinin and Gales, 2021): 1 for a perfect order, 0 for chance, below it for worse.

    The area between the risk-coverage curve and that of chance, over the same area for the perfect order.
    """
    logit, correct = checked(logit, correct)
    if one_class(correct):
        return float("nan")
    chance, best = 1 - correct.mean(), aurc(correct.astype(float), correct)
    return float((chance - aurc(logit, correct)) / (chance - best))


def best_threshold(logit: np.ndarray, correct: np.ndarray) -> float:
    """The confidence at or above which to call an answer right, so that most grades are met; for validation answers.

    Returns:
        One of the confidences, or infinity (call all wrong); of equally good ones the highest. NaN without answers.
    """
    logit, correct = checked(logit, correct)
    if not correct.size:
        return float("nan")
    values, place = np.unique(-logit, return_inverse=True)
    gained = np.cumsum(np.bincount(place, weights=np.where(correct, 1, -1)))
    return float("inf") if gained.max() <= 0 else float(-values[gained.argmax()])


def threshold_accuracy(logit: np.ndarray, correct: np.ndarray, threshold: float) -> float:
    """Share of answers that are called rightly; NaN without answers or threshold."""
    logit, correct = checked(logit, correct)
    if not correct.size or np.isnan(threshold):
        return float("nan")
    return float(np.mean((logit >= threshold) == correct))


METRICS = {
    "auroc": auroc,
    "brier": brier,
    "log_loss": log_loss,
    "ece": ece,
    "ece_equal_mass": ece_equal_mass,
    "smooth_ece": smooth_ece,
    "aurc": aurc,
    "prr": prr,
}
