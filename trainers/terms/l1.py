"""L1: mean absolute difference.

Isola et al., 2017, https://arxiv.org/abs/1611.07004, eq. 3 (lambda 100 on images in [-1, 1]).
"""

from __future__ import annotations

from trainers.options import NonNegative, options


@options
class Options:
    weight: NonNegative = 100.0


def build(part: Options):
    from trainers.masks import masked_mean

    def l1(fake, real, mask):
        """Mean absolute difference per image, in [0, 2]: tensors (B, C, H, W) in [-1, 1] -> (B,)."""
        return masked_mean((fake - real).abs(), mask)

    return l1
