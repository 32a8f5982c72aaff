"""The networks that pix2pix publishes, stated independently of ours, to load weights of.

Restated from junyanz/pytorch-CycleGAN-and-pix2pix (`models/networks.py`: UnetGenerator, NLayerDiscriminator),
Copyright (c) 2017, Jun-Yan Zhu and Taesung Park, BSD 2-clause licence: names, order and shapes of its layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def norm_of(kind: str) -> tuple:
    """The norm layer's maker, and whether the convolutions before it have biases."""
    return {
        "batch": (nn.BatchNorm2d, False),
        "instance": (nn.InstanceNorm2d, True),
        "none": (lambda _: nn.Identity(), False),
    }[kind]


class Level(nn.Module):
    """UnetSkipConnectionBlock: on the way down, inside, on the way up; all but the outermost keep their input."""

    def __init__(self, outer: int, inner: int, *, reads: int | None = None, inside: nn.Module | None = None,
                 outermost: bool = False, norm: str = "batch", dropout: bool = False):  # fmt: skip
        super().__init__()
        self.outermost = outermost
        layer, bias = norm_of(norm)
        down = nn.Conv2d(reads or outer, inner, 4, 2, 1, bias=bias)
        joined = inner if inside is None else 2 * inner
        up = nn.ConvTranspose2d(joined, outer, 4, 2, 1, bias=True if outermost else bias)
        leaky, relu = nn.LeakyReLU(0.2, True), nn.ReLU(True)
        if outermost:
            layers = [down, inside, relu, up, nn.Tanh()]
        elif inside is None:
            layers = [leaky, down, relu, up, layer(outer)]
        else:
            layers = [leaky, down, layer(inner), inside, relu, up, layer(outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) if self.outermost else torch.cat([images, self.model(images)], 1)


class UnetGenerator(nn.Module):
    """`unet_256` has 8 halvings, `unet_128` 7; at least 5."""

    def __init__(self, reads: int, makes: int, halvings: int, *, width: int = 64, norm: str = "batch",
                 dropout: bool = False):  # fmt: skip
        super().__init__()
        level = Level(8 * width, 8 * width, norm=norm)
        for _ in range(halvings - 5):
            level = Level(8 * width, 8 * width, inside=level, norm=norm, dropout=dropout)
        for outer in (4 * width, 2 * width, width):
            level = Level(outer, 2 * outer, inside=level, norm=norm)
        self.model = Level(makes, width, reads=reads, inside=level, outermost=True, norm=norm)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


class NLayerDiscriminator(nn.Module):
    def __init__(self, reads: int, *, width: int = 64, layers: int = 3, norm: str = "batch"):
        super().__init__()
        layer, bias = norm_of(norm)
        sequence = [nn.Conv2d(reads, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        now = 1
        for n in range(1, layers + 1):
            before, now = now, min(2**n, 8)
            stride = 2 if n < layers else 1
            sequence += [nn.Conv2d(width * before, width * now, 4, stride, 1, bias=bias), layer(width * now),
                         nn.LeakyReLU(0.2, True)]  # fmt: skip
        self.model = nn.Sequential(*sequence, nn.Conv2d(width * now, 1, 4, 1, 1))

    def forward(self, pair: Tensor) -> Tensor:
        return self.model(pair)


@torch.no_grad()
def stir(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random weights, biases and running statistics, none of them a default."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            spread = 0.1 if tensor.ndim == 4 else 0.3
            tensor.normal_(0, spread, generator=draw)
            if name.endswith(("running_var", "weight")) and tensor.ndim == 1:
                tensor.abs_().add_(0.5)
    return network
