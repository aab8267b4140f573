"""The heatmaps: Model on y, Trained On on x, dark purple (low) to light orange (high)."""

import json
import math

import altair as alt
import numpy as np
import pandas as pd

from whoknows.cells import METHODS
from whoknows.curves import COLOURS, embedding

TOOLTIP = {
    "model": "Model", "trained_on": "Trained On", "reader": "Reader", "scored": "Scored", "value": "AUROC",
    "interval": "95 % interval", "seeds": "Seeds", "between_seeds": "AUROC by seed", "pooled_auroc": "AUROC, tasks pooled", "ece": "ECE", "accuracy": "Accuracy", "n_right": "Right answers",
    "n": "Answers", "n_tasks": "Tasks measured", "of_tasks": "of tasks", "reason": "Missing because",
}  # fmt: skip
TITLES = {
    "A": ["A · estimator transfer", "columns read and were trained; rows are judged"],
    "B": ["B · data transfer", "rows read and are judged; columns taught them"],
    "figure": ["As read off the figure", "its two axes can mean reading A or B"],
}


def heatmaps(table: pd.DataFrame, models: list[str], name: str) -> alt.HConcatChart:
    """One heatmap per method, side by side, with switches for what the table holds more than one of.

    Args:
        table: reading, test_set, method, model, trained_on, auroc (NaN where missing), reason; and n_right
            or note for the small second line; grading where there is more than one. As `cells.heatmap_table` and `published` return.
        models: the models on both axes, in order.
        name: file name of the chart when saved.

    Returns:
        A chart whose colours mean the same in all panels, switches and themes.
    """
    drawn = with_labels(table, len(models)).filter([*TOOLTIP, "reading", "grading", "test_set", "method", "auroc", "note", "ink"])
    drawn = drawn.assign(grading=drawn.get("grading", ""))
    switches = _switches(drawn)
    domain = colour_domain(table["auroc"])
    methods = [m for m in METHODS if m in set(drawn["method"]) and m != "probe_mlp"]
    panels = [_panel(drawn, method, models, domain) for method in methods]
    chart = alt.hconcat(*panels, spacing=12, data=drawn, title=_title(drawn))
    chart = chart.resolve_scale(color="independent").add_params(*switches)
    return chart.properties(description=describe(table), usermeta=embedding(name))


def with_labels(table: pd.DataFrame, size: int) -> pd.DataFrame:
    """The table with what each cell says: value, ink (readable on its colour), interval, note (the last line).

    Args:
        table: as for `heatmaps`.
        size: number of models on an axis; small cells get short notes.
    """
    drawn = table.round(4)
    low, high = colour_domain(table["auroc"])
    drawn["value"] = ["—" if np.isnan(v) else f"{v:.2f}" for v in table["auroc"]]
    drawn["ink"] = [_ink((v - low) / (high - low)) for v in table["auroc"]]
    if "note" not in drawn:
        word = "" if size > 6 else " right"
        measured = table["auroc"].notna()
        drawn["note"] = [f"{n}{word}" if ok else "" for n, ok in zip(table["n_right"], measured)]
        if "of_tasks" in drawn and size <= 6:
            fewer = measured & (table["n_tasks"] < table["of_tasks"])
            drawn["note"] += [f", {n}/{of}" if less else "" for n, of, less in zip(table["n_tasks"], table["of_tasks"], fewer.fillna(False))]
    if "low" in drawn:
        drawn["interval"] = [_between(*ends) for ends in zip(table["low"], table["high"])]
        drawn["between_seeds"] = [_between(*ends) for ends in zip(table["lowest_seed"], table["highest_seed"])]
    return drawn


def colour_domain(values: pd.Series) -> tuple[float, float]:
    """Ends of the colour bar: 0.5 (or lower where values are) to the highest, in steps of 0.05."""
    values = [value for value in values if not np.isnan(value)]
    low = math.floor(min([0.5, *values]) * 20) / 20
    return low, max(math.ceil(max([0.0, *values]) * 20) / 20, low + 0.1)


def describe(table: pd.DataFrame) -> str:
    """The first picture of the chart in words, for those who do not see it."""
    first = table[(table["reading"] == table["reading"].iloc[0]) & (table["test_set"] == table["test_set"].iloc[0])]
    said = [f"Heatmaps of AUROC on {first['test_set'].iloc[0]} questions, Model by Trained On; all values are in the table beneath."]
    for method, cells in first.groupby("method", sort=False):
        best, worst = cells["auroc"].max(), cells["auroc"].min()
        measured = f"{worst:.2f} to {best:.2f}" if cells["auroc"].notna().any() else "nothing measured"
        said.append(f"{METHODS[method]}: {measured}, {cells['auroc'].isna().sum()} missing.")
    return " ".join(said)


def _switches(drawn: pd.DataFrame) -> list[alt.Parameter]:
    labels = {
        "reading": {reading: title[0] for reading, title in TITLES.items()},
        "probe": {"probe": "logistic regression", "probe_mlp": "MLP, as in the paper"},
        "grading": {},
        "test_set": {},
    }
    titles = {"reading": "Reading: ", "grading": "Graded by: ", "test_set": "Test questions: ", "probe": "Probe: "}
    values = {name: list(drawn[name].unique()) for name in ("reading", "grading", "test_set")}
    values["probe"] = [m for m in ("probe", "probe_mlp") if m in set(drawn["method"])]
    return [switch(name, values[name], labels[name], titles[name]) for name in titles]


def switch(name: str, values: list[str], labels: dict, title: str) -> alt.Parameter:
    """A parameter that the reader sets: two values as buttons, more as a list, one without anything to press.

    Args:
        labels: what the values are called, where they are not called by themselves.
        title: stands before the switch.
    """
    if len(values) < 2:
        return alt.param(name=name, value=values[0] if values else "")
    radio = alt.binding_radio if len(values) == 2 else alt.binding_select
    bind = radio(options=values, labels=[labels.get(v, v) for v in values], name=title)
    return alt.param(name=name, value=values[0], bind=bind)


def _title(drawn: pd.DataFrame) -> alt.TitleParams:
    # one text of two lines, since Vega-Lite's subtitle cannot follow a switch
    cases = " : ".join(f"reading === '{r}' ? {json.dumps(TITLES[r])}" for r in drawn["reading"].unique())
    return alt.TitleParams(text=alt.expr(f"{cases} : ''"), anchor="start", offset=10, fontWeight="normal", fontSize=12)


def _panel(drawn: pd.DataFrame, method: str, models: list[str], domain: tuple) -> alt.LayerChart:
    size = int(np.clip(190 // len(models), 46, 92))
    method_shown = "datum.method === probe" if method == "probe" else f"datum.method === '{method}'"
    shown = f"datum.reading === reading && datum.grading === grading && datum.test_set === test_set && {method_shown}"
    angle = 0 if len(models) * max(map(len, models)) * 7 < len(models) * size else -40
    x = alt.X("trained_on:N", sort=models, title="Trained On", axis=alt.Axis(labelAngle=angle, labelLimit=140))
    y = alt.Y("model:N", sort=models, title="Model", axis=alt.Axis(labelLimit=140))
    scale = alt.Scale(domain=list(domain), range=COLOURS, interpolate="rgb", clamp=True)
    bar = alt.Legend(title="AUROC", format=".2f", gradientLength=min(size * len(models), 240), tickCount=5)
    base = alt.Chart().encode(x=x, y=y, tooltip=_tooltip(drawn)).transform_filter(shown)
    cell = base.transform_filter("isValid(datum.auroc)").mark_rect().encode(color=alt.Color("auroc:Q", scale=scale, legend=bar))
    hatch = base.transform_filter("!isValid(datum.auroc)").mark_rect(fill=_stripes(), stroke="#888", strokeDash=[4, 3])
    ink = alt.Color("ink:N", scale=None)
    lines = [("value", 15 if size > 60 else 12), ("interval", 10), ("note", 10 if size > 60 else 9)]
    lines = [line for line in lines if line[0] != "interval" or (size > 60 and "interval" in drawn)]
    written = [
        base.mark_text(fontSize=font, fontWeight="bold" if name == "value" else "normal", dy=dy).encode(text=f"{name}:N", color=ink)
        for (name, font), dy in zip(lines, (-5, 10) if len(lines) == 2 else (-13, 4, 18))
    ]
    side = size * len(models)
    layers = alt.layer(cell, hatch, *written).resolve_scale(color="independent")
    return layers.properties(width=side, height=side, title=METHODS[method])


def _tooltip(drawn: pd.DataFrame) -> list[alt.Tooltip]:
    formats = {"pooled_auroc": (":Q", ".3f"), "ece": (":Q", ".3f"), "accuracy": (":Q", ".1%")}
    parts = {name: formats.get(name, (":N", alt.Undefined)) for name in TOOLTIP if name in drawn}
    return [alt.Tooltip(f"{name}{kind}", title=TOOLTIP[name], format=form) for name, (kind, form) in parts.items()]


def _between(low: float, high: float) -> str:
    return "" if np.isnan(low) or np.isnan(high) else f"{low:.2f} – {high:.2f}"


def _stripes(count: int = 12) -> alt.Gradient:
    # two stops at one place make a hard edge, so the gradient is a hatch
    shades = ["#8883", "#8887"]
    stops = [(edge / count, shades[i % 2]) for i in range(count) for edge in (i, i + 1)]
    stops = [alt.GradientStop(offset=offset, color=color) for offset, color in stops]
    return alt.LinearGradient(gradient="linear", x1=0, y1=0, x2=1, y2=1, stops=stops)


def _ink(place: float) -> str:
    # black or white, whichever has the higher contrast (WCAG 2 luminance) on the colour at this place
    if np.isnan(place):
        return "#7a7a7a"
    at = np.clip(place, 0, 1) * (len(COLOURS) - 1)
    stops = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS]) / 255
    rgb = [np.interp(at, range(len(COLOURS)), channel) for channel in stops.T]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
    return "#fff" if np.dot([0.2126, 0.7152, 0.0722], linear) < 0.179 else "#000"
