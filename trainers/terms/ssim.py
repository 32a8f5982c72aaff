"""SSIM loss: 1 - structural similarity.

Wang et al., 2004, https://doi.org/10.1109/TIP.2003.819861; as a loss Zhao et al., 2017,
https://arxiv.org/abs/1511.08861.
"""

from __future__ import annotations

from trainers.options import NonNegative, options


@options
class Options:
    weight: NonNegative = 10.0


def build(part: Options):
    from trainers import similarity

    def ssim(fake, real, mask):
        """1 - SSIM per image, in [0, 2]: tensors (B, C, H, W) in [-1, 1], filled alike where masked -> (B,)."""
        return 1 - similarity.ssim(similarity.to_unit(fake), similarity.to_unit(real), mask)

    return ssim
