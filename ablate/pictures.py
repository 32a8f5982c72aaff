"""Sample pictures of a trial as one strip: SAR | generated | real, a row per sample."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

GAP = 2  # white pixels between tiles
log = logging.getLogger(__name__)


def strip(sar: np.ndarray, fake: np.ndarray, real: np.ndarray) -> np.ndarray:
    """One (N*H + (N-1)*GAP, 3*W + 2*GAP, 3) uint8 picture.

    `sar` is (N, H, W), `fake` and `real` are (N, H, W, 3), all uint8. Raises ValueError for other shapes.
    """
    import numpy as np

    if fake.shape != (*sar.shape, 3) or real.shape != fake.shape:
        found = f"{sar.shape}, {fake.shape}, {real.shape}"
        raise ValueError(f"samples: expected sar (N, H, W), fake and real (N, H, W, 3); found {found}")
    count, height, width = sar.shape
    picture = np.full((count * (height + GAP) - GAP, 3 * (width + GAP) - GAP, 3), 255, np.uint8)
    columns = (np.repeat(sar[..., None], 3, axis=-1), fake, real)
    for row in range(count):
        for column, tiles in enumerate(columns):
            top, left = row * (height + GAP), column * (width + GAP)
            picture[top : top + height, left : left + width] = tiles[row]
    return picture


def read_strip(path: Path) -> np.ndarray | None:
    """The strip of a samples file (.npz with sar, fake, real); None where it cannot be read."""
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return strip(arrays["sar"], arrays["fake"], arrays["real"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        log.warning("%s: no sample picture: %s", path, error)
        return None
