"""MS-SSIM loss: 1 - multi-scale structural similarity.

Wang et al., 2003, https://doi.org/10.1109/ACSSC.2003.1292216; as a loss Zhao et al., 2017,
https://arxiv.org/abs/1511.08861.
"""

from __future__ import annotations

from trainers.options import NonNegative, options

SMALLEST = 161  # pixels: five scales with a window of 11
WAITS = True  # for the device: five weights are copied there, and on the way back a product is asked for zeros


@options
class Options:
    weight: NonNegative = 10.0


def refuse(part: Options, recipe) -> list[str]:
    tile = recipe.data.tile
    return [] if tile >= SMALLEST else [f"ms_ssim needs tiles of at least {SMALLEST} px; the tile is {tile} px"]


def build(part: Options):
    from trainers import similarity

    def ms_ssim(fake, real, mask):
        """1 - MS-SSIM per image, in [0, 1]: tensors (B, C, H, W) in [-1, 1], filled alike where masked -> (B,)."""
        return 1 - similarity.ms_ssim(similarity.to_unit(fake), similarity.to_unit(real), mask)

    return ms_ssim
