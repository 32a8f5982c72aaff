"""Adam for both networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def adam(network: nn.Module, lr: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """Fused Adam; betas as floats, since torch refuses the integer 0."""
    return torch.optim.Adam(network.parameters(), lr=lr, betas=tuple(map(float, betas)), fused=True)


def set_rate(optimizer: torch.optim.Adam, lr: float, betas: tuple[float, float]) -> None:
    for group in optimizer.param_groups:
        group["lr"], group["betas"] = lr, tuple(map(float, betas))


@contextmanager
def rate_from(optimizer: torch.optim.Adam, rate: torch.Tensor) -> Iterator[None]:
    """Inside, a step reads its learning rate from a tensor on the device, so that it can be captured."""
    optimizer._warned_capturable_if_run_uncaptured = True  # it warms up before
    before = [(group["lr"], group["capturable"]) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"], group["capturable"] = rate, True
    try:
        yield
    finally:
        for group, (lr, capturable) in zip(optimizer.param_groups, before, strict=True):
            group["lr"], group["capturable"] = lr, capturable


def forget_moments(optimizer: torch.optim.Adam) -> None:
    """As if it had not taken a step yet."""
    optimizer.state.clear()


def gradient_norm(network: nn.Module) -> torch.Tensor:
    """Euclidean norm over all gradients, as a tensor on the device."""
    return torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
