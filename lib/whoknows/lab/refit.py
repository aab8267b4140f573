"""Probes at one setting, on the hidden states that a run left behind: fitted in less than a second, and kept."""

import json
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.splits import fewer, for_seed
from whoknows.estimators.hidden import BEFORE, load_hidden
from whoknows.estimators.logistic import logistic_path, standardise
from whoknows.estimators.probe import Labelled, Logistic
from whoknows.evaluation.cells import grid_task
from whoknows.run import grid, parameters
from whoknows.stages.probe import judge, parts

TOKENS = ("last of the answer", "last before the answer")


@dataclass(frozen=True)
class Setting:
    """What a probe is, and whose answers it judges.

    Attributes:
        token: whose hidden states it reads, one of `TOKENS`.
        layer: HF index, 0 = embeddings.
        strength: of the L2 penalty.
        size: training answers, at most; 0 takes all.
        tasks: of the grid; those with role train are trained on and tested, those with role shift only tested.
    """

    reader: str
    trained_on: str
    scored: str
    token: str
    layer: int
    strength: float
    size: int
    tasks: tuple[str, ...]


class Results:
    """What the run of a grid left behind: answers, and hidden states that are read when they are first asked for.

    Args:
        grid_file: path of the grid; its first seed divides train and validation.

    Raises:
        WhoknowsError: the grid is wrong, or it was not run.
    """

    def __init__(self, grid_file: str):
        self.grid_file, self.grid = Path(grid_file), grid.load(grid_file)
        paths = parameters.answers(self.grid)
        self.models, self.seed = list(paths), self.grid.seeds[0]
        self.answers = {name: for_seed(files.read_parquet(path), self.seed) for name, path in paths.items()}
        frame = self.answers[self.models[0]]  # all have the same questions
        self._hidden = cache(lambda reader, states: load_hidden(f"{parameters.out(self.grid)}/features/{reader}", states, frame))
        self._judged = lru_cache(maxsize=64)(self._fit_and_judge)

    def layers(self, reader: str) -> int:
        """How many hidden states a reader has, the embeddings among them."""
        return self._hidden(reader, self.models[0]).shape[1]

    def published(self, reader: str, trained_on: str) -> dict | None:
        """Layer and strength of the run's own probe, which were chosen on validation; None if the run has no such probe."""
        path = Path(parameters.out(self.grid), "estimators", "probe", reader, trained_on, f"seed{self.seed}", "probe.json")
        return json.loads(path.read_text())["chosen"] if path.exists() else None

    def tasks(self, setting: Setting) -> list[dict]:
        """The setting's tasks, dicts with name, size and role."""
        return [asdict(task) for task in self.grid.tasks if task.name in setting.tasks]

    def rows(self, setting: Setting) -> pd.DataFrame:
        """Rows of the setting's probe: all models' test answers, and the validation answers of the model it is trained on.

        Raises:
            WhoknowsError: the reader has no such layer, or there is nothing to learn.
        """
        return self._judged(replace(setting, scored=""))  # one probe judges all

    def _fit_and_judge(self, setting: Setting) -> pd.DataFrame:
        reader, trained_on, layer = setting.reader, setting.trained_on, setting.layer
        if layer >= self.layers(reader):
            raise WhoknowsError(f"{reader} has the layers 0 to {self.layers(reader) - 1}, but {layer} is asked for; choose one that it has.")
        if not any(task["role"] == "train" for task in self.tasks(setting)):
            raise WhoknowsError("None of these tasks has the role train, so there is nothing to learn; choose one more.")
        frames = {scored: self._asked(frame, setting) for scored, frame in self.answers.items()}
        states = {scored: scored if setting.token == TOKENS[0] else BEFORE for scored in frames}
        hidden = {scored: self._hidden(reader, states[scored])[:, layer : layer + 1] for scored in frames}
        own = frames[trained_on]
        train, _ = parts(fewer(own, setting.size, self.seed) if setting.size else own, hidden[trained_on], trained_on)
        names = {"reader": reader, "trained_on": trained_on, "seed": self.seed}
        return judge({"probe": fit(train, setting.strength)}, frames, hidden.__getitem__, names)

    def _asked(self, frame: pd.DataFrame, setting: Setting) -> pd.DataFrame:
        """Answers of which those to other tasks have no split, so that nobody takes them."""
        names = [task.name for task in self.grid.tasks]
        own = {task: grid_task(task, names) for task in frame["task"].unique()}
        return frame.assign(split=frame["split"].where(frame["task"].map(own).isin(setting.tasks), ""))


def fit(train: Labelled, strength: float) -> Logistic:
    """The logistic probe of one layer and one strength, which need not be chosen.

    Args:
        train: hidden states [n, 1, width]; both grades occur.
    """
    probe, x = Logistic([0], [strength]), train.hidden[:, 0].float()
    mean, scale = standardise(x)
    (weights,) = logistic_path((x - mean) / scale, torch.from_numpy(train.correct.astype(np.float32)), [strength])
    probe.restore({"layer": 0, "strength": strength}, {"weights": weights, "mean": mean, "scale": scale})
    return probe
