"""Dots, intervals and lines: what beats what, how cells differ, how much a claim rests on."""

import textwrap

import altair as alt
import numpy as np
import pandas as pd

from whoknows.evaluation.bootstrap import ABOVE, BELOW, EXPLORATORY, INSIGNIFICANT
from whoknows.evaluation.cells import METHODS, READINGS
from whoknows.evaluation.plateau import IMPROVING, marked
from whoknows.report.pages.charts import IN_LINES, TITLES, switch
from whoknows.report.pages.claims import OPEN, margin
from whoknows.report.pages.curves import ON_VALIDATION, embedding, tipped
from whoknows.report.pages.palette import GREY, HUES, INK, dashes, family, hue, hues, shapes

OWN = " on its own answers"
LABEL, HEADING = 27, 30  # letters in a line of each; a phone would cut what is longer
NAMES = alt.Axis(labelLimit=320, **IN_LINES)


def contrasts(judged: pd.DataFrame) -> alt.Chart:
    """Every claim's differences: measured with interval, and by the figure and the released results.

    Args:
        judged: as `claims.judge` returns.
    """
    drawn = _in_lines(judged.drop(columns=["p", "p_margin", "n_rarer", "hypothesis"]).round(4), claim=HEADING, contrast=LABEL)
    drawn["by"] = drawn["source"].map({"figure": "the figure", "released": "released", "measured": "measured here"})
    readings = [reading for reading in READINGS if reading in set(drawn["reading"])]
    chosen = switch("reading", readings, {reading: TITLES[reading][0] for reading in readings}, "Reading: ")
    y = alt.Y("contrast:N", title=None, sort=list(drawn["contrast"].unique()), axis=NAMES)
    x = alt.X("estimate:Q", title="Difference of AUROC")
    names = ["the figure", "released", "measured here"]
    colour = alt.Color("by:N", title=None, scale=alt.Scale(domain=names, range=[GREY, GREY, INK]), legend=alt.Legend(orient="top"))
    shape = alt.Shape("by:N", title=None, scale=alt.Scale(domain=names, range=["diamond", "triangle-up", "circle"]))
    tips = ("claim", "contrast", "by", "cells", "estimate", "low", "high", "p_holm", "p_margin_holm", "says", "reason")
    base = tipped(alt.Chart(), *tips, contrast="Difference", p_holm="p (Holm) of zero", p_margin_holm=f"p (Holm) of {margin():g} or more", cells="Of the cells", reason="Because").transform_filter("datum.reading === reading || datum.reading === 'figure'").encode(y=y)
    zero = alt.Chart().mark_rule(strokeDash=[3, 3], color=GREY, aria=False).encode(x=alt.datum(0))
    least = alt.Chart().mark_rule(strokeDash=[1, 3], color=GREY, aria=False).encode(x=alt.datum(margin()))
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", color=colour)
    points = base.transform_filter("isValid(datum.estimate)").mark_point(filled=True, size=55, opacity=1).encode(x=x, color=colour, shape=shape)
    chart = alt.layer(zero, least, bars, points, data=drawn).properties(width=340, height=_step(drawn["contrast"]))
    chart = chart.facet(row=_headed(drawn, "claim"), spacing=18).resolve_scale(y="independent").add_params(chosen)
    decided = (judged["source"] == "measured") & (judged["says"] != OPEN)
    described = f"Differences of AUROC that each claim rests on; of {(judged['source'] == 'measured').sum()} measured ones {decided.sum()} have a verdict; all values are in the table beneath."
    return chart.properties(description=described, usermeta=embedding("contrasts"))


def contest(table: pd.DataFrame) -> alt.Chart:
    """AUROC and interval of every method that judges a model's own answers, a panel for each model.

    Args:
        table: as `contest.contest` returns.
    """
    drawn = table.dropna(subset="auroc").filter(["method", "reader", "trained_on", "scored", "auroc", "low", "high", "ece", "brier", "against", "n_right"]).round(4)
    drawn["kind"] = drawn["method"].map(family)
    drawn["label"], drawn["own"] = drawn["method"].map(METHODS), drawn["scored"] + OWN
    drawn = _in_lines(drawn, label=LABEL, own=HEADING)
    order = drawn.groupby("label")["auroc"].mean().sort_values(ascending=False).index.tolist()
    colour = alt.Color("kind:N", title=None, scale=hues(list(drawn["method"])), legend=alt.Legend(orient="top", columns=2))
    base = tipped(alt.Chart(), "label", "scored", "auroc", "low", "high", "brier", "ece", "n_right").encode(y=alt.Y("label:N", title=None, sort=order, axis=NAMES), color=colour)
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="AUROC", scale=alt.Scale(zero=False)), x2="high:Q")
    points = base.mark_point(filled=True, size=60, opacity=1).encode(x="auroc:Q")
    half = alt.Chart().mark_rule(strokeDash=[3, 3], color=GREY, aria=False).encode(x=alt.datum(0.5))
    chart = alt.layer(half, bars, points, data=drawn).properties(width=380, height=_step(drawn["label"]))
    described = f"AUROC of {len(order)} methods that judge a model's own answers, with intervals; all values are in the table beneath."
    return chart.facet(row=_headed(drawn, "own")).properties(description=described, usermeta=embedding("contest"))


def shift(table: pd.DataFrame) -> alt.Chart:
    """AUROC and interval in-distribution and on each shift, a panel for each model that judges its own answers.

    Args:
        table: as `shift.shift` returns; what no verdict rests on is hollow.
    """
    drawn = table.dropna(subset="auroc").filter(["method", "scored", "test_set", "auroc", "low", "high", "change", "change_low", "change_high", "says", "n_right", "n_rarer"]).round(4)
    drawn["label"], drawn["hollow"] = drawn["method"].map(METHODS), marked(table)[drawn.index]
    drawn = _in_lines(drawn.assign(own=drawn["scored"] + OWN), own=HEADING)
    methods = [method for method in METHODS if method in set(drawn["method"])]
    labels = [METHODS[method] for method in methods]
    scale = alt.Scale(domain=labels, range=[HUES[method] for method in methods])
    colour = alt.Color("label:N", title=None, scale=scale, legend=alt.Legend(orient="top"))
    tips = ("label", "scored", "test_set", "auroc", "low", "high", "change", "change_low", "change_high", "says", "n_right")
    y, offset = alt.Y("test_set:N", title=None, sort=list(table["test_set"].unique()), scale=alt.Scale(paddingInner=0.35)), alt.YOffset("label:N", sort=labels)
    base = tipped(alt.Chart(), *tips, change="Less in-distribution", change_low="From", change_high="To").encode(y=y, yOffset=offset, color=colour)
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="AUROC", scale=alt.Scale(zero=False)), x2="high:Q")
    hollow = alt.when("datum.hollow").then(alt.value(0)).otherwise(alt.value(1))
    points = base.mark_point(filled=True, size=50, strokeWidth=1.5, opacity=1).encode(x="auroc:Q", stroke=alt.Stroke("label:N", scale=scale, legend=None), fillOpacity=hollow)
    half = alt.Chart().mark_rule(strokeDash=[3, 3], color=GREY, aria=False).encode(x=alt.datum(0.5))
    chart = alt.layer(half, bars, points, data=drawn).properties(width=380, height=alt.Step(13, **{"for": "offset"}))
    described = f"AUROC in-distribution and on {table.loc[table['says'].notna(), 'test_set'].nunique()} shifts, with intervals; all values are in the table beneath."
    return chart.facet(row=_headed(drawn, "own")).properties(description=described, usermeta=embedding("shift"))


def differences(table: pd.DataFrame) -> alt.Chart:
    """Differences between cells with their intervals, a panel for each kind.

    Args:
        table: as `differences.of_grid` returns.
    """
    drawn = _in_lines(table.drop(columns=["n_rarer", "still_improving", "hypothesis"]).round(4), kind=HEADING, what=LABEL)
    switches = [switch(name, values, {v: TITLES[v][0] for v in values if v in TITLES}, title) for name, values, title in [
        ("reading", [r for r in READINGS if drawn["reading"].str.contains(r).any()], "Reading: "),
        ("test_set", list(drawn["test_set"].unique()), "Test questions: "),
    ]]  # fmt: skip
    shown = "(indexof(datum.reading, reading) >= 0 || datum.reading === '') && datum.test_set === test_set"
    y = alt.Y("what:N", title=None, sort=list(drawn["what"].unique()), axis=NAMES)
    verdicts, legend = [ABOVE, BELOW, INSIGNIFICANT, EXPLORATORY, IMPROVING], alt.Legend(orient="top", columns=2)
    widest = [float(np.nanmin([0, *drawn["low"]])), float(np.nanmax([0, *drawn["high"]]))]  # Vega looks at the panels of one switch alone
    scale = alt.Scale(domain=widest, nice=True)
    verdict = alt.Color("says:N", title=None, scale=alt.Scale(domain=verdicts, range=[INK, INK, GREY, GREY, GREY]), legend=legend)
    shape = alt.Shape("says:N", title=None, scale=alt.Scale(domain=verdicts, range=["triangle-right", "triangle-left", "circle", "diamond", "cross"]), legend=legend)
    base = tipped(alt.Chart(), "kind", "reading", "what", "estimate", "low", "high", "p", "p_holm", "says", what="Of", estimate="Difference", p="p").encode(y=y, color=verdict)
    zero = alt.Chart().mark_rule(strokeDash=[3, 3], color=GREY, aria=False).encode(x=alt.datum(0))
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="Difference of AUROC", scale=scale), x2="high:Q")
    points = base.transform_filter("isValid(datum.estimate)").mark_point(filled=True, size=70, opacity=1).encode(x="estimate:Q", shape=shape)
    chart = alt.layer(zero, bars, points, data=drawn).properties(width=340, height=_step(drawn["what"]))
    # What is not shown is left out before it is put into panels, or their axes would have rows for it.
    chart = chart.facet(row=_headed(drawn, "kind"), spacing=18).transform_filter(shown).resolve_scale(y="independent").add_params(*switches)
    described = f"{len(drawn)} differences of AUROC between cells, with intervals; {drawn['says'].isin([ABOVE, BELOW]).sum()} are significant; all values are in the table beneath."
    return chart.properties(description=described, usermeta=embedding("differences"))


def layers(table: pd.DataFrame) -> alt.LayerChart:
    """AUROC on validation by layer, a line for each model that judges its own answers; the chosen layers are ringed.

    Args:
        table: as `contest.layers` returns.
    """
    drawn = table.round(4)
    x = alt.X("depth:Q", title="Depth of the layer (0 = embeddings, 1 = last)", scale=alt.Scale(domain=[0, 1]))
    base = tipped(alt.Chart(drawn), "scored", "layer", "depth", "validation_auroc").encode(x=x, y=ON_VALIDATION)
    rings = base.transform_filter("datum.chosen").mark_point(size=220, strokeWidth=2, color=INK)
    described = "AUROC of the probe on validation by depth of the layer; the layers that were chosen are ringed."
    return (_by_model(base, drawn["scored"]) + rings).properties(width="container", height=260, description=described, usermeta=embedding("layers"))


def _by_model(base: alt.Chart, models: pd.Series) -> alt.LayerChart:
    """A line with points for each model, all of them the probe's."""
    names = sorted(models.unique())  # so that a model has one shape in all charts
    told = {"title": "Reader, trained on and scored", "legend": alt.Legend(orient="top", columns=6, titleLimit=400, symbolFillColor=hue("probe"), symbolStrokeColor=hue("probe"))}
    line = base.mark_line(color=hue("probe")).encode(strokeDash=alt.StrokeDash(f"{models.name}:N", scale=dashes(names), **told))
    return line + base.mark_point(color=hue("probe"), filled=True, opacity=1, size=45).encode(shape=alt.Shape(f"{models.name}:N", scale=shapes(names), **told))


def learning_curve(table: pd.DataFrame) -> alt.LayerChart:
    """AUROC of the probe against the number of training answers, a line with a band for each model.

    Args:
        table: as `contest.learning_curve` returns.
    """
    drawn = table.dropna(subset="auroc").filter(["scored", "size", "auroc", "low", "high"]).round(4)
    sizes = sorted(set(drawn["size"]), key=lambda size: float("inf") if size == "all" else int(size))
    x = alt.X("size:O", sort=sizes, title="Training answers", axis=alt.Axis(labelAngle=0))
    base = tipped(alt.Chart(drawn), "scored", "size", "auroc", "low", "high").encode(x=x)
    y = alt.Y("auroc:Q", title="AUROC", scale=alt.Scale(zero=False))
    bands = base.mark_area(opacity=0.12, color=hue("probe")).encode(detail="scored:N", y=alt.Y("low:Q", title="AUROC", scale=alt.Scale(zero=False)), y2="high:Q")
    described = "AUROC of the probe by number of training answers, with intervals; all values are in the table beneath."
    return (bands + _by_model(base.encode(y=y), drawn["scored"])).properties(width="container", height=260, description=described, usermeta=embedding("learning_curve"))


def _in_lines(table: pd.DataFrame, **letters: int) -> pd.DataFrame:
    """The table with the texts of some columns broken into lines of at most so many letters, as few and as even as can be."""

    def broken(text: str, most: int) -> str:
        lines = [textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) for width in range(1, most + 1)]
        return "\n".join(next(line for line in lines if len(line) == len(lines[-1])))

    return table.assign(**{name: [broken(text, most) for text in table[name]] for name, most in letters.items()})


def _step(names: pd.Series) -> alt.Step:
    """Room for the longest of the names that stand one above the other."""
    return alt.Step(6 + 12 * max((name.count("\n") + 1 for name in names), default=1))


def _headed(drawn: pd.DataFrame, name: str) -> alt.Row:
    """A panel for each text of a column, in their order, with the text above it."""
    head = alt.Header(title=None, labelOrient="top", labelAnchor="start", labelFontWeight="bold", labelLimit=520, labelExpr="split(datum.value, '\\n')")
    return alt.Row(f"{name}:N", sort=list(drawn[name].unique()), header=head)
