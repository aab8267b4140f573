"""What happened in training, drawn: the search of the probe, and the loss of LoRA + Prompt.

Apart from the heatmaps, so that a change in those re-runs no training.
"""

import json

import altair as alt
import pandas as pd

from whoknows.report.pages.palette import BLUES, INK, dashes, hue

alt.data_transformers.disable_max_rows()  # many models and tasks are many rows, and a page that says so is no page
# Of columns whose name does not say what they hold.
TITLES = {
    "auroc": "AUROC", "validation_auroc": "AUROC on validation", "loss": "Training loss", "low": "Interval from", "high": "Interval to", "ece": "ECE", "p_holm": "p (Holm)",
    "n_right": "Right answers", "size": "Training answers", "strength": "L2 strength", "says": "Verdict", "test_set": "Test questions", "label": "Method", "cell": "Probe",
}  # fmt: skip
# Of equal values the axis has one label, which Vega would write without decimals.
ON_VALIDATION = alt.Y(
    "validation_auroc:Q",
    title=TITLES["validation_auroc"],
    scale=alt.Scale(zero=False),
    axis=alt.Axis(format=".2f", tickMinStep=0.01),
)


def layer_curve(search: list[dict]) -> alt.LayerChart:
    """AUROC on validation against the layer, a line for each strength of the L2 penalty; the choice is ringed.

    Args:
        search: dicts with layer, strength and validation_auroc, one for each pair that was tried.
    """
    tried = pd.DataFrame(search)
    x = alt.X("layer:Q", title="Layer (0 = embeddings)", axis=alt.Axis(tickMinStep=1, format="d"))
    strengths, legend = (
        sorted(tried["strength"].unique().tolist()),
        alt.Legend(orient="bottom", direction="horizontal", symbolType="stroke"),
    )
    colour = alt.Color(
        "strength:O",
        title="L2 strength",
        scale=alt.Scale(domain=strengths, range=[BLUES[at % 3] for at in range(len(strengths))]),
        legend=legend,
    )
    dash = alt.StrokeDash("strength:O", title="L2 strength", scale=dashes(strengths), legend=legend)
    lines = (
        tipped(alt.Chart(tried), *tried.columns)
        .mark_line(point=True)
        .encode(x=x, y=ON_VALIDATION, color=colour, strokeDash=dash)
    )
    best = tried.loc[[tried["validation_auroc"].idxmax()]]
    ring = (
        tipped(alt.Chart(best), *tried.columns)
        .mark_point(size=220, strokeWidth=2, color=INK)
        .encode(x=x, y=ON_VALIDATION)
    )
    described = f"AUROC on validation by layer; highest at layer {best['layer'].iloc[0]}."
    return (lines + ring).properties(width="container", height=240, description=described, usermeta=embedding("layers"))


def training_curve(history: list[dict]) -> alt.HConcatChart:
    """Loss and AUROC on validation against the step of the training.

    Args:
        history: dicts with step, loss, validation_auroc and seconds (in training steps so far), one for each look at validation.
    """
    looks = pd.DataFrame(history)
    step = alt.X("step:Q", title="Step")
    scale, axis = (
        alt.Scale(zero=False),
        alt.Axis(format=".3~f"),
    )  # of a single look Vega would write the nearest whole number
    base = (
        tipped(alt.Chart(looks), *looks)
        .mark_line(point=True, color=hue("lora_prompt"))
        .properties(width=260, height=200)
    )
    panels = [
        base.encode(x=step, y=alt.Y(f"{name}:Q", title=TITLES[name], scale=scale, axis=axis))
        for name in ("loss", "validation_auroc")
    ]
    described = "Training loss and AUROC on validation by step."
    return alt.hconcat(*panels).properties(description=described, usermeta=embedding("training"))


def search_curve(table: pd.DataFrame) -> alt.FacetChart:
    """AUROC on validation against seconds of training with all training answers, a line for each learning rate of LoRA + Prompt.

    Args:
        table: as `search.run` returns, of one reader or more; each has a panel, and the probe a point in it.
    """
    whole = table[table["training_answers"] == table.groupby("reader")["training_answers"].transform("max")].round(
        {"seconds": 3, "epoch": 2, "validation_auroc": 4}
    )
    drawn = whole.assign(
        what=["probe" if pd.isna(rate) else f"LoRA + Prompt, {rate:.3g}" for rate in whole["learning_rate"]]
    )
    names = drawn.sort_values("learning_rate", na_position="first")["what"].unique().tolist()
    legend = alt.Legend(orient="bottom", columns=2, labelLimit=240, symbolType="stroke")
    colour = alt.Color(
        "what:N",
        title=None,
        scale=alt.Scale(domain=names, range=[hue("probe" if name == "probe" else "lora_prompt") for name in names]),
        legend=legend,
    )
    dash = alt.StrokeDash("what:N", title=None, scale=dashes(names), legend=legend)
    x = alt.X("seconds:Q", title="Seconds of training", scale=alt.Scale(type="log"))
    base = tipped(alt.Chart(), "what", "seconds", "epoch", "validation_auroc", what="Method").encode(
        x=x, y=ON_VALIDATION, color=colour, strokeDash=dash
    )
    width = alt.when("datum.in_grid").then(alt.value(3)).otherwise(alt.value(1.2))
    lines = base.transform_filter("datum.method !== 'probe'").mark_line(point=True).encode(strokeWidth=width)
    points = base.transform_filter("datum.method === 'probe'").mark_point(
        filled=True, size=110, shape="diamond", opacity=1
    )
    described = "AUROC on validation by seconds of training, a line for each learning rate of LoRA + Prompt and a point for the probe."
    panels = (
        alt.layer(lines, points, data=drawn)
        .properties(width=280, height=220)
        .facet(column=alt.Column("reader:N", title=None), spacing=32)
    )
    return panels.properties(description=described, usermeta=embedding("search"))


def tipped(chart: alt.Chart, *names: str, **titles: str) -> alt.Chart:
    """The chart with a tooltip, and the same for a screen reader: these columns, in words, but for those that a mark has no value of.

    Args:
        titles: by column, where neither its name nor `TITLES` says what it is here.
    """
    tip, heard = [], []
    for name in names:
        title, value = (TITLES | titles).get(name, name.replace("_", " ").capitalize()), f"datum[{json.dumps(name)}]"
        there, shown = (
            f"isValid({value}) && {value} !== ''",
            f"(isNumber({value}) && {value} % 1 ? format({value}, '.3~r') : {value})",
        )
        tip.append(f"{json.dumps(title)}: {there} ? {shown} : datum.nothing")
        heard.append(f"({there} ? {json.dumps(f'{title}: ')} + {shown} + '; ' : '')")
    return chart.transform_calculate(tip=f"{{{', '.join(tip)}}}", heard=" + ".join(heard)).encode(
        tooltip="tip:N", description="heard:N"
    )


def embedding(name: str) -> dict:
    """How a page shows a chart, and the file name under which it is saved; no button that opens an editor on another host."""
    actions = {"export": True, "source": False, "compiled": False, "editor": False}
    words = {"CLICK_TO_VIEW_ACTIONS": "Save this chart"}
    return {"embedOptions": {"renderer": "svg", "downloadFileName": name, "actions": actions, "i18n": words}}
