"""Adam for both networks, and the learning-rate schedule."""

from __future__ import annotations

import torch
from torch import nn

from trainers.recipe import Optimizer


def adam(network: nn.Module, lr: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """Fused Adam; betas as floats, since torch refuses the integer 0."""
    return torch.optim.Adam(network.parameters(), lr=lr, betas=tuple(map(float, betas)), fused=True)


def rate_factor(done: int, total: int, constant: float) -> float:
    """Share of the full learning rate for update number `done` (from 0) of `total`.

    1 for the first `constant` of the budget, then linear to zero (pix2pix: 100 + 100 epochs).
    """
    start = constant * total
    return 1.0 if done < start else (total - done) / (total - start)


def set_rates(generator: torch.optim.Adam, discriminator: torch.optim.Adam, part: Optimizer, factor: float) -> None:
    for group in generator.param_groups:
        group["lr"] = part.lr * factor
    for group in discriminator.param_groups:
        group["lr"] = part.lr * part.lr_ratio * factor


def gradient_norm(network: nn.Module) -> torch.Tensor:
    """Euclidean norm over all gradients, as a tensor on the device."""
    return torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
