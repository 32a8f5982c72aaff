"""Metrics per image against torchmetrics; scikit-image and piq are asked in test_metrics.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn.functional import avg_pool2d

from trainers.families import METRICS
from trainers.vision import import_torchvision

SIDE, BATCH = 192, 3  # px; five scales need 161
BORDER = 5  # px that a window of 11 reaches beyond its centre
COARSEST = 0.1333  # exponent of the fifth scale; Wang et al., 2003, sec. 3.2
any_bands = pytest.mark.parametrize("bands", [1, 3, 4])


@pytest.fixture(scope="module")
def theirs():
    """torchmetrics' functions of images: they import torchvision, whatever is asked of them."""
    import_torchvision()
    return pytest.importorskip("torchmetrics.functional.image", reason="pip install torchmetrics")


def ours(name: str, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    return METRICS.part(name).build()(fake, real, torch.ones_like(real[:, :1]))


def pair(bands: int, share: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth pictures (BATCH, bands, SIDE, SIDE) in (0, 1), and the same with a share of others mixed in."""
    draw = np.random.default_rng(bands)
    smooth = ndimage.gaussian_filter(draw.normal(size=(2, BATCH, bands, SIDE, SIDE)), (0, 0, 0, 2, 2), mode="nearest")
    noisy = np.clip(0.5 + 2 * smooth + 0.02 * draw.normal(size=smooth.shape), 0.01, 1).astype(np.float32)
    real, other = map(torch.from_numpy, noisy)
    return (1 - share) * real + share * other, real


def inside(images: torch.Tensor) -> torch.Tensor:
    """Mean per image and band where the window lies wholly in the image."""
    return images[..., BORDER:-BORDER, BORDER:-BORDER].mean(dim=(2, 3))


@any_bands
def test_psnr_is_that_of_torchmetrics(theirs, bands):
    fake, real = pair(bands)
    expected = torch.stack([theirs.peak_signal_noise_ratio(f, r, data_range=1.0)
                            for f, r in zip(fake, real, strict=True)])  # fmt: skip
    torch.testing.assert_close(ours("psnr", fake, real), expected, rtol=0, atol=1e-4)


@any_bands
def test_ssim_is_that_of_torchmetrics_where_the_window_fits(theirs, bands):
    """Theirs also averages windows over a reflected border, ours as Wang et al. whole ones only."""
    fake, real = pair(bands)
    mean, full = theirs.structural_similarity_index_measure(
        fake, real, data_range=1.0, reduction="none", return_full_image=True
    )
    torch.testing.assert_close(ours("ssim", fake, real), inside(full).mean(dim=1), rtol=0, atol=1e-5)
    torch.testing.assert_close(full.mean(dim=(1, 2, 3)), mean)


@any_bands
def test_ms_ssim_is_that_of_torchmetrics_where_the_window_fits(theirs, bands):
    """Theirs leaves the border out of all scales but the coarsest, and averages bands within a scale: asked band by
    band, and with the border taken out of its coarsest scale, it is ours.
    """
    fake, real = pair(bands)
    expected = torch.stack([of_one_band(theirs, fake[:, b : b + 1], real[:, b : b + 1]) for b in range(bands)])
    found = ours("ms_ssim", fake, real)
    torch.testing.assert_close(found, expected.mean(dim=0), rtol=0, atol=2e-5)
    assert 0.1 < found.min() and found.max() < 0.99


def of_one_band(theirs, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) twice -> (B,)."""
    whole = theirs.multiscale_structural_similarity_index_measure(fake, real, data_range=1.0, reduction="none")
    small = [avg_pool2d(images, 2**4) for images in (fake, real)]
    mean, full = theirs.structural_similarity_index_measure(
        *small, data_range=1.0, reduction="none", return_full_image=True
    )
    return whole * (inside(full)[:, 0] / mean) ** COARSEST


@pytest.mark.parametrize("bands", [2, 3, 4])
def test_sam_is_that_of_torchmetrics_in_degrees(theirs, bands):
    """Theirs is in radians, an arc cosine that is off by 0.02 degrees at small angles."""
    fake, real = pair(bands)
    radians = theirs.spectral_angle_mapper(fake.double(), real.double(), reduction="none")
    found = ours("sam", fake, real)
    torch.testing.assert_close(found.double(), torch.rad2deg(radians).mean(dim=(1, 2)), rtol=1e-5, atol=0)
    assert 1 < found.min() and found.max() < 90
