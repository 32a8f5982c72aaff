"""Charbonnier: a smooth L1.

Charbonnier et al., 1994, https://doi.org/10.1109/ICIP.1994.413553; as in Lai et al., 2018,
https://arxiv.org/abs/1710.01992.
"""

from __future__ import annotations

from trainers.options import NonNegative, Positive, options


@options
class Options:
    weight: NonNegative = 100.0
    eps: Positive = 1e-3  # differences well above it count as in L1


def build(part: Options):
    from trainers.masks import masked_mean

    def charbonnier(fake, real, mask):
        """Mean of sqrt(d^2 + eps^2) per image, at least eps: tensors (B, C, H, W) in [-1, 1] -> (B,)."""
        return masked_mean(((fake - real).square() + part.eps**2).sqrt(), mask)

    return charbonnier
