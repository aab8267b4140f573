"""The numbers beneath the charts, as HTML tables."""

import pandas as pd

from whoknows.cells import METHODS
from whoknows.charts import TITLES, with_labels
from whoknows.claims import FAILS, HOLDS, OPEN


def heatmaps(table: pd.DataFrame, models: list[str]) -> str:
    """The numbers of the heatmaps as HTML tables that fold away, one per test set, reading and method."""
    parts = []
    for (test_set, reading, method), cells in table.groupby(["test_set", "reading", "method"], sort=False):
        drawn = with_labels(cells, 0)
        drawn["says"] = _says(drawn)
        grid = drawn.pivot(index="model", columns="trained_on", values="says").loc[models, models]
        caption = f"{METHODS[method]}, {TITLES[reading][0]}, {test_set}"
        grid = grid.rename_axis(index="Model", columns="Trained On")
        parts.append(_captioned(grid.to_html(), caption))
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
        parts.append(_captioned(wide.to_html(index=False), f"AUROC by scored model, {test_set}"))
    others = f"<details><summary>The other test questions</summary>{''.join(parts[1:])}</details>"
    return "".join(parts[:1]) + (others if parts[1:] else "")


def verdicts(table: pd.DataFrame) -> str:
    """Claims by source, as HTML.

    Args:
        table: as `claims.verdicts` returns.
    """
    marks = {HOLDS: "✓ holds", FAILS: "✗ fails", OPEN: "? cannot be told"}
    heads = {"figure": "Its own numbers", "released": "Released", "measured": "Measured here"}
    by = [heads[s] + ("" if r == "figure" else f", reading {r}") for s, r in zip(table["source"], table["reading"])]
    wide = table.assign(by=by, says=table["verdict"].map(marks)).pivot(index="claim", columns="by", values="says")
    wide = wide.loc[table["claim"].unique(), list(dict.fromkeys(by))].reset_index().rename(columns={"claim": "Claim"})
    return wide.rename_axis(columns=None).to_html(index=False, classes="verdicts")


def contrasts(table: pd.DataFrame) -> str:
    """The differences of `charts.contrasts` as an HTML table that folds away.

    Args:
        table: as `claims.judge` returns.
    """
    shown = table.assign(by=[s if r == "figure" else f"{s}, {r}" for s, r in zip(table["source"], table["reading"])])
    between = [f"{low:+.3f} to {high:+.3f}" if pd.notna(low) else "" for low, high in zip(table["low"], table["high"])]
    shown = shown.assign(estimate=table["estimate"].map("{:+.3f}".format, na_action="ignore"), interval=between, p_holm=table["p_holm"].map("{:.3f}".format, na_action="ignore"))
    columns = {"claim": "Claim", "contrast": "Difference", "by": "By", "estimate": "Estimate", "interval": "95 % interval", "p_holm": "p (Holm)", "says": "Verdict", "reason": "Because"}
    html = shown[list(columns)].rename(columns=columns).to_html(index=False, na_rep="—")
    return f"<details><summary>The same numbers as a table</summary>{html}</details>"


def _says(drawn: pd.DataFrame) -> list[str]:
    """Value, interval and note of each cell, as far as it has them."""
    between = drawn["interval"] if "interval" in drawn else [""] * len(drawn)
    notes = [", ".join(filter(None, pair)) for pair in zip(between, drawn["note"])]
    return [f"{value} ({note})" if note else value for value, note in zip(drawn["value"], notes)]


def _captioned(table: str, caption: str) -> str:
    return table.replace("<thead>", f"<caption>{caption}</caption><thead>", 1)
