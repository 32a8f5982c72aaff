"""The PatchGAN's network; its options stand in patchgan.py.

Isola et al., 2017, https://arxiv.org/abs/1611.07004, sec. 6.1.2; the image pyramid after Wang et al.,
2018 (pix2pixHD), https://arxiv.org/abs/1711.11585, sec. 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from trainers.discriminators.patchgan import WIDEST
from trainers.leaky import LeakyReLU
from trainers.norms import needs_bias, norm_layer


class PatchGAN(nn.Module):
    """One tower a scale on SAR and optical together: logit maps [(B, 1, h, w), ...], full size first."""

    def __init__(self, bands: int, *, width: int, layers: int, scales: int, norm: str):
        super().__init__()
        self.towers = nn.ModuleList(_tower(bands, width, layers, norm) for _ in range(scales))

    def forward(self, sar: Tensor, optical: Tensor) -> list[Tensor]:
        return [features[-1] for features in self.features(sar, optical)]

    def features(self, sar: Tensor, optical: Tensor) -> list[list[Tensor]]:
        """What every block of every tower gives, (B, C, h, w) each: after its activation, and the logits last."""
        pair = torch.cat([sar, optical], dim=1)
        found = []
        for tower in self.towers:
            if found:
                pair = avg_pool2d(pair, kernel_size=3, stride=2, padding=1, count_include_pad=False)
            found.append(_blockwise(tower, pair))
        return found


def _blockwise(tower: nn.Sequential, images: Tensor) -> list[Tensor]:
    found = []
    for layer in tower:
        images = layer(images)
        if isinstance(layer, nn.LeakyReLU):
            found.append(images)
    return [*found, images]


def _tower(bands: int, width: int, layers: int, norm: str) -> nn.Sequential:
    """`layers` convolutions of stride 2, one of stride 1, one to a logit; no norm on the first and last."""
    channels = [width * min(2**level, WIDEST) for level in range(layers + 1)]
    blocks = [_conv(bands, width, stride=2, bias=True), LeakyReLU(0.2, inplace=True)]
    for level in range(1, layers + 1):
        stride = 2 if level < layers else 1
        blocks += [
            _conv(channels[level - 1], channels[level], stride=stride, bias=needs_bias(norm)),
            norm_layer(norm, channels[level]),
            LeakyReLU(0.2, inplace=True),
        ]
    return nn.Sequential(*blocks, _conv(channels[-1], 1, stride=1, bias=True))


def _conv(channels_in: int, channels_out: int, *, stride: int, bias: bool) -> nn.Module:
    return _Convolution(channels_in, channels_out, kernel_size=4, stride=stride, padding=1, bias=bias)


class _Convolution(nn.Conv2d):
    """Its weight is found outside of autocast: on CUDA the power iteration of spectral norm would run in bf16."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            weight = self.weight
        return self._conv_forward(images, weight, self.bias)


def normalise_spectrally(network: nn.Module) -> None:
    """Divide the weights of every convolution by their largest singular value.

    Miyato et al., 2018, https://arxiv.org/abs/1802.05957.
    """
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        nn.utils.parametrizations.spectral_norm(layer)
