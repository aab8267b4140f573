"""AUROC, the one measure that training looks at.

Apart from the other metrics, so that a change in those touches no estimator and no language model.
"""

import numpy as np
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data.rows import one_class

# Right answers, and wrong ones: no page shows a value that rests on fewer of either, and nothing is concluded from it.
MIN_PER_CLASS = 25

COLUMNS = {
    "method": "Method", "trained_on": "Trained on", "seed": "Seed", "scored": "Scored", "task": "Task",
    "auroc": "AUROC", "n": "Test answers", "n_right": "Right", "reason": "Why there is no value",
}  # fmt: skip


def too_few(right: int, wrong: int) -> str:
    """Why a value of so many right and wrong answers is not shown, or "" if it is."""
    fewer, word = min((right, "right"), (wrong, "wrong"))
    if fewer >= MIN_PER_CLASS:
        return ""
    return f"{fewer} {word} answer{'s' * (fewer != 1)}, and a value takes {MIN_PER_CLASS}"


def counts(correct: np.ndarray) -> dict[str, int]:
    """How many of these answers are right, and how many are wrong."""
    right = int(np.sum(correct))
    return {"right": right, "wrong": len(correct) - right}


def auroc(logit: np.ndarray, correct: np.ndarray) -> float:
    """Chance that a right answer gets a higher confidence than a wrong one; ties count half.

    The Mann-Whitney form of the area under the ROC curve (Hanley and McNeil, 1982), of confidences [n], on any scale,
    and grades [n]. NaN where only one class is there: 0.5 would say that something was measured.

    Raises:
        WhoknowsError: a confidence is NaN.
    """
    logit, correct = checked(logit, correct)
    if one_class(correct):
        return float("nan")
    right = int(correct.sum())
    rank_sum = pd.Series(logit).rank().to_numpy()[correct].sum()  # scipy.stats has it too, and takes a second to import
    return float((rank_sum - right * (right + 1) / 2) / (right * (correct.size - right)))


def mean_auroc(logit: np.ndarray, correct: np.ndarray, task: np.ndarray) -> float:
    """AUROC within each task, averaged over the tasks that have both classes, from [n] each; NaN where none has."""
    logit, correct, task = np.asarray(logit), np.asarray(correct, dtype=bool), np.asarray(task)
    values = [auroc(logit[task == name], correct[task == name]) for name in np.unique(task)]
    values = [value for value in values if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def by_task(rows: pd.DataFrame) -> pd.DataFrame:
    """What an estimator's own page shows: a line per method, scored model and task, from its test rows.

    Returns:
        method, trained_on and seed (where there are several), scored, task, auroc, n and n_right; where a value takes
        more answers than there are, auroc is missing, and a column reason says so.
    """
    several = [name for name in ("trained_on", "seed") if rows[name].nunique() > 1]
    keys, lines = ["method", *several, "scored", "task"], []
    for key, group in rows[rows["split"] == "test"].groupby(keys, sort=False):
        correct = group["correct"].to_numpy(bool)
        reason = too_few(**counts(correct))
        value = np.nan if reason else auroc(group["logit"], correct)
        lines.append((*key, value, correct.size, int(correct.sum()), reason))
    table = pd.DataFrame(lines, columns=[*keys, "auroc", "n", "n_right", "reason"])
    return table if (table["reason"] != "").any() else table.drop(columns="reason")


def html(rows: pd.DataFrame, most: int = 200) -> str:
    """What `by_task` returns as an HTML table, of at most so many lines."""
    return by_task(rows).round(3).rename(columns=COLUMNS).to_html(index=False, max_rows=most, na_rep="—")


def checked(logit, correct) -> tuple[np.ndarray, np.ndarray]:
    """Confidences as float64 and grades as bool, shape [n] each.

    Raises:
        WhoknowsError: a confidence is NaN.
    """
    logit, correct = np.asarray(logit, dtype=np.float64), np.asarray(correct, dtype=bool)
    if np.isnan(logit).any():
        raise WhoknowsError(
            f"{int(np.isnan(logit).sum())} of {logit.size} confidences are NaN: "
            "delete the rows file that they are in and run make book again."
        )
    return logit, correct
