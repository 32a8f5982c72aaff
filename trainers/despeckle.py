"""Despeckling: what multiplicative noise does to intensity, taken back where a neighbourhood is homogeneous.

Lee, 1980, https://doi.org/10.1109/TPAMI.1980.4766994. An intensity is the backscatter times noise of mean 1 and
variance 1 / looks; within a window the backscatter has a mean and a variance of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Lee:
    """A Lee filter: side of its square window in px (odd), and the equivalent number of looks of the speckle."""

    window: int
    looks: float

    def __call__(self, intensity: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Intensity (B, H, W) despeckled, float32. Pixels outside `valid` (H, W) are neither used nor changed.

        mean + k (intensity - mean) with k = v / (mean^2 / looks + v), where v, the variance of the backscatter, is
        what the noise does not explain of the window's: (variance - mean^2 / looks) / (1 + 1 / looks), at least 0.
        At borders and beside masked pixels a window holds what there is.
        """
        return np.stack([self._band(band, valid) for band in intensity]).astype(np.float32)

    def _band(self, band: np.ndarray, valid: np.ndarray) -> np.ndarray:
        known = np.where(valid, band, 0).astype(np.float64)
        count = np.maximum(np.rint(self._sums(valid.astype(np.float64))), 1)
        mean = self._sums(known) / count
        noise = mean**2 / self.looks
        variance = self._sums(known**2) / count - mean**2
        backscatter = np.maximum(variance - noise, 0) / (1 + 1 / self.looks)
        gain = np.divide(backscatter, noise + backscatter, out=np.zeros_like(mean), where=backscatter > 0)
        return np.where(valid, mean + gain * (known - mean), band)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over the window around each pixel; nothing lies outside of the image."""
        from scipy.ndimage import uniform_filter

        return uniform_filter(values, self.window, mode="constant") * self.window**2
