"""Training: the batch of each step, the learning rate, the penalty, and how to resume after the process was killed."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from whoknows.data import files
from whoknows.models import distributed


def order(lengths: list[int], batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Batches of all epochs: shuffled, then sorted by length within windows of 8 batches, which saves padding."""
    rng, batches = np.random.default_rng(seed), []
    for _ in range(epochs):
        shuffled = rng.permutation(len(lengths)).tolist()
        starts = range(0, len(shuffled), 8 * batch_size)
        windows = [sorted(shuffled[i : i + 8 * batch_size], key=lengths.__getitem__) for i in starts]
        epoch = [window[i : i + batch_size] for window in windows for i in range(0, len(window), batch_size)]
        batches += [epoch[i] for i in rng.permutation(len(epoch))]
    return batches


def learning_rate(step: int, steps: int) -> float:
    """Share of the peak rate at a step, counted from 0: linear warm-up in the first tenth, then cosine decay to 0.

    Without warm-up, the first steps of Adam, whose second moments rest on few gradients, undo what the model knows.
    """
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def jensen_shannon(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence in nats of two [..., n] log-distributions (Lin 1991).

    (KL(P, M) + KL(Q, M)) / 2 with M = (P + Q) / 2, in log space: log M = logaddexp(p, q) - log 2.
    """
    middle = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1))


@dataclass
class Progress:
    """How far training has come: all that is needed to resume it, bit for bit on a CPU.

    Attributes:
        weights: what is trained; changed in place.
        optimizer: changed in place.
        file: where it is saved at each look at validation; None for nowhere.
        step: optimiser steps done.
        history: for each look at validation, step, loss, validation_auroc and seconds, the time spent in training steps
            so far, with those of killed processes and without the looks.
        best: index of the look with the highest validation AUROC, the first of equals; -1 before there is one.
        kept: the weights at that time.
    """

    weights: list[torch.Tensor]
    optimizer: torch.optim.Optimizer
    file: Path | None
    step: int = 0
    history: list[dict] = field(default_factory=list)
    best: int = -1
    kept: list[torch.Tensor] = field(default_factory=list)

    def look(self, loss: float, auroc: float, seconds: float) -> None:
        """Records the AUROC on validation, and keeps the weights if they are the best so far.

        Args:
            seconds: spent in training steps since the look before.
        """
        if self.best < 0 or auroc > self.history[self.best]["validation_auroc"]:
            self.best, self.kept = len(self.history), [weight.detach().clone() for weight in self.weights]
        seconds += self.history[-1]["seconds"] if self.history else 0.0
        self.history.append({"step": self.step, "loss": loss, "validation_auroc": auroc, "seconds": seconds})
        if self.file and distributed.is_first():
            files.write_torch(self.file, self._state())

    def is_over(self, patience: int) -> bool:
        """Whether so many looks at validation in a row were no better than the best."""
        return len(self.history) - 1 - self.best >= patience

    def load_best(self) -> None:
        """Puts the best weights in place of the last."""
        with torch.no_grad():
            for weight, kept in zip(self.weights, self.kept, strict=True):
                weight.copy_(kept)

    def resume(self) -> None:
        """Goes on from what a killed process saved, if it saved anything."""
        if not self.file or not self.file.exists():
            return
        state = files.read_torch(self.file)
        self.step, self.history, self.best, self.kept = (state[key] for key in ("step", "history", "best", "kept"))
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for weight, kept in zip(self.weights, state["weights"], strict=True):
                weight.copy_(kept)
        self.kept = [kept.to(weight.device) for weight, kept in zip(self.weights, self.kept)]
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"])

    def _state(self) -> dict:
        weights = [weight.detach() for weight in self.weights]
        state = {"step": self.step, "history": self.history, "best": self.best}
        state |= {"weights": weights, "kept": self.kept, "optimizer": self.optimizer.state_dict()}
        random_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return state | {"random": torch.get_rng_state(), "random_cuda": random_cuda}
