"""Injected misregistration: the optical images of training scenes moved against their SAR by a known amount.

Each scene has its own direction. Were all moved alike, the generator would learn the shift as part of the
translation, and a fixed offset harms nobody; what harms in practice is that it differs from scene to scene.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainers.streams import numpy_generator

Shift = tuple[float, float]  # (dy, dx) in px: optical content lies that far below and right of the SAR's

# Of quintic B-splines, since interpolation must not blur: an arm would then differ by its blur, not by its shift.
# Moved by half a pixel on both axes, synthetic scenes keep 99.8 % of their gradient energy (Sobel) and Sentinel-2
# tiles 99.4 %; cubic splines keep 99.1 and 97.5 %, linear ones 85.3 and 75.4 %. Fourier keeps all, and wraps and rings.
ORDER = 5


def shifts(scenes: Sequence[str], pixels: float, *, seed: int) -> dict[str, Shift]:
    """Scene -> shift of length `pixels`; none where it is 0.

    Directions are equally spaced, from a random one on and in random order, so that the scenes' mean shift is 0.
    Other lengths move the same scenes in the same directions.
    """
    if not pixels:
        return {}
    rng = numpy_generator(seed, "misregistration")
    turns = (rng.permutation(len(scenes)) + rng.random()) / len(scenes)
    angles = 2 * np.pi * turns
    return {
        scene: (float(pixels * np.sin(angle)), float(pixels * np.cos(angle)))
        for scene, angle in zip(sorted(scenes), angles, strict=True)
    }


def moved(image: np.ndarray, valid: np.ndarray, shift: Shift) -> tuple[np.ndarray, np.ndarray]:
    """An image (B, H, W) in [-1, 1] and where it is valid (H, W), both moved by `shift`.

    A pixel is valid where all pixels around the place it comes from lie in the image and are valid. What nodata
    holds reaches no valid pixel: it is filled from the nearest valid one before interpolation.
    """
    from scipy import ndimage

    if not valid.any():
        return image, valid
    whole = ndimage.shift(valid.astype(np.float32), shift, order=1, mode="constant") > 1 - 1e-5
    if not valid.all():
        rows, columns = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
        image = image[:, rows, columns]
    bands = [ndimage.shift(band, shift, order=ORDER, mode="nearest") for band in image]
    return np.clip(np.stack(bands), -1, 1), whole  # splines overshoot beside steps
