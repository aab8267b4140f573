"""What beats what: each model's own estimators, and the controls, on the same test answers."""

import numpy as np
import pandas as pd

from whoknows import bootstrap, scores
from whoknows.cells import METHODS, measure, test_sets
from whoknows.claims import SURE

LEFT_OUT, SIZE = "probe_without_", "probe_n"
ABOVE, BELOW, UNTOLD = "above", "below", "not told apart"


def contest(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """The native cells of all methods on the first test set, and how each differs from the probe on the same answers.

    Native is what read and was trained on the very model that is scored, or needs neither.

    Args:
        rows: rows of any methods, controls among them.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        The columns of `cells.measure` and difference (AUROC less that of the probe), difference_low, difference_high,
        p, p_holm (over all methods and models) and against ("above", "below" or "not told apart"); missing without a probe.
    """
    label, members = next(iter(test_sets(tasks, sorted(rows["task"].unique())).items()))
    own = rows["reader"].isin([""]) | (rows["reader"] == rows["scored"])
    own &= rows["trained_on"].isin([""]) | (rows["trained_on"] == rows["scored"])
    native = rows[own & rows["method"].isin(METHODS)]
    cells = measure(native, scores.by_task(native), tasks)
    cells = cells[cells["test_set"] == label].reset_index(drop=True)
    draws = bootstrap.by_cell(bootstrap.samples(native), members).reindex(pd.MultiIndex.from_frame(cells[scores.CELL]))
    probe = cells.index[cells["method"] == "probe"]
    of = cells["scored"].map(dict(zip(cells.loc[probe, "scored"], probe)))
    rival = of.where(cells["method"] != "probe")
    there = rival.notna()
    differences = draws.to_numpy()[there] - draws.to_numpy()[rival[there].astype(int)]
    found = bootstrap.interval(pd.DataFrame(differences, index=cells.index[there]))
    found["difference"] = cells.loc[there, "auroc"] - cells.loc[rival[there].astype(int), "auroc"].to_numpy()
    found["p"] = [bootstrap.p_value(line) if not np.isnan(line).all() else np.nan for line in differences]
    found["p_holm"] = bootstrap.holm(found["p"])
    sure = found["p_holm"] < SURE
    found["against"] = np.select([sure & (found["difference"] > 0), sure], [ABOVE, BELOW], UNTOLD)
    return cells.join(found.rename(columns={"low": "difference_low", "high": "difference_high"}))


def learning_curve(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """AUROC of the native probes against the number of training answers, on the first test set.

    Returns:
        The columns of `cells.measure` and size, a number or "all".
    """
    native = rows[(rows["reader"] == rows["scored"]) & (rows["trained_on"] == rows["scored"])]
    native = native[native["method"].str.startswith(SIZE) | (native["method"] == "probe")]
    cells = measure(native, scores.by_task(native), tasks)
    cells = cells[cells["test_set"] == cells["test_set"].iloc[0]] if len(cells) else cells
    return cells.assign(size=[method.removeprefix(SIZE) if method != "probe" else "all" for method in cells["method"]])


def left_out(rows: pd.DataFrame) -> pd.DataFrame:
    """For each reader that judges its own answers and each task: AUROC of the probe trained with and without that task.

    Returns:
        scored, task, with_task, without_task (means over seeds), and low and high of without less with.
    """
    native = rows[(rows["reader"] == rows["scored"]) & (rows["trained_on"] == rows["scored"])]
    named = native["method"] == LEFT_OUT + native["task"]
    kept = native[named | ((native["method"] == "probe") & native["task"].isin(native.loc[named, "task"]))]
    kept = kept.assign(method=np.where(kept["method"] == "probe", "with_task", "without_task"))
    draws = bootstrap.samples(kept).groupby(["scored", "task", "method"]).mean()
    wide = scores.by_task(kept).groupby(["scored", "task", "method"])["auroc"].mean().unstack("method")
    if not {"with_task", "without_task"} <= set(wide):
        return pd.DataFrame(columns=["scored", "task", "with_task", "without_task", "low", "high"])
    change = draws.xs("without_task", level="method") - draws.xs("with_task", level="method")
    return wide.join(bootstrap.interval(change)).reset_index()
