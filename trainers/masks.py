"""Valid pixels: nodata counts in no loss and in no metric."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d


def fill(images: Tensor, mask: Tensor) -> Tensor:
    """Images (B, C, H, W) with pixels outside the mask (B, 1, H, W) set to 0, mid grey in [-1, 1].

    Applied alike to real and fake before windowed terms, networks and metrics see them.
    """
    return torch.where(mask > 0, images, torch.zeros((), dtype=images.dtype, device=images.device))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over channels and valid pixels of each image: (B, C, H, W), (B, 1, H, W) -> (B,).

    An image without a valid pixel gives 0.
    """
    count = mask.sum(dim=(1, 2, 3)) * values.shape[1]
    return (values * mask).sum(dim=(1, 2, 3)) / count.clamp(min=1)


def seen_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over channels and the places that see a valid pixel, of features (B, C, h, w) coarser than the images.

    `mask` is that of the images (B, 1, H, W) -> (B,). An image without a valid pixel gives 0.
    """
    return masked_mean(values, adaptive_max_pool2d(mask, values.shape[-2:]))
