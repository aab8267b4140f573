"""The results of a search: the learning rate that validation prefers, and both methods by amount of training."""

from pathlib import Path

import altair as alt
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.methods import METHOD_TITLES
from whoknows.report.pages.style import ON_VALIDATION, WITHOUT_ZERO, dashes, finished, hue, method_hues, scale, tipped

KEYS = ["reader", "method", "learning_rate", "training_answers"]


def read(folder: str, models: list[str]) -> pd.DataFrame:
    """The searches of all readers of a run that are there, as `search.run` returns them.

    Raises:
        WhoknowsError: there is none.
    """
    paths = [path for path in (Path(folder) / f"{model}.parquet" for model in models) if path.exists()]
    if not paths:
        raise WhoknowsError(f"{folder} has no search of {', '.join(models)}: run the stage search first")
    return pd.concat([files.read_parquet(path) for path in paths], ignore_index=True)


def best(table: pd.DataFrame) -> pd.DataFrame:
    """For each training its best look at validation, whose adapters would be used; seconds of the whole training."""
    groups = table.groupby(KEYS, sort=False, dropna=False)
    whole = table.assign(seconds=groups["seconds"].transform("max"))
    return whole.loc[groups["validation_auroc"].idxmax()].reset_index(drop=True)


def preferred(table: pd.DataFrame, models: list[str]) -> str:
    """A sentence for each reader: the learning rate that validation prefers, and whether the grid uses it.

    One more names the models of which the table has none.
    """
    tried, sentences = best(table[table["method"] == "lora_prompt"]), []
    for reader, trainings in tried.groupby("reader", sort=False):
        whole = trainings[trainings["training_answers"] == trainings["training_answers"].max()]
        whole = whole.sort_values(["validation_auroc", "in_grid"], ascending=False)
        first, used = whole.iloc[0], whole[whole["in_grid"]].iloc[0]
        auroc, grid_auroc = (f"{line['validation_auroc']:.3f}" for line in (first, used))
        lead = f"For {reader}, validation prefers the learning rate {first['learning_rate']:.3g} (AUROC {auroc})"
        other = f"but the grid uses {used['learning_rate']:.3g} ({grid_auroc})."
        sentences.append(f"{lead} among {len(whole)}, {'and the grid uses it.' if first['in_grid'] else other}")
    if without := [model for model in models if model not in set(table["reader"])]:
        why = "nothing can be learned from a model's own answers, or the stage did not finish"
        sentences.append(f"There is no search of {' and '.join(without)}: {why}.")
    return " ".join(sentences)


def search_curve(table: pd.DataFrame) -> alt.FacetChart | None:
    """AUROC on validation against seconds of training with all training answers, a line for each learning rate.

    Each reader of what `search.run` returns has a panel, in which the probe is a point. None without any.
    """
    if table.empty:
        return None
    most = table.groupby("reader")["training_answers"].transform("max")
    drawn = table[table["training_answers"] == most].round({"seconds": 3, "epoch": 2, "validation_auroc": 4})
    rates = drawn["learning_rate"]
    drawn["what"] = ["probe" if pd.isna(rate) else f"LoRA + Prompt, {rate:.3g}" for rate in rates]
    names = drawn.sort_values("learning_rate", na_position="first")["what"].unique().tolist()
    legend = alt.Legend(orient="bottom", columns=2, labelLimit=240, symbolType="stroke", symbolSize=500)
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
    described = "AUROC on validation by seconds of training, a line for each learning rate of LoRA + Prompt "
    panels = panels.facet(column=alt.Column("reader:N", title=None), spacing=32)
    return finished(panels, "search", described + "and a point for the probe.")


def sizes_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """Best AUROC on validation by number of training answers, of both methods at the grid's settings, by reader.

    None without any.
    """
    if table.empty:
        return None
    tried = best(table)
    rates = tried[tried["in_grid"]].set_index(["reader", "method"])["learning_rate"]
    lines = tried.itertuples()
    used = [pd.isna(line.learning_rate) or line.learning_rate == rates[line.reader, line.method] for line in lines]
    drawn = tried[used].assign(label=tried["method"].map(METHOD_TITLES))
    drawn = drawn.round({"seconds": 3, "epoch": 2, "validation_auroc": 4})
    base = tipped(alt.Chart(drawn), "label", "training_answers", "validation_auroc", "seconds", "epoch")
    colours, legend = scale(method_hues(["probe", "lora_prompt"])), alt.Legend(orient="bottom")
    panel = base.mark_line(point=True).properties(width=280, height=220)
    panel = panel.encode(
        x=alt.X("training_answers:Q", title="Training answers", scale=alt.Scale(type="log", nice=False)),
        y=alt.Y("validation_auroc:Q", title="Best AUROC on validation", scale=WITHOUT_ZERO),
        color=alt.Color("label:N", title=None, scale=colours, legend=legend),
    )
    panels = panel.facet(column=alt.Column("reader:N", title=None), spacing=32)
    described = "Best AUROC on validation by number of training answers, of the probe and of LoRA + Prompt"
    return finished(panels, "training_answers", f"{described}; all values are in the table beneath.")


def html(table: pd.DataFrame) -> str:
    """Every training that was tried, with what it cost and what it reached, as an HTML table."""
    tried = best(table)
    shown = pd.DataFrame({
        "Reader": tried["reader"],
        "Method": tried["method"].map(METHOD_TITLES),
        "Learning rate": ["" if pd.isna(rate) else f"{rate:.3g}" for rate in tried["learning_rate"]],
        "Training answers": tried["training_answers"],
        "Seconds": tried["seconds"].map("{:,.1f}".format),
        "Best AUROC on validation": tried["validation_auroc"].map("{:.3f}".format),
        "At epoch": ["" if pd.isna(epoch) else f"{epoch:.1f}" for epoch in tried["epoch"]],
        "Used by the grid": ["yes" if used else "" for used in tried["in_grid"]],
    })  # fmt: skip
    return shown.to_html(index=False, classes="metrics")
