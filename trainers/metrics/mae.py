"""MAE: mean absolute error, per image, in [0, 1]."""

from __future__ import annotations

GOAL, LABEL, UNIT = "min", "MAE", ""


def build():
    from trainers.masks import masked_mean

    def mae(fake, real, mask):
        """Images (B, C, H, W) in [0, 1], mask (B, 1, H, W) -> (B,) in [0, 1], over bands and valid pixels."""
        return masked_mean((fake - real).abs(), mask)

    return mae
