"""AlexNet's five ReLUs: frozen features that LPIPS compares images by.

Krizhevsky, 2014, https://arxiv.org/abs/1404.5997; tensors are named as in torchvision's state dict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Convolution(NamedTuple):
    key: str  # of its tensors in the state dict, before .weight and .bias
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    pools: bool  # 3 x 3 maximum with stride 2 before it


CONVOLUTIONS = (
    Convolution("features.0", 3, 64, kernel=11, stride=4, padding=2, pools=False),
    Convolution("features.3", 64, 192, kernel=5, stride=1, padding=2, pools=True),
    Convolution("features.6", 192, 384, kernel=3, stride=1, padding=1, pools=True),
    Convolution("features.8", 384, 256, kernel=3, stride=1, padding=1, pools=False),
    Convolution("features.10", 256, 256, kernel=3, stride=1, padding=1, pools=False),
)
SEED = 5  # of the random weights, for all studies
SHAPES: dict[str, tuple[int, ...]] = {}
for at in CONVOLUTIONS:
    SHAPES[f"{at.key}.weight"] = (at.outputs, at.inputs, at.kernel, at.kernel)
    SHAPES[f"{at.key}.bias"] = (at.outputs,)


def random_state() -> dict[str, Tensor]:
    """He's initialisation (2015, https://arxiv.org/abs/1502.01852; fan in, zero biases), always the same."""
    generator = torch.Generator().manual_seed(SEED)
    return {
        name: torch.randn(shape, generator=generator) * (2 / math.prod(shape[1:])) ** 0.5
        if len(shape) == 4
        else torch.zeros(shape)
        for name, shape in SHAPES.items()
    }


class Features(nn.Module):
    """Normalised images (B, 3, H, W) of at least 31 px to the five ReLUs, shallowest first; none of it learns."""

    def __init__(self, state: Mapping[str, Tensor]):
        super().__init__()
        self.weights = nn.ParameterList(state[f"{at.key}.weight"] for at in CONVOLUTIONS)
        self.biases = nn.ParameterList(state[f"{at.key}.bias"] for at in CONVOLUTIONS)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for at, weight, bias in zip(CONVOLUTIONS, self.weights, self.biases, strict=True):
            x = functional.max_pool2d(x, kernel_size=3, stride=2) if at.pools else x
            x = functional.relu(functional.conv2d(x, weight, bias, stride=at.stride, padding=at.padding))
            found.append(x)
        return found
