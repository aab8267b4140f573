"""What the charts, tables and sentences of several pages have in common, and how JupyterLab draws a chart by itself."""

import math
import textwrap
from html import escape

import altair as alt
import numpy as np
import pandas as pd

from whoknows.evaluation.cells import ALL
from whoknows.evaluation.scores import MEASURES, POOLED

TITLES = {
    "A": ["A · estimator transfer", "columns read and were trained; rows are judged"],
    "B": ["B · data transfer", "rows read and are judged; columns taught them"],
    ALL: ["All · reader, trained on, scored", "columns taught; rows are judged,", "by the reader beneath them"],
    "figure": ["As read off the figure", "its two axes can mean reading A or B"],
}
# For an axis whose labels may have line ends; Vega puts the first of two lines where one alone would be.
IN_LINES = {
    "labelExpr": "split(datum.label, '\\n')",
    "labelOffset": alt.expr("-6 * (length(split(datum.label, '\\n')) - 1)"),
}
LABEL, HEADING = 27, 30  # letters in a line of each; a phone would cut what is longer
NAMES = alt.Axis(labelLimit=320, **IN_LINES)
COLUMNS = {
    name: measure.title for name, measure in MEASURES.items() if name != "accuracy"
}  # of a table of all measures
BENEATH = "Beneath a value stands its 95 % interval over questions, where it has one."
CHART = "application/vnd.vegalite.v5+json"  # the newest that JupyterLab knows; nothing in these charts is newer
WIDTH = 640  # pixels


def colour_domain(values: pd.Series, chance: float | None = None) -> tuple[float, float]:
    """Ends of the colour bar: of the values and of what chance has, in steps of 0.05, or without chance as close as 0.01."""
    values = [value for value in [chance, *values] if value is not None and not np.isnan(value)] or [0.0]
    steps = 100 if chance is None else 20
    low = math.floor(min(values) * steps) / steps
    return low, max(math.ceil(max(values) * steps) / steps, low + 2 / steps)


def switch(name: str, values: list[str], labels: dict, title: str, value: str | None = None) -> alt.Parameter:
    """A parameter that the reader sets: two values as buttons, more as a list, one without anything to press.

    Args:
        labels: what the values are called, where they are not called by themselves.
        title: stands before the switch.
        value: where it stands at first; the first of the values if not given.
    """
    value = value or (values[0] if values else "")
    if len(values) < 2:
        return alt.param(name=name, value=value)
    radio = alt.binding_radio if len(values) == 2 else alt.binding_select
    bind = radio(options=values, labels=[labels.get(v, v) for v in values], name=title)
    return alt.param(name=name, value=value, bind=bind)


def interval_text(low: float, high: float) -> str:
    """An interval in words; "" if it is missing."""
    return "" if np.isnan(low) or np.isnan(high) else f"{low:.2f} – {high:.2f}"


def values_text(drawn: pd.DataFrame) -> list[str]:
    """Value, interval, note and spread over seeds of each cell, as far as it has them, or why there is no value."""
    none = pd.Series("", drawn.index)
    between = drawn.get("between_seeds", none)  # "" where there is one seed, or no value
    spread = ("by seed " + between).where(between != "", "")
    why = drawn.get("reason", none).where(drawn["auroc"].isna(), "")
    notes = [
        ", ".join(filter(None, parts))
        for parts in zip(
            drawn.get("interval_auroc", none), drawn["note"].where(drawn["auroc"].notna(), ""), spread, why
        )
    ]
    return [f"{value} ({note})" if note else value for value, note in zip(drawn["value"], notes)]


def in_lines(table: pd.DataFrame, **letters: int) -> pd.DataFrame:
    """The table with the texts of some columns broken into lines of at most so many letters, as few and as even as can be."""

    def broken(text: str, most: int) -> str:
        lines = [
            textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) for width in range(1, most + 1)
        ]
        return "\n".join(next(line for line in lines if len(line) == len(lines[-1])))

    return table.assign(**{name: [broken(text, most) for text in table[name]] for name, most in letters.items()})


def row_step(names: pd.Series) -> alt.Step:
    """Room for the longest of the names that stand one above the other."""
    return alt.Step(6 + 12 * max((name.count("\n") + 1 for name in names), default=1))


def headed(drawn: pd.DataFrame, name: str) -> alt.Row:
    """A panel for each text of a column, in their order, with the text above it."""
    head = alt.Header(
        title=None,
        labelOrient="top",
        labelAnchor="start",
        labelFontWeight="bold",
        labelLimit=520,
        labelExpr="split(datum.value, '\\n')",
    )
    return alt.Row(f"{name}:N", sort=list(drawn[name].unique()), header=head)


def captioned(table: str, caption: str) -> str:
    """An HTML table of pandas with a caption."""
    return table.replace("<thead>", f"<caption>{caption}</caption><thead>", 1)


def pooled_html(table: pd.DataFrame, names: dict[str, pd.Series]) -> str:
    """The columns of `metric_columns` with tasks pooled, folded away."""
    shown = metric_columns(table, names, POOLED)
    return f"<details><summary>The same with all tasks pooled, where knowing the task counts</summary>{shown.to_html(index=False, escape=False, classes='metrics')}</details>"


def metric_columns(table: pd.DataFrame, names: dict[str, pd.Series], before: str = "") -> pd.DataFrame:
    """Names, and all metrics in words, each with its interval beneath it, as HTML."""
    shown, none = {title: values.map(escape) for title, values in names.items()}, pd.Series(float("nan"), table.index)
    for column, title in COLUMNS.items():
        ends = [
            table[end] if before + column == "auroc" else table.get(f"{end}_{before}{column}", none)
            for end in ("low", "high")
        ]
        between = [f"<br/><small>{low:.3f} – {high:.3f}</small>" if pd.notna(low) else "" for low, high in zip(*ends)]
        shown[title] = [
            "—" if pd.isna(value) else f"{value:.3f}{beneath}"
            for value, beneath in zip(table[before + column], between)
        ]
    return pd.DataFrame(shown)


def p_text(p: float) -> str:
    """A p-value in words, of which no one is zero."""
    return "under 0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{round(value, 2) + 0.0:+.2f}"  # a minus before zero would say that there is something


def span(low, high) -> str:
    """From the lowest to the highest, or the one that there is."""
    return f"{low}" if low == high else f"{low} to {high}"


def in_jupyterlab() -> None:
    """Lets every chart of this process be shown that way; `make lab` has each kernel do it."""
    alt.renderers.register("jupyterlab", lambda spec, **_: bundle(spec))
    alt.renderers.enable("jupyterlab")


def bundle(spec: dict) -> dict:
    """What a chart shows as, by MIME type, never as wide as its container.

    JupyterLab draws a chart before its cell is laid out, keeps a PNG of it, and draws it again as long as it has none. Of a
    chart as wide as a container that has no width yet the PNG is empty, so that it would be drawn without end.

    Args:
        spec: Vega-Lite.
    """
    shown = spec | {"width": WIDTH} if spec.get("width") == "container" else spec
    return {CHART: shown, "text/plain": spec.get("description", "a chart")}
