"""Where confidence is of use: where models disagree, beside the likelihood, and where something is decided by it.

All of it is about the first test set, and outside the primary hypotheses.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from whoknows.evaluation import bootstrap, decisions, scores
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.bootstrap import ABOVE, BELOW, FEW, INSIGNIFICANT
from whoknows.evaluation.cells import COMPARED, first_test_set, native_rows, on_tasks
from whoknows.evaluation.decisions import AND, BASELINE
from whoknows.evaluation.plateau import no_verdict, together

DISAGREEMENT, STACK, SELECTIVE, PICK, HANDED = "disagreement", "stack", "selective", "pick", "handed on"  # parts
# What an estimator that reads, was trained on and scores a model's answers is compared with.
READER, TRANSFER, DATA = "Reader: self − other", "Self-trained − cross-trained, A", "Self-trained − cross-trained, B"
ANSWERS = "Answers: self − other"
TARGETS = (0.7, 0.8, 0.9)  # wanted shares of right answers
SHARES = tuple(np.linspace(0, 1, 21).round(2).tolist())  # of answers that are handed on
COVERAGE, RIGHT, EQUAL = "coverage", "right", "right at equal coverage"  # measures, besides auroc
ACCURACY, GAIN = "accuracy", "gain"
ALONE = "{} alone"
SINGLE, ORACLE, RANDOM = "one model", "an oracle", "at random"  # no model has such a name, for its spaces
OVER, UNDER = (f"{word} zero" for word in (ABOVE, BELOW))
NAMES = ["part", "scored", "other", "method", "kind", "measure", "at"]
VALUES = ["value", "low", "high", "compared", "difference", "difference_low", "difference_high"]
COLUMNS = [*NAMES, *VALUES, "n", "n_rarer", "n_validation", "says"]


def of_grid(rows: pd.DataFrame, models: list[str], tasks: list[dict], readers: Sequence[str] = ()) -> pd.DataFrame:
    """Every value, with its interval, and its difference from what it is compared with.

    Args:
        rows: of any methods; those of `decisions.METHODS` count.
        models, tasks: the grid's, in its order; for `readers` see `cells.native_rows`.

    Returns:
        part, scored, other (the other model, where there are two), method (or more than one, with `decisions.AND`
        between them; or `ORACLE`, `RANDOM`, or of a model `ALONE`), kind (what it is compared with), measure, at (a
        target, or the share that is handed on), value, low and high; compared (what `value` is compared with),
        difference, difference_low and difference_high; n (test questions), n_rarer (the fewer right or wrong answers,
        or questions that one of two models alone gets right), n_validation (answers to fit on, of each seed, as text),
        and says: `FEW`, why the estimators are unsettled, or what the interval of the difference says: `INSIGNIFICANT`
        where it holds zero, `OVER` or `UNDER`; "" without a difference. Values of too few answers are missing.
    """
    _, members = first_test_set(tasks, rows)
    rows = rows[rows["method"].isin(decisions.METHODS) & rows["task"].isin(members)]
    rows = rows.assign(unsettled=no_verdict(rows))
    by_model = dict(iter(native_rows(rows, readers).groupby("scored")))
    native = {model: by_model[model] for model in models if model in by_model}
    lines = [*_disagreements(rows, [*native], members, readers)]
    for model, group in native.items():
        lines += [{"scored": model} | line for line in (*_stacks(group, members), *_selections(group))]
    for pair in itertools.combinations(native, 2):
        lines += _pair({model: native[model] for model in pair})
    texts = dict.fromkeys([*NAMES[:-1], "n_validation", "says"], "")
    return pd.DataFrame([texts | line for line in lines], columns=COLUMNS).astype(dict.fromkeys(["at", *VALUES], float))


def _value(value: np.ndarray) -> dict:
    """A value with its interval, from [1 + times]: as it is, and in each resample."""
    return {"value": value[0]} | _ends(value)


def _compared(value: np.ndarray, base: np.ndarray | None, n_rarer: int, unsettled: str = "") -> dict:
    """The same, and how it differs from what it is compared with, if it is; nothing of too few answers."""
    if n_rarer < MIN_PER_CLASS:
        return {"n_rarer": n_rarer, "says": FEW}
    if base is None:
        return _value(value) | {"n_rarer": n_rarer, "says": unsettled}
    ends = _ends(value - base, "difference_")
    low, high = ends.values()
    verdict = OVER if low > 0 else UNDER if high < 0 else "" if np.isnan(low) else INSIGNIFICANT
    less = {"compared": base[0], "difference": value[0] - base[0], "n_rarer": n_rarer}
    return _value(value) | less | ends | {"says": unsettled or verdict}


def _ends(values: np.ndarray, before: str = "") -> dict[str, float]:
    ends = bootstrap.interval(pd.DataFrame(values[None, 1:])).iloc[0]
    return {f"{before}low": ends["low"], f"{before}high": ends["high"]}


def _unsettled(rows: pd.DataFrame, by: str | list[str] = "method") -> dict:
    """Why an estimator of each method, or of each cell, is unsettled; "" if none is."""
    return rows.groupby(by)["unsettled"].unique().map(together).to_dict()


def _measured(rows: pd.DataFrame, members: list[str]) -> tuple[pd.DataFrame, dict[tuple, np.ndarray]]:
    """Of each cell n and n_rarer, and its within-task AUROC, [1 + times]."""
    values, drawn = on_tasks(rows, members)
    values = values.dropna()
    return values, {cell: np.r_[auroc, drawn.loc[cell]] for cell, auroc in values["auroc"].items()}


def _disagreements(rows: pd.DataFrame, models: list[str], members: list[str], readers: Sequence[str]) -> Iterator[dict]:
    test = rows[(rows["split"] == "test") & rows["method"].isin(COMPARED)]
    graded = test.drop_duplicates(["scored", "question_id"])
    graded = graded.pivot(index="question_id", columns="scored", values="correct")
    for pair in itertools.combinations([model for model in models if model in graded], 2):
        both = graded[[*pair]].dropna()
        apart = both.index[both[pair[0]] != both[pair[1]]]
        of_pair = test[test["question_id"].isin(apart) & test["scored"].isin(pair)]
        (values, drawn), why = _measured(of_pair, members), _unsettled(of_pair, scores.CELL)
        for (scored, other), method in itertools.product((pair, pair[::-1]), COMPARED):
            reads = scored in readers or not readers
            reader = scored if reads else readers[0]
            others = {READER: (other, scored, scored), TRANSFER: (other, other, scored)} if reads else {}
            others |= {DATA: (reader, other, scored), ANSWERS: (reader, scored, other)}
            cell = (method, reader, scored, scored)
            for kind, place in ((kind, (method, *names)) for kind, names in others.items()):
                if {cell, place} <= {*drawn}:
                    fewest = values.loc[[cell, place]].min()
                    line = {"part": DISAGREEMENT, "scored": scored, "other": other, "method": method, "kind": kind}
                    line |= {"measure": "auroc", "n": fewest["n"]}
                    unsettled = together([why[cell], why[place]])
                    yield line | _compared(drawn[cell], drawn[place], fewest["n_rarer"], unsettled)


def _stacks(rows: pd.DataFrame, members: list[str]) -> Iterator[dict]:
    stacked, why = decisions.stacked(rows), _unsettled(rows)
    if stacked.empty:
        return
    (values, drawn), fitted = _measured(stacked, members), stacked.groupby("seed")["n_validation"].first()
    for cell in stacked[scores.CELL].drop_duplicates().itertuples(index=False, name=None):
        if cell in drawn:
            base = drawn[(BASELINE, *cell[1:])] if cell[0] != BASELINE else None
            unsettled = together(why[name] for name in cell[0].split(AND))
            line = {"part": STACK, "method": cell[0], "measure": "auroc", "n": values.loc[cell, "n"]}
            line |= {"n_validation": " to ".join(map(str, sorted({fitted.min(), fitted.max()})))}
            yield line | _compared(drawn[cell], base, values.loc[cell, "n_rarer"], unsettled)


def _fitted(rows: pd.DataFrame) -> list[str]:
    """The methods that have validation answers, on which something can be fitted."""
    known = set(rows.loc[rows["split"] == "validation", "method"])
    return [method for method in decisions.METHODS if method in known]


def _selections(rows: pd.DataFrame) -> Iterator[dict]:
    methods, why = _fitted(rows), _unsettled(rows)
    tables = decisions.tested(rows[rows["method"].isin(methods)])
    if not tables or (test := next(iter(tables.values()))).empty:
        return
    weights, correct = decisions.question_weights(test.index), test["correct"].to_numpy(float)
    rarer = int(min(correct.sum(), (1 - correct).sum()))
    for target in TARGETS:
        given = {method: decisions.answered(rows, tables, method, target) for method in methods}
        as_many = {}
        if BASELINE in given:
            count = given[BASELINE].sum()
            for method in methods:
                each = [decisions.most_confident(table[method], count) for table in tables.values()]
                as_many[method] = np.mean(each, axis=0)
        values = {COVERAGE: {method: decisions.mean(share, weights) for method, share in given.items()}}
        for measure, shares in {RIGHT: given, EQUAL: as_many}.items():
            values[measure] = {method: _right(share, correct, weights) for method, share in shares.items()}
        for measure, by_method in values.items():
            for method, value in by_method.items():
                base = by_method.get(BASELINE) if method != BASELINE else None
                line = {"part": SELECTIVE, "method": method, "kind": BASELINE, "measure": measure, "at": target}
                yield line | {"n": len(test)} | _compared(value, base, rarer, why[method])


def _right(share: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share that is right of the answers that are given, [1 + times]; NaN of too few."""
    if share.sum() < MIN_PER_CLASS:
        return np.full(weights.shape[1], np.nan)
    return decisions.mean(correct, weights * share[:, None])


def _pair(native: dict[str, pd.DataFrame]) -> Iterator[dict]:
    """Whose answer is picked, and what is handed on to the model that is right more often on validation."""
    methods = [name for name in decisions.METHODS if all(name in _fitted(rows) for rows in native.values())]
    rows = {model: group[group["method"].isin(methods)] for model, group in native.items()}
    tables = decisions.of_both(*(decisions.tested(group) for group in rows.values()))
    if not tables or (shared := next(iter(tables.values()))[0].index).empty:
        return
    by_model = {model: {seed: both[at] for seed, both in tables.items()} for at, model in enumerate(rows)}
    weak, strong = rows if decisions.stronger(*rows.values()) else reversed(rows)
    right = [next(iter(by_model[model].values()))["correct"].to_numpy(float) for model in (weak, strong)]
    rarer = int(min((right[0] > right[1]).sum(), (right[1] > right[0]).sum()))
    line = {"scored": weak, "other": strong, "n": len(shared), "n_rarer": rarer}
    weights = decisions.question_weights(shared)
    sides = [(rows[model], by_model[model]) for model in (weak, strong)]
    yield from (line | other for other in _picks((weak, strong), sides, methods, right, weights, rarer))
    yield from (line | other for other in _handed_on(*sides[0], methods, right, weights, rarer))


def _picks(models: tuple, sides: list, methods: list[str], right: list, weights: np.ndarray, rarer: int) -> Iterator:
    alone = [decisions.mean(grades, weights) for grades in right]
    line, likelihood = {"part": PICK, "measure": ACCURACY}, None
    for model, value in zip(models, alone):
        yield line | {"method": ALONE.format(model), "kind": SINGLE} | _value(value)
    yield line | {"method": ORACLE, "kind": ORACLE} | _value(decisions.mean(np.maximum(*right), weights))
    why = _unsettled(pd.concat([rows for rows, _ in sides]))
    for method in methods:
        seeds = sides[0][1]
        scaled = [[decisions.scaled(rows, tables[seed], method, seed) for rows, tables in sides] for seed in seeds]
        if np.isnan(scaled).any():
            continue
        each = np.mean([decisions.picked(*confidences, *right) for confidences in scaled], axis=0)
        value = decisions.mean(each, weights)
        yield line | {"method": method, "kind": SINGLE} | _compared(value, alone[1], rarer, why[method])
        if likelihood is not None:
            yield line | {"method": method, "kind": BASELINE} | _compared(value, likelihood, rarer, why[method])
        likelihood = value if method == BASELINE else likelihood


def _handed_on(
    rows: pd.DataFrame, tables: dict, methods: list[str], right: list, weights: np.ndarray, rarer: int
) -> Iterator[dict]:
    first, last = (decisions.mean(grades, weights) for grades in right)
    line, why, likelihood = {"part": HANDED, "kind": BASELINE}, _unsettled(rows), None
    for share in SHARES:
        yield line | {"method": RANDOM, "measure": ACCURACY, "at": share} | _value(first + share * (last - first))
    for method in methods:
        gain = right[1] - right[0]
        by_seed = [decisions.handed_on(table[method], gain, weights, SHARES) for table in tables.values()]
        gained, area = (np.mean(values, axis=0) for values in zip(*by_seed))
        values = np.vstack([first + gained, area - (last - first) / 2])
        for at, (share, value) in enumerate(zip((*SHARES, np.nan), values)):
            base = None if likelihood is None else likelihood[at]
            measured = {"method": method, "measure": GAIN if np.isnan(share) else ACCURACY, "at": share}
            yield line | measured | _compared(value, base, rarer, why[method])
        likelihood = values if method == BASELINE else likelihood
