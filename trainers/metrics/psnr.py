"""PSNR: peak signal-to-noise ratio, per image, in dB."""

from __future__ import annotations

GOAL, LABEL, UNIT = "max", "PSNR", "dB"
CEILING = 100.0  # an exact image has no noise; its ratio is reported as this


def build():
    import torch

    from trainers.masks import masked_mean

    def psnr(fake, real, mask):
        """Images (B, C, H, W) in [0, 1], mask (B, 1, H, W) -> (B,) in dB, peak 1, at most 100."""
        error = masked_mean((fake - real) ** 2, mask).clamp(min=10 ** (-CEILING / 10))
        return -10 * torch.log10(error)

    return psnr
