"""Synthetic scenes: generated, nothing to download. See `trainers.synthesis` for what they hold."""

from __future__ import annotations

from typing import Annotated

from trainers.layouts._common import Data
from trainers.options import Bounds, options


@options
class Options(Data):
    scenes: Annotated[int, Bounds(low=2, high=10_000)] = 24
    size: Annotated[int, Bounds(low=32, high=4096)] | None = None  # px; three tiles by default
    stride: Annotated[int, Bounds(low=1)] | None = None  # px between training tiles; half a tile by default
    seed: Annotated[int, Bounds(low=0)] = 0
    shifts: Annotated[float, Bounds(low=0, high=2)] = 1.0  # scale of the scenes' own misregistration; 0 has none

    def __post_init__(self) -> None:
        if self.size is not None and self.size < self.tile:
            raise ValueError(f"size {self.size} px is below tile {self.tile} px; a scene holds at least one tile")

    @property
    def pixels(self) -> int:
        """Side of a scene in px."""
        return self.size or 3 * self.tile


def build(data: Options):
    from trainers.synthesis import Synthetic

    return Synthetic(data)
