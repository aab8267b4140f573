"""What confidence is good for: where models disagree, beside the likelihood, and where something is decided by it.

All of it is about the first test set, and outside the primary hypotheses.
"""

import itertools
from collections.abc import Iterator, Sequence
from html import escape

import altair as alt
import numpy as np
import pandas as pd

from whoknows.data.methods import METHOD_TITLES
from whoknows.evaluation import bootstrap, decisions, scores
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.bootstrap import ABOVE, BELOW, FEW, INSIGNIFICANT
from whoknows.evaluation.cells import first_test_set, native_rows
from whoknows.evaluation.decisions import AND, BASELINE
from whoknows.evaluation.plateau import IMPROVING, RELEASED, no_verdict
from whoknows.report.pages import style
from whoknows.report.pages.curves import WITHOUT_ZERO, embedding, tipped
from whoknows.report.pages.differences import COMPARED

DISAGREEMENT, STACK, SELECTIVE, PICK, HANDED = "disagreement", "stack", "selective", "pick", "handed on"  # parts
# What an estimator that reads, was trained on and scores a model's answers is compared with.
READER, TRANSFER, DATA = "Reader: self − other", "Self-trained − cross-trained, A", "Self-trained − cross-trained, B"
ANSWERS = "Answers: self − other"
KINDS = {
    READER: "the other model reads, trained on the same answers",
    TRANSFER: "the other model reads, trained on its own answers",
    DATA: "the same reader, trained on the other model's answers",
    ANSWERS: "the same estimator, on the other model's answers",
}
NO_STACK = f"no likelihood, no other method, or fewer than {MIN_PER_CLASS} right or wrong validation answers with both"
NO_PAIR = "This does not apply here: it takes two models that answered the same questions, and validation answers."
TARGETS = (0.7, 0.8, 0.9)  # wanted shares of right answers
SHARES = tuple(np.linspace(0, 1, 21).round(2).tolist())  # of answers that are handed on
COVERAGE, RIGHT, EQUAL = "coverage", "right", "right at equal coverage"  # measures, besides auroc
ACCURACY, GAIN = "accuracy", "gain"
MEASURES = {  # of `SELECTIVE`, and what pages call them
    COVERAGE: "Answered", RIGHT: "Right among the answered", EQUAL: "Right at the likelihood's coverage",
}  # fmt: skip
SHOWN = (0.25, 0.5, 0.75)  # of `SHARES` in the table
ALONE = "{} alone"
TOGETHER, NONE = "All together", "No confidence"
SINGLE, ORACLE, RANDOM = "one model", "an oracle", "at random"  # no model has such a name, for its spaces
OVER, UNDER = (f"{word} zero" for word in (ABOVE, BELOW))
NAMES = ["part", "scored", "other", "method", "kind", "measure", "at"]
VALUES = ["value", "low", "high", "compared", "difference", "difference_low", "difference_high"]
COLUMNS = [*NAMES, *VALUES, "n", "n_rarer", "n_validation", "says"]


def of_grid(rows: pd.DataFrame, models: list[str], tasks: list[dict], readers: Sequence[str] = ()) -> pd.DataFrame:
    """Every value of the page, with its interval, and its difference from what it is compared with.

    Args:
        rows: rows of any methods; those of `decisions.METHODS` count.
        models: the grid's, in its order.
        tasks: the grid's tasks, dicts with name and role.
        readers: see `cells.native_rows`.

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
    return rows.groupby(by)["unsettled"].max().to_dict()


def _measured(rows: pd.DataFrame, members: list[str]) -> tuple[pd.DataFrame, dict[tuple, np.ndarray]]:
    """Of each cell n and n_rarer, and its within-task AUROC, [1 + times]."""
    by_cell = scores.within_task(scores.by_task(rows, only_auroc=True), members).groupby(scores.CELL)
    values = by_cell.agg({"auroc": "mean", "n": "min", "n_rarer": "min"}).dropna()
    drawn = bootstrap.by_cell(bootstrap.samples(rows), members)
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
                    unsettled = why[cell] or why[place]
                    yield line | _compared(drawn[cell], drawn[place], fewest["n_rarer"], unsettled)


def _stacks(rows: pd.DataFrame, members: list[str]) -> Iterator[dict]:
    stacked, why = decisions.stacked(rows), _unsettled(rows)
    if stacked.empty:
        return
    (values, drawn), fitted = _measured(stacked, members), stacked.groupby("seed")["n_validation"].first()
    for cell in stacked[scores.CELL].drop_duplicates().itertuples(index=False, name=None):
        if cell in drawn:
            base = drawn[(BASELINE, *cell[1:])] if cell[0] != BASELINE else None
            unsettled = max(why[name] for name in cell[0].split(AND))
            line = {"part": STACK, "method": cell[0], "measure": "auroc", "n": values.loc[cell, "n"]}
            line |= {"n_validation": style.span(fitted.min(), fitted.max())}
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
            as_many = {
                method: np.mean([decisions.most_confident(table[method], count) for table in tables.values()], axis=0)
                for method in methods
            }
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
    known = zip(
        (*map(ALONE.format, models), ORACLE),
        (SINGLE, SINGLE, ORACLE),
        (*alone, decisions.mean(np.maximum(*right), weights)),
    )
    line, likelihood = {"part": PICK, "measure": ACCURACY}, None
    for name, kind, value in known:
        yield line | {"method": name, "kind": kind} | _value(value)
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
        by_seed = [
            decisions.handed_on(table[method], right[1] - right[0], weights, SHARES) for table in tables.values()
        ]
        gained, area = (np.mean(values, axis=0) for values in zip(*by_seed))
        values = np.vstack([first + gained, area - (last - first) / 2])
        for at, (share, value) in enumerate(zip((*SHARES, np.nan), values)):
            base = None if likelihood is None else likelihood[at]
            measured = {"method": method, "measure": GAIN if np.isnan(share) else ACCURACY, "at": share}
            yield line | measured | _compared(value, base, rarer, why[method])
        likelihood = values if method == BASELINE else likelihood


def label(method: str) -> str:
    """What pages call a method, more than one together, or what no confidence decides."""
    names = method.split(AND)
    if len(names) > 2:
        return "All of these together"
    fixed = {ORACLE: "Oracle: right if either is", RANDOM: "At random"}
    alone = (METHOD_TITLES | fixed).get(names[-1], method)
    return f"Likelihood, with {alone}" if len(names) > 1 else alone


def _part(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """The lines of one part, with what its methods are called; whole numbers where counts are."""
    lines = table[table["part"] == part]
    return lines.assign(label=lines["method"].map(label), n=lines["n"].astype("Int64"))


def _pairs(lines: pd.DataFrame) -> pd.Series:
    return lines["scored"] + " and " + lines["other"]


def _colours(methods: pd.Series) -> pd.Series:
    """What a legend calls each line's colour: the method that is added last, all of them, or none."""
    names = methods.map(lambda method: method.split(AND))
    last = names.str[-1].map(METHOD_TITLES).fillna(NONE)
    return last.mask(names.str.len() > 2, TOGETHER)


def _scales(colours: pd.Series) -> tuple[alt.Scale, alt.Scale]:
    """Colours and shapes of what `_colours` returns."""
    names = {METHOD_TITLES[method]: style.hue(method) for method in decisions.METHODS}
    names |= {TOGETHER: style.INK, NONE: style.GREY}
    there = [name for name in names if name in set(colours)]
    marks = dict(zip(names, style.SHAPES))
    return (
        alt.Scale(domain=there, range=[names[name] for name in there]),
        alt.Scale(domain=there, range=[marks[name] for name in there]),
    )


def _points(drawn: pd.DataFrame, title: str, rule: float | None = None) -> alt.FacetChart:
    """A point with its interval for each line, hollow where no verdict rests on it.

    Args:
        drawn: the columns of `of_grid`, label, row (on the y axis, methods beside each other) and panel.
        title: of the x axis.
        rule: where a dashed line stands.
    """
    tips = [*NAMES[1:3], "label", "row", "value", "low", "high", "compared", "difference", "says"]
    drawn = drawn.assign(colour=_colours(drawn["method"]), open=drawn["says"].isin([IMPROVING, RELEASED]))
    drawn = style.in_lines(drawn[[*tips, "measure", "panel", "colour", "open"]], row=style.LABEL, panel=style.HEADING)
    colours, marks = _scales(drawn["colour"])
    legend = {"title": None, "legend": alt.Legend(orient="top", columns=2)}
    beside = drawn.groupby(["panel", "measure", "row"])["label"].nunique().max() > 1
    spaced = alt.Scale(paddingInner=0.35) if beside else alt.Undefined
    base = tipped(alt.Chart(), *tips, label="Of", row="What", value=title).encode(
        y=alt.Y("row:N", title=None, sort=list(drawn["row"].unique()), axis=style.NAMES, scale=spaced),
        color=alt.Color("colour:N", scale=colours, **legend),
    )
    if beside:
        base = base.encode(yOffset=alt.YOffset("label:N", sort=list(drawn["label"].unique())))
    points = base.mark_point(filled=True, size=60, strokeWidth=1.5, opacity=1).encode(
        x="value:Q",
        shape=alt.Shape("colour:N", scale=marks, **legend),
        stroke=alt.Stroke("colour:N", scale=colours, legend=None),
        fillOpacity=alt.when("datum.open").then(alt.value(0)).otherwise(alt.value(1)),
    )
    bars = style.interval_bars(base.transform_filter("isValid(datum.low)"), title, WITHOUT_ZERO)
    layers = [*([] if rule is None else [style.rule_at(rule)]), bars, points.transform_filter("isValid(datum.value)")]
    height = alt.Step(13, **{"for": "offset"}) if beside else style.row_step(drawn["row"])
    chart = alt.layer(*layers, data=drawn.round(4)).properties(width=340, height=height)
    return chart.facet(row=style.headed(drawn, "panel")).resolve_scale(y="independent")


def disagreement_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """How self-trained estimators differ from others where two models disagree; None if no two do.

    Args:
        table: as `of_grid` returns.
    """
    lines = _part(table, DISAGREEMENT).dropna(subset="difference")
    if lines.empty:
        return None
    less = {"value": lines["difference"], "low": lines["difference_low"], "high": lines["difference_high"]}
    panel = lines["scored"] + ", where it disagrees with " + lines["other"]
    chart = _points(lines.assign(**less, row=lines["kind"], panel=panel), "Difference of AUROC", 0)
    described = (
        f"{len(lines)} differences of AUROC on the questions that one of two models alone gets right, with intervals; "
        "all values are in the table beneath."
    )
    return chart.properties(description=described, usermeta=embedding("disagreement"))


def stack_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """AUROC of methods alone, with the likelihood and all together, a panel for each model; None if there is none.

    Args:
        table: as `of_grid` returns.
    """
    lines = _part(table, STACK).dropna(subset="value")
    if lines.empty:
        return None
    chart = _points(lines.assign(row=lines["label"], panel=lines["scored"]), "AUROC")
    described = (
        "AUROC of each method alone, together with the likelihood, and of all together, with intervals; "
        "all values are in the table beneath."
    )
    return chart.properties(description=described, usermeta=embedding("stacks"))


def selective_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """Coverage, or the share that is right, by method and wanted share, a panel for each model; None if there is none.

    Args:
        table: as `of_grid` returns.
    """
    lines = _part(table, SELECTIVE).dropna(subset="value")
    if lines.empty:
        return None
    measures = [measure for measure in MEASURES if measure in set(lines["measure"])]
    rows = lines["at"].map("{:.0%} right wanted".format)
    chart = _points(lines.assign(row=rows, panel=lines["scored"]), "Share")
    chart = chart.transform_filter("datum.measure === measure")
    chart = chart.add_params(style.switch("measure", measures, MEASURES, "Show: "))
    described = (
        f"Share of questions that are answered, and of these the share that is right, at {len(TARGETS)} thresholds "
        "from validation, with intervals; all values are in the table beneath."
    )
    return chart.properties(description=described, usermeta=embedding("selective"))


def pick_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """Accuracy of each of two models, of an oracle, and of picking by confidence; None if there are no two.

    Args:
        table: as `of_grid` returns.
    """
    lines = _part(table, PICK).query("kind != @BASELINE").dropna(subset="value")
    if lines.empty:
        return None
    chart = _points(lines.assign(row=lines["label"], panel=_pairs(lines)), "Accuracy")
    described = (
        "Accuracy of each model alone, of picking the answer with the higher confidence, and of an oracle, "
        "with intervals; all values are in the table beneath."
    )
    return chart.properties(description=described, usermeta=embedding("pick"))


def handed_on_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """Accuracy against the share of answers that are handed on, a line for each method; None without two models.

    Args:
        table: as `of_grid` returns.
    """
    lines = _part(table, HANDED).query("measure == @ACCURACY").dropna(subset="value")
    if lines.empty:
        return None
    drawn = lines.assign(panel=lines["scored"] + ", handed on to " + lines["other"], colour=_colours(lines["method"]))
    drawn = drawn[["panel", "label", "colour", "at", "value", "low", "high"]].round(4)
    drawn = style.in_lines(drawn, panel=style.HEADING)
    names = list(drawn["label"].unique())
    colours, _ = _scales(drawn["colour"])
    hues = {label: colours.range[colours.domain.index(name)] for label, name in zip(drawn["label"], drawn["colour"])}
    scale = alt.Scale(domain=names, range=[hues[name] for name in names])
    legend = {"title": None, "legend": alt.Legend(orient="top", columns=2, labelLimit=240)}
    titles = {"at": "Share handed on", "value": "Accuracy"}
    base = tipped(alt.Chart(), "label", "at", "value", "low", "high", **titles).encode(
        x=alt.X("at:Q", title="Share handed on", axis=alt.Axis(format="%")),
        y=alt.Y("value:Q", title="Accuracy", scale=WITHOUT_ZERO, axis=alt.Axis(format="%")),
        color=alt.Color("label:N", scale=scale, **legend),
        strokeDash=alt.StrokeDash("label:N", scale=style.dashes(names), **legend),
    )
    points = base.mark_point(filled=True, size=28, opacity=1)
    points = points.encode(shape=alt.Shape("label:N", scale=style.shapes(names), **legend))
    chart = alt.layer(base.mark_line(strokeWidth=2), points, data=drawn)
    chart = chart.properties(width=340, height=230).facet(row=style.headed(drawn, "panel"))
    described = (
        "Accuracy by the share of answers that are handed on to the better model, least confident first, "
        "a line for each method; values are in the table beneath."
    )
    return chart.resolve_scale(y="independent").properties(description=described, usermeta=embedding("handed_on"))


def _html(lines: pd.DataFrame, captions: pd.Series, columns: dict[str, str]) -> str:
    """HTML tables, one for each caption."""
    forms = {name: "{:.3f}".format for name in ("value", "compared") if name in columns}
    parts = [
        style.captioned(style.columns_html(group, columns, **forms), escape(caption))
        for caption, group in lines.groupby(captions, sort=False)
    ]
    return "\n".join(parts)


def _with_texts(lines: pd.DataFrame, are_shares: bool = True) -> pd.DataFrame:
    """Values and differences in words, with their intervals, beside the numbers; shares in percent, and in points."""
    numbers, digits = lines[VALUES] * (100 if are_shares else 1), 1 if are_shares else 3
    texts = {"value_text": _texts(numbers[VALUES[:3]], digits=digits, unit="%" * are_shares)}
    texts["less_text"] = _texts(numbers[VALUES[4:]], "+", digits)
    return lines.assign(**{name: pd.Series(text, lines.index, dtype="str") for name, text in texts.items()})


def _texts(numbers: pd.DataFrame, sign: str = "", digits: int = 3, unit: str = "") -> list[str | None]:
    """The same of three columns: values, and the ends of their intervals."""
    return style.with_interval(*(numbers[name] for name in numbers), sign, digits, unit)


def disagreement_html(table: pd.DataFrame) -> str:
    """The numbers of `disagreement_chart` as HTML, a table for each model and the one that it disagrees with.

    Args:
        table: as `of_grid` returns.
    """
    lines = _with_texts(_part(table, DISAGREEMENT), are_shares=False)
    columns = {
        "kind": "Compared", "label": "Method", "value": "AUROC", "compared": "Other",
        "less_text": "Difference, 95 % interval", "says": "Verdict",
    }  # fmt: skip
    captions = lines["scored"] + ", scored where it disagrees with " + lines["other"] + ": "
    captions += lines["n"].astype(str) + " test answers, " + lines["n_rarer"].astype("Int64").astype(str)
    return _html(lines, captions + " of the rarer grade", columns)


def stack_html(table: pd.DataFrame) -> str:
    """The numbers of `stack_chart` as HTML, a table for each model.

    Args:
        table: as `of_grid` returns.
    """
    lines = _with_texts(_part(table, STACK), are_shares=False)
    columns = {
        "label": "Confidence",
        "value_text": "AUROC",
        "less_text": "Less the likelihood alone",
        "says": "Verdict",
    }
    captions = lines["scored"] + ": " + lines["n"].astype(str) + " test answers, fitted on "
    return _html(lines, captions + lines["n_validation"] + " validation answers", columns)


def selective_html(table: pd.DataFrame) -> str:
    """The numbers of `selective_chart` as HTML, a table for each model.

    Args:
        table: as `of_grid` returns.
    """
    lines = _with_texts(_part(table, SELECTIVE))
    keys = ["scored", "n", "at", "method", "label"]
    wide = lines.pivot(index=keys, columns="measure", values="value_text").reindex(columns=[*MEASURES])
    equal = lines[lines["measure"] == EQUAL].set_index(keys)[["less_text", "says"]]
    wide = wide.join(equal).reindex(lines.set_index(keys).index.unique()).reset_index()
    wide = wide.assign(at=wide["at"].map("{:.0%}".format))
    columns = {"at": "Wanted", "label": "Method", COVERAGE: MEASURES[COVERAGE], RIGHT: "Right among them"}
    columns |= {"less_text": "At equal coverage", "says": "Verdict"}
    return _html(wide, wide["scored"] + ": " + wide["n"].astype(str) + " test answers", columns)


def pick_html(table: pd.DataFrame) -> str:
    """The numbers of `pick_chart` as HTML, a table for each two models.

    Args:
        table: as `of_grid` returns.
    """
    lines = _with_texts(_part(table, PICK))
    keys = ["scored", "other", "label"]
    likelihood = lines[lines["kind"] == BASELINE].set_index(keys)[["less_text", "says"]].add_suffix("_likelihood")
    lines = lines[lines["kind"] != BASELINE].join(likelihood, on=keys)
    columns = {
        "label": "Answer by", "value_text": "Accuracy", "less_text": "Less the better model alone", "says": "Verdict",
        "less_text_likelihood": "Less the likelihood", "says_likelihood": "Verdict, likelihood",
    }  # fmt: skip
    return _html(lines, _pairs(lines) + ": " + _shared(lines), columns)


def handed_on_html(table: pd.DataFrame) -> str:
    """The numbers of `handed_on_chart` as HTML, a table for each two models.

    Args:
        table: as `of_grid` returns.
    """
    lines = _with_texts(_part(table, HANDED))
    keys = ["scored", "other", "label"]
    shown = lines[lines["at"].isin(SHOWN)].pivot(index=keys, columns="at", values="value_text")
    gains = lines[lines["measure"] == GAIN].set_index(keys)[[*VALUES, "less_text", "says"]]
    points = pd.Series(_texts(100 * gains[VALUES[:3]], "+", 1), gains.index, dtype="str")
    gains = gains[["less_text", "says"]].assign(value_text=points)
    first = lines.drop_duplicates(keys).set_index(keys)[["n", "n_rarer"]]
    wide = first.join(shown).join(gains).reset_index()
    columns = {"label": "Least confident by"} | {share: f"{share:.0%} handed on" for share in SHOWN}
    columns |= {"value_text": "Mean gain", "less_text": "Less the likelihood", "says": "Verdict"}
    return _html(wide, wide["scored"] + ", handed on to " + wide["other"] + ": " + _shared(wide), columns)


def _shared(lines: pd.DataFrame) -> pd.Series:
    alone = lines["n_rarer"].astype("Int64").astype(str)
    return lines["n"].astype(str) + " test questions; each model alone is right on " + alone + " or more"


def _less(line, before: str = "") -> str:
    """A difference of AUROC with its interval, and what keeps it from a verdict."""
    ends = [style.signed(value, 3) for value in (line.difference, line.difference_low, line.difference_high)]
    return _noted(line, before, "", *ends)


def _points_less(line, before: str = "") -> str:
    """The same of a share, in percentage points."""
    ends = [style.signed(100 * value, 1) for value in (line.difference, line.difference_low, line.difference_high)]
    return _noted(line, before, " points", *ends)


def _noted(line, before: str, unit: str, difference: str, low: str, high: str) -> str:
    if pd.isna(line.difference):
        return f"{before}{line.says}" if line.says else ""
    note = "" if line.says in (OVER, UNDER) else f", {line.says}"
    return f"{before}{difference}{unit} ({low} to {high}{note})"


def _share(line) -> str:
    return f"{line.value:.0%} ({line.low:.0%} to {line.high:.0%})"


def disagreement_sentences(table: pd.DataFrame) -> str:
    """How many differences of each kind are above zero, below it, or not significant, as Markdown.

    Args:
        table: as `of_grid` returns.
    """
    lines = _part(table, DISAGREEMENT)
    if lines.empty:
        return "This does not apply here: it takes two models, and estimators that were trained on their answers."
    texts, verdicts = [], (OVER, UNDER, INSIGNIFICANT, IMPROVING, RELEASED, FEW)
    for kind, group in lines.groupby("kind", sort=False):
        counts, differences = group["says"].value_counts(), group["difference"].dropna()
        parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts if verdict in counts)
        ends = [style.signed(end) for end in (differences.min(), differences.max())] if len(differences) else []
        between = f"; the differences are {style.span(*ends)}" if ends else ""
        texts.append(f"- **{kind}** ({KINDS[kind]}): {parts}, of {len(group)}{between}.")
    return "\n".join(texts)


def stack_sentences(table: pd.DataFrame, models: list[str]) -> str:
    """What the likelihood reaches alone, and what each other method adds to it, as Markdown.

    Args:
        table: as `of_grid` returns.
        models: that may be scored.
    """
    lines, texts = _part(table, STACK), []
    for model in models:
        group = lines[lines["scored"] == model]
        alone, stacks = group[group["method"] == BASELINE], group[group["method"].str.contains(AND, regex=False)]
        if alone["value"].isna().all():
            why = f"{alone['n_rarer'].iloc[0]:.0f} right or wrong answers are too few" if len(alone) else NO_STACK
            texts.append(f"- **{model}**: {why}.")
            continue
        first = alone.iloc[0]
        lead = (
            f"the likelihood alone reaches an AUROC of {first['value']:.2f} ({first['low']:.2f} to {first['high']:.2f})"
        )
        pairs = [line for line in stacks.itertuples() if len(line.method.split(AND)) == 2]
        added = [f"{METHOD_TITLES[line.method.split(AND)[1]]} {_less(line)}" for line in pairs]
        last = stacks.iloc[-1]
        whole = f" All together reach {last['value']:.2f}, {_less(last)}." if len(stacks) > len(pairs) else ""
        texts.append(f"- **{model}**: {lead}. What is added to it: {'; '.join(added)}.{whole}")
    return "\n".join(texts)


def selective_sentences(table: pd.DataFrame, models: list[str]) -> str:
    """What is answered, and how much of it is right, at one of the thresholds, as Markdown.

    Args:
        table: as `of_grid` returns.
        models: that may be scored.
    """
    lines, texts = _part(table, SELECTIVE), []
    for model in models:
        group, parts = lines[(lines["scored"] == model) & (lines["at"] == TARGETS[1])], []
        for _, values in group.groupby("method", sort=False):
            by = {line.measure: line for line in values.itertuples()}
            parts.append(_selected(by[COVERAGE], by[RIGHT], by.get(EQUAL)))
        few = group["says"].eq(FEW).any() and f"{group['n_rarer'].iloc[0]:.0f} right or wrong answers are too few"
        text = (
            "; ".join(parts)
            if parts and not few
            else few or "no method has validation answers to choose a threshold on"
        )
        texts.append(f"- **{model}**: {text}.")
    return f"With the threshold for {TARGETS[1]:.0%} right answers:\n\n" + "\n".join(texts)


def _selected(coverage, right, equal) -> str:
    if not coverage.value:
        return f"{coverage.label} has no threshold that reaches it on validation"
    among = "too few to tell how many are right" if pd.isna(right.value) else f"of which {_share(right)} are right"
    as_many = (
        _points_less(equal, ", and at the likelihood's coverage ") if equal and coverage.method != BASELINE else ""
    )
    note = f", {coverage.says}" if equal is None and coverage.says else ""
    return f"{coverage.label} answers {_share(coverage)}, {among}{as_many}{note}"


def pick_sentences(table: pd.DataFrame) -> str:
    """What picking the answer with the higher confidence gains over the better model alone, as Markdown.

    Args:
        table: as `of_grid` returns.
    """
    lines, texts = _part(table, PICK), []
    for (weak, strong), group in lines.groupby(["scored", "other"], sort=False):
        known = group[~group["method"].isin(decisions.METHODS)].set_index("method")["value"]
        one, other = (known[ALONE.format(model)] for model in (weak, strong))
        lead = f"alone {one:.0%} and {other:.0%} are right, with an oracle {known[ORACLE]:.0%}"
        by = group[(group["kind"] == SINGLE) & group["method"].isin(decisions.METHODS)]
        picks = [f"{line.label} {_points_less(line)}" for line in by.itertuples()]
        gained = f" Picking by confidence, less {strong} alone: {'; '.join(picks)}." if picks else ""
        texts.append(f"- **{weak} and {strong}**: {lead}.{gained}")
    return "\n".join(texts) or NO_PAIR


def handed_on_sentences(table: pd.DataFrame) -> str:
    """What handing on the least confident answers gains over handing on at random, as Markdown.

    Args:
        table: as `of_grid` returns.
    """
    lines, texts = _part(table, HANDED), []
    for (weak, strong), group in lines.groupby(["scored", "other"], sort=False):
        gains, half = group[group["measure"] == GAIN], group[group["at"] == SHOWN[1]].set_index("method")["value"]
        at_half = [
            f"{value:.0%} {method if method == RANDOM else f'by {label(method)}'}"
            for method, value in half.dropna().items()
        ]
        parts = []
        for line in gains.itertuples():
            value, low, high = (style.signed(100 * number, 1) for number in (line.value, line.low, line.high))
            ends = f"{value} points ({low} to {high})"
            less = _points_less(line, ", " if pd.isna(line.difference) else ", less the likelihood ")
            parts.append(f"{line.label} {line.says if pd.isna(line.value) else ends + less}")
        lead = f"with half of the answers handed on, accuracy is {', '.join(at_half)}"
        mean = f" Mean gain over random, over all shares: {'; '.join(parts)}." if parts else ""
        texts.append(f"- **{weak}, handed on to {strong}**: {lead}.{mean}")
    return "\n".join(texts) or NO_PAIR
