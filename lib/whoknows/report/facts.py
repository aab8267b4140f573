"""What the heatmaps rest on, model by model: weights, probe, steps of LoRA, and the answers of model selection."""

import re

import pandas as pd

from whoknows.data.assets import ASSETS
from whoknows.data.prompts import CHAT
from whoknows.evaluation import plateau
from whoknows.report.pages.style import captioned, span

# In the names of models that were tuned to instructions.
TUNED = re.compile(r"instruct|chat|(?<![a-z])it(?![a-z])", re.IGNORECASE)


def table(rows: pd.DataFrame, estimators: str, models: list[str]) -> pd.DataFrame:
    """A line for each model, of what its results rest on.

    The line has its weights, whether it was tuned to instructions (by its name), the layers that its probes read, how
    many of its validation answers are right (on which layer and strength of its probes were chosen), and the steps of
    its LoRA + Prompt.

    Args:
        rows: of the probe; those of the split "validation" count.
        estimators: folder with the cards of a run; "—" stands for what none of them says.
    """
    cards, lines = list(plateau.cards(estimators).values()), []
    held = rows[(rows["method"] == "probe") & (rows["split"] == "validation") & (rows["trained_on"] == rows["scored"])]
    for model in models:
        read = [card for card in cards if card["reader"] == model and "source" in card]
        layers = (card["chosen"]["layer"] for card in read if card["method"] == "probe")
        steps = (card["history"][-1]["step"] for card in read if card["method"] == "lora_prompt")
        graded = held[held["scored"] == model].drop_duplicates(["seed", "question_id"]).groupby("seed")["correct"]
        lines.append({
            "Model": model,
            "Weights": _span(_weights(card) for card in read),
            "Instruction-tuned": _span(tuned(card["source"]) for card in read),
            "Layer of its probes": _span(layers),
            "Right answers that chose layer and strength": f"{_span(graded.sum())} of {_span(graded.size())}",
            "Steps of its LoRA + Prompt": _span(steps),
        })  # fmt: skip
    return pd.DataFrame(lines)


def html(rows: pd.DataFrame, estimators: str, models: list[str]) -> str:
    """`table` as HTML, with a sentence on the probe."""
    probe = "The probe is a logistic regression on one layer."
    if "probe_mlp" in set(rows["method"]):
        probe += " The paper's, an MLP on the last layer, is on the switch Heatmaps."
    # A column for each model, as wide as a phone holds.
    shown = table(rows, estimators, models).set_index("Model").T.rename_axis(columns=None)
    return captioned(shown.to_html(classes="facts"), f"What these values rest on. {probe}")


def tuned(source: str) -> str:
    """Whether the name of a model's source, or an asset's origin, says that it was tuned to instructions: yes or no."""
    asset = ASSETS.get(source.removeprefix(CHAT))
    return "yes" if TUNED.search(f"{source} {asset.source if asset else ''}") else "no"


def _weights(card: dict) -> str:
    asset = ASSETS.get(card["source"].removeprefix(CHAT))
    kind = asset and asset.gguf and re.search(r"q(\d)\w*", asset.gguf, re.IGNORECASE)
    return f"{kind[1]}-bit GGUF ({kind[0].upper()})" if kind else f"{card['source']}, {card['precision']}"


def _span(values) -> str:
    distinct = sorted({*values})
    return span(distinct[0], distinct[-1]) if distinct else "—"
