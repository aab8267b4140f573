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
    """For each model, whether its best judge needed any training at all, as Markdown.

    Args:
        table: as `cells.heatmap_table` returns.
        baselines: as `cells.baseline_table` returns.
    """
    first = table["test_set"].iloc[0]
    trained = table[(table["test_set"] == first) & (table["reading"] == "A")].dropna(subset="auroc")
    untrained = baselines[baselines["test_set"] == first].dropna(subset="auroc")
    said = []
    for model in table["model"].unique():
        ours, theirs = trained[trained["model"] == model], untrained[untrained["scored"] == model]
        if len(ours) and len(theirs):
            said.append(_contest(model, ours.loc[ours["auroc"].idxmax()], theirs.loc[theirs["auroc"].idxmax()]))
    return "\n".join(f"- {sentence}" for sentence in said) or "There is nothing to compare yet."


def _range(name: str, values: pd.Series) -> str:
    values = values.dropna()
    if not len(values):
        return f"**{name}** has no measured cell"
    return f"**{name}** reaches an AUROC of {_span(f'{values.min():.2f}', f'{values.max():.2f}')}"


def _span(low, high) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _contest(model: str, ours: pd.Series, theirs: pd.Series) -> str:
    verdict = "above" if ours["auroc"] > theirs["auroc"] else "not above"
    estimator = f"{METHODS[ours['method']]} trained on {ours['trained_on']}"
    return (
        f"{model}'s answers: the best trained estimator ({estimator}) reaches {ours['auroc']:.2f}, "
        f"{verdict} the best untrained one ({METHODS[theirs['method']].lower()}, {theirs['auroc']:.2f})."
    )
