"""Recalibration: confidences made to fit the grades of validation answers, in one number or in two."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

from whoknows.data.rows import one_class
from whoknows.evaluation import metrics

ESTIMATOR = ["method", "reader", "trained_on", "seed"]


@dataclass(frozen=True)
class Calibration:
    """What validation answers say about an estimator; NaN where they cannot.

    Attributes:
        temperature: logits are divided by it (Guo and others, 2017).
        slope, offset: of Platt scaling, slope * logit + offset (Platt, 1999).
        threshold: confidence from which on an answer is called right.
        n: validation answers that it rests on.
    """

    temperature: float
    slope: float
    offset: float
    threshold: float
    n: int


def fit(logit: np.ndarray, correct: np.ndarray) -> Calibration:
    """Temperature and Platt scaling with the least log loss on validation answers, and the threshold with most hits.

    Args:
        logit: confidences of validation answers, shape [n].
        correct: their grades, shape [n], bool.
    """
    logit, correct = np.asarray(logit, dtype=np.float64), np.asarray(correct, dtype=bool)
    threshold = metrics.best_threshold(logit, correct)
    if one_class(correct):  # a fit would run off to infinity
        return Calibration(np.nan, np.nan, np.nan, threshold, correct.size)
    spread = max(logit.std(), 1e-6)  # in units of which the search goes, whatever the scale of the logits
    scaled = logit / spread
    slope = _least(scaled[:, None], correct)[0]
    platt = _least(np.stack([scaled, np.ones_like(scaled)], axis=1), correct)
    # A slope of zero or less says that confidence and grades go against each other: no temperature does that.
    temperature = spread / slope if slope > 0 else np.inf
    return Calibration(temperature, platt[0] / spread, platt[1], threshold, correct.size)


def _least(x: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Coefficients [k] of x [n, k] with the least log loss; the problem is convex."""

    def loss(w):
        z = x @ w
        return np.logaddexp(0, np.where(correct, -z, z)).mean(), x.T @ (expit(z) - correct) / len(x)

    return minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-7}).x


def fit_all(rows: pd.DataFrame) -> dict[tuple, Calibration]:
    """One calibration for each estimator and scored model, never from a test row.

    A trained estimator is calibrated on validation answers of the model it was trained on, the only graded ones that
    its users have, and keeps that for all scored models. What nobody trained is calibrated on the scored model's own.

    Returns:
        By (method, reader, trained_on, seed, scored).
    """
    held = rows[rows["split"] == "validation"]
    native = held[(held["trained_on"] == held["scored"]) | (held["trained_on"] == "")]
    fitted = {key: fit(group["logit"], group["correct"]) for key, group in native.groupby([*ESTIMATOR, "scored"])}
    places = rows[[*ESTIMATOR, "scored"]].drop_duplicates().itertuples(index=False, name=None)
    nothing = Calibration(np.nan, np.nan, np.nan, np.nan, 0)
    return {place: fitted.get((*place[:4], place[2] or place[4]), nothing) for place in places}
