"""SSIM: structural similarity, per image.

Wang et al., 2004, https://doi.org/10.1109/TIP.2003.819861. Window 11, sigma 1.5, population variances.
"""

from __future__ import annotations

GOAL, LABEL, UNIT = "max", "SSIM", ""


def build():
    from trainers import similarity

    def ssim(fake, real, mask):
        """Images (B, C, H, W) in [0, 1], filled alike where masked, mask (B, 1, H, W) -> (B,) in [-1, 1].

        H and W at least 11.
        """
        return similarity.ssim(fake, real, mask)

    return ssim
