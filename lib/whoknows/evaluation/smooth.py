"""Calibration error without bins: residuals smoothed at the bandwidth that equals the error.

The bandwidths that are tried are the same for all confidences, so that each is prepared once, and a smoothing is a product
between two Fourier transforms.
"""

from functools import lru_cache

import numpy as np
from scipy.special import expit

from whoknows.evaluation.auroc import checked

NODES = 1001  # places on [0, 1] between which confidences are shared out
MESH = 200  # places at which smoothed residuals are looked at; more for a bandwidth that wants more
HALVINGS = 10
LEAST = 0.001  # no bandwidth below
EMPTY = 1e-4  # added to the density


def smooth_ece(logit: np.ndarray, correct: np.ndarray) -> float:
    """Smooth calibration error of P(correct), in [0, 1]; NaN without answers.

    Błasiok and Nakkiran, *Smooth ECE*, 2023 (arXiv 2309.12236): the residuals P(correct) - grade are smoothed over P(correct)
    with a Gaussian that is reflected at 0 and at 1; the error is the mean size of what is left, at the bandwidth that equals
    it. Kernel, mesh and search are those of the authors' package, relplot, so that values can be compared: its kernel ends
    at half the interval, and what lies on 0 or 1 itself is not reflected.

    Args:
        logit: confidences as log-odds, shape [n].
        correct: grades, shape [n], bool.

    Raises:
        WhoknowsError: a confidence is NaN.
    """
    logit, correct = checked(logit, correct)
    if not correct.size:
        return float("nan")
    confidence = expit(logit)
    spectra = np.stack([_spectrum(_shared_out(confidence, values)) for values in (confidence - correct, np.ones_like(confidence))])
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
    place = confidence * (NODES - 1)
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
