"""LeakyReLU, and how it is computed where gradients of gradients are taken.

The slope of a LeakyReLU is constant on either side of 0, so its second derivative is nothing. torch returns it as a
tensor of zeros, and a backward pass through the whole network carries the zeros on. With the slopes as a saved
constant that pass is gone: values and gradients of both orders stay the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_as_products = False


@contextmanager
def slopes_as_constants() -> Iterator[None]:
    """Inside, every `LeakyReLU` multiplies by its slopes: for a pass whose gradient is differentiated in turn."""
    global _as_products
    before, _as_products = _as_products, True
    try:
        yield
    finally:
        _as_products = before


class LeakyReLU(nn.LeakyReLU):
    """nn.LeakyReLU, but for how it is computed inside `slopes_as_constants`; there it never works in place."""

    def forward(self, images: Tensor) -> Tensor:
        if not _as_products:
            return super().forward(images)
        return images * torch.where(images.detach() > 0, images.new_ones(()), self.negative_slope)
