"""The cells of the heatmaps: which scores they average, and which axes they stand on.

The tensor is score[method, reader, trained_on, scored, task, seed]; a heatmap is a slice of it.
"""

import pandas as pd

from whoknows import WhoknowsError
from whoknows.metrics import CELL, pooled, scores, within_task

READINGS = {
    "A": "estimator transfer: the estimator of one model judges the answers of another",
    "B": "data transfer: a model judges its own answers, taught on the answers of another",
}


def test_sets(tasks: list[dict], measured: list[str]) -> dict[str, list[str]]:
    """The test sets that a grid's tasks make: in-distribution, shift, and each task alone.

    Args:
        tasks: the grid's tasks, dicts with name and role ("train" or "shift").
        measured: task names in the rows; a grid's "mmlu" stands there as "mmlu_anatomy" and so on.
    """
    names = [task["name"] for task in tasks]
    members = {name: [m for m in measured if _grid_task(m, names) == name] or [name] for name in names}
    sets = {}
    for label, role in {"in-distribution": "train", "shift": "shift"}.items():
        names = [task["name"] for task in tasks if task["role"] == role]
        if names:
            sets[label] = [member for name in names for member in members[name]]
        if len(names) > 1:
            sets |= {name: members[name] for name in names}
    return sets


def measure(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """Every cell on every test set: within-task means, pooled beside them, averaged over seeds.

    Args:
        rows: rows of any methods.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        The columns of `within_task` without seed, and test_set, pooled_auroc, seeds (how many).
    """
    by_task = scores(rows)
    sets = test_sets(tasks, sorted(by_task["task"].unique()))
    parts = []
    for label, members in sets.items():
        line = within_task(by_task, members).merge(pooled(rows, members), on=CELL + ["seed"])
        parts.append(_mean_over_seeds(line).assign(test_set=label))
    return pd.concat(parts, ignore_index=True)


def heatmap_axes(cells: pd.DataFrame, reading: str) -> pd.DataFrame:
    """The slice of the tensor that one heatmap shows, with its axes named as in the figure.

    Reading A keeps reader == trained_on and puts the scored model on y ("model").
    Reading B keeps reader == scored and puts that model on y. Both put trained_on on x.

    Args:
        cells: any table with the columns reader, trained_on and scored.
        reading: "A" or "B".

    Returns:
        The lines of that slice with the columns model (y) and reading added; x is trained_on.

    Raises:
        WhoknowsError: another reading.
    """
    if reading not in READINGS:
        raise WhoknowsError(f"reading {reading!r} is not known: use one of {', '.join(READINGS)}.")
    held_equal = {"A": "trained_on", "B": "scored"}[reading]
    chosen = cells[cells["reader"] == cells[held_equal]]
    return chosen.assign(model=chosen["scored"], reading=reading)


def _mean_over_seeds(lines: pd.DataFrame) -> pd.DataFrame:
    # n and n_right do not change with the seed of the training, except where a file is incomplete:
    # the smallest is then the one to show.
    how = {name: "mean" for name in ("auroc", "ece", "accuracy", "pooled_auroc")}
    how |= {"n": "min", "n_right": "min", "n_tasks": "min", "of_tasks": "min", "reason": "first"}
    grouped = lines.groupby(CELL, as_index=False)
    return grouped.agg(how).merge(grouped.agg(seeds=("seed", "nunique")), on=CELL)


def _grid_task(measured: str, names: list[str]) -> str:
    # the longest name wins: "arc_easy_mc" is a task of its own beside "arc_easy"
    fits = [name for name in names if f"{measured}_".startswith(f"{name}_")]
    return max(fits, key=len, default="")
