"""MS-SSIM: multi-scale structural similarity, per image; tiles of at least 161 px.

Wang et al., 2003, https://doi.org/10.1109/ACSSC.2003.1292216. Five scales, window 11, sigma 1.5.
"""

from __future__ import annotations

from trainers.availability import too_small

GOAL, LABEL, UNIT = "max", "MS-SSIM", ""
SMALLEST = 161  # pixels: five scales with a window of 11


def unavailable(*, tile: int, bands: int | None = None) -> str | None:
    return too_small(tile, SMALLEST)


def build():
    from trainers import similarity

    def ms_ssim(fake, real, mask):
        """Images (B, C, H, W) in [0, 1], filled alike where masked, mask (B, 1, H, W) -> (B,) in [0, 1].

        H and W at least 161.
        """
        return similarity.ms_ssim(fake, real, mask)

    return ms_ssim
