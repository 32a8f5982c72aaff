"""Structural similarity, as the loss terms and the metrics share it.

Nodata is filled alike in both images, so that a window in it agrees perfectly: the mean over all windows would rise
with the nodata. Here the mean is over the windows that see a valid pixel. Those across the rim of nodata count in
full, although part of them agrees by itself: on tiles with a quarter of nodata, of noise or of smooth texture, SSIM
is then too high by up to 0.02 (without the correction by 0.18).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

WINDOW, SIGMA = 11, 1.5  # pixels, of a Gaussian
SMALLEST_MULTISCALE = (WINDOW - 1) * 2**4 + 1  # pixels: five scales, the window still fits the last


def ssim(fake: Tensor, real: Tensor, mask: Tensor) -> Tensor:
    """Structural similarity per image, in [-1, 1]: (B, C, H, W) twice, in [0, 1], mask (B, 1, H, W) -> (B,).

    Wang et al., 2004, https://doi.org/10.1109/TIP.2003.819861. Window 11, sigma 1.5, no padding, mean
    over bands; in fp32 also under autocast (bf16 is off by 0.02). Raises ValueError if H or W is below 11.
    """
    _require("SSIM", fake, WINDOW)
    from pytorch_msssim import ssim as similarity

    with torch.autocast(fake.device.type, enabled=False):
        window = _window(fake.shape[1], fake.device)
        found = similarity(fake.float(), real.float(), data_range=1.0, size_average=False, win=window)
    return _over(_seen(mask), found, mask)


def ms_ssim(fake: Tensor, real: Tensor, mask: Tensor) -> Tensor:
    """Multi-scale structural similarity per image, at most 1: (B, C, H, W) twice, in [0, 1], mask (B, 1, H, W) -> (B,).

    Wang et al., 2003, https://doi.org/10.1109/ACSSC.2003.1292216. Five scales; windows that see a valid pixel are
    counted at the finest, which is an approximation for the others. In fp32 also under
    autocast. Raises ValueError if H or W is below 161.
    """
    _require("MS-SSIM", fake, SMALLEST_MULTISCALE)
    from pytorch_msssim import ms_ssim as similarity

    with torch.autocast(fake.device.type, enabled=False):
        window = _window(fake.shape[1], fake.device)
        found = similarity(fake.float(), real.float(), data_range=1.0, size_average=False, win=window)
    return _over(_seen(mask), found, mask)


@cache
def _window(channels: int, device: torch.device) -> Tensor:
    """The package's own window, once on each device: made anew in every call, its copy would be waited for."""
    from pytorch_msssim.ssim import _fspecial_gauss_1d

    return _fspecial_gauss_1d(WINDOW, SIGMA).repeat(channels, 1, 1, 1).to(device)


def _over(seen: Tensor, similarity: Tensor, mask: Tensor) -> Tensor:
    """The mean over the windows that see a valid pixel, of that over all, each other of which is 1."""
    return 1 - (1 - similarity) / seen.clamp(min=1 / mask[0].numel())


def _seen(mask: Tensor) -> Tensor:
    """Share of the windows that hold a valid pixel: (B, 1, H, W) -> (B,)."""
    return max_pool2d(mask.float(), WINDOW, stride=1).mean(dim=(1, 2, 3))


def _require(name: str, images: Tensor, smallest: int) -> None:
    if min(images.shape[-2:]) < smallest:
        raise ValueError(f"{name} needs images of at least {smallest} px; these have {tuple(images.shape[-2:])}")


def to_unit(images: Tensor) -> Tensor:
    """Images in [-1, 1] as images in [0, 1]."""
    return (images + 1) / 2
