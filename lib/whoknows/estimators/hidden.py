"""Hidden states on the disk: written by `extract` for each scored model, and all that a probe needs of a reader."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.positions import LAST, QUESTION, stem
from whoknows.data.rows import every


def file(folder: str, name: str) -> Path:
    """The file of hidden states [answers, layers + 1, width], under the name `hidden`; see `positions.stem`."""
    return Path(folder) / f"{name}.safetensors"


def load_states(
    folder: str, answers: dict[str, pd.DataFrame], position: str = LAST, of: Iterable[str] | None = None
) -> dict[str, torch.Tensor]:
    """For each scored model, of all or some, what `load_hidden` says of its answers, as `rows.aligned` returns them."""
    frames = {scored: answers[scored] for scored in (answers if of is None else of)}
    if position != QUESTION:
        return {scored: load_hidden(folder, scored, frame, position) for scored, frame in frames.items()}
    states = load_hidden(folder, "", every(answers), QUESTION)
    whole = len(states)
    return {m: states if len(frame) == whole else states[frame.index.tolist()] for m, frame in frames.items()}


def load_hidden(folder: str, scored: str, answers: pd.DataFrame, position: str = LAST) -> torch.Tensor:
    """Hidden states [answers, layers + 1, width] of one scored model's answers; NaN where no query follows an answer.

    At the question's end there is one answer for each question.

    Raises:
        WhoknowsError: the file is missing, damaged, or of other answers.
    """
    path = file(folder, stem(scored, position))
    hidden = files.read_safetensors(path)["hidden"]
    if len(hidden) != len(answers):
        raise WhoknowsError(
            f"{path} holds {len(hidden)} answers where there are {len(answers)}: delete it and run make book again"
        )
    return hidden
