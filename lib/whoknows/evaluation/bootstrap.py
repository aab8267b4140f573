"""Intervals by resampling questions: the same resamples for every cell, so that differences have intervals too.

Questions are drawn with replacement within each task (Efron and Tibshirani, 1993), so a resample has as many of each
task as there are. All answers to a question come and go together.
"""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from scipy.special import ndtr

from whoknows.evaluation import metrics
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.plateau import no_verdict, together
from whoknows.evaluation.scores import CELL

DRAWS = 5000
LEVEL = 0.95
NO_SPREAD = 1e-12  # a standard deviation below it is rounding: all resamples are the same
ALPHA = 0.05  # Holm-corrected p-value below which a difference is significant
ABOVE, BELOW, INSIGNIFICANT, FEW = "above", "below", "not significant", "too few right or wrong answers"
EXPLORATORY = "exploratory"  # of what is no primary hypothesis


def draws(task: str, count: int, times: int = DRAWS) -> np.ndarray:
    """How often each of a task's questions is in each resample: [times, count] float32, rows sum to `count`.

    It depends on the task's name and size alone: all cells get the same.
    """
    seed = int.from_bytes(hashlib.sha256(f"{task}\n{count}".encode()).digest()[:8], "big")
    chosen = np.random.default_rng(seed).integers(count, size=(times, count))
    places = chosen + count * np.arange(times)[:, None]
    return np.bincount(places.ravel(), minlength=times * count).reshape(times, count).astype(np.float32)


def resampled_auroc(right: np.ndarray, wrong: np.ndarray, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """AUROC of every resample: of all weighted pairs of a right and a wrong answer, the share in order, ties half.

    Args:
        right, wrong: confidences of the right answers, [r], and of the wrong ones, [w].
        mine, theirs: how often each of these is in each resample, [times, r] and [times, w]; NaN comes out of one that
            has one class only.
    """
    order = (right > wrong[:, None]).astype(np.float32) + np.float32(0.5) * (right == wrong[:, None])
    with np.errstate(invalid="ignore"):
        return ((theirs @ order) * mine).sum(axis=1, dtype=np.float64) / (mine.sum(axis=1) * theirs.sum(axis=1))


def samples(rows: pd.DataFrame, times: int = DRAWS, pooled: bool = False) -> pd.DataFrame:
    """AUROC of each (method, reader, trained_on, scored, seed, task), from its test rows: a column for each resample.

    Args:
        pooled: throws all tasks together, as one named "all"; each is still drawn by itself.
    """
    values = {
        key: resampled_auroc(logit[correct], logit[~correct], weights[correct].T, weights[~correct].T)
        for key, logit, correct, weights in _drawn(rows, times, pooled)
    }
    return _lines(values, times)


def metric_samples(rows: pd.DataFrame, fitted: dict, times: int = DRAWS) -> dict[str, pd.DataFrame]:
    """Each of `metrics.RESAMPLED` as `samples` returns AUROC, of the same draws, at the thresholds of `fit_all`."""
    values = {
        key: metrics.resampled(logit, correct, weights, fitted[(*key[:3], key[4], key[3])].threshold)
        for key, logit, correct, weights in _drawn(rows, times)
    }
    return {name: _lines({key: each[name] for key, each in values.items()}, times) for name in metrics.RESAMPLED}


def question_weights(rows: pd.DataFrame, times: int = DRAWS) -> pd.DataFrame:
    """How often each test question is in each resample: [questions, times], by task and question_id, in their order."""
    test = rows.loc[rows["split"] == "test", ["task", "question_id"]]
    questions = test.drop_duplicates().sort_values(["task", "question_id"])
    by_task = (draws(task, count, times).T for task, count in questions.groupby("task").size().items())
    weights = np.concatenate([np.zeros((0, times), np.float32), *by_task])
    # A question's counts side by side, as all readers of this table take them.
    return pd.DataFrame(np.ascontiguousarray(weights), index=pd.MultiIndex.from_frame(questions))


def _drawn(
    rows: pd.DataFrame, times: int, pooled: bool = False
) -> Iterator[tuple[tuple, np.ndarray, np.ndarray, np.ndarray]]:
    """For each line of `samples` its key, confidences and grades, [n], and counts in the resamples, [n, times]."""
    test, weights = rows[rows["split"] == "test"], question_weights(rows, times).to_numpy()
    place = test.groupby(["task", "question_id"]).ngroup()
    test = test.assign(place=place, task="all" if pooled else test["task"]).sort_values("place", kind="stable")
    for key, group in test.groupby([*CELL, "seed", "task"]):
        yield key, group["logit"].to_numpy(), group["correct"].to_numpy(bool), weights[group["place"]]


def _lines(values: dict[tuple, np.ndarray], times: int) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(values, names=[*CELL, "seed", "task"])
    return pd.DataFrame(np.array([*values.values()], dtype=np.float64).reshape(len(values), times), index=index)


def by_cell(samples: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
    """Resampled within-task means of each (method, reader, trained_on, scored): over tasks, then over seeds.

    A task without both classes in a resample is left out of that mean, as it is where the cell itself is measured.
    """
    asked = samples[samples.index.get_level_values("task").isin(tasks)]
    return asked.groupby([*CELL, "seed"]).mean().groupby(CELL).mean()


def interval(samples: pd.DataFrame) -> pd.DataFrame:
    """Percentile interval of each line: columns low and high."""
    tail = (1 - LEVEL) / 2
    ends = samples.quantile([tail, 1 - tail], axis=1)  # leaves NaN out
    return pd.DataFrame({"low": ends.iloc[0].to_numpy(), "high": ends.iloc[1].to_numpy()}, index=samples.index)


def p_value(estimate: float, resampled: np.ndarray) -> float:
    """Two-sided p-value of no difference, from the difference and its resamples [times], as `p_below`."""
    return p_below(-abs(estimate), resampled, 0)


def p_below(estimate: float, resampled: np.ndarray, margin: float) -> float:
    """p-value of a difference of at least `margin`, doubled as one end of a two-sided interval would have it.

    Normal, with the standard deviation of the resamples [times] (Efron and Tibshirani, 1993); of two AUROCs on the same
    answers it tends to that of DeLong et al. (1988). A share of resamples would be as coarse as they are few: small
    p-values of a large family would depend on the draw, or could not be small enough. NaN among the resamples are left
    out; NaN if there is no difference, or nothing else.
    """
    kept = resampled[~np.isnan(resampled)]
    if np.isnan(estimate) or not kept.size:
        return float("nan")
    return float(min(1.0, 2 * ndtr((estimate - margin) / max(kept.std(), NO_SPREAD))))


def holm(p_values: pd.Series) -> pd.Series:
    """p-values of one family, corrected so that any false rejection in it is as rare as the level says (Holm, 1979).

    Missing values stay missing and do not count.
    """
    ordered = p_values.dropna().sort_values()
    factors = np.arange(len(ordered), 0, -1)
    return (ordered * factors).clip(upper=1).cummax().reindex(p_values.index)


def hypothesis(weights: dict[tuple, float]) -> str:
    """What a contrast of cells says is zero: one text for all its multiples, mirrored ones among them."""
    first = weights[min(weights)]
    return written({cell: weight / first for cell, weight in weights.items()})


def written(weights: dict[tuple, float]) -> str:
    """A contrast, the weights of cells (method, reader, trained_on, scored), as one text."""
    return " ".join(f"{weight:+g} {'/'.join(cell)}" for cell, weight in sorted(weights.items()))


def contrasts(
    asked: Iterable[dict[tuple, float]], cells: pd.DataFrame, draws: pd.DataFrame
) -> tuple[pd.DataFrame, np.ndarray]:
    """Contrasts of cells, and the same of their resamples.

    Args:
        asked: for each the weight of its cells, (method, reader, trained_on, scored).
        cells: as `cells.measure` returns for one test set, by cell; `draws` as `by_cell` returns.

    Returns:
        (hypothesis, estimate, n_rarer (the fewest answers of one class in a cell) and unsettled of each, missing where
        a cell is; resampled [contrasts, times]).
    """
    lines, resampled = [], []
    for weights in asked:
        index, weight = pd.MultiIndex.from_tuples(weights, names=CELL), np.array([*weights.values()])
        there = cells.reindex(index)
        estimate, why = weight @ there["auroc"].to_numpy(float), together(no_verdict(there))
        lines.append((hypothesis(weights), estimate, there["n_rarer"].min(), why))
        resampled.append(weight @ draws.reindex(index).to_numpy(float))
    table = pd.DataFrame(lines, columns=["hypothesis", "estimate", "n_rarer", "unsettled"])
    return table, np.array(resampled).reshape(len(lines), draws.shape[1])


def tested(table: pd.DataFrame, resampled: np.ndarray, primary: pd.Series) -> pd.DataFrame:
    """Differences with intervals and p-values, and which of the primary ones are significant.

    Args:
        table: hypothesis, estimate, n_rarer and unsettled of each difference, as `contrasts` returns.
        resampled: [differences, times].
        primary: corrected p-values of the primary hypotheses, by hypothesis.

    Returns:
        The table with low, high, p, p_holm (missing where a difference is exploratory), and says: why it is unsettled,
        or `FEW`, else `EXPLORATORY`, `ABOVE`, `BELOW` or `INSIGNIFICANT`. Values of too few answers are missing.
    """
    table = table.join(interval(pd.DataFrame(resampled, index=table.index)))
    table["p"] = [p_value(*line) for line in zip(table["estimate"], resampled)]
    table["p_holm"] = table["hypothesis"].map(primary)
    why, few, sure = no_verdict(table), table["n_rarer"] < MIN_PER_CLASS, table["p_holm"] < ALPHA
    cases = [why != "", few, table["p_holm"].isna(), sure & (table["estimate"] > 0), sure]
    says = np.select(cases, [why, FEW, EXPLORATORY, ABOVE, BELOW], INSIGNIFICANT)
    return hidden(table, few).assign(says=says)


def hidden(table: pd.DataFrame, few: pd.Series) -> pd.DataFrame:
    """A table of differences without the values of those that rest on too few answers."""
    names = {"estimate", "low", "high", "p", "p_holm", "p_margin", "p_margin_holm"}
    return table.assign(**{name: table[name].where(~few) for name in names & {*table}})
