"""What confidence decides: whether to answer, whose answer to take, and which answers to ask a stronger model for.

All that is fitted, a stack of methods, a threshold or a scale, is fitted on validation answers alone. A resample draws
test questions anew and leaves what was fitted as it is.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from whoknows.data.rows import example_rows
from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.auroc import MIN_PER_CLASS, checked, counts, too_few

BASELINE = "likelihood"
METHODS = (BASELINE, "zero_shot", "probe", "lora_prompt")  # whose confidences decide
AND = " + "  # between the names of the methods of a stack


def side_by_side(rows: pd.DataFrame, seed: int, split: str) -> pd.DataFrame:
    """The answers that all methods scored with one seed: correct and each method's logit, by task and question_id.

    The rows are of one scored model, each method once, with its seeds; what was not trained counts for every seed.

    Raises:
        WhoknowsError: a confidence is NaN.
    """
    asked = rows[((rows["seed"] == seed) | (rows["trained_on"] == "")) & (rows["split"] == split)]
    checked(asked["logit"], asked["correct"])
    wide = asked.pivot(index=["task", "question_id", "correct"], columns="method", values="logit")
    wide = wide.reindex(columns=rows["method"].unique()).dropna().sort_index()
    return wide.rename_axis(columns=None).reset_index("correct")


def tested(rows: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """By seed, what `side_by_side` returns of the test answers that all methods scored with every seed.

    The seeds are those that all trained methods have, if any was trained.
    """
    trained = rows[rows["trained_on"] != ""]
    by_method = [{*seeds} for _, seeds in (rows if trained.empty else trained).groupby("method")["seed"]]
    seeds = sorted(set.intersection(*by_method)) if by_method else []
    tables = {seed: side_by_side(rows, seed, "test") for seed in seeds}
    return dict(zip(tables, _on_shared([*tables.values()])))


def of_both(one: dict[int, pd.DataFrame], other: dict[int, pd.DataFrame]) -> dict[int, tuple[pd.DataFrame, ...]]:
    """By seed that both have, of two models' `tested` the answers to the questions that both answered."""
    return {seed: tuple(_on_shared([one[seed], other[seed]])) for seed in one if seed in other}


def _on_shared(tables: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """The lines of each table that all tables have, in the order of their index."""
    if not tables:
        return []
    shared = reduce(pd.Index.intersection, (table.index for table in tables)).sort_values()
    return [table.loc[shared] for table in tables]


def held(rows: pd.DataFrame, method: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences and grades of a method's validation answers with one seed, or with any if it was not trained; [n]."""
    asked = rows[(rows["method"] == method) & (rows["split"] == "validation")]
    asked = asked[(asked["seed"] == seed) | (asked["trained_on"] == "")]
    return checked(asked["logit"], asked["correct"])


def stacked(rows: pd.DataFrame) -> pd.DataFrame:
    """Test rows of each method alone, and of logistic regressions on the logits of several, on the same answers.

    The likelihood is put together with each other method, and then all methods are. A regression, with scikit-learn's
    usual penalty on logits of unit variance, is fitted for each seed on the validation answers that all methods scored.

    Returns:
        Rows, whose method has the names of what was put together with `AND` between them, with n_validation. There are
        none without a likelihood and another method; a seed with too few validation answers of a class is left out.
    """
    others = [method for method in METHODS[1:] if method in set(rows["method"])]
    parts = [rows[:0].assign(n_validation=0)]
    if not others or BASELINE not in set(rows["method"]):
        return parts[0]
    stacks = [[method] for method in (BASELINE, *others)] + [[BASELINE, other] for other in others]
    stacks += [[BASELINE, *others]] if len(others) > 1 else []
    untrained = set(rows.loc[rows["trained_on"] == "", "method"])  # whose confidences are the same for all seeds
    for seed, test in tested(rows).items():
        known = side_by_side(rows, seed, "validation")
        if too_few(**counts(known["correct"])) or test.empty:
            continue
        answers = test.reset_index().assign(split="test")
        for names in [names for names in stacks if not (parts[1:] and names[0] in untrained and len(names) == 1)]:
            fitted = make_pipeline(StandardScaler(), LogisticRegression()) if len(names) > 1 else None
            logit = (
                fitted.fit(known[names], known["correct"]).decision_function(test[names]) if fitted else test[names[0]]
            )
            scored = {"method": AND.join(names), "reader": "", "scored": rows["scored"].iloc[0], "seed": seed}
            parts.append(example_rows(answers, logit=logit, **scored).assign(n_validation=len(known)))
    return pd.concat(parts, ignore_index=True)


def threshold(logit: np.ndarray, correct: np.ndarray, right: float, least: int = MIN_PER_CLASS) -> float:
    """The lowest confidence from which on so large a share of validation answers is right: that of most coverage.

    The empirical form of selective classification (Geifman and El-Yaniv, 2017), with no bound on the true share.

    Args:
        logit, correct: confidences and grades, [n]. Equal confidences are not parted.
        right: the share that is wanted; one of fewer than `least` answers does not count.

    Returns:
        One of the confidences, infinity where none will do, or NaN without answers.
    """
    logit, correct = checked(logit, correct)
    if not correct.size:
        return float("nan")
    values, place = np.unique(-logit, return_inverse=True)
    given, kept = (np.cumsum(np.bincount(place, weights=weights)) for weights in (None, correct))
    good = np.flatnonzero((kept >= right * given - 1e-9) & (given >= least))
    return float(-values[good[-1]]) if good.size else float("inf")


def question_weights(questions: pd.MultiIndex) -> np.ndarray:
    """How often each of some test questions counts: [n, 1 + times], first as it is, once, then in each resample."""
    drawn = bootstrap.question_weights(questions.to_frame(index=False).assign(split="test")).to_numpy()
    return np.column_stack([np.ones(len(drawn), np.float32), drawn])


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over questions of [n] values, as it is and in each resample: [1 + times]; NaN where nothing counts.

    The weights are `question_weights`, or these times the share in which a question counts.
    """
    with np.errstate(invalid="ignore"):
        return (values @ weights) / weights.sum(axis=0)


def answered(rows: pd.DataFrame, tables: dict[int, pd.DataFrame], method: str, right: float) -> np.ndarray:
    """In what share of the seeds each test question is answered, [n], at the `threshold` that validation chooses.

    The rows are as `side_by_side` takes them, the tables as `tested` returns them.
    """
    return np.mean([table[method] >= threshold(*held(rows, method, seed), right) for seed, table in tables.items()], 0)


def most_confident(logit: np.ndarray, count: float) -> np.ndarray:
    """In what share each answer is among so many of the most confident ones, [n]; equal confidences share alike."""
    values, place, sizes = np.unique(-np.asarray(logit), return_inverse=True, return_counts=True)
    before = np.cumsum(sizes) - sizes
    return np.clip((count - before) / sizes, 0, 1)[place]


def stronger(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether the other model, by rows, is right as often or more on validation questions that both answered."""
    grades = [
        rows[rows["split"] == "validation"].drop_duplicates("question_id").set_index("question_id")["correct"]
        for rows in (one, other)
    ]
    mine, theirs = pd.concat(grades, axis=1, join="inner").mean()
    return bool(theirs >= mine)


def scaled(rows: pd.DataFrame, table: pd.DataFrame, method: str, seed: int) -> np.ndarray:
    """P(correct) of test answers, [n], after Platt scaling on validation answers, so that two models' can be compared.

    The table is the seed's of `tested`; NaN where the validation answers have one class.
    """
    fitted = scores.fit(*held(rows, method, seed))
    return expit(fitted.slope * table[method].to_numpy(float) + fitted.offset)


def picked(one: np.ndarray, other: np.ndarray, one_right: np.ndarray, other_right: np.ndarray) -> np.ndarray:
    """Whether the answer with the higher confidence is right, [n]; half of each where both have the same."""
    first = np.where(one == other, 0.5, one > other)
    return first * one_right + (1 - first) * other_right


def handed_on(
    logit: np.ndarray, gain: np.ndarray, weights: np.ndarray, shares: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """What handing the least confident answers on to another model gains in accuracy.

    Args:
        logit: confidences in the first model's answers, [n]; equal ones are handed on together, in part if need be.
        gain: 1, 0 or -1: whether the other model is right, less whether the first one is; [n].
        weights: as `question_weights` returns, [n, 1 + times].

    Returns:
        [shares, 1 + times], and [1 + times], the mean over all shares from zero to one: the area under the line that
        joins the groups of equal confidences.
    """
    order = np.argsort(logit, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(np.asarray(logit)[order]) != 0])
    answers, gained = (np.add.reduceat(part[order], starts, axis=0) for part in (weights, weights * gain[:, None]))
    total = answers.sum(axis=0)
    until, so_far = answers.cumsum(axis=0) / total, gained.cumsum(axis=0) / total
    area = ((so_far - gained / total / 2) * answers / total).sum(axis=0)
    lines = [np.interp(shares, np.r_[0, x], np.r_[0, y]) for x, y in zip(until.T, so_far.T)]
    return np.array(lines).T, area
