"""Probes: classifiers on frozen hidden states at the last answer token.

`Logistic` is L2 logistic regression with layer and strength chosen on validation; `Mlp` is the
paper's classifier on the last layer (Kapoor et al. 2024). Both give log-odds that the answer is right.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from whoknows import WhoknowsError, auroc, files
from whoknows.hidden import load_hidden
from whoknows.logistic import logistic_path, standardise
from whoknows.rows import example_rows
from whoknows.splits import for_seed


@dataclass
class Labelled:
    """Hidden states of one model's answers and their grades.

    Attributes:
        hidden: [n, layers + 1, width].
        correct: [n] bool.
        task: [n] names.
    """

    hidden: torch.Tensor
    correct: np.ndarray
    task: np.ndarray

    def part(self, keep: np.ndarray) -> "Labelled":
        return Labelled(self.hidden[torch.tensor(keep)], self.correct[keep], self.task[keep])


def check_classes(train: Labelled, name: str) -> None:
    """Refuse training answers of one class.

    Raises:
        WhoknowsError: all answers are right, or all are wrong.
    """
    reason = auroc.one_class(train.correct)
    if reason:
        reason = reason.replace("test", "training")
        raise WhoknowsError(f"probe: {reason} of {name}, so there is nothing to learn; raise tasks[].size in the grid or train on another model")


def parts(frame: pd.DataFrame, hidden: torch.Tensor, name: str) -> tuple[Labelled, Labelled]:
    """Training and validation answers of one model, in their order.

    Args:
        frame: its graded answers; those of other splits are left out.
        hidden: [answers, layers + 1, width].
        name: the model's.

    Raises:
        WhoknowsError: the training answers are of one class.
    """
    every = Labelled(hidden, frame["correct"].to_numpy(), frame["task"].to_numpy())
    train, validation = (every.part((frame["split"] == split).to_numpy()) for split in ("train", "validation"))
    check_classes(train, name)
    return train, validation


def judge(probes: dict, frames: dict[str, pd.DataFrame], features: Callable, names: dict) -> pd.DataFrame:
    """Rows of every model's test answers, and of the validation answers of the model that was trained on.

    Args:
        probes: by method; each has `score`.
        features: gives what a probe scores of a model's answers, by the model's name.
        names: reader, trained_on and seed.
    """
    found = []
    for scored, frame in frames.items():
        judged = ["test", "validation"] if scored == names["trained_on"] else ["test"]
        keep = frame["split"].isin(judged).to_numpy(copy=True)  # torch wants a mask that it may write to
        own, kept = features(scored)[keep], frame[keep]
        found += [example_rows(kept, method=method, scored=scored, logit=probe.score(own), **names) for method, probe in probes.items()]
    return pd.concat(found, ignore_index=True)


class Logistic:
    """Logistic regression on one layer; `fit` tries all layers and strengths and keeps the best on validation."""

    def __init__(self, layers: list[int], strengths: list[float]):
        self.layers, self.strengths = layers, sorted(strengths, reverse=True)

    def fit(self, train: Labelled, validation: Labelled, beside: dict[str, Labelled] | None = None) -> list[dict]:
        """Choose layer and strength by within-task AUROC on validation answers.

        Args:
            beside: answers, by name, on which every layer and strength is measured too; they choose nothing.

        Returns:
            The whole search: one dict of layer, strength, validation_auroc and the AUROC on each of `beside`.
        """
        y = torch.from_numpy(train.correct.astype(np.float32))
        search, best, asked = [], -np.inf, {"validation_auroc": validation, **(beside or {})}
        for layer in tqdm(self.layers, desc="fitting probes", unit="layer"):
            x = train.hidden[:, layer].float()
            mean, scale = standardise(x)
            held = {name: (own, (own.hidden[:, layer].float() - mean) / scale) for name, own in asked.items()}
            for strength, weights in zip(self.strengths, logistic_path((x - mean) / scale, y, self.strengths)):
                found = {name: auroc.mean_auroc((z @ weights[:-1] + weights[-1]).numpy(), own.correct, own.task) for name, (own, z) in held.items()}
                search.append({"layer": layer, "strength": strength} | found)
                if found["validation_auroc"] > best:
                    best, self.layer, self.strength = found["validation_auroc"], layer, strength
                    self.state = {"weights": weights, "mean": mean, "scale": scale}
        if best == -np.inf:
            raise WhoknowsError("probe: no task has both right and wrong validation answers, so no layer can be chosen; raise tasks[].size in the grid")
        return search

    @property
    def chosen(self) -> dict:
        return {"layer": self.layer, "strength": self.strength}

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n] log-odds from hidden states [n, layers + 1, width]."""
        x = (hidden[:, self.layer].float() - self.state["mean"]) / self.state["scale"]
        return x @ self.state["weights"][:-1] + self.state["weights"][-1]


class Mlp:
    """The paper's probe: an MLP on the last layer, stopped early on validation AUROC.

    Args:
        settings: hidden (widths), learning_rate, epochs, batch_size, patience.
        seed: decides first weights and order.
    """

    def __init__(self, settings: dict, seed: int):
        self.settings, self.seed = settings, seed

    def fit(self, train: Labelled, validation: Labelled) -> list[dict]:
        """Train with Adam; returns epoch and validation_auroc of each epoch."""
        torch.manual_seed(self.seed)
        x, y = train.hidden[:, -1].float(), torch.from_numpy(train.correct.astype(np.float32))
        self.mean, self.scale = standardise(x)
        x = (x - self.mean) / self.scale
        widths = [x.shape[1], *self.settings["hidden"], 1]
        parts = [m for a, b in zip(widths, widths[1:]) for m in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*parts[:-1])
        optimizer = torch.optim.Adam(self.net.parameters(), lr=self.settings["learning_rate"])
        history, best = [], None
        for epoch in tqdm(range(self.settings["epochs"]), desc="fitting MLP", unit="epoch"):
            for batch in torch.randperm(len(x)).split(self.settings["batch_size"]):
                loss = F.binary_cross_entropy_with_logits(self.net(x[batch])[:, 0], y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            found = auroc.mean_auroc(self.score(validation.hidden).numpy(), validation.correct, validation.task)
            history.append({"epoch": epoch, "validation_auroc": found})
            if best is None or found > best[0]:
                best = (found, epoch, {k: v.clone() for k, v in self.net.state_dict().items()})
            if epoch - best[1] >= self.settings["patience"]:
                break
        self.net.load_state_dict(best[2])
        self.chosen = {"epoch": best[1]}
        return history

    @torch.no_grad()
    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n] log-odds from hidden states [n, layers + 1, width]."""
        return self.net((hidden[:, -1].float() - self.mean) / self.scale)[:, 0]

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return {**self.net.state_dict(), "mean": self.mean, "scale": self.scale}


def run(
    name: str, trained_on: str, seed: int, answers: dict[str, pd.DataFrame], folder: str, layers, strengths: list[float], mlp: dict, out: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The probe stage: fit both probes to one model's answers, save them, and score every model's test answers and the
    validation answers that chose.

    Args:
        name: the reader's.
        folder: the reader's features.
        layers: HF indices to choose from, or "all".
        out: where the estimators go.

    Returns:
        (rows of probe and probe_mlp, the logistic probe's search over layers and strengths).

    Raises:
        WhoknowsError: the layers do not exist, or there is nothing to learn or to choose by.
    """
    frames = {scored: for_seed(frame, seed) for scored, frame in answers.items()}
    hidden = load_hidden(folder, trained_on, frames[trained_on])
    layers = _known_layers(layers, hidden.shape[1], name)
    train, validation = parts(frames[trained_on], hidden, trained_on)
    probes, searches = {"probe": Logistic(layers, strengths), "probe_mlp": Mlp(mlp, seed)}, {}
    for method, probe in probes.items():
        searches[method] = probe.fit(train, validation)
        card = {"reader": name, "trained_on": trained_on, "seed": seed, "chosen": probe.chosen, "search": searches[method]}
        files.write_text(Path(out) / f"{method}.json", json.dumps(card, indent=1))
        files.write_safetensors(Path(out) / f"{method}.safetensors", probe.state)
    names = {"reader": name, "trained_on": trained_on, "seed": seed}
    rows = judge(probes, frames, lambda scored: load_hidden(folder, scored, frames[scored]), names)
    return rows, pd.DataFrame(searches["probe"])


def _known_layers(layers, count: int, name: str) -> list[int]:
    if layers == "all":
        return list(range(count))
    wrong = [layer for layer in layers if layer not in range(count)]
    if wrong:
        raise WhoknowsError(f"grid, probe.layers: {name} has the layers 0 to {count - 1}, but {wrong[0]} is asked for; list layers that it has, or write all")
    return list(layers)
