"""What is wrong with single tiles: constant, bright all over, or SAR and optical in each other's place.

Rules of thumb, each on scaled values in [-1, 1]; the figures they rest on are those of the synthetic scenes and of
five public data sets (see the tests).
"""

from __future__ import annotations

import numpy as np

FLAT = 1e-3  # standard deviation over valid pixels below which a tile shows nothing
WHITE = 0.85  # of the range, in every band: cloud, snow, or glare in an 8-bit picture
BRIGHT_SHARE = 0.1  # of the valid pixels
CLOUD_REFLECTANCE = 3500.0  # x 10,000, in every visible band; bare soil and cities stay below
ROUGH = 1.3  # times: an "optical" side so much rougher than its SAR is probably the SAR


def constant(image: np.ndarray, mask: np.ndarray) -> bool:
    """Whether no band of an image (C, H, W) varies over its valid pixels (H, W)."""
    valid = image[:, mask]
    return valid.shape[1] > 0 and bool((valid.std(axis=1) < FLAT).all())


def bright_share(image: np.ndarray, mask: np.ndarray, *, threshold: float = WHITE) -> float:
    """Share of valid pixels that are near white in all bands: cloud, snow or ice."""
    valid = image[:, mask]
    return float((valid > threshold).all(axis=0).mean()) if valid.shape[1] else 0.0


def roughness(image: np.ndarray, mask: np.ndarray) -> float | None:
    """Standard deviation of neighbours' differences over that of the values: speckle is rough, ground is not.

    sqrt(2 (1 - r)) for an autocorrelation r at lag 1; None where nothing varies. The median over bands.
    """
    both = mask[:, 1:] & mask[:, :-1]
    if both.sum() < 64:
        return None
    found = []
    for band in image:
        spread = band[mask].std()
        if spread > FLAT:
            found.append(float((band[:, 1:] - band[:, :-1])[both].std() / spread))
    return float(np.median(found)) if found else None


def coloured(image: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the bands of an image of three or more say different things at a pixel."""
    valid = image[:, mask]
    if len(image) < 3 or not valid.shape[1]:
        return False
    return bool(np.ptp(valid, axis=0).mean() > 0.02)


def seems_swapped(sar: np.ndarray, optical: np.ndarray, mask: np.ndarray) -> bool | None:
    """Whether the optical image looks like radar and the SAR image does not; None where it can't be told.

    A picture with colour on the SAR side and none on the optical side, or an optical side much the rougher.
    """
    rough = roughness(sar, mask), roughness(optical, mask)
    if None in rough:
        return None
    if coloured(sar, mask) and not coloured(optical, mask):
        return rough[1] > rough[0]
    return rough[1] > ROUGH * rough[0]
