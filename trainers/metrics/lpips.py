"""LPIPS: learned perceptual distance (AlexNet, version 0.1), per image, at least 0; needs a weights file.

Zhang et al., 2018, https://arxiv.org/abs/1801.03924. On the first three optical bands; a single band stands for grey.
The 1,152 numbers that weigh AlexNet's channels are the authors', published in their package lpips 0.1.4 and kept
beside this file with their licence. Equal to that package's `LPIPS(net="alex")`.
"""

from __future__ import annotations

from pathlib import Path

from trainers import weightfiles
from trainers.availability import colourless, first, too_small, without_file

GOAL, LABEL, UNIT = "min", "LPIPS", ""
SMALLEST = 31  # pixels: below, AlexNet's second pooling finds nothing
CHANNELS = Path(__file__).parent / "_lpips" / "alex-v0.1.pth"


def unavailable(*, tile: int, bands: int | None = None) -> str | None:
    return first(too_small(tile, SMALLEST), colourless(bands), without_file(weightfiles.ALEXNET))


def build():
    from trainers import weights
    from trainers.metrics import _alexnet
    from trainers.metrics._distance import distance

    shapes = {f"lin{n}.model.1.weight": (1, at.outputs, 1, 1) for n, at in enumerate(_alexnet.CONVOLUTIONS)}
    state = weights.read(weights.present(weightfiles.ALEXNET), _alexnet.SHAPES)
    return distance(state, list(weights.read(CHANNELS, shapes).values()))
