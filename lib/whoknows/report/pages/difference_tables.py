"""How cells differ, as HTML tables: differences with their intervals, and what they say of claims and of shifts."""

import pandas as pd

from whoknows.evaluation.cells import METHODS
from whoknows.report.pages.cell_tables import captioned, p_value
from whoknows.report.pages.claims import FAILS, HOLDS, OPEN, margin


def verdicts(table: pd.DataFrame) -> str:
    """Claims by source, as HTML.

    Args:
        table: as `claims.verdicts` returns.
    """
    marks = {HOLDS: "✓ holds", FAILS: "✗ fails", OPEN: "?\N{NO-BREAK SPACE}inconclusive"}
    heads = {"figure": "Its own numbers", "released": "Released", "measured": "Measured here"}
    by = [heads[s] + ("" if r == "figure" else f", reading {r}") for s, r in zip(table["source"], table["reading"])]
    wide = table.assign(by=by, says=table["verdict"].map(marks)).pivot(index="claim", columns="by", values="says")
    wide = wide.loc[table["claim"].unique(), list(dict.fromkeys(by))].reset_index().rename(columns={"claim": "Claim"})
    return wide.rename_axis(columns=None).to_html(index=False, classes="verdicts")


def contrasts(table: pd.DataFrame) -> str:
    """The differences of `plots.contrasts` as an HTML table that folds away.

    Args:
        table: as `claims.judge` returns.
    """
    shown = table.assign(by=[s if r == "figure" else f"{s}, {r}" for s, r in zip(table["source"], table["reading"])])
    between = [f"{low:+.3f} to {high:+.3f}" if pd.notna(low) else "" for low, high in zip(table["low"], table["high"])]
    shown = shown.assign(estimate=table["estimate"].map("{:+.3f}".format, na_action="ignore"), interval=between)
    shown = shown.assign(**{name: table[name].map(p_value, na_action="ignore") for name in ("p_holm", "p_margin_holm")})
    columns = {"claim": "Claim", "contrast": "Difference", "by": "By", "cells": "Of the cells", "estimate": "Estimate", "interval": "95 % interval", "p_holm": "p (Holm) of zero", "p_margin_holm": f"p (Holm) of {margin():g} or more", "says": "Verdict", "reason": "Because"}
    html = shown[list(columns)].rename(columns=columns).to_html(index=False, na_rep="—")
    return f"<details><summary>The same numbers as a table</summary>{html}</details>"


def differences(table: pd.DataFrame) -> str:
    """The numbers of `plots.differences` as HTML tables that fold away, one for each test set.

    Args:
        table: as `differences.of_grid` returns.
    """
    parts = []
    for test_set, own in table.groupby("test_set", sort=False):
        between = [f"{low:+.3f} to {high:+.3f}" if pd.notna(low) else "—" for low, high in zip(own["low"], own["high"])]
        forms = {"estimate": "{:+.3f}".format, "p": p_value, "p_holm": p_value}
        shown = own.assign(interval=between, **{name: own[name].map(form, na_action="ignore") for name, form in forms.items()})
        columns = {"kind": "Kind", "reading": "Reading", "what": "Of", "estimate": "Difference", "interval": "95 % interval", "p": "p", "p_holm": "p (Holm)", "n_rarer": "Right or wrong, the fewer", "says": "Verdict"}
        parts.append(captioned(shown[list(columns)].rename(columns=columns).to_html(index=False, na_rep="—"), test_set))
    return "<details><summary>The same numbers as tables</summary>" + "\n".join(parts) + "</details>"


def shift(table: pd.DataFrame) -> str:
    """The numbers of `plots.shift` as HTML: test questions by method, a table for each model.

    Args:
        table: as `shift.shift` returns.
    """
    parts, between = [], [f"{a:.3f} ({low:.3f} – {high:.3f})" if pd.notna(a) else "—" for a, low, high in zip(table["auroc"], table["low"], table["high"])]
    changed = [f"; {change:+.3f}" if pd.notna(change) else "" for change in table["change"]]
    drawn = table.assign(says=[a + b for a, b in zip(between, changed)], tasks=[f"{n} of {of}" for n, of in zip(table["n_tasks"], table["of_tasks"])])
    for scored, own in drawn.groupby("scored", sort=False):
        by_test_set = own.groupby("test_set", sort=False).agg(**{"Right answers": ("n_right", "min"), "Tasks measured": ("tasks", "first")})
        values = own.pivot(index="test_set", columns="method", values="says")[[method for method in METHODS if method in set(own["method"])]]
        wide = by_test_set.join(values.rename(columns=METHODS)).reset_index(names="Test questions")
        parts.append(captioned(wide.to_html(index=False, na_rep="—"), f"{scored} on its own answers: AUROC, 95 % interval; less in-distribution"))
    return "\n".join(parts)


def left_out(table: pd.DataFrame) -> str:
    """Estimators on tasks that they were and were not trained on, as an HTML table.

    Args:
        table: as `shift.left_out` returns.
    """
    if table.empty:
        return "<p>No estimator was trained with a task left out.</p>"
    names = table[["method", "scored", "task", "n_right"]].assign(method=table["method"].map(METHODS))
    a, b = (table[name].map("{:.3f}".format, na_action="ignore") for name in ("with_task", "without_task"))
    change = [f"{b - a:+.3f} ({low:+.3f} to {high:+.3f})" if pd.notna(b - a) else None for a, b, low, high in zip(table["with_task"], table["without_task"], table["low"], table["high"])]
    shown = names.assign(a=a, b=b, change=change)
    return shown.set_axis(["Method", "Model", "Task", "Right answers", "Trained with it", "Trained without it", "Change, 95 % interval"], axis=1).to_html(index=False, na_rep="—")
