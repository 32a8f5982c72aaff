"""The U-Net's network; its options stand in unet.py.

Isola et al., 2017, https://arxiv.org/abs/1611.07004, sec. 6.1.1, in the layout of the published
PyTorch code (junyanz/pytorch-CycleGAN-and-pix2pix, `UnetGenerator`).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from trainers.norms import needs_bias, norm_layer

WIDEST = 8  # channels grow up to this multiple of the width


class UNet(nn.Module):
    """Encoder, decoder and a skip at every scale: (B, Cin, H, W) -> (B, Cout, H, W) in [-1, 1].

    `downs` and `ups` hold one block a scale, from the image inwards and back out. The activation
    opens a block, so that a skip carries what the convolution and norm gave. The leaky ReLUs must
    not work in place: their input is also the skip.
    """

    def __init__(
        self, bands_in: int, bands_out: int, *, width: int, depth: int, norm: str, skip: str, dropout: float
    ):  # fmt: skip
        super().__init__()
        channels = [width * min(2**level, WIDEST) for level in range(depth)]
        self.skip = skip
        self.downs = nn.ModuleList([nn.Sequential(_down(bands_in, width, bias=needs_bias(norm)))])
        for level, (outer, inner) in enumerate(pairwise(channels), start=1):
            layers = [nn.LeakyReLU(0.2), _down(outer, inner, bias=needs_bias(norm))]
            innermost = level == depth - 1  # 1x1 in pix2pix: a norm would erase it
            self.downs.append(nn.Sequential(*layers, *([] if innermost else [norm_layer(norm, inner)])))
        self.ups = nn.ModuleList()
        joined = channels[-1]
        for level in range(depth - 1, 0, -1):
            inner, outer = channels[level], channels[level - 1]
            layers = [nn.ReLU(inplace=True), _up(joined, outer, bias=needs_bias(norm)), norm_layer(norm, outer)]
            inside = level < depth - 1 and outer == inner == width * WIDEST
            self.ups.append(nn.Sequential(*layers, *([nn.Dropout(dropout)] if inside and dropout else [])))
            joined = 2 * outer if skip == "concat" else outer
        self.ups.append(nn.Sequential(nn.ReLU(inplace=True), _up(joined, bands_out, bias=True), nn.Tanh()))

    def forward(self, sar: Tensor) -> Tensor:
        features = []
        x = sar
        for down in self.downs:
            x = down(x)
            features.append(x)
        features.pop()
        for up in self.ups[:-1]:
            x = self._join(features.pop(), up(x))
        return self.ups[-1](x)

    def _join(self, skip: Tensor, x: Tensor) -> Tensor:
        return torch.cat([skip, x], dim=1) if self.skip == "concat" else skip + x


def _down(channels_in: int, channels_out: int, *, bias: bool) -> nn.Module:
    return nn.Conv2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=bias)


def _up(channels_in: int, channels_out: int, *, bias: bool) -> nn.Module:
    return nn.ConvTranspose2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=bias)
