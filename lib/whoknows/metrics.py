"""How well confidences separate right answers from wrong ones, from rows alone.

A row is one example: method, reader, trained_on, scored, task, split, question_id, seed,
logit (confidence as log-odds) and correct. Nothing here needs a language model, so every
table and picture can be made again in seconds.
"""

import numpy as np
import pandas as pd
from scipy.special import expit

from whoknows import WhoknowsError

CELL = ["method", "reader", "trained_on", "scored"]


def one_class(correct: np.ndarray) -> str:
    """Why no AUROC can be measured on these grades, or "" if it can.

    Args:
        correct: grades, shape [n], bool.
    """
    correct = np.asarray(correct, dtype=bool)
    if correct.size == 0:
        return "no test answers"
    if not correct.any():
        return "no right answer among the test answers"
    return "no wrong answer among the test answers" if correct.all() else ""


def auroc(logit: np.ndarray, correct: np.ndarray) -> float:
    """Chance that a right answer gets a higher confidence than a wrong one; ties count half.

    The Mann-Whitney form of the area under the ROC curve (Hanley and McNeil, 1982).

    Args:
        logit: confidences, shape [n]; any monotone scale gives the same value.
        correct: grades, shape [n], bool.

    Returns:
        A value in [0, 1], or NaN where only one class is there (see `one_class`): 0.5 would
        say that something was measured.

    Raises:
        WhoknowsError: a confidence is NaN.
    """
    logit, correct = _checked(logit, correct)
    if one_class(correct):
        return float("nan")
    right = int(correct.sum())
    rank_sum = pd.Series(logit).rank().to_numpy()[correct].sum()  # scipy.stats has it too, and takes a second to import
    return float((rank_sum - right * (right + 1) / 2) / (right * (correct.size - right)))


def mean_auroc(logit: np.ndarray, correct: np.ndarray, task: np.ndarray) -> float:
    """AUROC within each task, averaged over the tasks that have both classes; NaN where none has.

    Args:
        logit, correct, task: confidences, grades and task names, shape [n] each.
    """
    logit, correct, task = np.asarray(logit), np.asarray(correct, dtype=bool), np.asarray(task)
    values = [auroc(logit[task == name], correct[task == name]) for name in np.unique(task)]
    values = [value for value in values if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def ece(logit: np.ndarray, correct: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of P(correct), in equal-width bins over [0, 1].

    Naeini, Cooper and Hauskrecht, 2015, on P(correct) instead of the top class's probability.

    Args:
        logit: confidences as log-odds, shape [n].
        correct: grades, shape [n], bool.
        bins: number of bins; confidences of exactly 0 and 1 fall in the first and the last.

    Returns:
        A value in [0, 1], or NaN where there are no answers.

    Raises:
        WhoknowsError: a confidence is NaN.
    """
    logit, correct = _checked(logit, correct)
    if correct.size == 0:
        return float("nan")
    confidence = expit(logit)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(which, weights=confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / correct.size)


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per (method, reader, trained_on, scored, task, seed), from the test rows.

    Args:
        rows: rows of any methods; only those of the split "test" count.

    Returns:
        Those columns and auroc, ece, accuracy, n, n_right, and reason (why auroc is missing, or "").

    Raises:
        WhoknowsError: a confidence is NaN; the sentence says where.
    """
    test = rows[rows["split"] == "test"]
    keys = CELL + ["task", "seed"]
    lines = [dict(zip(keys, key)) | _score(group, key) for key, group in test.groupby(keys)]
    columns = keys + ["auroc", "ece", "accuracy", "n", "n_right", "reason"]
    return pd.DataFrame(lines, columns=columns)


def within_task(scores: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
    """Mean over tasks, so that knowing which task is harder earns nothing.

    Args:
        scores: as `scores` returns.
        tasks: the tasks to average over.

    Returns:
        One line per (method, reader, trained_on, scored, seed): auroc, ece and accuracy as means over
        the tasks that have an AUROC; n_tasks of of_tasks; n and n_right on those tasks; reason.
    """
    asked = scores[scores["task"].isin(tasks)]
    lines = [
        dict(zip(CELL + ["seed"], key)) | _mean_over_tasks(group) | {"of_tasks": len(tasks)}
        for key, group in asked.groupby(CELL + ["seed"])
    ]
    measures = ["auroc", "ece", "accuracy", "n", "n_right", "n_tasks", "reason", "of_tasks"]
    return pd.DataFrame(lines, columns=CELL + ["seed"] + measures)


def pooled(rows: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
    """AUROC of all tasks thrown together; knowing the task's base rate counts here.

    Args:
        rows: rows of any methods.
        tasks: the tasks to pool.

    Returns:
        One line per (method, reader, trained_on, scored, seed) with the column pooled_auroc.
    """
    test = rows[(rows["split"] == "test") & rows["task"].isin(tasks)]
    keys = CELL + ["seed"]
    lines = [(*key, auroc(group["logit"], group["correct"])) for key, group in test.groupby(keys)]
    return pd.DataFrame(lines, columns=[*keys, "pooled_auroc"])


def _checked(logit, correct) -> tuple[np.ndarray, np.ndarray]:
    logit, correct = np.asarray(logit, dtype=np.float64), np.asarray(correct, dtype=bool)
    if np.isnan(logit).any():
        raise WhoknowsError(
            f"{int(np.isnan(logit).sum())} of {logit.size} confidences are NaN: "
            "delete the rows file that they are in and run make book again."
        )
    return logit, correct


def _score(group: pd.DataFrame, key: tuple) -> dict:
    logit, correct = group["logit"].to_numpy(), group["correct"].to_numpy(bool)
    try:
        measures = {"auroc": auroc(logit, correct), "ece": ece(logit, correct)}
    except WhoknowsError as error:
        where = ", ".join(f"{name}={value}" for name, value in zip(CELL + ["task", "seed"], key))
        raise WhoknowsError(f"rows of {where}: {error}") from None
    counts = {"accuracy": float(correct.mean()), "n": correct.size, "n_right": int(correct.sum())}
    return measures | counts | {"reason": one_class(correct)}


def _mean_over_tasks(group: pd.DataFrame) -> dict:
    good = group[group["auroc"].notna()]
    means = good[["auroc", "ece", "accuracy"]].mean().to_dict()
    counts = {name: int(good[name].sum()) for name in ("n", "n_right")}
    reasons = "; ".join(f"{task}: {why}" for task, why in zip(group["task"], group["reason"]) if why)
    return means | counts | {"n_tasks": len(good), "reason": "" if len(good) else reasons}
