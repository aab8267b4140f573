"""Hidden states on the disk: written by `extract` for each scored model, and all that a probe needs of a reader."""

import hashlib
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


def whose(reader: str, answers: pd.DataFrame, position: str = LAST) -> dict[str, str]:
    """What the header of such a file says: who read, and a digest of what was; at a question's end, of no answers."""
    read = answers[["question_id"] if position == QUESTION else ["question_id", "answer"]]
    return {"reader": reader, "read": hashlib.sha256(read.to_json(orient="values").encode()).hexdigest()[:16]}


def load_states(
    folder: str, reader: str, answers: dict[str, pd.DataFrame], position: str = LAST, of: Iterable[str] | None = None
) -> dict[str, torch.Tensor]:
    """For each scored model, of all or some, what `load_hidden` says of its answers, as `rows.aligned` returns them."""
    frames = {scored: answers[scored] for scored in (answers if of is None else of)}
    if position != QUESTION:
        return {scored: load_hidden(folder, reader, scored, frame, position) for scored, frame in frames.items()}
    states = load_hidden(folder, reader, "", every(answers), QUESTION)
    whole = len(states)
    return {m: states if len(frame) == whole else states[frame.index.tolist()] for m, frame in frames.items()}


def load_hidden(folder: str, reader: str, scored: str, answers: pd.DataFrame, position: str = LAST) -> torch.Tensor:
    """Hidden states [answers, layers + 1, width] of one scored model's answers; NaN where no query follows an answer.

    At the question's end there is one answer for each question.

    Raises:
        WhoknowsError: the file is missing, damaged, or its header says that it is of another reader or other answers.
    """
    path = file(folder, stem(scored, position))
    hidden = files.read_safetensors(path)["hidden"]
    if len(hidden) != len(answers):
        raise WhoknowsError(
            f"{path} holds {len(hidden)} answers where there are {len(answers)}: delete it and run make book again"
        )
    header = files.read_metadata(path)
    if "reader" in header and header != whose(reader, answers, position):
        what = f"{header['reader']}, not {reader}" if header["reader"] != reader else "other answers to these questions"
        raise WhoknowsError(f"{path} holds hidden states of {what}: extract those of {reader} and these answers anew")
    return hidden
