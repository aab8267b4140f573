"""Classifiers on hidden states at the last answer token: what a probe trains.

`Logistic` is L2 logistic regression with layer and strength chosen on validation; `Mlp` is the paper's classifier on
the last layer (Kapoor et al. 2024). Both give log-odds that the answer is right.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from whoknows import WhoknowsError
from whoknows.evaluation import auroc

SMALL = 1e-7  # nats of mean loss: below the resolution of float32
STEPS = 100  # of Newton's method for one strength, at most


def standardise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and scale (standard deviation, 1 where it is 0) over the first dimension."""
    scale = x.std(dim=0)
    return x.mean(dim=0), torch.where(scale > 0, scale, torch.ones_like(scale))


def logistic_path(x: torch.Tensor, y: torch.Tensor, strengths: list[float]) -> Iterator[torch.Tensor]:
    """For each strength, the weights that minimise mean log loss + strength / 2 * |w|², the intercept not penalised.

    Newton's method (Hastie, Tibshirani & Friedman, 4.4.1), each strength from the optimum of the one before. Nearly
    all of its cost is the Hessian, so one is kept, over steps and strengths, as long as each step divides the decrement
    by four or more (Shamanskii 1967). The problem is convex and no step may raise the loss.

    Args:
        x: [n, width] standardised features.
        y: [n] float, 1 for right; both values occur.
        strengths: best from the strongest down, so that each optimum is near the next.

    Yields:
        [width + 1] weights, the intercept last.
    """
    if len(x) < x.shape[1]:
        yield from _in_row_space(x, y, strengths)
        return
    x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    weights = torch.zeros_like(x[0])
    weights[-1] = torch.logit(y.mean())
    hessian = _hessian(x, weights)
    for strength in strengths:
        penalty = torch.full_like(weights, strength)
        penalty[-1] = 0.0
        weights, hessian = _minimise(x, y, penalty, weights, hessian)
        yield weights


def _in_row_space(x: torch.Tensor, y: torch.Tensor, strengths: list[float]) -> Iterator[torch.Tensor]:
    """The same where examples are fewer than features: the optimum w lies in the span of the examples.

    With x = U S Vᵀ and w = V u, x w = (U S) u and |w| = |u|, so the same problem is solved for u [n] with features U S.
    """
    left, scale, right = torch.linalg.svd(x, full_matrices=False)
    for weights in logistic_path(left * scale, y, strengths):
        yield torch.cat([weights[:-1] @ right, weights[-1:]])


def _minimise(x, y, penalty, weights, hessian) -> tuple[torch.Tensor, torch.Tensor]:
    """Optimum for one penalty [width + 1], and the last Hessian that was computed on the way."""
    factor, decrement = _factor(hessian, penalty), float("inf")
    for _ in range(STEPS):
        gradient = x.T @ (torch.sigmoid(x @ weights) - y) / len(y) + penalty * weights
        step = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
        # Half of gᵀ H⁻¹ g (Newton's decrement): by how much a step would lower the loss if it were quadratic.
        before, decrement = decrement, float(gradient @ step) / 2
        if decrement < SMALL:
            break
        if decrement > before / 4:
            hessian = _hessian(x, weights)
            factor = _factor(hessian, penalty)
            step = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
            decrement = float(gradient @ step) / 2
        moved = _descend(x, y, penalty, weights, step)
        if moved is None:
            break
        weights = moved
    return weights, hessian


def _hessian(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Hessian of the mean log loss, [width + 1, width + 1]."""
    p = torch.sigmoid(x @ weights)
    return x.T @ (x * (p * (1 - p)).clamp(min=1e-6)[:, None]) / len(x)


def _factor(hessian: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    return torch.linalg.cholesky(hessian + torch.diag(penalty + 1e-7))


def _loss(x: torch.Tensor, y: torch.Tensor, penalty: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(x @ weights, y) + 0.5 * (penalty * weights**2).sum()


def _descend(x, y, penalty, weights, step) -> torch.Tensor | None:
    """Weights after the longest of the steps 1, 1/2, 1/4, … that does not raise the loss; None if there is none."""
    value = _loss(x, y, penalty, weights)
    for halvings in range(12):
        tried = weights - step / 2**halvings
        if _loss(x, y, penalty, tried) <= value + SMALL:
            return tried
    return None


@dataclass
class Labelled:
    """Hidden states of one model's answers and their grades."""

    hidden: torch.Tensor  # [n, layers + 1, width]
    correct: np.ndarray  # [n] bool
    task: np.ndarray  # [n] names

    def part(self, keep: np.ndarray) -> "Labelled":
        return Labelled(self.hidden[torch.tensor(keep)], self.correct[keep], self.task[keep])


class Logistic:
    """Logistic regression on one layer; `fit` tries all layers and strengths and keeps the best on validation."""

    def __init__(self, layers: list[int], strengths: list[float]):
        self.layers, self.strengths = layers, sorted(strengths, reverse=True)

    def fit(self, train: Labelled, validation: Labelled, beside: dict[str, Labelled] | None = None) -> list[dict]:
        """Choose layer and strength by within-task AUROC on validation answers; those `beside` choose nothing.

        Returns:
            The whole search: one dict of layer, strength, validation_auroc and the AUROC on each of `beside`.
        """
        y = torch.from_numpy(train.correct.astype(np.float32))
        search, best, measured = [], -np.inf, {"validation_auroc": validation, **(beside or {})}
        for layer in tqdm(self.layers, desc="fitting probes", unit="layer"):
            x = train.hidden[:, layer].float()
            mean, scale = standardise(x)
            features = {name: (some.hidden[:, layer].float() - mean) / scale for name, some in measured.items()}
            for strength, weights in zip(self.strengths, logistic_path((x - mean) / scale, y, self.strengths)):
                logits = {name: (z @ weights[:-1] + weights[-1]).numpy() for name, z in features.items()}
                aurocs = {
                    name: auroc.mean_auroc(logits[name], some.correct, some.task) for name, some in measured.items()
                }
                search.append({"layer": layer, "strength": strength} | aurocs)
                if aurocs["validation_auroc"] > best:
                    best, self.chosen = aurocs["validation_auroc"], {"layer": layer, "strength": strength}
                    self.state = {"weights": weights, "mean": mean, "scale": scale}
        if best == -np.inf:
            raise WhoknowsError(
                "probe: no task has both right and wrong validation answers, so no layer can be chosen; "
                "raise tasks[].size in the grid"
            )
        return search

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n] log-odds from hidden states [n, layers + 1, width]."""
        x = (hidden[:, self.chosen["layer"]].float() - self.state["mean"]) / self.state["scale"]
        return x @ self.state["weights"][:-1] + self.state["weights"][-1]

    def restore(self, chosen: dict, state: dict[str, torch.Tensor]) -> None:
        """Becomes the probe that another one's `chosen` and `state` were taken from."""
        self.chosen, self.state = chosen, state


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
        self.net = self._layers(x.shape[1])
        optimizer = torch.optim.Adam(self.net.parameters(), lr=self.settings["learning_rate"])
        history: list[dict] = []
        best: tuple[float, int, dict] = (-np.inf, 0, {})
        for epoch in tqdm(range(self.settings["epochs"]), desc="fitting MLP", unit="epoch"):
            for batch in torch.randperm(len(x)).split(self.settings["batch_size"]):
                loss = F.binary_cross_entropy_with_logits(self.net(x[batch]).squeeze(-1), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            mean = auroc.mean_auroc(self.score(validation.hidden).numpy(), validation.correct, validation.task)
            history.append({"epoch": epoch, "validation_auroc": mean})
            if epoch == 0 or mean > best[0]:
                best = (mean, epoch, {k: v.clone() for k, v in self.net.state_dict().items()})
            if epoch - best[1] >= self.settings["patience"]:
                break
        self.net.load_state_dict(best[2])
        self.chosen = {"epoch": best[1]}
        return history

    @torch.no_grad()
    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n] log-odds from hidden states [n, layers + 1, width]."""
        return self.net((hidden[:, -1].float() - self.mean) / self.scale).squeeze(-1)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return {**self.net.state_dict(), "mean": self.mean, "scale": self.scale}

    def restore(self, chosen: dict, state: dict[str, torch.Tensor]) -> None:
        """Becomes the probe that another one's `chosen` and `state` were taken from."""
        self.chosen, self.mean, self.scale = chosen, state["mean"], state["scale"]
        self.net = self._layers(len(self.mean))
        self.net.load_state_dict({name: state[name] for name in self.net.state_dict()})

    def _layers(self, width: int) -> nn.Sequential:
        widths = [width, *self.settings["hidden"], 1]
        parts = [m for a, b in zip(widths, widths[1:]) for m in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*parts[:-1])


# By method, what is trained with the settings and the seed that stand in its card; all of them fit, score and restore.
CLASSIFIERS: dict[str, Callable[[dict, int], Logistic | Mlp]] = {
    "probe": lambda settings, seed: Logistic(**settings),
    "probe_mlp": Mlp,
}
