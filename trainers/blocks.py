"""What networks share: pix2pix's initial weights, and building that leaves global random state alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

SPREAD = 0.02  # standard deviation of initial weights; pix2pix, sec. 6.2


@contextmanager
def reproducible(generator: torch.Generator | None) -> Iterator[None]:
    """Inside, torch's CPU random state follows from `generator`; afterwards it is as it was before.

    Layers and spectral norm draw from the global state when they are made; here those draws are a
    function of `generator` alone. Without one they continue from the global state, which then moves on.
    """
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw convolution weights from N(0, 0.02), norm weights from N(1, 0.02); biases become 0.

    All convolutions are drawn before any norm, so that networks which differ in their norm only
    start from equal convolution weights. To be called before spectral norm is registered.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.weight.normal_(0, SPREAD, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and layer.affine:
            layer.weight.normal_(1, SPREAD, generator=generator)
            layer.bias.zero_()
