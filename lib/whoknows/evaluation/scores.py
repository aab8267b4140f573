"""Tables of metrics, from rows alone.

A row is one example: method, reader, trained_on, scored, task, split, question_id, seed, logit (confidence as log-odds)
and correct. Recalibration fits confidences to the grades of validation answers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

from whoknows import WhoknowsError
from whoknows.data.rows import one_class
from whoknows.evaluation import metrics
from whoknows.evaluation.auroc import auroc
from whoknows.evaluation.plateau import ESTIMATOR


@dataclass(frozen=True)
class Calibration:
    """What validation answers say about an estimator; NaN where they cannot."""

    temperature: float  # logits are divided by it (Guo and others, 2017)
    slope: float  # of Platt scaling, slope * logit + offset (Platt, 1999)
    offset: float
    threshold: float  # confidence from which on an answer is called right
    n: int  # validation answers that it rests on


def fit(logit: np.ndarray, correct: np.ndarray) -> Calibration:
    """Temperature and Platt scaling of least log loss on validation answers [n], and the threshold with most hits.

    An infinite confidence takes no part in the scaling: it stays infinite whatever the temperature, and its loss the
    same. Of confidences that are all equal, the slope is zero.
    """
    logit, correct = np.asarray(logit, dtype=np.float64), np.asarray(correct, dtype=bool)
    threshold, finite = metrics.best_threshold(logit, correct), np.isfinite(logit)
    return Calibration(*_scaling(logit[finite], correct[finite]), threshold, correct.size)


def _scaling(logit: np.ndarray, correct: np.ndarray) -> tuple[float, float, float]:
    """Temperature, slope and offset."""
    if one_class(correct):  # a fit would run off to infinity
        return np.nan, np.nan, np.nan
    # The search goes in units of the logits' size or spread, whatever their scale, and from their middle.
    size, middle, spread = np.sqrt(np.mean(logit**2)) or 1.0, np.median(logit), logit.std() or 1.0
    inverse = _least(logit[:, None] / size, correct)[0]
    steepness, level = _least(np.stack([(logit - middle) / spread, np.ones_like(logit)], axis=1), correct)
    slope = steepness / spread
    # Where confidence and grades go against each other, the inverse is zero or less, which no temperature is.
    return size / inverse if inverse > 0 else np.inf, slope, level - slope * middle


def _least(x: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Coefficients [k] of x [n, k] with the least log loss; the problem is convex."""

    def loss(w):
        z = x @ w
        return np.logaddexp(0, np.where(correct, -z, z)).mean(), x.T @ (expit(z) - correct) / len(x)

    return minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-7}).x


def fit_all(rows: pd.DataFrame) -> dict[tuple, Calibration]:
    """One calibration for each estimator and scored model, never from a test row.

    A trained estimator is calibrated on validation answers of the model it was trained on, the only graded ones that
    its users have, and keeps that for all scored models. A training-free one is calibrated on the scored model's own.
    The keys are (method, reader, trained_on, seed, scored).
    """
    held = rows[rows["split"] == "validation"]
    native = held[(held["trained_on"] == held["scored"]) | (held["trained_on"] == "")]
    fitted = {key: fit(group["logit"], group["correct"]) for key, group in native.groupby([*ESTIMATOR, "scored"])}
    places = rows[[*ESTIMATOR, "scored"]].drop_duplicates().itertuples(index=False, name=None)
    nothing = Calibration(np.nan, np.nan, np.nan, np.nan, 0)
    return {place: fitted.get((*place[:4], place[2] or place[4]), nothing) for place in places}


CELL = ["method", "reader", "trained_on", "scored"]


@dataclass(frozen=True)
class Measure:
    """What is measured of an estimator's answers to the questions of a task."""

    title: str  # as pages have it
    is_high_better: bool
    # Its function of confidences and grades; None where it takes a calibration as well, or the grades alone.
    of: Callable[[np.ndarray, np.ndarray], float] | None = None


MEASURES = {
    "auroc": Measure("AUROC", True, auroc),
    "brier": Measure("Brier score", False, metrics.brier),
    "log_loss": Measure("Log loss", False, metrics.log_loss),
    "ece": Measure("ECE", False, metrics.ece),
    "ece_equal_mass": Measure("ECE, equal mass", False, metrics.ece_equal_mass),
    "smooth_ece": Measure("Smooth ECE", False, metrics.smooth_ece),
    "aurc": Measure("AURC", False, metrics.aurc),
    "prr": Measure("PRR", True, metrics.prr),
    "threshold_accuracy": Measure("Accuracy at the threshold", True),
    "ece_temperature": Measure("ECE after temperature scaling", False),
    "ece_platt": Measure("ECE after Platt scaling", False),
    "accuracy": Measure("Accuracy", True),
    "commoner_accuracy": Measure("Always the commoner grade", True),
}
POOLED = "pooled_"  # before the name of a measure: of all tasks thrown together


def by_task(rows: pd.DataFrame, only_auroc: bool = False) -> pd.DataFrame:
    """One line per (method, reader, trained_on, scored, task, seed), from the test rows.

    Args:
        rows: of any methods; those of the split "validation" calibrate.
        only_auroc: leaves the other `MEASURES` missing, which is ten times faster.

    Returns:
        Those columns and `MEASURES`, n, n_right, n_rarer (of the class of which there are fewer), and reason (why all
        measures but the accuracies are missing, or ""). `commoner_accuracy` is that of always saying right, or always
        wrong, whichever is the commoner among these very test answers.

    Raises:
        WhoknowsError: a confidence is NaN; the sentence says where.
    """
    return _lines(rows, {} if only_auroc else fit_all(rows))


def within_task(scores: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
    """Mean of what `by_task` returns over some tasks, so that knowing which task is harder earns nothing.

    Returns:
        One line per (method, reader, trained_on, scored, seed): `MEASURES` as means over the tasks that have an AUROC,
        n_tasks of of_tasks; n and n_right, of all answers, and n_rarer, of each task's rarer grade; reason.
    """
    asked = scores[scores["task"].isin(tasks)]
    keys = [*CELL, "seed"]
    lines = [
        dict(zip(keys, key)) | _mean_over_tasks(group) | {"of_tasks": len(tasks)} for key, group in asked.groupby(keys)
    ]
    counts = ["n", "n_right", "n_rarer", "n_tasks", "reason", "of_tasks"]
    return _numbers(pd.DataFrame(lines, columns=[*keys, *MEASURES, *counts]))


def pooled(rows: pd.DataFrame, tasks: list[str], fitted: dict) -> pd.DataFrame:
    """All measures of some tasks thrown together; knowing the task's base rate counts here.

    Args:
        fitted: as `fit_all` returns; empty for AUROC alone, with the other measures missing.

    Returns:
        One line per (method, reader, trained_on, scored, seed): `MEASURES`, their names beginning with `POOLED`.
    """
    lines = _lines(rows[rows["task"].isin(tasks)].assign(task="all"), fitted)
    return lines[[*CELL, "seed", *MEASURES]].rename(columns={name: POOLED + name for name in MEASURES})


def _lines(rows: pd.DataFrame, fitted: dict) -> pd.DataFrame:
    keys, lines = [*CELL, "task", "seed"], []
    for key, group in rows[rows["split"] == "test"].groupby(keys):
        method, reader, trained_on, scored, _, seed = key
        lines.append(dict(zip(keys, key)) | _score(group, key, fitted.get((method, reader, trained_on, seed, scored))))
    return _numbers(pd.DataFrame(lines, columns=[*keys, *MEASURES, "n", "n_right", "n_rarer", "reason"]))


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The table with measures that are numbers also where it has no line, and pandas would make them objects."""
    return table.astype(dict.fromkeys(MEASURES, float))


def _score(group: pd.DataFrame, key: tuple, fitted: Calibration | None) -> dict:
    logit, correct = group["logit"].to_numpy(float), group["correct"].to_numpy(bool)
    reason = one_class(correct)
    # What has one class is in no mean, and a grid with MMLU has a hundred such tasks: smooth ECE would take too long.
    fitted = None if reason else fitted
    wanted = MEASURES if fitted else {"auroc": MEASURES["auroc"]}
    try:
        measures = {name: measure.of(logit, correct) for name, measure in wanted.items() if measure.of}
    except WhoknowsError as error:
        where = ", ".join(f"{name}={value}" for name, value in zip([*CELL, "task", "seed"], key))
        raise WhoknowsError(f"rows of {where}: {error}") from None
    if fitted:
        measures |= _calibrated(logit, correct, fitted)
    right = float(correct.mean())
    counts = {
        "accuracy": right,
        "commoner_accuracy": max(right, 1 - right),
        "n": correct.size,
        "n_right": int(correct.sum()),
        "n_rarer": int(min(correct.sum(), (~correct).sum())),
    }
    return measures | counts | {"reason": reason}


def _calibrated(logit: np.ndarray, correct: np.ndarray, fitted: Calibration) -> dict[str, float]:
    measures = {"threshold_accuracy": metrics.threshold_accuracy(logit, correct, fitted.threshold)}
    scaled = {"ece_temperature": logit / fitted.temperature, "ece_platt": fitted.slope * logit + fitted.offset}
    # Nothing to calibrate on leaves the value missing.
    return measures | {
        name: float("nan") if pd.isna(z).any() else metrics.ece(z, correct) for name, z in scaled.items()
    }


def _mean_over_tasks(group: pd.DataFrame) -> dict:
    good = group[group["auroc"].notna()]
    counts = {name: int(group[name].sum()) for name in ("n", "n_right", "n_rarer")}  # a task of one grade adds no rarer
    reasons = "; ".join(f"{task}: {why}" for task, why in zip(group["task"], group["reason"]) if why)
    return good[[*MEASURES]].mean().to_dict() | counts | {"n_tasks": len(good), "reason": "" if len(good) else reasons}
