"""Sentences about the heatmaps; every number and every comparison in them is computed."""

import pandas as pd

from whoknows.cells import METHODS


def heatmap_findings(table: pd.DataFrame) -> str:
    """What the first picture shows (reading A, the first test set), as Markdown.

    Args:
        table: as `cells.heatmap_table` returns.
    """
    shown = table[(table["reading"] == "A") & (table["test_set"] == table["test_set"].iloc[0])]
    wide = shown.pivot(index=["model", "trained_on"], columns="method", values="auroc")
    ranges = [_range(METHODS[method], wide[method]) for method in ("probe", "lora_prompt") if method in wide]
    where = f"On {shown['test_set'].iloc[0]} test questions, in reading A"
    said = [f"{where}, {' and '.join(ranges)}; chance is one half."]
    both = wide.reindex(columns=["probe", "lora_prompt"]).dropna()
    if len(both):
        higher = (both["probe"] > both["lora_prompt"]).sum()
        said.append(f"The probe is the higher of the two in {higher} of {len(both)} cells that have both.")
    rests = shown.loc[shown["auroc"].notna(), "n_right"]
    if len(rests):
        said.append(f"The cells rest on {_span(rests.min(), rests.max())} right answers, so small differences say little.")
    return " ".join(said)


def baseline_findings(table: pd.DataFrame, baselines: pd.DataFrame) -> str:
    """For each model, whether judging its own answers took any training, as Markdown.

    Its own estimators are compared, all of them and none but them: the best of many cells would be a choice made on
    test answers.

    Args:
        table: as `cells.heatmap_table` returns.
        baselines: as `cells.baseline_table` returns.
    """
    first = table["test_set"].iloc[0]
    trained = table[(table["test_set"] == first) & (table["reading"] == "A") & (table["model"] == table["trained_on"])].dropna(subset="auroc")
    own = (baselines["reader"] == "") | (baselines["reader"] == baselines["scored"])
    untrained = baselines[(baselines["test_set"] == first) & own].dropna(subset="auroc")
    said = []
    for model in table["model"].unique():
        ours, theirs = trained[trained["model"] == model], untrained[untrained["scored"] == model]
        if len(ours) and len(theirs):
            said.append(f"- {_contest(model, _by_method(ours), _by_method(theirs))}")
    return "\n".join(said) or "There is nothing to compare yet."


def _by_method(cells: pd.DataFrame) -> pd.Series:
    named = cells.set_index(cells["method"].map(METHODS))["auroc"]
    return named.reindex([name for name in METHODS.values() if name in named.index])


def _range(name: str, values: pd.Series) -> str:
    values = values.dropna()
    if not len(values):
        return f"**{name}** has no measured cell"
    return f"**{name}** reaches an AUROC of {_span(f'{values.min():.2f}', f'{values.max():.2f}')}"


def _span(low, high) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _contest(model: str, ours: pd.Series, theirs: pd.Series) -> str:
    values = [", ".join(f"{name} {value:.2f}" for name, value in those.items()) for those in (ours, theirs)]
    above = [name for name, value in ours.items() if value > theirs.max()]
    verdict = f"Above all that needs no training: {', '.join(above)}." if above else "No training made it better than the best that needs none."
    return f"{model} on its own answers: {values[0]}; without any training: {values[1]}. {verdict}"
