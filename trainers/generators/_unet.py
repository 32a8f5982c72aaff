"""The U-Net's network; its options stand in unet.py.

Isola et al., 2017, https://arxiv.org/abs/1611.07004, sec. 6.1.1, in the layout of the published
PyTorch code (junyanz/pytorch-CycleGAN-and-pix2pix, `UnetGenerator`).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from trainers.generators._attention import AttentionGate
from trainers.generators._multiscale import Fusion
from trainers.generators.unet import FUSED, WIDEST
from trainers.norms import needs_bias, norm_layer


class UNet(nn.Module):
    """Encoder, decoder and a skip at every scale: (B, Cin, H, W) -> (B, Cout, H, W) in [-1, 1].

    `downs` and `ups` hold one block a scale, from the image inwards and back out. The activation
    opens a block, so that a skip carries what the convolution and norm gave. The leaky ReLUs must
    not work in place: their input is also the skip. Nor may the ReLUs with fusion: it reads their input.

    Gates and fusion are held after the blocks, so that with equal seeds these start from the
    convolutions of the network without.
    """

    def __init__(
        self, bands_in: int, bands_out: int, *, width: int, depth: int, norm: str, skip: str, dropout: float,
        fusion: bool = False,
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
        parts = 1 if skip == "add" else 2  # a join is a sum, or two maps side by side
        joined = channels[-1]
        for level in range(depth - 1, 0, -1):
            inner, outer = channels[level], channels[level - 1]
            layers = [nn.ReLU(inplace=not fusion), _up(joined, outer, bias=needs_bias(norm)), norm_layer(norm, outer)]
            inside = level < depth - 1 and outer == inner == width * WIDEST
            self.ups.append(nn.Sequential(*layers, *([nn.Dropout(dropout)] if inside and dropout else [])))
            joined = parts * outer
        self.ups.append(nn.Sequential(nn.ReLU(inplace=not fusion), _up(joined, bands_out, bias=True), nn.Tanh()))
        skips = channels[-2::-1]  # from the innermost outwards, as the decoder meets them
        self.gates = nn.ModuleList(AttentionGate(outer) for outer in skips) if skip == "gated" else None
        self.fusion = Fusion([parts * outer for outer in skips[-FUSED:-1]], joined) if fusion else None

    def forward(self, sar: Tensor) -> Tensor:
        features = []
        x = sar
        for down in self.downs:
            x = down(x)
            features.append(x)
        features.pop()
        decoded = []
        for level, up in enumerate(self.ups[:-1]):
            x = self._join(level, features.pop(), up(x))
            decoded.append(x)
        return self.ups[-1](x if self.fusion is None else self.fusion(decoded[-FUSED:-1], x))

    def _join(self, level: int, skip: Tensor, x: Tensor) -> Tensor:
        if self.skip == "add":
            return skip + x
        if self.gates is not None:
            skip = self.gates[level](skip, x)
        return torch.cat([skip, x], dim=1)


def _down(channels_in: int, channels_out: int, *, bias: bool) -> nn.Module:
    return nn.Conv2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=bias)


def _up(channels_in: int, channels_out: int, *, bias: bool) -> nn.Module:
    return nn.ConvTranspose2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=bias)
