"""Differences between cells on the same answers: of methods, of native and cross training, and of readers."""

import numpy as np
import pandas as pd

from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.cells import METHODS, heatmap_axes, measure, named, test_sets
from whoknows.evaluation.plateau import marked
from whoknows.report.pages import claims

METHOD, NATIVE, READER = "Probe less LoRA + Prompt", "Native less cross", "A reader less the other readers"
COMPARED = ("probe", "lora_prompt")


def of_grid(rows: pd.DataFrame, models: list[str], tasks: list[dict]) -> pd.DataFrame:
    """All differences of a grid, with intervals from the same resamples as the cells'; each once, however often it can be asked.

    Args:
        rows: rows of any methods; those of the probe and of LoRA + Prompt count.
        models: the grid's.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        test_set, kind, reading ("A", "B", "A and B" or, in neither, ""), what, hypothesis (see `claims.hypothesis`), estimate
        (AUROC), low, high, p, p_holm (of `claims.primary`, missing where a difference is exploratory), n_rarer (of the cell with the
        fewest), still_improving (whether an estimator of one of the cells was), and says (what `bootstrap.tested` says).
    """
    rows = rows[rows["method"].isin(COMPARED)]
    if rows.empty:
        return pd.DataFrame(columns=["test_set", "kind", "reading", "what", "estimate", "low", "high", "p", "p_holm", "n_rarer", "still_improving", "says"])
    samples, by_task, found = bootstrap.samples(rows), scores.by_task(rows, only_auroc=True), []
    measured = measure(rows, by_task, tasks, samples)
    first, *others = test_sets(tasks, sorted(rows["task"].unique())).items()
    primary = claims.corrected(by_task, measured, samples, models, tasks)
    for (label, members), known in [(first, primary), *((other, primary[:0]) for other in others)]:
        cells = measured[measured["test_set"] == label]
        table = _evaluate(contrasts(cells), cells.set_index(scores.CELL), bootstrap.by_cell(samples, members), known)
        found.append(table.assign(test_set=label))
    return pd.concat(found, ignore_index=True)


def contrasts(cells: pd.DataFrame) -> list[dict]:
    """Every distinct difference of one test set: kind, reading, what, and the weights of its cells.

    A difference that both readings have, or that is another one mirrored, is there once.
    """
    found = {}
    for kind, reading, what, cell, others in _asked(cells):
        weights = {cell: 1.0} | dict.fromkeys(others, -1 / len(others))
        line = found.setdefault(claims.hypothesis(weights), {"kind": kind, "reading": reading, "what": what, "weights": weights})
        line["reading"] = " and ".join(sorted({*line["reading"].split(" and "), reading}))
    return [line | {"hypothesis": hypothesis} for hypothesis, line in found.items()]


def _asked(cells: pd.DataFrame):
    """(kind, reading, what, a cell, the cells whose mean it is compared with)."""
    for reading in "AB":
        table = heatmap_axes(cells, reading)
        places = {(c.method, c.model, c.trained_on): (c.method, c.reader, c.trained_on, c.scored) for c in table.itertuples()}
        for (method, model, trained_on), cell in places.items():
            rival = places.get(("lora_prompt", model, trained_on))
            if method == "probe" and rival:
                yield METHOD, reading, named(*cell[1:]), cell, [rival]
            crossed = [other for (m, row, column), other in places.items() if (m, row) == (method, model) and column != model]
            if model == trained_on and crossed:
                yield NATIVE, reading, f"{METHODS[method]}, scored on {model}", cell, crossed
    own = cells[cells["trained_on"] == cells["scored"]]
    for (method, scored), table in own.groupby(["method", "scored"], sort=False):
        for reader in table["reader"]:
            others = [name for name in table["reader"] if name != reader]
            if others:
                less = others[0] if len(others) == 1 else "the others"
                what = f"{METHODS[method]} trained and scored on {scored}: reader {reader} less {less}"
                yield READER, "", what, (method, reader, scored, scored), [(method, other, scored, scored) for other in others]


def _evaluate(asked: list[dict], cells: pd.DataFrame, draws: pd.DataFrame, primary: pd.Series) -> pd.DataFrame:
    lines, resampled, improving = [], [], marked(cells)
    for line in asked:
        index, weight = [*line["weights"]], np.array([*line["weights"].values()])
        there = cells.loc[index]
        values = {"estimate": weight @ there["auroc"].to_numpy(float), "n_rarer": there["n_rarer"].min(), "still_improving": improving[index].any()}
        lines.append({name: line[name] for name in ("kind", "reading", "what", "hypothesis")} | values)
        resampled.append(weight @ draws.loc[index].to_numpy())
    return bootstrap.tested(pd.DataFrame(lines), np.array(resampled), primary)
