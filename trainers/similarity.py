"""Structural similarity, as the loss terms and the metrics share it."""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 11  # pixels; Gaussian of sigma 1.5
SMALLEST_MULTISCALE = (WINDOW - 1) * 2**4 + 1  # pixels: five scales, the window still fits the last


def ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Structural similarity per image, in [-1, 1]: (B, C, H, W) twice, in [0, 1] -> (B,).

    Wang et al., 2004, https://doi.org/10.1109/TIP.2003.819861. Window 11, sigma 1.5, no padding, mean
    over bands; in fp32 also under autocast (bf16 is off by 0.02). Raises ValueError if H or W is below 11.
    """
    _require("SSIM", fake, WINDOW)
    from pytorch_msssim import ssim as similarity

    with torch.autocast(fake.device.type, enabled=False):
        return similarity(fake.float(), real.float(), data_range=1.0, size_average=False)


def ms_ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Multi-scale structural similarity per image, in [0, 1]: (B, C, H, W) twice, in [0, 1] -> (B,).

    Wang et al., 2003, https://doi.org/10.1109/ACSSC.2003.1292216. Five scales, in fp32 also under
    autocast. Raises ValueError if H or W is below 161.
    """
    _require("MS-SSIM", fake, SMALLEST_MULTISCALE)
    from pytorch_msssim import ms_ssim as similarity

    with torch.autocast(fake.device.type, enabled=False):
        return similarity(fake.float(), real.float(), data_range=1.0, size_average=False)


def _require(name: str, images: Tensor, smallest: int) -> None:
    if min(images.shape[-2:]) < smallest:
        raise ValueError(f"{name} needs images of at least {smallest} px; these have {tuple(images.shape[-2:])}")


def to_unit(images: Tensor) -> Tensor:
    """Images in [-1, 1] as images in [0, 1]."""
    return (images + 1) / 2
