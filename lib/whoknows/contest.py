"""What beats what: each model's own estimators, and the controls, on the same test answers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from whoknows import bootstrap, scores
from whoknows.cells import METHODS, first_test_set, measure

LEFT_OUT, SIZE = "_without_", "probe_n"


def contest(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """The native cells of all methods on the first test set, and how each differs from the probe on the same answers.

    Native is what read and was trained on the very model that is scored, or needs neither.

    Args:
        rows: rows of any methods, controls among them.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        The columns of `cells.measure` and difference (AUROC less that of the probe), difference_low, difference_high,
        p, p_holm (over all methods and models) and against (what `bootstrap.told` says); missing without a probe.
    """
    label, members = first_test_set(tasks, rows)
    own = (rows["reader"] == "") | (rows["reader"] == rows["scored"])
    own &= (rows["trained_on"] == "") | (rows["trained_on"] == rows["scored"])
    native = rows[own & rows["method"].isin(METHODS)]
    samples = bootstrap.samples(native)
    cells = measure(native, scores.by_task(native), tasks, samples)
    cells = cells[cells["test_set"] == label].reset_index(drop=True)
    draws = bootstrap.by_cell(samples, members).reindex(pd.MultiIndex.from_frame(cells[scores.CELL])).to_numpy()
    probe = cells.index[cells["method"] == "probe"]
    of = cells["scored"].map(dict(zip(cells.loc[probe, "scored"], probe)))
    rival = of.where(cells["method"] != "probe")
    there = rival.notna()
    theirs = rival[there].astype(int)
    lines = cells.loc[there, ["n_right"]].assign(estimate=cells.loc[there, "auroc"] - cells.loc[theirs, "auroc"].to_numpy())
    found = bootstrap.told(lines, draws[there] - draws[theirs]).drop(columns="n_right")
    names = {"estimate": "difference", "low": "difference_low", "high": "difference_high", "says": "against"}
    return cells.join(found.rename(columns=names))


def learning_curve(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """AUROC of the native probes against the number of training answers, on the first test set.

    Returns:
        The columns of `cells.measure` and size, a number or "all".
    """
    native = rows[(rows["reader"] == rows["scored"]) & (rows["trained_on"] == rows["scored"])]
    native = native[native["method"].str.startswith(SIZE) | (native["method"] == "probe")]
    cells = measure(native, scores.by_task(native, only_auroc=True), tasks)
    cells = cells[cells["test_set"] == cells["test_set"].iloc[0]] if len(cells) else cells
    return cells.assign(size=[method.removeprefix(SIZE) if method != "probe" else "all" for method in cells["method"]])


def layers(folder: str | Path, models: list[str], seeds: list[int]) -> pd.DataFrame:
    """What each layer reached on validation, at its best strength, for each model's probe on its own answers.

    Args:
        folder: the estimators of a run; what is not there yet is left out.

    Returns:
        scored, layer, depth (0 to 1), validation_auroc (mean over seeds), chosen (by any seed).
    """
    parts = []
    for model in models:
        for path in (Path(folder) / "probe" / model / model / f"seed{seed}" / "probe.json" for seed in seeds):
            if path.exists():
                card = json.loads(path.read_text())
                best = pd.DataFrame(card["search"]).groupby("layer", as_index=False)["validation_auroc"].max()
                parts.append(best.assign(scored=model, chosen=best["layer"] == card["chosen"]["layer"]))
    if not parts:
        return pd.DataFrame(columns=["scored", "layer", "depth", "validation_auroc", "chosen"])
    table = pd.concat(parts).groupby(["scored", "layer"], sort=False, as_index=False).agg({"validation_auroc": "mean", "chosen": "any"})
    return table.assign(depth=table["layer"] / table.groupby("scored")["layer"].transform("max"))


def left_out(rows: pd.DataFrame) -> pd.DataFrame:
    """For each method, reader that judges its own answers and task: AUROC, trained with and without that task.

    Returns:
        method, scored, task, with_task, without_task (means over seeds), and low and high of without less with.
    """
    native = rows[(rows["reader"] == rows["scored"]) & (rows["trained_on"] == rows["scored"])]
    base = native["method"].str.split(LEFT_OUT).str[0]
    named = native["method"] == base + LEFT_OUT + native["task"]
    pairs = native.assign(base=base)[named].groupby(["base", "scored", "task"]).size().index
    there = pd.MultiIndex.from_frame(native.assign(base=base)[["base", "scored", "task"]]).isin(pairs)
    kept = native.assign(base=base)[there & (named | (native["method"] == base))]
    kept = kept.assign(method=kept["base"] + np.where(kept["method"] == kept["base"], " with", " without"))
    columns = ["method", "scored", "task", "with_task", "without_task", "low", "high"]
    if kept.empty:
        return pd.DataFrame(columns=columns)
    keys = ["scored", "task", "method"]
    values, draws = scores.by_task(kept, only_auroc=True).groupby(keys)["auroc"].mean(), bootstrap.samples(kept).groupby(keys).mean()
    lines = []
    for method, scored, task in pairs:
        places = [(scored, task, f"{method} {how}") for how in ("with", "without")]
        if all(place in values.index for place in places):
            between = bootstrap.interval(draws.loc[[places[1]]] - draws.loc[places[0]]).iloc[0]
            lines.append((method, scored, task, *values[places], between["low"], between["high"]))
    return pd.DataFrame(lines, columns=columns)
