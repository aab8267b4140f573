"""Hidden states on the disk: written by `extract` for each scored model, and all that a probe needs of a reader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from whoknows import WhoknowsError
from whoknows.data import files

if TYPE_CHECKING:  # names alone are needed without waiting for torch
    import pandas as pd
    import torch

# In place of a scored model (no model's name has an underscore): the last token of the question, before any answer.
BEFORE = "before_answer"


def mean_of(scored: str) -> str:
    """In place of a scored model: the means of the hidden states over the tokens of its answers."""
    return f"{scored}_mean"


def file(folder: str, scored: str) -> Path:
    """The file of one scored model's hidden states, [answers, layers + 1, width] under the name `hidden`."""
    return Path(folder) / f"{scored}.safetensors"


def load_before(folder: str, answers: dict[str, pd.DataFrame]) -> dict[str, torch.Tensor]:
    """For each model hidden states [answers, layers + 1, width] before its answers, at the last token of each question.

    Args:
        folder: the reader's features.
        answers: as `rows.aligned` returns.
    """
    from whoknows.data.rows import every  # not above: pandas takes as long as the rest of a plan

    before = load_hidden(folder, BEFORE, every(answers))
    whole = len(before)
    return {m: before if len(frame) == whole else before[frame.index.tolist()] for m, frame in answers.items()}


def load_hidden(folder: str, scored: str, answers: pd.DataFrame) -> torch.Tensor:
    """Hidden states [answers, layers + 1, width] of one scored model's answers.

    Args:
        folder: the reader's features.
        scored: or `BEFORE`, for the questions of these answers; or what `mean_of` gives, for means over their tokens.

    Raises:
        WhoknowsError: the file is missing, damaged, or of other answers.
    """
    path = file(folder, scored)
    hidden = files.read_safetensors(path)["hidden"]
    if len(hidden) != len(answers):
        raise WhoknowsError(
            f"{path} holds {len(hidden)} answers where there are {len(answers)}: delete it and run make book again"
        )
    return hidden
