"""Three bands for networks that were trained on photographs."""

from __future__ import annotations

from torch import Tensor

from trainers.availability import colourless
from trainers.pairs import DataError


def three(images: Tensor) -> Tensor:
    """The first three bands of (B, C, H, W); a single band stands for all three. Raises DataError for two."""
    bands = images.shape[1]
    if why := colourless(bands):
        raise DataError(why)
    return images.expand(-1, 3, -1, -1) if bands == 1 else images[:, :3]
