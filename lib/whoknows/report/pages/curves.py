"""Training, drawn: the search of the probe, the loss of LoRA + Prompt; and what all charts have, such as tooltips."""

import json

import altair as alt
import pandas as pd

from whoknows.report.pages.style import BLUES, INK, dashes, hue

alt.data_transformers.disable_max_rows()  # many models and tasks are many rows, and altair would refuse to draw them
# Of columns whose name does not say what they hold.
TITLES = {
    "auroc": "AUROC", "validation_auroc": "AUROC on validation", "loss": "Training loss", "ece": "ECE",
    "low": "Interval from", "high": "Interval to", "p_holm": "p (Holm)", "n_right": "Right answers",
    "size": "Training answers", "strength": "L2 strength", "says": "Verdict", "test_set": "Test questions",
    "label": "Method", "cell": "Probe",
}  # fmt: skip
WITHOUT_ZERO = alt.Scale(zero=False)
# Where all values are equal the axis has one label, which Vega would write without decimals.
ON_VALIDATION = alt.Y("validation_auroc:Q", title=TITLES["validation_auroc"], scale=WITHOUT_ZERO)
ON_VALIDATION = ON_VALIDATION.axis(format=".2f", tickMinStep=0.01)


def layer_curve(search: list[dict]) -> alt.LayerChart:
    """AUROC on validation against the layer, a line for each strength of the L2 penalty; the choice is ringed.

    Args:
        search: dicts with layer, strength and validation_auroc, one for each pair that was tried.
    """
    tried = pd.DataFrame(search)
    strengths = sorted(tried["strength"].unique().tolist())
    legend = alt.Legend(orient="bottom", direction="horizontal", symbolType="stroke")
    strength = {"title": "L2 strength", "legend": legend}
    scale = alt.Scale(domain=strengths, range=[BLUES[at % len(BLUES)] for at in range(len(strengths))])
    colour = alt.Color("strength:O", scale=scale, **strength)
    dash = alt.StrokeDash("strength:O", scale=dashes(strengths), **strength)
    best = tried.loc[[tried["validation_auroc"].idxmax()]]
    x = alt.X("layer:Q", title="Layer (0 = embeddings)", axis=alt.Axis(tickMinStep=1, format="d"))
    lines, ring = (tipped(alt.Chart(data), *tried).encode(x=x, y=ON_VALIDATION) for data in (tried, best))
    lines = lines.mark_line(point=True).encode(color=colour, strokeDash=dash)
    ring = ring.mark_point(size=220, strokeWidth=2, color=INK)
    described = f"AUROC on validation by layer; highest at layer {best['layer'].iloc[0]}."
    return (lines + ring).properties(width="container", height=240, description=described, usermeta=embedding("layers"))


def training_curve(history: list[dict]) -> alt.HConcatChart:
    """Loss and AUROC on validation against the step of the training.

    Args:
        history: step, loss, validation_auroc and seconds (of training steps so far) of each look at validation.
    """
    looks = pd.DataFrame(history)
    axis = alt.Axis(format=".3~f")  # of a single look Vega would write the nearest whole number
    base = tipped(alt.Chart(looks), *looks).mark_line(point=True, color=hue("lora_prompt"))
    base = base.properties(width=260, height=200).encode(x=alt.X("step:Q", title="Step"))
    values = [
        alt.Y(f"{name}:Q", title=TITLES[name], scale=WITHOUT_ZERO, axis=axis) for name in ("loss", "validation_auroc")
    ]
    described = "Training loss and AUROC on validation by step."
    panels = alt.hconcat(*(base.encode(y=y) for y in values))
    return panels.properties(description=described, usermeta=embedding("training"))


def search_curve(table: pd.DataFrame) -> alt.FacetChart:
    """AUROC on validation against seconds of training with all training answers, a line for each learning rate.

    Args:
        table: as `search.run` returns, of one reader or more; each has a panel, in which the probe is a point.
    """
    most = table.groupby("reader")["training_answers"].transform("max")
    drawn = table[table["training_answers"] == most].round({"seconds": 3, "epoch": 2, "validation_auroc": 4})
    rates = drawn["learning_rate"]
    drawn["what"] = ["probe" if pd.isna(rate) else f"LoRA + Prompt, {rate:.3g}" for rate in rates]
    names = drawn.sort_values("learning_rate", na_position="first")["what"].unique().tolist()
    legend = alt.Legend(orient="bottom", columns=2, labelLimit=240, symbolType="stroke")
    hues = alt.Scale(domain=names, range=[hue("probe" if name == "probe" else "lora_prompt") for name in names])
    base = tipped(alt.Chart(), "what", "seconds", "epoch", "validation_auroc", what="Method").encode(
        x=alt.X("seconds:Q", title="Seconds of training", scale=alt.Scale(type="log")),
        y=ON_VALIDATION,
        color=alt.Color("what:N", title=None, scale=hues, legend=legend),
        strokeDash=alt.StrokeDash("what:N", title=None, scale=dashes(names), legend=legend),
    )
    width = alt.when("datum.in_grid").then(alt.value(3)).otherwise(alt.value(1.2))
    lines = base.transform_filter("datum.method !== 'probe'").mark_line(point=True).encode(strokeWidth=width)
    points = base.transform_filter("datum.method === 'probe'")
    points = points.mark_point(filled=True, size=110, shape="diamond", opacity=1)
    panels = alt.layer(lines, points, data=drawn).properties(width=280, height=220)
    described = (
        "AUROC on validation by seconds of training, a line for each learning rate of LoRA + Prompt "
        "and a point for the probe."
    )
    return panels.facet(column=alt.Column("reader:N", title=None), spacing=32).properties(
        description=described, usermeta=embedding("search")
    )


def tipped(chart: alt.Chart, *names: str, **titles: str) -> alt.Chart:
    """The chart with a tooltip of these columns, and the same for a screen reader; missing values are left out.

    Args:
        titles: by column, where neither its name nor `TITLES` says what it is here.
    """
    tip, heard = [], []
    for name in names:
        title = (TITLES | titles).get(name, name.replace("_", " ").capitalize())
        value = f"datum[{json.dumps(name)}]"
        there = f"isValid({value}) && {value} !== ''"
        shown = f"(isNumber({value}) && {value} % 1 ? format({value}, '.3~r') : {value})"
        tip.append(f"{json.dumps(title)}: {there} ? {shown} : datum.nothing")
        heard.append(f"({there} ? {json.dumps(f'{title}: ')} + {shown} + '; ' : '')")
    chart = chart.transform_calculate(tip=f"{{{', '.join(tip)}}}", heard=" + ".join(heard))
    return chart.encode(tooltip="tip:N", description="heard:N")


def embedding(name: str) -> dict:
    """How a page shows a chart, and its file name when saved; no button that opens an editor on another host."""
    actions = {"export": True, "source": False, "compiled": False, "editor": False}
    words = {"CLICK_TO_VIEW_ACTIONS": "Save this chart"}
    return {"embedOptions": {"renderer": "svg", "downloadFileName": name, "actions": actions, "i18n": words}}
