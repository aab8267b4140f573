"""What cells measure, as HTML tables: the numbers beneath the heatmaps, of one cell in full, and of what stands beside."""

from html import escape

import pandas as pd

from whoknows.evaluation.cells import METHODS
from whoknows.evaluation.scores import POOLED
from whoknows.report.pages.charts import TITLES, page_of, with_labels
from whoknows.report.pages.grading import GRADINGS

COLUMNS = {
    "auroc": "AUROC", "brier": "Brier", "log_loss": "Log loss", "ece": "ECE", "ece_equal_mass": "ECE, equal mass", "smooth_ece": "Smooth ECE",
    "ece_temperature": "ECE after temperature", "ece_platt": "ECE after Platt", "aurc": "AURC", "prr": "PRR", "threshold_accuracy": "Accuracy at threshold", "commoner_accuracy": "Always the commoner grade",
}  # fmt: skip
BENEATH = "Beneath a value stands its 95 % interval over questions, where it has one."


def heatmaps(table: pd.DataFrame, models: list[str], links: bool = False) -> str:
    """AUROC of the heatmaps as HTML tables that fold away, one per test set, reading and method.

    Args:
        links: whether each measured value leads to the page of its estimator.
    """
    parts = []
    for (test_set, reading, method), cells in table.groupby(["test_set", "reading", "method"], sort=False):
        drawn = with_labels(cells, 0)
        drawn["says"] = [_linked(says, line) if links else says for says, line in zip(_says(drawn), drawn.itertuples())]
        drawn["model"] = drawn["model"].str.replace("\n", ", ")
        grid = drawn.pivot(index="model", columns="trained_on", values="says").loc[drawn["model"].unique(), models]
        caption = f"{METHODS[method]}, {TITLES[reading][0]}, {test_set}"
        grid = grid.rename_axis(index="Model", columns="Trained On")
        parts.append(captioned(grid.to_html(escape=not links), caption))
    return "<details><summary>The same numbers as tables</summary>" + "\n".join(parts) + "</details>"


def baselines(table: pd.DataFrame) -> str:
    """The untrained methods as HTML: AUROC by method, reader and scored model, a table for each test set.

    All but the first fold away.

    Args:
        table: as `cells.baseline_table` returns.
    """
    drawn = with_labels(table, 0)
    drawn["says"] = _says(drawn)
    drawn["method"] = drawn["method"].map(METHODS)
    parts = []
    for test_set, cells in drawn.groupby("test_set", sort=False):
        wide = cells.pivot(index=["method", "reader"], columns="scored", values="says").fillna("—").reset_index()
        wide = wide.rename(columns={"method": "Method", "reader": "Reader"}).rename_axis(columns=None)
        parts.append(captioned(wide.to_html(index=False), f"AUROC by scored model, {test_set}"))
    others = f"<details><summary>The other test questions</summary>{''.join(parts[1:])}</details>"
    return "".join(parts[:1]) + (others if parts[1:] else "")


def contest(table: pd.DataFrame) -> str:
    """All metrics of the native cells as HTML, a table for each scored model; that with tasks pooled folds away.

    Args:
        table: as `contest.contest` returns.
    """
    parts = []
    for scored, own in table.groupby("scored", sort=False):
        own = own.sort_values("auroc", ascending=False)
        names = {"Method": own["method"].map(METHODS)}
        shown = _values(own, names)
        shown.insert(2, "Less the probe", [_less(line) if pd.notna(line.against) else "" for line in own.itertuples()])
        caption = f"{scored} on its own answers: {own['n_right'].iloc[0]} right of {own['n'].iloc[0]}. {BENEATH}"
        parts.append(captioned(shown.to_html(index=False, escape=False, classes="metrics contest"), caption))
        parts.append(_pooled(own, names))
    return "\n".join(parts)


def cell(table: pd.DataFrame) -> str:
    """All metrics of one cell as HTML, a line for each scored model and test set; that with tasks pooled folds away.

    Args:
        table: as `cells.measure` returns.
    """
    columns = {"scored": "Scored", "method": "Method", "test_set": "Test questions"}
    names = {title: table[column].replace(METHODS) for column, title in columns.items()}
    shown = _values(table, names).assign(**{"Right answers": table["n_right"], "Answers": table["n"]})
    some = (table["reason"] != "").any()
    if some:
        shown.insert(len(names), "No value because", table["reason"].map(escape))
    return captioned(shown.to_html(index=False, escape=False, classes="metrics reasons" if some else "metrics"), BENEATH) + _pooled(table, names)


def mistakes(table: pd.DataFrame) -> str:
    """Questions with answer, gold and confidence as HTML tables, one for each scored model and kind; all but the first fold away.

    Args:
        table: as `portrait.mistakes` returns.
    """
    columns = {"p_correct": "P(correct)", "question": "Question", "answer": "Answer", "gold": "Accepted", "task": "Task"}
    parts = []
    for (method, scored, kind), own in table.groupby(["method", "scored", "kind"], sort=False):
        texts = own[list(columns)].replace("\n", " ", regex=True)  # choices stand on lines of their own
        shown = texts.assign(p_correct=own["p_correct"].map("{:.2f}".format), gold=texts["gold"].map(_shortened)).rename(columns=columns)
        summary = f"{METHODS[method]} on the answers of {scored}: {kind}"
        html = shown.to_html(index=False, classes="texts")
        parts.append(f"<details{'' if parts else ' open'}><summary>{summary}</summary>{html}</details>")
    return "".join(parts)


def _shortened(gold: str, count: int = 4) -> str:
    """The first accepted answers, and how many more there are."""
    first, more = gold.split("; ")[:count], gold.split("; ")[count:]
    return "; ".join(first) + (f"; and {len(more)} more" if more else "")


def gradings(table: pd.DataFrame, models: list[str]) -> str:
    """The numbers of the heatmaps under each grading, as HTML tables that fold away.

    Args:
        table: as `grading.heatmaps_under` returns.
    """
    parts = [heatmaps(own, models).replace("The same numbers as tables", grading, 1) for grading, own in table.groupby("grading", sort=False)]
    return "\n".join(parts)


def agreement(table: pd.DataFrame) -> str:
    """Right answers under each grading, as an HTML table.

    Args:
        table: as `grading.agreement` returns.
    """
    shown = table.assign(**{"all agree": table["all agree"].map("{:.1%}".format)})
    return shown.rename(columns={"test_set": "Test questions", "scored": "Model", "answers": "Answers", "all agree": "All agree"} | GRADINGS).to_html(index=False, classes="metrics")


def learning_curve(table: pd.DataFrame) -> str:
    """The numbers of `plots.learning_curve` as an HTML table.

    Args:
        table: as `contest.learning_curve` returns.
    """
    if table.empty:
        return "<p>There is nothing to show yet.</p>"
    sizes = sorted(set(table["size"]), key=lambda size: float("inf") if size == "all" else int(size))
    says = [f"{v:.3f} ({low:.3f} – {high:.3f})" if pd.notna(v) else "—" for v, low, high in zip(table["auroc"], table["low"], table["high"])]
    wide = table.assign(says=says).pivot(index="scored", columns="size", values="says")[sizes].fillna("—").reset_index()
    return wide.rename(columns={"scored": "Model"}).rename_axis(columns=None).to_html(index=False)


def sweep(table: pd.DataFrame) -> str:
    """For each cell and number of training answers, the layer and strength that validation chooses, and AUROC there, as HTML that folds away.

    Args:
        table: as `sweep.run` returns.
    """
    keys = ["reader", "trained_on", "scored", "size"]
    best = table.loc[table.groupby(keys, sort=False)["validation_auroc"].idxmax()]
    names = {"reader": "Reader", "trained_on": "Trained On", "scored": "Scored", "size": "Training answers", "layer": "Layer", "strength": "Strength"}
    shown = best[list(names)].rename(columns=names).assign(**{title: best[name].map("{:.3f}".format, na_action="ignore") for name, title in (("validation_auroc", "AUROC on validation"), ("auroc", "AUROC on test"))})
    return f"<details><summary>What validation chooses at each number of training answers</summary>{shown.to_html(index=False, na_rep='—')}</details>"


def captioned(table: str, caption: str) -> str:
    """An HTML table of pandas with a caption."""
    return table.replace("<thead>", f"<caption>{caption}</caption><thead>", 1)


def _pooled(table: pd.DataFrame, names: dict[str, pd.Series]) -> str:
    shown = _values(table, names, POOLED)
    return f"<details><summary>The same with all tasks pooled, where knowing the task counts</summary>{shown.to_html(index=False, escape=False, classes='metrics')}</details>"


def _values(table: pd.DataFrame, names: dict[str, pd.Series], before: str = "") -> pd.DataFrame:
    """Names, and all metrics in words, each with its interval beneath it, as HTML."""
    shown, none = {title: values.map(escape) for title, values in names.items()}, pd.Series(float("nan"), table.index)
    for column, title in COLUMNS.items():
        ends = [table[end] if before + column == "auroc" else table.get(f"{end}_{before}{column}", none) for end in ("low", "high")]
        between = [f"<br/><small>{low:.3f} – {high:.3f}</small>" if pd.notna(low) else "" for low, high in zip(*ends)]
        shown[title] = ["—" if pd.isna(value) else f"{value:.3f}{beneath}" for value, beneath in zip(table[before + column], between)]
    return pd.DataFrame(shown)


def _less(line) -> str:
    """A difference from the probe with its interval, the p-value that its verdict rests on, and the verdict."""
    if pd.isna(line.difference):
        return line.against
    p = f"p {p_value(line.p)}, " if pd.isna(line.p_holm) else f"p {p_value(line.p_holm)} after Holm, "
    return f"{line.difference:+.3f} ({line.difference_low:+.3f} to {line.difference_high:+.3f}), {p}{line.against}"


def p_value(p: float) -> str:
    return "under 0.001" if p < 0.001 else f"{p:.3f}"


def _linked(says: str, line) -> str:
    return f'<a href="{page_of(line)}">{says}</a>' if pd.notna(line.auroc) else says


def _says(drawn: pd.DataFrame) -> list[str]:
    """Value, interval, note and spread over seeds of each cell, as far as it has them, or why there is no value."""
    none = pd.Series("", drawn.index)
    between = drawn.get("between_seeds", none)  # "" where there is one seed, or no value
    spread = ("by seed " + between).where(between != "", "")
    why = drawn.get("reason", none).where(drawn["auroc"].isna(), "")
    notes = [", ".join(filter(None, parts)) for parts in zip(drawn.get("interval_auroc", none), drawn["note"].where(drawn["auroc"].notna(), ""), spread, why)]
    return [f"{value} ({note})" if note else value for value, note in zip(drawn["value"], notes)]
