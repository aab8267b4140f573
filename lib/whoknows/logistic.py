"""L2-regularised logistic regression, to its optimum, for several layers at once."""

import torch
from torch.nn import functional as F


def standardise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and scale (standard deviation, 1 where it is 0) over the first dimension."""
    scale = x.std(dim=0)
    return x.mean(dim=0), torch.where(scale > 0, scale, torch.ones_like(scale))


def logistic(x: torch.Tensor, y: torch.Tensor, strength: float, start: torch.Tensor | None = None, steps: int = 30) -> torch.Tensor:
    """Minimises mean log loss + strength / 2 * |w|^2 by Newton's method; the intercept is not penalised.

    Each step is iteratively reweighted least squares (Hastie, Tibshirani & Friedman, 4.4.1); the problem is
    convex and the steps are halved until the loss falls, so it ends at the optimum.

    Args:
        x: [layers, n, width] standardised features.
        y: [n] float, 1 for right.
        start: [layers, width + 1] weights to begin from.
        steps: Newton steps, at most.

    Returns:
        [layers, width + 1] weights, the intercept last.
    """
    x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
    penalty = torch.full_like(x[0, 0], strength)
    penalty[-1] = 0.0
    weights = torch.zeros_like(x[:, 0]) if start is None else start.clone()
    value = _loss(x, y, penalty, weights)
    for _ in range(steps):
        before = value
        weights, value = _descend(x, y, penalty, weights, _newton_step(x, y, penalty, weights), value)
        if (before - value < 1e-6).all():
            break
    return weights


def _loss(x: torch.Tensor, y: torch.Tensor, penalty: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    z = (x @ weights[..., None])[..., 0]
    return F.binary_cross_entropy_with_logits(z, y.expand_as(z), reduction="none").mean(-1) + 0.5 * (penalty * weights**2).sum(-1)


def _newton_step(x: torch.Tensor, y: torch.Tensor, penalty: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Hessian^-1 gradient, [layers, width + 1]."""
    p = torch.sigmoid((x @ weights[..., None])[..., 0])
    gradient = ((p - y)[:, None] @ x)[:, 0] / len(y) + penalty * weights
    curved = x * (p * (1 - p)).clamp(min=1e-6)[..., None]
    hessian = x.transpose(1, 2) @ curved / len(y) + torch.diag(penalty + 1e-7)
    return torch.cholesky_solve(gradient[..., None], torch.linalg.cholesky(hessian))[..., 0]


def _descend(x, y, penalty, weights, step, value) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and losses after the longest of the steps 1, 1/2, 1/4, … that raises no layer's loss; after none if there is none."""
    size = torch.ones_like(value)
    for _ in range(12):
        tried = weights - size[:, None] * step
        loss = _loss(x, y, penalty, tried)
        good = loss <= value + 1e-7
        if good.all():
            return tried, loss
        size = torch.where(good, size, size / 2)
    return torch.where(good[:, None], tried, weights), torch.where(good, loss, value)
