"""VGG19 up to a chosen ReLU: frozen convolutions whose features images are compared by.

Simonyan and Zisserman, 2015, https://arxiv.org/abs/1409.1556, configuration E; tensors are named as in
torchvision's state dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions and width; pooling between blocks
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, images in [0, 1]
SEED = 19  # of random weights: one loss for all arms and seeds of a study


@dataclass(frozen=True)
class Convolution:
    layer: str  # the ReLU behind it: relu1_1 .. relu5_4
    key: str  # of its tensors in the state dict, before .weight and .bias
    inputs: int
    outputs: int
    pools: bool  # 2 x 2 maximum before it

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {f"{self.key}.weight": (self.outputs, self.inputs, 3, 3), f"{self.key}.bias": (self.outputs,)}


def convolutions(layers: Sequence[str]) -> list[Convolution]:
    """The convolutions up to the deepest of these layers, shallowest first."""
    found: list[Convolution] = []
    index = 0  # torchvision counts convolutions, ReLUs and poolings alike
    for block, (count, width) in enumerate(BLOCKS, start=1):
        for place in range(1, count + 1):
            inputs = found[-1].outputs if found else 3
            pools = block > 1 and place == 1
            found.append(Convolution(f"relu{block}_{place}", f"features.{index}", inputs, width, pools))
            index += 2
        index += 1
    deepest = max(at for at, convolution in enumerate(found) if convolution.layer in layers)
    return found[: deepest + 1]


def shapes(layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that these layers need."""
    return {name: shape for convolution in convolutions(layers) for name, shape in convolution.shapes.items()}


def random_state(layers: Sequence[str]) -> dict[str, Tensor]:
    """He's initialisation (2015, https://arxiv.org/abs/1502.01852; fan out, zero biases), always the same.

    A deeper choice of layers does not change the weights of the shallower ones.
    """
    generator = torch.Generator().manual_seed(SEED)
    return {
        name: torch.randn(shape, generator=generator) * (2 / (9 * shape[0])) ** 0.5
        if len(shape) == 4
        else torch.zeros(shape)
        for name, shape in shapes(layers).items()
    }


class Features(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] to the features of `layers`, shallowest first; nothing in it learns."""

    def __init__(self, layers: Sequence[str], state: Mapping[str, Tensor]):
        super().__init__()
        self.layers = frozenset(layers)
        self.convolutions = convolutions(layers)
        self.weights = nn.ParameterList(state[f"{at.key}.weight"] for at in self.convolutions)
        self.biases = nn.ParameterList(state[f"{at.key}.bias"] for at in self.convolutions)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        found = []
        x = ((images + 1) / 2 - self.mean) / self.std
        for convolution, weight, bias in zip(self.convolutions, self.weights, self.biases, strict=True):
            x = functional.max_pool2d(x, 2) if convolution.pools else x
            x = functional.relu(functional.conv2d(x, weight, bias, padding=1))
            if convolution.layer in self.layers:
                found.append(x)
        return found
