"""What beats what: each model's own estimators, and the controls, on the same test answers."""

import json
from pathlib import Path

import pandas as pd

from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.cells import METHODS, enough, first_test_set, measure, native_rows
from whoknows.evaluation.plateau import marked
from whoknows.report.pages import claims
from whoknows.report.pages.differences import COMPARED

SIZE = "probe_n"


def contest(rows: pd.DataFrame, models: list[str], tasks: list[dict]) -> pd.DataFrame:
    """The native cells of all methods on the first test set, and how each differs from the probe on the same answers.

    Args:
        rows: rows of any methods, controls among them.
        models: the grid's.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        The columns of `cells.measure` and difference (AUROC less that of the probe), difference_low, difference_high,
        p, p_holm (of `claims.primary`, missing where a difference is exploratory) and against (what `bootstrap.tested` says); missing
        without a probe.
    """
    label, members = first_test_set(tasks, rows)
    native = rows.index.isin(native_rows(rows[rows["method"].isin(METHODS)]).index)
    rows = rows[native | rows["method"].isin(COMPARED)]  # what the primary hypotheses are about, too
    samples, by_task = bootstrap.samples(rows), scores.by_task(rows)
    measured = measure(rows, by_task, tasks, samples)
    primary = claims.corrected(by_task, measured, samples, models, tasks)
    cells = native_rows(measured[measured["test_set"] == label]).reset_index(drop=True)
    draws = bootstrap.by_cell(samples, members).reindex(pd.MultiIndex.from_frame(cells[scores.CELL])).to_numpy()
    probe = cells.index[cells["method"] == "probe"]
    of = cells["scored"].map(dict(zip(cells.loc[probe, "scored"], probe)))
    rival = of.where(cells["method"] != "probe")
    there = rival.notna()
    theirs = rival[there].astype(int)
    lines = cells.loc[there, ["n_rarer"]].assign(estimate=cells.loc[there, "auroc"] - cells.loc[theirs, "auroc"].to_numpy())
    lines["still_improving"] = marked(cells)[there] | marked(cells)[theirs].to_numpy()
    places = [*cells[scores.CELL].itertuples(index=False, name=None)]
    lines["hypothesis"] = [claims.hypothesis({places[own]: 1.0, places[other]: -1.0}) for own, other in theirs.items()]
    found = bootstrap.tested(lines, draws[there] - draws[theirs], primary).drop(columns=["n_rarer", "still_improving", "hypothesis"])
    names = {"estimate": "difference", "low": "difference_low", "high": "difference_high", "says": "against"}
    return enough(cells).join(found.rename(columns=names))


def learning_curve(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """AUROC of the native probes against the number of training answers, on the first test set.

    Returns:
        The columns of `cells.measure` and size, a number or "all".
    """
    native = native_rows(rows[rows["method"].str.startswith(SIZE) | (rows["method"] == "probe")])
    cells = enough(measure(native, scores.by_task(native, only_auroc=True), tasks))
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
