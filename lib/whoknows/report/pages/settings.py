"""What a search says: which learning rate validation prefers, and what both methods reach with how much training. Not what it does."""

from pathlib import Path

import altair as alt
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.methods import METHOD_TITLES
from whoknows.report.pages.curves import embedding, tipped
from whoknows.report.pages.palette import hues

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
    """A line for each training: that of its best look at validation, whose adapters would be used; seconds of the whole training."""
    groups = table.groupby(KEYS, sort=False, dropna=False)
    return (
        table.assign(seconds=groups["seconds"].transform("max"))
        .loc[groups["validation_auroc"].idxmax()]
        .reset_index(drop=True)
    )


def preferred(table: pd.DataFrame) -> str:
    """A sentence for each reader: the learning rate that validation prefers, and whether the grid uses it."""
    tried, said = best(table[table["method"] == "lora_prompt"]), []
    for reader, own in tried.groupby("reader", sort=False):
        whole = own[own["training_answers"] == own["training_answers"].max()].sort_values(
            ["validation_auroc", "in_grid"], ascending=False
        )
        first, used = whole.iloc[0], whole[whole["in_grid"]].iloc[0]
        told = f"For {reader}, validation prefers the learning rate {_rate(first['learning_rate'])} (AUROC {first['validation_auroc']:.3f}) among {len(whole)}, "
        said.append(
            told
            + (
                "and the grid uses it."
                if first["in_grid"]
                else f"but the grid uses {_rate(used['learning_rate'])} ({used['validation_auroc']:.3f})."
            )
        )
    return " ".join(said)


def sizes_chart(table: pd.DataFrame) -> alt.FacetChart:
    """Best AUROC on validation against the number of training answers, of both methods at the grid's settings, a panel for each reader."""
    tried = best(table)
    rates = tried[tried["in_grid"]].set_index(["reader", "method"])["learning_rate"]
    used = [
        pd.isna(line.learning_rate) or line.learning_rate == rates[line.reader, line.method]
        for line in tried.itertuples()
    ]
    drawn = (
        tried[used]
        .assign(label=tried["method"].map(METHOD_TITLES))
        .round({"seconds": 3, "epoch": 2, "validation_auroc": 4})
    )
    colour = alt.Color("label:N", title=None, scale=hues(["probe", "lora_prompt"]), legend=alt.Legend(orient="bottom"))
    x = alt.X("training_answers:Q", title="Training answers", scale=alt.Scale(type="log", nice=False))
    y = alt.Y("validation_auroc:Q", title="Best AUROC on validation", scale=alt.Scale(zero=False))
    base = tipped(alt.Chart(drawn), "label", "training_answers", "validation_auroc", "seconds", "epoch")
    lines = base.mark_line(point=True).encode(x=x, y=y, color=colour).properties(width=280, height=220)
    described = "Best AUROC on validation by number of training answers, of the probe and of LoRA + Prompt; all values are in the table beneath."
    return lines.facet(column=alt.Column("reader:N", title=None), spacing=32).properties(
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
