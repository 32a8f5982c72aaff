"""Small image filters of terms and metrics: Sobel, Prewitt, Laplacian, luminance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

RED, GREEN, BLUE = 0.299, 0.587, 0.114  # luminance of ITU-R BT.601


def sobel(images: Tensor) -> tuple[Tensor, Tensor]:
    """Responses across columns and across rows, unnormalised (absolute weights sum to 8), edges replicated.

    Each equals scipy.ndimage.sobel(mode="nearest") along that axis. (B, C, H, W) -> twice the same.
    """
    return _slopes(pad(images, (1, 1, 1, 1), mode="replicate"), centre=2.0)


def prewitt(images: Tensor) -> tuple[Tensor, Tensor]:
    """Responses across columns and across rows, divided by 3, with zeros around the image (as GMSD)."""
    across, down = _slopes(pad(images, (1, 1, 1, 1)), centre=1.0)
    return across / 3, down / 3


def laplacian(images: Tensor) -> Tensor:
    """Response of the 4-neighbour Laplacian, edges replicated; equals scipy.ndimage.laplace(mode="nearest")."""
    x = pad(images, (1, 1, 1, 1), mode="replicate")
    return x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:] - 4 * images


def _slopes(x: Tensor, *, centre: float) -> tuple[Tensor, Tensor]:
    across, down = x[..., 2:] - x[..., :-2], x[..., 2:, :] - x[..., :-2, :]
    return (
        across[..., :-2, :] + centre * across[..., 1:-1, :] + across[..., 2:, :],
        down[..., :-2] + centre * down[..., 1:-1] + down[..., 2:],
    )


def magnitude(slopes: tuple[Tensor, Tensor]) -> Tensor:
    """Length of the gradient at each pixel."""
    return torch.hypot(*slopes)


def luminance(images: Tensor) -> Tensor:
    """Brightness (B, 1, H, W): BT.601 of three bands read as red, green and blue, else the mean of the bands."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    return RED * red + GREEN * green + BLUE * blue


def interior(mask: Tensor) -> Tensor:
    """Pixels whose 3x3 neighbourhood is valid, (B, 1, H, W) of 0 and 1; outside the image counts as valid."""
    return 1 - torch.nn.functional.max_pool2d(1 - mask, kernel_size=3, stride=1, padding=1)
