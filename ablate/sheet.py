"""A picture sheet of a data set: SAR, optical and the edges of both on each other, for the eye."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ablate.disk import SHARED, write_atomically
from trainers.pairs import Pair
from trainers.reading import Scaled

if TYPE_CHECKING:
    from ablate.datachecked import Checked

SHOWN = 8  # pairs
EDGE = 0.85  # quantile of the gradient beyond which a pixel is drawn as an edge


def draw(found: Checked, path: Path) -> Path:
    """Write the sheet as a PNG."""
    from matplotlib.figure import Figure

    from ablate.datacheck import shown_pairs

    pairs = shown_pairs(found, SHOWN)
    rows = max(1, -(-len(pairs) // 2))
    figure = Figure(figsize=(12, 2.2 * rows + 0.6), dpi=110, layout="constrained")
    axes = figure.subplots(rows, 6, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    shifts = {one.scene: one.estimate for one in found.alignment.scenes} if found.alignment else {}
    for place, (pair, images) in enumerate((one.pair, one.images) for one in pairs):
        row, left = place // 2, 3 * (place % 2)
        pictures = (grey(images), colour(images), overlay(images))
        for axis, picture in zip(axes[row, left : left + 3], pictures, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes[row, left].set_title(f"{_short(pair.name)}: SAR", fontsize=7, loc="left")
        axes[row, left + 1].set_title(f"optical ({found.splits.get(pair.name, 'no split')})", fontsize=7, loc="left")
        axes[row, left + 2].set_title(_shift_words(pair, shifts), fontsize=7, loc="left")
    figure.suptitle("SAR, optical, and both: edges of SAR orange, of optical blue, of both white", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getbuffer(), mode=SHARED)
    return path


def grey(images: Scaled) -> np.ndarray:
    """SAR as (H, W) in [0, 1], its bands averaged; nodata black."""
    return np.where(images.mask, (images.sar.mean(axis=0) + 1) / 2, 0)


def colour(images: Scaled) -> np.ndarray:
    """Optical as (H, W, 3) in [0, 1], stretched over its 2nd to 98th percentile for the eye."""
    optical = images.optical[:3] if len(images.optical) >= 3 else np.repeat(images.optical[:1], 3, axis=0)
    valid = optical[:, images.mask]
    low, high = np.percentile(valid, [2, 98]) if valid.size else (-1.0, 1.0)
    stretched = np.clip((optical - low) / max(high - low, 1e-6), 0, 1)
    return np.where(images.mask[..., None], np.moveaxis(stretched, 0, -1), 0)


def overlay(images: Scaled) -> np.ndarray:
    """Edges of SAR orange, of optical blue, where both stand white: (H, W, 3) in [0, 1]."""
    sar, optical = (_edges(bands, images.mask) for bands in (images.sar, images.optical))
    orange, blue = np.array([0.9, 0.6, 0.0]), np.array([0.1, 0.5, 0.9])
    picture = np.clip(sar[..., None] * orange + optical[..., None] * blue, 0, 1)
    return np.where((sar & optical)[..., None], 1.0, picture)


def _edges(bands: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The strongest gradients of a smoothed image (H, W)."""
    from scipy import ndimage

    strength = ndimage.gaussian_gradient_magnitude(bands.mean(axis=0), 1.5)
    inner = ndimage.binary_erosion(mask, iterations=4)
    if not inner.any():
        return np.zeros_like(mask)
    return inner & (strength > np.quantile(strength[inner], EDGE))


def _shift_words(pair: Pair, shifts) -> str:
    estimate = shifts.get(pair.scene)
    return "edges" if estimate is None else f"edges; scene dx {estimate.dx:+.1f}, dy {estimate.dy:+.1f} px"


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"...{name[-21:]}"
