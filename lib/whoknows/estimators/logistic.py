"""L2-regularised logistic regression, to its optimum, for a whole path of strengths."""

from collections.abc import Iterator

import torch
from torch.nn import functional as F

SMALL = 1e-7  # nats of mean loss: less than float32 can tell


def standardise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and scale (standard deviation, 1 where it is 0) over the first dimension."""
    scale = x.std(dim=0)
    return x.mean(dim=0), torch.where(scale > 0, scale, torch.ones_like(scale))


def logistic_path(x: torch.Tensor, y: torch.Tensor, strengths: list[float], steps: int = 100) -> Iterator[torch.Tensor]:
    """For each strength, the weights that minimise mean log loss + strength / 2 * |w|^2; the intercept is not penalised.

    Newton's method (Hastie, Tibshirani & Friedman, 4.4.1), each strength from the optimum of the one before. Nearly
    all of its cost is the Hessian, so one is kept, over steps and strengths, as long as its steps at least quarter
    what is left to gain (Shamanskii 1967). The problem is convex and no step may raise the loss.

    Args:
        x: [n, width] standardised features.
        y: [n] float, 1 for right; both values occur.
        strengths: best from the strongest down, so that each optimum is near the next.
        steps: at most, for each strength.

    Yields:
        [width + 1] weights, the intercept last.
    """
    if len(x) < x.shape[1]:
        yield from _in_row_space(x, y, strengths, steps)
        return
    x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    weights = torch.zeros_like(x[0])
    weights[-1] = torch.logit(y.mean())
    curvature = _curvature(x, weights)
    for strength in strengths:
        penalty = torch.full_like(weights, strength)
        penalty[-1] = 0.0
        weights, curvature = _minimise(x, y, penalty, weights, curvature, steps)
        yield weights


def _in_row_space(x: torch.Tensor, y: torch.Tensor, strengths: list[float], steps: int) -> Iterator[torch.Tensor]:
    """The same where examples are fewer than features: the optimum lies in the span of the examples, which is smaller."""
    left, scale, right = torch.linalg.svd(x, full_matrices=False)
    for weights in logistic_path(left * scale, y, strengths, steps):
        yield torch.cat([weights[:-1] @ right, weights[-1:]])


def _minimise(x, y, penalty, weights, curvature, steps) -> tuple[torch.Tensor, torch.Tensor]:
    """Optimum for one penalty [width + 1], and the last curvature that was made on the way."""
    factor, left = _factor(curvature, penalty), float("inf")
    for _ in range(steps):
        gradient = x.T @ (torch.sigmoid(x @ weights) - y) / len(y) + penalty * weights
        step = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
        before, left = left, float(gradient @ step) / 2  # what a step on the exact quadratic would gain
        if left < SMALL:
            break
        if left > before / 4:
            curvature = _curvature(x, weights)
            factor = _factor(curvature, penalty)
            step = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
            left = float(gradient @ step) / 2
        moved = _descend(x, y, penalty, weights, step)
        if moved is None:
            break
        weights = moved
    return weights, curvature


def _curvature(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Hessian of the mean log loss, [width + 1, width + 1]."""
    p = torch.sigmoid(x @ weights)
    return x.T @ (x * (p * (1 - p)).clamp(min=1e-6)[:, None]) / len(x)


def _factor(curvature: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    return torch.linalg.cholesky(curvature + torch.diag(penalty + 1e-7))


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
