"""Gradient penalty of a critic.

Gulrajani et al., 2017, https://arxiv.org/abs/1704.00028, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from trainers.leaky import slopes_as_constants

SMALLEST = 1e-12  # under the root, whose slope at 0 is infinite

Critic = Callable[[Tensor], list[Tensor]]


def gradient_penalty(
    critic: Critic, real: Tensor, fake: Tensor, epsilon: Tensor, *, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """(norm of the critic's gradient - 1)^2 per image: (B, C, H, W) twice, epsilon (B, 1, 1, 1) -> (B,).

    `critic` maps images to logit maps, with the condition closed over: it is neither mixed nor
    differentiated. A map's value is the mean or the sum over its patches, and scales are averaged.
    The gradient is taken at epsilon x real + (1 - epsilon) x fake, its norm over C, H and W, in fp32
    also under autocast. The result carries a graph to the critic's parameters, not to the generator's.

    Every parameter that the penalty does not reach (a last bias) gets no gradient from it: under DDP
    add it to the losses of the same backward pass, never give it one of its own.
    """
    with torch.autocast(real.device.type, enabled=False):
        real, fake = _exact(real.detach()), _exact(fake.detach())
        mixed = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
        with slopes_as_constants():
            value = _value(critic(mixed), reduction)
        gradient = torch.autograd.grad(value.sum(), mixed, create_graph=True)[0]
        norm = (gradient.square().sum(dim=(1, 2, 3)) + SMALLEST).sqrt()
        return (norm - 1).square()


def _value(maps: list[Tensor], reduction: str) -> Tensor:
    """The critic's value per image: (B,)."""
    values = [getattr(logits.flatten(1), reduction)(dim=1) for logits in maps]
    return torch.stack(values).mean(dim=0)


def _exact(images: Tensor) -> Tensor:
    return images.to(torch.promote_types(images.dtype, torch.float32))
