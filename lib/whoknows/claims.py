"""What the description of the figure claims, put to its own numbers, to the released results and to the measured ones."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from whoknows import bootstrap, published, scores
from whoknows.bootstrap import ENOUGH, SURE
from whoknows.cells import READINGS, first_test_set, heatmap_axes, heatmap_table, measure
from whoknows.plateau import IMPROVING, marked
from whoknows.schema import read_yaml

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
    return [Claim(**entry) for entry in read_yaml(path)]


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


def judge(claims: list[Claim], rows: pd.DataFrame, models: list[str], tasks: list[dict]) -> tuple[pd.DataFrame, dict[str, str]]:
    """All contrasts by all sources, and who plays whom.

    Args:
        rows: rows of any methods.
        models: the grid's.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        (what `by_others` and `by_measurement` return, in one table; what `roles` returns).
    """
    by_task, samples = scores.by_task(rows, only_auroc=True), bootstrap.samples(rows)
    label, members = first_test_set(tasks, rows)
    players = roles(by_task, models, members)
    table = heatmap_table(measure(rows, by_task, tasks, samples), models, tasks)
    measured = by_measurement(claims, table[table["test_set"] == label], bootstrap.by_cell(samples, members), players)
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


def by_measurement(claims: list[Claim], table: pd.DataFrame, draws: pd.DataFrame, players: dict[str, str]) -> pd.DataFrame:
    """The contrasts of the measured grid on one test set, in both readings, with intervals and p-values.

    Args:
        table: as `cells.heatmap_table` returns, of that test set.
        draws: as `bootstrap.by_cell` returns, of that test set.
        players: as `roles` returns.

    Returns:
        claim, contrast, source ("measured"), reading, estimate, low, high, p (two-sided), p_holm (over all contrasts of a
        reading), n_rarer (the fewest answers of a cell that are of one class), says and reason.
    """
    sampled, names = draws.reset_index(), {model: role for role, model in players.items()}
    found = []
    for reading in READINGS:
        view = _renamed(table[table["reading"] == reading], names)
        lines = contrasts(claims, view["auroc"]).rename(columns={"value": "estimate"})
        resampled = contrasts(claims, _renamed(heatmap_axes(sampled, reading).drop(columns=["reader", "scored", "reading"]), names))
        lines[["low", "high"]] = bootstrap.interval(resampled)
        lines["p"] = [bootstrap.p_value(line) for line in resampled.to_numpy(float)]
        # Some contrasts stand in two claims: one hypothesis counts once.
        distinct = lines["p"][~resampled.round(12).duplicated()]
        lines["p_holm"] = lines["p"].map(dict(zip(distinct, bootstrap.holm(distinct))))
        lines["n_rarer"] = [cells.min() for cells in _cells_of(claims, view["n_rarer"].astype(float))]
        lines["still_improving"] = [cells.any() for cells in _cells_of(claims, marked(view))]
        found.append(lines.assign(source="measured", reading=reading).reset_index())
    return pd.concat([_judged(lines) for lines in found], ignore_index=True)


def verdicts(judged: pd.DataFrame) -> pd.DataFrame:
    """A verdict for each claim by each source and reading.

    A claim fails where one of its contrasts does, holds where all of them do, and is inconclusive otherwise.
    """
    keys = ["claim", "source", "reading"]
    said = judged.groupby(keys, sort=False)["says"].agg(lambda s: FAILS if FAILS in set(s) else HOLDS if set(s) == {HOLDS} else OPEN)
    return said.rename("verdict").reset_index()


def _renamed(view: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """One heatmap's table by (method, model, trained_on), in the names of the figure."""
    kept = view[view["model"].isin(names) & view["trained_on"].isin(names)]
    return kept.assign(model=kept["model"].map(names), trained_on=kept["trained_on"].map(names)).set_index(PLACE)


def _cells_of(claims: list[Claim], values: pd.Series) -> list[pd.Series]:
    """For every contrast of every claim, the values of the cells that it rests on; those that are missing are left out."""
    return [values[values.index.isin([tuple(place.split("/")) for place in weights])] for claim in claims for weights in claim.contrasts.values()]


def _judged(lines: pd.DataFrame) -> pd.DataFrame:
    why = {
        "a cell is missing": lines["estimate"].isna(),
        f"a cell was {IMPROVING} when training ended": lines["still_improving"],
        f"a cell rests on fewer than {ENOUGH} right or wrong answers": lines["n_rarer"] < ENOUGH,
        "not significant after Holm's correction": ~(lines["p_holm"] < SURE),
    }
    reason = np.select([*why.values()], [*why], "")
    says = np.select([reason != "", lines["estimate"] > 0], [OPEN, HOLDS], FAILS)
    return lines.assign(says=says, reason=reason).drop(columns="still_improving")
