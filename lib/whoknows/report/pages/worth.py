"""What confidence is good for: pictures, tables and sentences of what `evaluation.benefits.of_grid` returns."""

from html import escape

import altair as alt
import pandas as pd

from whoknows.data.methods import METHOD_TITLES
from whoknows.evaluation import benefits, decisions
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.bootstrap import FEW, INSIGNIFICANT
from whoknows.evaluation.decisions import AND, BASELINE
from whoknows.evaluation.plateau import IMPROVING, RELEASED
from whoknows.report.pages import style

KINDS = {
    benefits.READER: "the other model reads, trained on the same answers",
    benefits.TRANSFER: "the other model reads, trained on its own answers",
    benefits.DATA: "the same reader, trained on the other model's answers",
    benefits.ANSWERS: "the same estimator, on the other model's answers",
}
NO_STACK = (
    "no likelihood, no other method, no task with right and wrong test answers, "
    f"or fewer than {MIN_PER_CLASS} right or wrong validation answers with both"
)
NO_PAIR = "This does not apply here: it takes two models that answered the same questions, and validation answers."
MEASURES = {  # of `SELECTIVE`, and what pages call them
    benefits.COVERAGE: "Answered",
    benefits.RIGHT: "Right among the answered",
    benefits.EQUAL: "Right at the likelihood's coverage",
}
SHOWN = (0.25, 0.5, 0.75)  # shares that are handed on in the table
TOGETHER, NONE = "All together", "No confidence"
HUES = {METHOD_TITLES[method]: style.hue(method) for method in decisions.METHODS}
HUES |= {TOGETHER: style.INK, NONE: style.GREY}  # of what `_colours` returns


def label(method: str) -> str:
    """What pages call a method, more than one together, or what no confidence decides."""
    names = method.split(AND)
    if len(names) > 2:
        return "All of these together"
    fixed = {benefits.ORACLE: "Oracle: right if either is", benefits.RANDOM: "At random"}
    alone = (METHOD_TITLES | fixed).get(names[-1], method)
    return f"Likelihood, with {alone}" if len(names) > 1 else alone


def _part(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """The lines of one part, with what its methods are called; whole numbers where counts are."""
    lines = table[table["part"] == part]
    return lines.assign(label=lines["method"].map(label), n=lines["n"].astype("Int64"))


def _colours(methods: pd.Series) -> pd.Series:
    """What a legend calls each line's colour: the method that is added last, all of them, or none."""
    names = methods.map(lambda method: method.split(AND))
    last = names.str[-1].map(METHOD_TITLES).fillna(NONE)
    return last.mask(names.str.len() > 2, TOGETHER)


def _scales(names: dict[str, str]) -> list[alt.Scale]:
    """Colours and shapes of a legend's names, by what `_colours` returns of each."""
    looks = HUES, dict(zip(HUES, style.SHAPES))
    return [style.scale({name: look[colour] for name, colour in names.items()}) for look in looks]


def _points(drawn: pd.DataFrame, title: str, name: str, described: str) -> alt.FacetChart | None:
    """A point with its interval for each line, hollow where no verdict rests on it; None if there are no lines.

    Args:
        drawn: the columns of `of_grid`, label, row (on the y axis, methods beside each other) and panel.
        title: of the x axis.
    """
    if drawn.empty:
        return None
    tips = [*benefits.NAMES[1:3], "label", "row", "value", "low", "high", "compared", "difference", "says"]
    drawn = drawn.assign(colour=_colours(drawn["method"]), hollow=drawn["says"].isin([IMPROVING, RELEASED]))
    drawn = style.in_lines(drawn[[*tips, "measure", "panel", "colour", "hollow"]], row=style.LABEL, panel=style.HEADING)
    colours, marks = _scales({name: name for name in HUES if name in set(drawn["colour"])})
    legend = {"title": None, "legend": alt.Legend(orient="top", columns=2)}
    beside = drawn.groupby(["panel", "measure", "row"])["label"].nunique().max() > 1
    spaced = alt.Scale(paddingInner=0.35) if beside else alt.Undefined
    base = style.tipped(alt.Chart(), *tips, label="Of", row="What", value=title).encode(
        y=alt.Y("row:N", title=None, sort=list(drawn["row"].unique()), axis=style.NAMES, scale=spaced),
        color=alt.Color("colour:N", scale=colours, **legend),
    )
    if beside:
        base = base.encode(yOffset=alt.YOffset("label:N", sort=list(drawn["label"].unique())))
    points = style.hollow_points(base, 60, "colour:N", colours)
    points = points.encode(x="value:Q", shape=alt.Shape("colour:N", scale=marks, **legend))
    bars = style.interval_bars(base.transform_filter("isValid(datum.low)"), title, style.WITHOUT_ZERO)
    zero = [style.rule_at(0)] if title.startswith("Difference") else []
    layers = [*zero, bars, points.transform_filter("isValid(datum.value)")]
    height = alt.Step(13, **{"for": "offset"}) if beside else style.row_step(drawn["row"])
    chart = alt.layer(*layers, data=drawn.round(4)).properties(width=340, height=height)
    chart = chart.facet(row=style.headed(drawn, "panel")).resolve_scale(y="independent")
    if measures := [measure for measure in MEASURES if measure in set(drawn["measure"])]:
        chart = chart.transform_filter("datum.measure === measure")
        chart = chart.add_params(style.switch("measure", measures, MEASURES, "Show: "))
    return style.finished(chart, name, f"{described}, with intervals. All values are in the table beneath.")


def disagreement_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """How self-trained estimators differ from others where two models disagree; None if no two do."""
    lines = _part(table, benefits.DISAGREEMENT).dropna(subset="difference")
    less = {name.removeprefix("difference_"): lines[name] for name in ("difference_low", "difference_high")}
    panel = lines["scored"] + ", where it disagrees with " + lines["other"]
    drawn = lines.assign(value=lines["difference"], **less, row=lines["kind"], panel=panel)
    what = f"{len(lines)} differences of AUROC on the questions that one of two models alone gets right"
    return _points(drawn, "Difference of AUROC", "disagreement", what)


def stack_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """AUROC of methods alone, with the likelihood and all together, a panel for each model; None if there is none."""
    lines = _part(table, benefits.STACK).dropna(subset="value")
    what = "AUROC of each method alone, together with the likelihood, and of all together"
    return _points(lines.assign(row=lines["label"], panel=lines["scored"]), "AUROC", "stacks", what)


def selective_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """Coverage, or the share that is right, by method and wanted share, a panel for each model; None without any."""
    lines = _part(table, benefits.SELECTIVE).dropna(subset="value")
    drawn = lines.assign(row=[f"{style.percent(at)} right wanted" for at in lines["at"]], panel=lines["scored"])
    what = "Share of questions that are answered, and of these the share that is right, at "
    return _points(drawn, "Share", "selective", f"{what}{len(benefits.TARGETS)} thresholds from validation")


def pick_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """Accuracy of each of two models, of an oracle, and of picking by confidence; None if there are no two."""
    lines = _part(table, benefits.PICK).dropna(subset="value")
    lines = lines[lines["kind"] != BASELINE]
    what = "Accuracy of each model alone, of picking the answer with the higher confidence, and of an oracle"
    drawn = lines.assign(row=lines["label"], panel=lines["scored"] + " and " + lines["other"])
    return _points(drawn, "Accuracy", "pick", what)


def handed_on_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """Accuracy against the share of answers that are handed on, a line for each method; None without two models."""
    lines = _part(table, benefits.HANDED).dropna(subset="value")
    lines = lines[lines["measure"] == benefits.ACCURACY]
    if lines.empty:
        return None
    drawn = lines.assign(panel=lines["scored"] + ", handed on to " + lines["other"], colour=_colours(lines["method"]))
    drawn = drawn[["panel", "label", "colour", "at", "value", "low", "high"]].round(4)
    drawn = style.in_lines(drawn, panel=style.HEADING)
    colours, marks = _scales(dict(zip(drawn["label"], drawn["colour"])))
    legend = {"title": None, "legend": alt.Legend(orient="top", columns=2, labelLimit=240)}
    titles = {"at": "Share handed on", "value": "Accuracy"}
    base = style.tipped(alt.Chart(), "label", "at", "value", "low", "high", **titles).encode(
        x=alt.X("at:Q", title="Share handed on", axis=alt.Axis(format="%")),
        y=alt.Y("value:Q", title="Accuracy", scale=style.WITHOUT_ZERO, axis=alt.Axis(format="%")),
        color=alt.Color("label:N", scale=colours, **legend),
    )
    points = base.mark_point(filled=True, size=40, opacity=1)
    points = points.encode(shape=alt.Shape("label:N", scale=marks, **legend))
    chart = alt.layer(base.mark_line(strokeWidth=2), points, data=drawn)
    chart = chart.properties(width=340, height=230).facet(row=style.headed(drawn, "panel"))
    described = (
        "Accuracy by the share of answers that are handed on to the better model, least confident first, "
        "a line for each method. Values are in the table beneath."
    )
    return style.finished(chart.resolve_scale(y="independent"), "handed_on", described)


def _html(lines: pd.DataFrame, captions: pd.Series, columns: dict[str, str]) -> str:
    forms = {name: "{:.3f}".format for name in ("value", "compared") if name in columns}
    return style.tables_html(lines, captions.map(escape), lambda group: style.columns_html(group, columns, **forms))


def _with_texts(lines: pd.DataFrame, are_shares: bool = True) -> pd.DataFrame:
    """Values and differences in words, with their intervals, beside the numbers; shares in percent, and in points."""
    numbers, digits = lines[benefits.VALUES] * (100 if are_shares else 1), 1 if are_shares else 3
    texts = {"value_text": _texts(numbers, benefits.VALUES[:3], digits=digits, unit="%" * are_shares)}
    return lines.assign(**texts, less_text=_texts(numbers, benefits.VALUES[4:], "+", digits))


def _texts(numbers: pd.DataFrame, names: list[str], *how, **more) -> pd.Series:
    values = style.with_interval(*(numbers[name] for name in names), *how, **more)
    return pd.Series(values, numbers.index, dtype="str")


def disagreement_html(table: pd.DataFrame) -> str:
    """The numbers of `disagreement_chart` as HTML, a table for each model and the one that it disagrees with."""
    lines = _with_texts(_part(table, benefits.DISAGREEMENT), are_shares=False)
    columns = {
        "kind": "Compared", "label": "Method", "value": "AUROC", "compared": "Other",
        "less_text": "Difference, 95 % interval", "says": "Verdict",
    }  # fmt: skip
    captions = lines["scored"] + ", scored where it disagrees with " + lines["other"] + ": "
    captions += _counts(lines["n"]) + " test answers, " + _counts(lines["n_rarer"])
    return _html(lines, captions + " of the rarer grade", columns)


def stack_html(table: pd.DataFrame) -> str:
    """The numbers of `stack_chart` as HTML, a table for each model."""
    lines = _with_texts(_part(table, benefits.STACK), are_shares=False)
    columns = {
        "label": "Confidence", "value_text": "AUROC", "less_text": "Less the likelihood alone", "says": "Verdict",
    }  # fmt: skip
    fitted = lines["n_validation"].str.replace(r"\d+", lambda count: f"{int(count[0]):,}", regex=True)
    captions = lines["scored"] + ": " + _counts(lines["n"]) + " test answers, fitted on "
    return _html(lines, captions + fitted + " validation answers", columns)


def selective_html(table: pd.DataFrame) -> str:
    """The numbers of `selective_chart` as HTML, a table for each model."""
    lines = _with_texts(_part(table, benefits.SELECTIVE))
    keys = ["scored", "n", "at", "method", "label"]
    wide = lines.pivot(index=keys, columns="measure", values="value_text").reindex(columns=[*MEASURES])
    equal = lines[lines["measure"] == benefits.EQUAL].set_index(keys)[["less_text", "says"]]
    wide = wide.join(equal).reindex(lines.set_index(keys).index.unique()).reset_index()
    wide = wide.assign(at=wide["at"].map(style.percent))
    columns = {
        "at": "Wanted", "label": "Method", benefits.COVERAGE: MEASURES[benefits.COVERAGE],
        benefits.RIGHT: "Right among them", "less_text": "At equal coverage", "says": "Verdict",
    }  # fmt: skip
    return _html(wide, wide["scored"] + ": " + _counts(wide["n"]) + " test answers", columns)


def pick_html(table: pd.DataFrame) -> str:
    """The numbers of `pick_chart` as HTML, a table for each two models."""
    lines = _with_texts(_part(table, benefits.PICK))
    keys = ["scored", "other", "label"]
    likelihood = lines[lines["kind"] == BASELINE].set_index(keys)[["less_text", "says"]].add_suffix("_likelihood")
    lines = lines[lines["kind"] != BASELINE].join(likelihood, on=keys)
    columns = {
        "label": "Answer by", "value_text": "Accuracy", "less_text": "Less the better model alone", "says": "Verdict",
        "less_text_likelihood": "Less the likelihood", "says_likelihood": "Verdict, likelihood",
    }  # fmt: skip
    return _html(lines, lines["scored"] + " and " + lines["other"] + ": " + _shared(lines), columns)


def handed_on_html(table: pd.DataFrame) -> str:
    """The numbers of `handed_on_chart` as HTML, a table for each two models."""
    lines = _with_texts(_part(table, benefits.HANDED))
    keys = ["scored", "other", "label"]
    shown = lines[lines["at"].isin(SHOWN)].pivot(index=keys, columns="at", values="value_text")
    gains = lines[lines["measure"] == benefits.GAIN].set_index(keys)
    gains["value_text"] = _texts(100 * gains[benefits.VALUES], benefits.VALUES[:3], "+", 1)
    first = lines.drop_duplicates(keys).set_index(keys)[["n", "n_rarer"]]
    wide = first.join(shown).join(gains[["less_text", "says", "value_text"]]).reset_index()
    columns = {"label": "Least confident by"} | {share: f"{style.percent(share)} handed on" for share in SHOWN}
    columns |= {"value_text": "Mean gain", "less_text": "Less the likelihood", "says": "Verdict"}
    return _html(wide, wide["scored"] + ", handed on to " + wide["other"] + ": " + _shared(wide), columns)


def _shared(lines: pd.DataFrame) -> pd.Series:
    alone = " test questions; each model alone is right on "
    return _counts(lines["n"]) + alone + _counts(lines["n_rarer"]) + " or more"


def _counts(values: pd.Series) -> pd.Series:
    return pd.Series([f"{count:,}" for count in values.astype("Int64")], values.index, dtype="str")


def _less(line, before: str = "", unit: str = " points") -> str:
    """A difference with its interval, and what keeps it from a verdict; of a share in percentage points."""
    if pd.isna(line.difference):
        return f"{before}{line.says}" if line.says else ""
    note = "" if line.says in (benefits.OVER, benefits.UNDER) else f", {line.says}"
    values = line.difference, line.difference_low, line.difference_high
    return before + _difference(*values, unit=unit, note=note)


def _difference(*values: float, unit: str = " points", note: str = "") -> str:
    value, low, high = (style.signed(100 * value, 1) if unit else style.signed(value, 3) for value in values)
    return f"{value}{unit} ({low} to {high}{note})"


def _share(line) -> str:
    return f"{style.percent(line.value)} ({style.percent(line.low)} to {style.percent(line.high)})"


def disagreement_sentences(table: pd.DataFrame) -> str:
    """How many differences of each kind are above zero, below it, or not significant, as Markdown."""
    lines = _part(table, benefits.DISAGREEMENT)
    if lines.empty:
        return "This does not apply here: it takes two models, and estimators that were trained on their answers."
    texts, verdicts = [], (benefits.OVER, benefits.UNDER, INSIGNIFICANT, IMPROVING, RELEASED, FEW)
    for kind, group in lines.groupby("kind", sort=False):
        differences, parts = group["difference"].dropna(), style.counted(group["says"], verdicts)
        ends = [style.signed(end) for end in (differences.min(), differences.max())] if len(differences) else []
        between = f"; the differences are {style.span(*ends)}" if ends else ""
        texts.append(f"- **{kind}** ({KINDS[kind]}): {parts}, of {len(group)}{between}.")
    return "\n".join(texts)


def stack_sentences(table: pd.DataFrame, models: list[str]) -> str:
    """For models that may be scored, what the likelihood reaches, and what other methods add to it, as Markdown."""
    lines, texts = _part(table, benefits.STACK), []
    for model in models:
        group = lines[lines["scored"] == model]
        alone, stacks = group[group["method"] == BASELINE], group[group["method"].str.contains(AND, regex=False)]
        if alone["value"].isna().all():
            why = _too_few(alone) if len(alone) else NO_STACK
            texts.append(f"- **{model}**: {why}.")
            continue
        reached = "{value:.2f} ({low:.2f} to {high:.2f})".format(**alone.iloc[0])
        lead = f"the likelihood alone reaches an AUROC of {reached}"
        pairs = [line for line in stacks.itertuples() if len(line.method.split(AND)) == 2]
        added = [f"{METHOD_TITLES[line.method.split(AND)[1]]} {_less(line, unit='')}" for line in pairs]
        last = stacks.iloc[-1]
        whole = f" All together reach {last['value']:.2f}, {_less(last, unit='')}." if len(stacks) > len(pairs) else ""
        texts.append(f"- **{model}**: {lead}. What is added to it: {'; '.join(added)}.{whole}")
    return "\n".join(texts)


def selective_sentences(table: pd.DataFrame, models: list[str]) -> str:
    """For models that may be scored, what is answered at one threshold, and how much is right, as Markdown."""
    lines, texts = _part(table, benefits.SELECTIVE), []
    for model in models:
        group, parts = lines[(lines["scored"] == model) & (lines["at"] == benefits.TARGETS[1])], []
        for _, values in group.groupby("method", sort=False):
            by = {line.measure: line for line in values.itertuples()}
            parts.append(_selected(by[benefits.COVERAGE], by[benefits.RIGHT], by.get(benefits.EQUAL)))
        why = "" if parts else "no method has validation answers to choose a threshold on"
        why = _too_few(group) if group["says"].eq(FEW).any() else why
        texts.append(f"- **{model}**: {why}." if why else _listed(f"- **{model}**:", parts))
    return f"With the threshold for {style.percent(benefits.TARGETS[1])} right answers:\n\n" + "\n".join(texts)


def _too_few(lines: pd.DataFrame) -> str:
    count = int(lines["n_rarer"].iloc[0])
    return f"{count} answer{' of the rarer grade is' if count == 1 else 's of the rarer grade are'} too few"


def _listed(lead: str, parts: list[str]) -> str:
    return "\n  - ".join([lead, *parts])


def _selected(coverage, right, equal) -> str:
    if not coverage.value:
        return f"{coverage.label} has no threshold that reaches it on validation"
    among = "too few to tell how many are right" if pd.isna(right.value) else f"of which {_share(right)} are right"
    as_many = _less(equal, ", and at the likelihood's coverage ") if equal and coverage.method != BASELINE else ""
    note = f", {coverage.says}" if equal is None and coverage.says else ""
    return f"{coverage.label} answers {_share(coverage)}, {among}{as_many}{note}"


def pick_sentences(table: pd.DataFrame) -> str:
    """What picking the answer with the higher confidence gains over the better model alone, as Markdown."""
    lines, texts = _part(table, benefits.PICK), []
    for (weak, strong), group in lines.groupby(["scored", "other"], sort=False):
        known = group[~group["method"].isin(decisions.METHODS)].set_index("method")["value"]
        names = (*map(benefits.ALONE.format, (weak, strong)), benefits.ORACLE)
        one, other, oracle = map(style.percent, known[[*names]])
        lead = f"alone {one} and {other} are right, with an oracle {oracle}"
        by = group[(group["kind"] == benefits.SINGLE) & group["method"].isin(decisions.METHODS)]
        picks = [f"{line.label} {_less(line)}" for line in by.itertuples()]
        gained = f" Picking by confidence, less {strong} alone:" if picks else ""
        texts.append(_listed(f"- **{weak} and {strong}**: {lead}.{gained}", picks))
    return "\n".join(texts) or NO_PAIR


def handed_on_sentences(table: pd.DataFrame) -> str:
    """What handing on the least confident answers gains over handing on at random, as Markdown."""
    lines, texts = _part(table, benefits.HANDED), []
    for (weak, strong), group in lines.groupby(["scored", "other"], sort=False):
        half = group[group["at"] == SHOWN[1]].set_index("method")["value"]
        at_half = [
            f"{style.percent(value)} {method if method == benefits.RANDOM else f'by {label(method)}'}"
            for method, value in half.dropna().items()
        ]
        parts = []
        for line in group[group["measure"] == benefits.GAIN].itertuples():
            less = _less(line, ", " if pd.isna(line.difference) else ", less the likelihood ")
            gain = line.says if pd.isna(line.value) else _difference(line.value, line.low, line.high) + less
            parts.append(f"{line.label} {gain}")
        lead = f"with half of the answers handed on, accuracy is {', '.join(at_half)}"
        mean = " Mean gain over random, over all shares:" if parts else ""
        texts.append(_listed(f"- **{weak}, handed on to {strong}**: {lead}.{mean}", parts))
    return "\n".join(texts) or NO_PAIR
