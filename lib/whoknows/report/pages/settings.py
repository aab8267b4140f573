"""The results of a search: the learning rate that validation prefers, and both methods by amount of training."""

from pathlib import Path

import altair as alt
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.methods import METHOD_TITLES
from whoknows.report.pages.curves import WITHOUT_ZERO, embedding, tipped
from whoknows.report.pages.style import hues

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


def preferred(table: pd.DataFrame) -> str:
    """A sentence for each reader: the learning rate that validation prefers, and whether the grid uses it."""
    tried, sentences = best(table[table["method"] == "lora_prompt"]), []
    for reader, trainings in tried.groupby("reader", sort=False):
        whole = trainings[trainings["training_answers"] == trainings["training_answers"].max()]
        whole = whole.sort_values(["validation_auroc", "in_grid"], ascending=False)
        first, used = whole.iloc[0], whole[whole["in_grid"]].iloc[0]
        auroc, grid_auroc = (f"{line['validation_auroc']:.3f}" for line in (first, used))
        lead = f"For {reader}, validation prefers the learning rate {_rate(first['learning_rate'])} (AUROC {auroc})"
        other = f"but the grid uses {_rate(used['learning_rate'])} ({grid_auroc})."
        sentences.append(f"{lead} among {len(whole)}, {'and the grid uses it.' if first['in_grid'] else other}")
    return " ".join(sentences)


def sizes_chart(table: pd.DataFrame) -> alt.FacetChart:
    """Best AUROC on validation against the number of training answers, of both methods at the grid's settings.

    Each reader has a panel.
    """
    tried = best(table)
    rates = tried[tried["in_grid"]].set_index(["reader", "method"])["learning_rate"]
    used = [
        pd.isna(line.learning_rate) or line.learning_rate == rates[line.reader, line.method]
        for line in tried.itertuples()
    ]
    drawn = tried[used].assign(label=tried["method"].map(METHOD_TITLES))
    drawn = drawn.round({"seconds": 3, "epoch": 2, "validation_auroc": 4})
    base = tipped(alt.Chart(drawn), "label", "training_answers", "validation_auroc", "seconds", "epoch")
    panel = base.mark_line(point=True).properties(width=280, height=220)
    panel = panel.encode(
        x=alt.X("training_answers:Q", title="Training answers", scale=alt.Scale(type="log", nice=False)),
        y=alt.Y("validation_auroc:Q", title="Best AUROC on validation", scale=WITHOUT_ZERO),
        color=alt.Color(
            "label:N", title=None, scale=hues(["probe", "lora_prompt"]), legend=alt.Legend(orient="bottom")
        ),
    )
    described = (
        "Best AUROC on validation by number of training answers, of the probe and of LoRA + Prompt; "
        "all values are in the table beneath."
    )
    return panel.facet(column=alt.Column("reader:N", title=None), spacing=32).properties(
        description=described, usermeta=embedding("training_answers")
    )


def html(table: pd.DataFrame) -> str:
    """Every training that was tried, with what it cost and what it reached, as an HTML table."""
    tried = best(table)
    shown = pd.DataFrame({
        "Reader": tried["reader"],
        "Method": tried["method"].map(METHOD_TITLES),
        "Learning rate": ["" if pd.isna(rate) else _rate(rate) for rate in tried["learning_rate"]],
        "Training answers": tried["training_answers"],
        "Seconds": tried["seconds"].map("{:,.1f}".format),
        "Best AUROC on validation": tried["validation_auroc"].map("{:.3f}".format),
        "At epoch": ["" if pd.isna(epoch) else f"{epoch:.1f}" for epoch in tried["epoch"]],
        "Used by the grid": ["yes" if used else "" for used in tried["in_grid"]],
    })  # fmt: skip
    return shown.to_html(index=False, classes="metrics")


def _rate(value: float) -> str:
    return f"{value:.3g}"
