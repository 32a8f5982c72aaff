"""The distance of LPIPS: features of unit length at each place, compared channel by channel.

Zhang et al., 2018, https://arxiv.org/abs/1801.03924, eq. 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from trainers.masks import seen_mean
from trainers.metrics import _alexnet
from trainers.metrics._colour import three

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # the authors', for images in [-1, 1]


def distance(state: Mapping[str, Tensor], channels: Sequence[Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The metric with AlexNet's `state` and a weight (1, C, 1, 1) for each channel of its five ReLUs."""
    network = _alexnet.Features(state)
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (SHIFT, SCALE))

    def directions(images: Tensor) -> list[Tensor]:
        normalised = (2 * three(images.float()) - 1 - shift.to(images.device)) / scale.to(images.device)
        return [x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for x in network(normalised)]

    def lpips(fake: Tensor, real: Tensor, mask: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1], filled alike where masked, mask (B, 1, H, W) -> (B,), at least 0.

        H and W at least 31. A mean is over the places that see a valid pixel.
        """
        network.to(fake.device)
        with torch.no_grad(), torch.autocast(fake.device.type, enabled=False):
            layers = zip(channels, directions(fake), directions(real), strict=True)
            distances = [(w.to(a.device) * (a - b).square()).sum(dim=1, keepdim=True) for w, a, b in layers]
            return sum(seen_mean(one, mask) for one in distances)

    return lpips
