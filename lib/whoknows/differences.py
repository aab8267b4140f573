"""Differences between cells on the same answers: of methods, of native and cross training, and of readers."""

import numpy as np
import pandas as pd

from whoknows import bootstrap, scores
from whoknows.cells import METHODS, heatmap_axes, measure, test_sets
from whoknows.plateau import marked

METHOD, NATIVE, READER = "Probe less LoRA + Prompt", "Native less cross", "A reader less the other readers"
COMPARED = ("probe", "lora_prompt")


def of_grid(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """All differences of a grid, with intervals from the same resamples as the cells'.

    Args:
        rows: rows of any methods; those of the probe and of LoRA + Prompt count.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        test_set, kind, reading ("" for readers, which both readings share), what, estimate (AUROC), low, high,
        p, p_holm (over all differences of a kind, reading and test set), n_rarer (of the cell with the fewest),
        still_improving (whether an estimator of one of the cells was), and says (what `bootstrap.tested` says).
    """
    rows = rows[rows["method"].isin(COMPARED)]
    if rows.empty:
        return pd.DataFrame(columns=["test_set", "kind", "reading", "what", "estimate", "low", "high", "p", "p_holm", "n_rarer", "still_improving", "says"])
    samples, found = bootstrap.samples(rows), []
    measured = measure(rows, scores.by_task(rows, only_auroc=True), tasks, samples)
    for label, members in test_sets(tasks, sorted(rows["task"].unique())).items():
        cells = measured[measured["test_set"] == label]
        table = _evaluate(contrasts(cells), cells.set_index(scores.CELL), bootstrap.by_cell(samples, members))
        found.append(table.assign(test_set=label))
    return pd.concat(found, ignore_index=True)


def contrasts(cells: pd.DataFrame) -> list[tuple[str, str, str, tuple, list[tuple]]]:
    """(kind, reading, what, a cell, the cells whose mean it is compared with), for all cells of one test set."""
    found, slices = [], {reading: heatmap_axes(cells, reading) for reading in "AB"}
    for reading, table in slices.items():
        places = {(c.method, c.model, c.trained_on): (c.method, c.reader, c.trained_on, c.scored) for c in table.itertuples()}
        for (method, model, trained_on), cell in places.items():
            rival = places.get(("lora_prompt", model, trained_on))
            if method == "probe" and rival:
                found.append((METHOD, reading, f"{model}, trained on {trained_on}", cell, [rival]))
            crossed = [other for (m, row, column), other in places.items() if (m, row) == (method, model) and column != model]
            if model == trained_on and crossed:
                found.append((NATIVE, reading, f"{METHODS[method]}, {model}", cell, crossed))
    own = cells[cells["trained_on"] == cells["scored"]]
    for (method, scored), table in own.groupby(["method", "scored"], sort=False):
        places = {reader: (method, reader, scored, scored) for reader in table["reader"]}
        for reader, cell in places.items():
            others = [other for name, other in places.items() if name != reader]
            if others:
                found.append((READER, "", f"{METHODS[method]}, answers of {scored}: {reader}", cell, others))
    return found


def _evaluate(asked: list[tuple], cells: pd.DataFrame, draws: pd.DataFrame) -> pd.DataFrame:
    lines, resampled, improving = [], [], marked(cells)
    for kind, reading, what, cell, others in asked:
        value = cells["auroc"][cell] - np.mean([cells["auroc"][other] for other in others])
        rests = min(cells["n_rarer"][place] for place in [cell, *others])
        unfinished = any(improving[place] for place in [cell, *others])
        lines.append({"kind": kind, "reading": reading, "what": what, "estimate": value, "n_rarer": rests, "still_improving": unfinished})
        resampled.append(draws.loc[cell].to_numpy() - draws.loc[others].to_numpy().mean(axis=0))
    return bootstrap.tested(pd.DataFrame(lines), np.array(resampled), ["kind", "reading"])
