"""Shift: how well an estimator judges answers to questions of tasks that it was not trained on."""

import pandas as pd

from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.auroc import ENOUGH
from whoknows.evaluation.cells import enough, first_test_set, measure, native_rows, test_sets
from whoknows.evaluation.plateau import marked

SHOWN = ("probe", "lora_prompt", "zero_shot", "likelihood")
LEFT_OUT = "_without_"
CHANGE = {"estimate": "change", "low": "change_low", "high": "change_high"}


def shift(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """The native cells in-distribution and on every test set that nobody was trained on, and how each changes.

    Args:
        rows: rows of any methods.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        The columns of `cells.measure`, AUROC alone, and change (AUROC less that in-distribution), change_low, change_high,
        p and says (what `bootstrap.tested` says: no change is a primary hypothesis); missing in-distribution.
    """
    native = native_rows(rows[rows["method"].isin(SHOWN)])
    samples, (usual, members) = bootstrap.samples(native), first_test_set(tasks, native)
    cells, asked = measure(native, scores.by_task(native, only_auroc=True), tasks, samples), _shifts(tasks, native)
    home, away = cells[cells["test_set"] == usual], cells[cells["test_set"].isin(asked)].reset_index(drop=True)
    if away.empty:
        return enough(home).assign(**dict.fromkeys([*CHANGE.values(), "p", "says"], float("nan")))
    places = pd.MultiIndex.from_frame(away[scores.CELL])
    before = home.set_index(scores.CELL).reindex(places)
    # The questions of each task are drawn by themselves, so a difference of resamples has the right spread.
    there = [bootstrap.by_cell(samples, asked[label]).reindex(places[own.index]) for label, own in away.groupby("test_set", sort=False)]
    resampled = pd.concat(there).to_numpy() - bootstrap.by_cell(samples, members).reindex(places).to_numpy()
    fewest = away["n_rarer"].clip(upper=before["n_rarer"].to_numpy())
    lines = pd.DataFrame({"estimate": away["auroc"] - before["auroc"].to_numpy(), "n_rarer": fewest, "still_improving": marked(away), "hypothesis": ""})
    found = bootstrap.tested(lines, resampled, pd.Series(dtype=float))[["estimate", "low", "high", "p", "says"]].rename(columns=CHANGE)
    away["test_set"] = away["test_set"].replace("shift", next(task["name"] for task in tasks if task["role"] == "shift"))
    return enough(pd.concat([home, away.join(found)], ignore_index=True))


def _shifts(tasks: list[dict], rows: pd.DataFrame) -> dict[str, list[str]]:
    """The test sets that nobody is trained on. "shift" is the mean over all, which says less than each unless there is one only."""
    asked = [task for task in tasks if task["role"] == "shift"]
    found = test_sets(asked, sorted(rows["task"].unique()))
    return {label: members for label, members in found.items() if label != "shift" or len(asked) == 1}


def left_out(rows: pd.DataFrame) -> pd.DataFrame:
    """For each method, reader that judges its own answers and task: AUROC, trained with and without that task.

    Returns:
        method, scored, task, with_task, without_task (means over the seeds that both have; NaN where right or wrong answers are
        too few), low and high of without less with, n_right, n_rarer, and still_improving (whether one of the two was).
    """
    native = native_rows(rows).reset_index(drop=True)
    base = native["method"].str.split(LEFT_OUT).str[0]
    how = (native["method"] == base).map({True: "with", False: "without"})
    asked = (native["method"] == base) | (native["method"] == base + LEFT_OUT + native["task"])
    native = native.assign(base=base, how=how, method=base + " " + how)[asked]
    kept = native[native.groupby(["base", "scored", "task", "seed"])["how"].transform("nunique") == 2]
    columns = ["method", "scored", "task", "with_task", "without_task", "low", "high", "n_right", "n_rarer", "still_improving"]
    if kept.empty:
        return pd.DataFrame(columns=columns)
    keys = ["scored", "task", "method"]
    values = scores.by_task(kept, only_auroc=True).groupby(keys).agg({"auroc": "mean", "n_right": "min", "n_rarer": "min"})
    draws = bootstrap.samples(kept).groupby(keys).mean()
    lines, improving = [], marked(kept).groupby([kept["base"], kept["scored"], kept["task"]]).any()
    for method, scored, task in kept.groupby(["base", "scored", "task"]).groups:
        known, unknown = ((scored, task, f"{method} {how}") for how in ("with", "without"))
        between = bootstrap.interval(draws.loc[[unknown]] - draws.loc[known]).iloc[0]
        lines.append((method, scored, task, *values["auroc"][[known, unknown]], between["low"], between["high"], values["n_right"][known], values["n_rarer"][known], improving[method, scored, task]))
    table = pd.DataFrame(lines, columns=columns)
    return table.assign(**{name: table[name].where(table["n_rarer"] >= ENOUGH) for name in ("with_task", "without_task", "low", "high")})
