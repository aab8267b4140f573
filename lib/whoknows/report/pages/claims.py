"""What the description of the figure claims, put to its own numbers, to the released results and to the measured ones.

A claim says that differences are above zero, in a figure that gives values in steps. What is measured here can contradict it in two ways: a
difference is below zero, or so small that no such figure could show it. Both are one test, of a difference of at least half a step (`margin`),
the smallest effect size of interest (Lakens, Scheel and Isager, 2018); so "fails" means that the interval ends below the margin, "holds" that
it begins above zero and does not end below the margin, and a claim of no visible difference has a verdict with enough questions too.
"""

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from whoknows.data import files
from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.auroc import ENOUGH
from whoknows.evaluation.bootstrap import SURE
from whoknows.evaluation.cells import METHODS, READINGS, first_test_set, measure, named
from whoknows.evaluation.plateau import IMPROVING, marked
from whoknows.report.pages import published

CLAIMS = published.DATA.parent / "claims.yml"
PLACE = ["method", "model", "trained_on"]
HOLDS, FAILS, OPEN = "holds", "fails", "inconclusive"
ZERO = 1e-9  # decimals do not subtract exactly


@dataclass(frozen=True)
class Claim:
    """A sentence of the description, and the contrasts that are above zero if it is true."""

    claim: str
    says: str
    contrasts: dict[str, dict[str, float]]


def load(path: Path = CLAIMS) -> list[Claim]:
    """The claims of a YAML file."""
    return [Claim(**entry) for entry in files.read_yaml(path)]


def roles(scores: pd.DataFrame, models: list[str], tasks: list[str]) -> dict[str, str]:
    """Who plays Mistral, the stronger model of the figure, and LLaMA-2, the weaker: by right test answers.

    Args:
        scores: as `scores.by_task` returns.
        models: the grid's; of more than two, the strongest and the weakest play.
        tasks: on which the answers are counted.
    """
    counted = scores[scores["task"].isin(tasks)].drop_duplicates(["scored", "task"])
    right = counted.groupby("scored")["n_right"].sum().reindex(models, fill_value=0)
    ordered = right.sort_values(kind="stable", ascending=False).index
    return {"Mistral": ordered[0], "LLaMA-2": ordered[-1]}


def contrasts(claims: list[Claim], cells: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Every contrast of every claim.

    Args:
        cells: values by (method, model, trained_on) in the figure's names; one column, or one for each resample.

    Returns:
        The same columns by (claim, contrast); NaN where a cell is missing.
    """
    table = cells.to_frame("value") if isinstance(cells, pd.Series) else cells
    index = [(claim.claim, name) for claim in claims for name in claim.contrasts]
    weighted = [weights for claim in claims for weights in claim.contrasts.values()]
    places = [[tuple(place.split("/")) for place in weights] for weights in weighted]
    values = [np.array(list(w.values())) @ table.reindex(pd.MultiIndex.from_tuples(p)).to_numpy(float) for w, p in zip(weighted, places)]
    return pd.DataFrame(values, index=pd.MultiIndex.from_tuples(index, names=["claim", "contrast"]), columns=table.columns)


def margin() -> float:
    """Half of the smallest step between values of the figure: a smaller difference could not be seen in it."""
    steps = np.diff(np.unique(published.figure()["auroc"]))
    return float(steps.min() / 2)


def judge(claims: list[Claim], rows: pd.DataFrame, models: list[str], tasks: list[dict]) -> tuple[pd.DataFrame, dict[str, str]]:
    """All contrasts by all sources, and who plays whom.

    Args:
        rows: rows of any methods.
        models: the grid's.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        (what `by_others` and `primary` return, in one table; what `roles` returns).
    """
    by_task, samples = scores.by_task(rows, only_auroc=True), bootstrap.samples(rows)
    measured, players = primary(claims, by_task, measure(rows, by_task, tasks, samples), samples, models, tasks)
    return pd.concat([by_others(claims), measured], ignore_index=True), players


def by_others(claims: list[Claim]) -> pd.DataFrame:
    """The contrasts in the figure's own numbers and in the released results, which come without intervals."""
    views = [("figure", "figure", published.figure())]
    views += [("released", reading, view) for reading, view in published.released().groupby("reading")]
    found = []
    for source, reading, view in views:
        table = contrasts(claims, view.set_index(PLACE)["auroc"]).rename(columns={"value": "estimate"})
        table["says"] = np.select([table["estimate"].isna(), table["estimate"] > ZERO], [OPEN, HOLDS], FAILS)
        table["reason"] = np.where(table["estimate"].isna(), "a cell is missing", "")
        found.append(table.assign(source=source, reading=reading).reset_index())
    return pd.concat(found, ignore_index=True)


def primary(
    claims: list[Claim], by_task: pd.DataFrame, cells: pd.DataFrame, samples: pd.DataFrame, models: list[str], tasks: list[dict]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The primary hypotheses of a run: the contrasts of the claims on the first test set, in both readings. All else is exploratory.

    Args:
        by_task, cells, samples: as `scores.by_task`, `cells.measure` and `bootstrap.samples` return, of the same rows.

    Returns:
        (claim, contrast, source ("measured"), reading, cells (all names of each, in words), hypothesis (see there), estimate, low, high, p (of a
        difference of zero, two-sided), p_margin (of one of at least `margin`), p_holm and p_margin_holm (corrected together, over all
        distinct hypotheses of both kinds and both readings), n_rarer (the fewest answers of a cell that are of one class), says and reason;
        what `roles` returns).
    """
    label, members = first_test_set(tasks, by_task)
    players = roles(by_task, models, members)
    table, draws = cells[cells["test_set"] == label].set_index(scores.CELL), bootstrap.by_cell(samples, members)
    improving, lines, resampled, least = marked(table), [], [], margin()
    for reading, claim in itertools.product(READINGS, claims):
        for name, weights in claim.contrasts.items():
            places = _in_cells(weights, reading, players)
            index, weight = pd.MultiIndex.from_tuples(places, names=scores.CELL), np.array([*places.values()])
            there = table.reindex(index)
            lines.append({
                "claim": claim.claim, "contrast": name, "source": "measured", "reading": reading, "hypothesis": hypothesis(places), "directed": _written(places),
                "cells": "; ".join(f"{weight:+g} {METHODS[cell[0]]}, {named(*cell[1:])}" for cell, weight in places.items() if cell[0]),
                "estimate": weight @ there["auroc"].to_numpy(float), "n_rarer": there["n_rarer"].min(),
                "still_improving": improving[improving.index.isin(index)].any(),
            })  # fmt: skip
            resampled.append(weight @ draws.reindex(index).to_numpy(float))
    found = pd.DataFrame(lines).join(bootstrap.interval(pd.DataFrame(resampled)))
    found["p"] = [bootstrap.p_value(line) for line in resampled]
    found["p_margin"] = [bootstrap.p_below(line, least) for line in resampled]
    return _judged(_corrected(found)), players


def _corrected(found: pd.DataFrame) -> pd.DataFrame:
    """With Holm's correction for the family of all distinct hypotheses: no difference, and one of at least the margin."""
    kinds = {"p": "hypothesis", "p_margin": "directed"}
    family = pd.concat([found.drop_duplicates(name).set_index(name)[p] for p, name in kinds.items()], keys=kinds)
    corrected = bootstrap.holm(family)
    for p, name in kinds.items():
        found[f"{p}_holm"] = found[name].map(corrected[p])
    return found.drop(columns="directed")


def corrected(*of_run) -> pd.Series:
    """The corrected p-value of every primary hypothesis, by `hypothesis`; takes what `primary` takes after the claims."""
    table, _ = primary(load(), *of_run)
    return table.drop_duplicates("hypothesis").set_index("hypothesis")["p_holm"]


def hypothesis(places: dict[tuple, float]) -> str:
    """What a contrast of cells says is zero: one text for all its multiples, mirrored ones among them.

    Args:
        places: the weight of each cell, (method, reader, trained_on, scored).
    """
    first = places[min(places)]
    return _written({cell: weight / first for cell, weight in places.items()})


def _written(places: dict[tuple, float]) -> str:
    return " ".join(f"{weight:+g} {'/'.join(cell)}" for cell, weight in sorted(places.items()))


def verdicts(judged: pd.DataFrame) -> pd.DataFrame:
    """A verdict for each claim by each source and reading.

    A claim fails where one of its contrasts does, holds where all of them do, and is inconclusive otherwise.
    """
    keys = ["claim", "source", "reading"]
    said = judged.groupby(keys, sort=False)["says"].agg(lambda s: FAILS if FAILS in set(s) else HOLDS if set(s) == {HOLDS} else OPEN)
    return said.rename("verdict").reset_index()


def _in_cells(weights: dict[str, float], reading: str, players: dict[str, str]) -> dict[tuple, float]:
    """The weight of each cell, (method, reader, trained_on, scored), in a contrast of the figure's places; one model may play both."""
    found = Counter()
    for place, weight in weights.items():
        method, model, column = place.split("/")
        scored, trained_on = players[model], players[column]
        found[method, trained_on if reading == "A" else scored, trained_on, scored] += weight
    return {cell: weight for cell, weight in found.items() if weight} or {("", "", "", ""): 1.0}


def _judged(lines: pd.DataFrame) -> pd.DataFrame:
    few = lines["n_rarer"] < ENOUGH
    above, small = (lines["p_holm"] < SURE) & (lines["estimate"] > 0), lines["p_margin_holm"] < SURE
    why = {
        f"a cell rests on fewer than {ENOUGH} right or wrong answers": few,
        "a cell is missing": lines["estimate"].isna(),
        f"a cell was {IMPROVING} when training ended": lines["still_improving"],
        f"neither above zero nor below {margin():g}, after Holm's correction": ~(above | small),
    }
    reason = np.select([*why.values()], [*why], "")
    says = np.select([reason != "", small], [OPEN, FAILS], HOLDS)
    return bootstrap.hidden(lines, few).assign(says=says, reason=reason).drop(columns="still_improving")
