"""The values that others published for the same cells, ready to stand beside measured ones."""

import pandas as pd

from whoknows.data.files import ROOT
from whoknows.evaluation.cells import READINGS, heatmap_axes

DATA = ROOT / "book" / "data"
MODELS = ["Mistral", "LLaMA-2"]
NAMES = {"mistral-7b": "Mistral", "llama2-7b": "LLaMA-2"}


def figure() -> pd.DataFrame:
    """The eight values that the description of the figure reads off it.

    Returns:
        A table for `heatmaps.heatmaps_chart`. The figure does not say which reading its axes mean, so it has
        one, named "figure".
    """
    values = pd.read_csv(DATA / "figure.csv").rename(columns={"value": "auroc"})
    return values.assign(reading="figure", test_set="open-ended MMLU", reason="", note="")


def released() -> pd.DataFrame:
    """The same cells from the per-task results that Kapoor et al. (2024) released, over 57 MMLU tasks.

    Returns:
        A table for `heatmaps.heatmaps_chart` with both readings. A cell that is exactly 0.5 on most tasks comes
        from a run that broke, so it is missing, and its reason says what was released.
    """
    values = pd.read_csv(DATA / "kapoor2024_open_ended_mmlu.csv")
    values = values.replace(dict.fromkeys(("reader", "trained_on", "scored"), NAMES))
    broken = values["share_of_tasks_at_exactly_0.5"] > 0.5
    values["reason"] = [_reason(line) if bad else "" for (_, line), bad in zip(values.iterrows(), broken)]
    values["auroc"] = values["auroc_macro"].mask(broken)
    values["note"] = [f"{n} tasks" for n in values["n_tasks"]]
    values["test_set"] = "open-ended MMLU"
    return pd.concat([heatmap_axes(values, reading) for reading in READINGS], ignore_index=True)


def _reason(line: pd.Series) -> str:
    share, n = line["share_of_tasks_at_exactly_0.5"], line["n_tasks"]
    return f"released as {line['auroc_macro']:.4f}, exactly 0.5 on {share:.0%} of {n} tasks: a broken run"
