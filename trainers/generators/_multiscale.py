"""Fusion of decoder features of several scales.

After the semantic branch of Kirillov et al., 2019, Panoptic Feature Pyramid Networks,
https://arxiv.org/abs/1901.02446, sec. 3 (features of four scales brought to the finest, and summed
before the output layer), with the 1x1 projections of Lin et al., 2017, https://arxiv.org/abs/1612.03144.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate


class Fusion(nn.Module):
    """The finest features plus those of coarser scales, projected to its channels and upsampled bilinearly.

    (B, C_i, H / 2^k, W / 2^k) each, and (B, C, H, W) -> (B, C, H, W). Unlike the papers' the finest is
    added as it is, and no 3x3 convolution or norm follows a projection: with the projections at
    zero this is the network without fusion, so its effect is that of the other scales alone.
    Projecting comes before upsampling, with which it commutes, as the cheaper order.
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(wide, width, kernel_size=1, bias=False) for wide in channels)

    def forward(self, coarser: Sequence[Tensor], finest: Tensor) -> Tensor:
        for project, features in zip(self.projections, coarser, strict=True):
            size = finest.shape[-2:]
            finest = finest + interpolate(project(features), size=size, mode="bilinear", align_corners=False)
        return finest
