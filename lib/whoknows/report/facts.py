"""What the heatmaps rest on, model by model: weights, probe, steps of LoRA and the answers that chose, from the files of the run."""

import re

import pandas as pd

from whoknows.data.assets import ASSETS
from whoknows.data.prompts import CHAT
from whoknows.evaluation import plateau
from whoknows.report.pages.style import captioned

TUNED = re.compile(
    r"instruct|chat|(?<![a-z])it(?![a-z])", re.IGNORECASE
)  # in the names of models that were tuned to instructions


def table(rows: pd.DataFrame, estimators: str, models: list[str]) -> pd.DataFrame:
    """A line for each model: its weights, whether it was tuned to instructions (by its name), the layers that its probes read, how many
    of its validation answers are right (on which probes that were trained on it chose), and the steps of its LoRA + Prompt.

    Args:
        rows: of the probe; those of the split "validation" count.
        estimators: folder with the cards of a run; "—" stands for what none of them says.
    """
    cards, lines = list(plateau.cards(estimators).values()), []
    held = rows[(rows["method"] == "probe") & (rows["split"] == "validation") & (rows["trained_on"] == rows["scored"])]
    for model in models:
        own = [card for card in cards if card["reader"] == model and "source" in card]
        graded = held[held["scored"] == model].drop_duplicates(["seed", "question_id"]).groupby("seed")["correct"]
        lines.append({
            "Model": model,
            "Weights": _span(_weights(card) for card in own),
            "Instruction-tuned": _span(tuned(card["source"]) for card in own),
            "Layer of its probes": _span(card["chosen"]["layer"] for card in own if card["method"] == "probe"),
            "Right answers that chose layer and strength": f"{_span(graded.sum())} of {_span(graded.size())}",
            "Steps of its LoRA + Prompt": _span(card["history"][-1]["step"] for card in own if card["method"] == "lora_prompt"),
        })  # fmt: skip
    return pd.DataFrame(lines)


def html(rows: pd.DataFrame, estimators: str, models: list[str]) -> str:
    """`table` as HTML, with a sentence on the probe."""
    probe = "The probe is a logistic regression on one layer."
    if "probe_mlp" in set(rows["method"]):
        probe += " The paper's, an MLP on the last layer, is on the switch Heatmaps."
    shown = (
        table(rows, estimators, models).set_index("Model").T.rename_axis(columns=None)
    )  # a column for each, as wide as a phone holds
    return captioned(shown.to_html(classes="facts"), f"What these values rest on. {probe}")


def tuned(source: str) -> str:
    """Whether the name of a model's source, or of where an asset was taken from, says that it was tuned to instructions."""
    asset = ASSETS.get(source.removeprefix(CHAT))
    return "yes" if TUNED.search(f"{source} {asset.source if asset else ''}") else "no"


def _weights(card: dict) -> str:
    asset = ASSETS.get(card["source"].removeprefix(CHAT))
    kind = asset and asset.gguf and re.search(r"q(\d)\w*", asset.gguf, re.IGNORECASE)
    return f"{kind[1]}-bit GGUF ({kind[0].upper()})" if kind else f"{card['source']}, {card['precision']}"


def _span(values) -> str:
    found = sorted({*values})
    return " to ".join(map(str, [found[0], *found[1:][-1:]])) if found else "—"
