"""How well confidences fit grades: one function a metric, from arrays alone; `scores` makes tables of them.

Confidences are log-odds that an answer is right, shape [n]; one that is NaN raises a WhoknowsError. Grades are bool,
shape [n]. Without answers a metric is NaN.

`resampled` gives some of them for many resamples at once, as the functions do for answers repeated as often as they
were drawn. ECE, of any kind, is not among them. It is a mean of absolute values, which chance in the choice of answers
biases upwards, and a resample does so once more: its percentile interval would lie too high
(`tests/evaluation/test_resampled.py` counts how often the intervals cover the true value).
"""

from collections.abc import Callable
from functools import lru_cache, wraps

import numpy as np
from scipy.special import expit

from whoknows.data.rows import one_class
from whoknows.evaluation.auroc import checked

NODES = 1001  # places on [0, 1] between which confidences are shared out
MESH = 200  # places at which smoothed residuals are looked at; more for a bandwidth that wants more
HALVINGS = 10
LEAST = 0.001  # no bandwidth below
EMPTY = 1e-4  # added to the density


def _of_answers(metric: Callable) -> Callable[..., float]:
    """A metric of confidences and grades that are checked; NaN if there are none."""

    @wraps(metric)
    def of_checked(logit, correct, *others, **options) -> float:
        logit, correct = checked(logit, correct)
        return metric(logit, correct, *others, **options) if correct.size else float("nan")

    return of_checked


@_of_answers
def smooth_ece(logit: np.ndarray, correct: np.ndarray) -> float:
    """Smooth calibration error of P(correct), in [0, 1].

    Błasiok and Nakkiran, *Smooth ECE*, 2023 (arXiv 2309.12236): the residuals P(correct) - grade are smoothed over
    P(correct) with a Gaussian that is reflected at 0 and at 1; the error is the mean absolute value of what is left, at
    the bandwidth that equals it. The bandwidths that are tried are the same for all confidences, so that each is
    prepared once. Kernel, mesh and search are those of the authors' package, relplot, so that values can be compared:
    its kernel ends at half the interval, and what lies on 0 or 1 itself is not reflected.
    """
    confidence = expit(logit)
    spectra = np.stack(
        [_spectrum(_shared_out(confidence, values)) for values in (confidence - correct, np.ones_like(confidence))]
    )
    narrow, wide = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (narrow + wide) / 2
        if middle < LEAST or middle < _error(spectra, middle):
            narrow = middle
        else:
            wide = middle
    return _error(spectra, wide)


def _shared_out(confidence: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[NODES] sums of values, each shared between the two nodes beside its confidence."""
    place: np.ndarray = confidence * (NODES - 1)
    left = np.minimum(place.astype(int), NODES - 2)
    right = place - left
    return np.bincount(left, (1 - right) * values, NODES) + np.bincount(left + 1, right * values, NODES)


def _spectrum(nodes: np.ndarray) -> np.ndarray:
    return np.fft.rfft(np.concatenate([nodes, nodes[-2:0:-1]]))  # reflected, so that it goes round


def _error(spectra: np.ndarray, bandwidth: float) -> float:
    """Mean size of the smoothed residuals, from the spectra of residuals and of answers."""
    kernel, mesh = _kernel(bandwidth)
    nodes = np.linspace(0, 1, NODES)
    residuals, density = (np.interp(mesh, nodes, smoothed[:NODES]) for smoothed in np.fft.irfft(spectra * kernel))
    return float(np.abs(residuals).sum() / (density + EMPTY).sum())


@lru_cache(maxsize=2**HALVINGS)
def _kernel(bandwidth: float) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum of the Gaussian of a bandwidth, and the places at which to look."""
    away = np.linspace(0, 1, NODES)
    gaussian = np.exp(-(away**2) / (2 * bandwidth**2)) / (np.sqrt(2 * np.pi) * bandwidth)
    return _spectrum(np.where(away <= 0.5, gaussian, 0)), np.linspace(0, 1, max(round(10 / bandwidth), MESH))


BINS = 10


@_of_answers
def brier(logit: np.ndarray, correct: np.ndarray) -> float:
    """Mean squared distance of P(correct) from the grade (Brier, 1950), in [0, 1]."""
    return float(np.mean((expit(logit) - correct) ** 2))


@_of_answers
def log_loss(logit: np.ndarray, correct: np.ndarray) -> float:
    """Mean negative log-probability of the grade, in nats; infinite if an answer was certain and it was wrong."""
    return float(np.mean(np.logaddexp(0, np.where(correct, -logit, logit))))


@_of_answers
def ece(logit: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of P(correct), in [0, 1], in bins of equal width over [0, 1].

    Naeini, Cooper and Hauskrecht, 2015, on P(correct) instead of the top class's probability.
    """
    confidence = expit(logit)
    return _binned(confidence, correct, equal_width(confidence, bins))


def equal_width(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Which bin of equal width over [0, 1] each P(correct) is in, shape [n]; the bins of `ece`."""
    return np.minimum((confidence * bins).astype(int), bins - 1)


@_of_answers
def ece_equal_mass(logit: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error in bins of equally many answers (Nguyen and O'Connor, 2015).

    Equal confidences are never parted: a tie belongs to the bin of its middle rank.
    """
    _, place, counts = np.unique(logit, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2)[place]
    return _binned(expit(logit), correct, (middle * bins / correct.size).astype(int))


def _binned(confidence: np.ndarray, correct: np.ndarray, which: np.ndarray) -> float:
    return float(np.abs(np.bincount(which, weights=confidence - correct)).sum() / correct.size)


def risk_coverage(logit: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Share of wrong answers among the k most confident ones, for k = 1 … n (El-Yaniv and Wiener, 2010).

    Among equal confidences the order is chance, and the value is its mean. Shape [n].
    """
    logit, correct = checked(logit, correct)
    _, place, counts = np.unique(-logit, return_inverse=True, return_counts=True)
    wrong = np.bincount(place, weights=~correct) / counts
    return np.cumsum(np.repeat(wrong, counts)) / np.arange(1, correct.size + 1)


@_of_answers
def aurc(logit: np.ndarray, correct: np.ndarray) -> float:
    """Area under the risk-coverage curve (Geifman and others, 2019): lower is better."""
    return float(risk_coverage(logit, correct).mean())


@_of_answers
def prr(logit: np.ndarray, correct: np.ndarray) -> float:
    """Prediction rejection ratio (Malinin and Gales, 2021): 1 for a perfect order, 0 for chance, below it for worse.

    The area between the risk-coverage curve and that of chance, over the same area for the perfect order.
    """
    if one_class(correct):
        return float("nan")
    chance, best = 1 - correct.mean(), aurc(correct.astype(float), correct)
    return float((chance - aurc(logit, correct)) / (chance - best))


@_of_answers
def best_threshold(logit: np.ndarray, correct: np.ndarray) -> float:
    """The confidence at or above which to call an answer right, so that most grades are met; for validation answers.

    One of the confidences, or infinity (call all wrong); of equally good ones the highest.
    """
    values, place = np.unique(-logit, return_inverse=True)
    gained = np.cumsum(np.bincount(place, weights=np.where(correct, 1, -1)))
    return float("inf") if gained.max() <= 0 else float(-values[gained.argmax()])


@_of_answers
def threshold_accuracy(logit: np.ndarray, correct: np.ndarray, threshold: float) -> float:
    """Share of answers that are called rightly; NaN if the threshold is."""
    return float("nan") if np.isnan(threshold) else float(np.mean((logit >= threshold) == correct))


RESAMPLED = ("brier", "log_loss", "threshold_accuracy", "aurc", "prr")


def resampled(logit: np.ndarray, correct: np.ndarray, weights: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """Each of `RESAMPLED` in every resample: [times].

    NaN where a resample has one class only; log loss is NaN throughout where that of an answer is infinite.

    Args:
        logit, correct: confidences and grades, shape [n].
        weights: how often each answer is in each resample, [n, times].
        threshold: confidence from which on an answer is called right; NaN leaves the accuracy NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # one class, or an answer that was certain and wrong
        called = np.where(np.isnan(threshold), np.nan, (logit >= threshold) == correct)
        each = np.stack([(expit(logit) - correct) ** 2, np.logaddexp(0, np.where(correct, -logit, logit)), called])
        count, right = weights.sum(axis=0, dtype=float), weights[correct].sum(axis=0, dtype=float)
        means = np.where(np.isinf(each), np.nan, each) @ weights / count
        values = [*means, *_ranked(logit, correct, weights, count, right)]
        return {name: np.where((right > 0) & (right < count), value, np.nan) for name, value in zip(RESAMPLED, values)}


def _ranked(
    logit: np.ndarray, correct: np.ndarray, weights: np.ndarray, count: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AURC and PRR of every resample.

    Take w answers of one confidence, e of them wrong, after n more confident ones, c of them wrong. The risks at the
    coverages that they add, (c + j e / w) / (n + j) for j = 1 … w, sum to e + (c - n e / w) (H(n + w) - H(n)) with the
    harmonic numbers H.
    """
    order = np.argsort(-logit, kind="stable")
    harmonic = np.cumsum([0, *(1 / np.arange(1, count.max() + 1))])
    until, passed, above, area = 0, 0, 0, count - right
    # One confidence at a time, so that the numbers of all resamples stay in the processor's cache.
    for equal in np.split(order, np.flatnonzero(logit[order][1:] != logit[order][:-1]) + 1):
        answers, wrong = weights[equal].sum(axis=0), weights[equal[~correct[equal]]].sum(axis=0)
        after = until + answers
        sums = harmonic[after.astype(np.intp)]
        area = area + (above - until * (wrong / np.maximum(answers, 1))) * (sums - passed)
        until, passed, above = after, sums, above + wrong
    aurc = area / count
    best = (count - right - right * (harmonic[count.astype(int)] - harmonic[right.astype(int)])) / count
    chance = 1 - right / count
    return aurc, (chance - aurc) / (chance - best)
