"""Value domains: what the numbers of SAR and optical files mean, and their scaling to [-1, 1].

SAR enters the networks as scaled backscatter in dB (or a stretched picture) in [-1, 1], optical as bands in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainers.layouts._common import Optical, Sar
from trainers.pairs import DataError

# Sentinel-1 over land; the first range is VV's, the second VH's.
DB_RANGES = ((-25.0, 0.0), (-32.5, 0.0))
NORMALISED = 5.0  # floats within +-5 may be anything that somebody has normalised
DECLARE = "declare data.sar.domain as db, linear (intensity), amplitude or display (with low and high)"


@dataclass(frozen=True)
class Scaling:
    """How the numbers of one modality become [-1, 1]: `low` and `high`, one a band, become -1 and +1."""

    domain: str
    storage: str  # 8-bit, integer or float: alike in all files of a data set
    low: tuple[float, ...]
    high: tuple[float, ...]

    def apply(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (B, H, W) as float32 in [-1, 1], and which of them were clipped (B, H, W). NaN becomes -1."""
        physical = to_db(values, self.domain)
        low, high = (np.asarray(limit, np.float32)[:, None, None] for limit in (self.low, self.high))
        clipped = (physical < low) | (physical > high)
        scaled = (physical - low) * (2 / (high - low)) - 1
        return np.clip(np.nan_to_num(scaled, nan=-1.0), -1, 1), clipped


def storage(dtype: np.dtype) -> str:
    """What may be mixed within a data set: 8-bit with 8-bit, other integers with each other, floats with floats."""
    return "8-bit" if dtype == np.uint8 else "float" if dtype.kind == "f" else "integer"


def to_db(values: np.ndarray, domain: str) -> np.ndarray:
    """float32 values: linear SAR in dB (0 and below give NaN: nodata, not "very dark"), all else as it is."""
    physical = values.astype(np.float32)
    factor = {"linear": 10, "amplitude": 20}.get(domain)
    if factor is None:
        return physical
    return factor * np.log10(np.where(physical > 0, physical, np.float32(np.nan)))


def detect_sar(samples: np.ndarray, dtype: np.dtype, *, example: str) -> str:
    """`db` or `display` for valid, non-zero samples of a SAR data set. Raises DataError where it must be declared."""
    if dtype == np.uint8:
        return "display"
    if not samples.size:
        raise DataError(f"{example}: holds nothing but zeros and nodata, so its domain can't be seen; {DECLARE}")
    low, p1, median, p99, high = np.percentile(samples.astype(np.float64), [0, 1, 50, 99, 100])
    found = f"{example}: SAR numbers ({dtype}) run from {low:.4g} to {high:.4g}, median {median:.4g}"
    if median < -3 and p99 - p1 >= 5:
        return "db"
    if max(abs(low), abs(high)) <= NORMALISED:
        raise DataError(f"{found}: within +-{NORMALISED:g}, so intensity, amplitude or normalised already; {DECLARE}")
    if low >= 0:
        raise DataError(f"{found}: not negative, so intensity or amplitude, which numbers don't tell apart; {DECLARE}")
    raise DataError(f"{found}: neither dB (median below -3, spread of 5 or more) nor 8-bit; {DECLARE}")


def sar_scaling(options: Sar, *, domain: str, dtype: np.dtype, bands: int, example: str) -> Scaling:
    """The scaling of SAR bands, from the options or the domain's defaults. Raises DataError where it has none."""
    if options.low is not None and options.high is not None:
        if len(options.low) != bands:
            raise DataError(f"{example}: {bands} SAR bands are read, but data.sar.low has {len(options.low)} numbers")
        return Scaling(domain, storage(dtype), options.low, options.high)
    if domain == "display":
        if dtype != np.uint8:
            raise DataError(
                f"{example}: display values of type {dtype} have no known range; give data.sar.low and high"
            )
        return Scaling(domain, storage(dtype), (0.0,) * bands, (255.0,) * bands)
    if bands > len(DB_RANGES):
        raise DataError(f"{example}: {bands} SAR bands in dB; give data.sar.low and high, or choose data.sar.bands")
    low, high = zip(*DB_RANGES[:bands], strict=True)
    return Scaling(domain, storage(dtype), low, high)


def optical_scaling(
    options: Optical, *, dtype: np.dtype, bands: int, default: tuple[float, float] | None, example: str
) -> Scaling:
    """The scaling of optical bands: 8-bit pictures are `display`, all else is `reflectance`."""
    domain = "display" if dtype == np.uint8 else "reflectance"
    usual = {np.dtype(np.uint8): (0.0, 255.0), np.dtype(np.uint16): (0.0, 1e4), np.dtype(np.int16): (0.0, 1e4)}
    limits = options.range or default or usual.get(dtype)
    if limits is None:
        raise DataError(f"{example}: optical values of type {dtype} have no known range; give data.optical.range")
    return Scaling(domain, storage(dtype), (float(limits[0]),) * bands, (float(limits[1]),) * bands)


def has_data(values: np.ndarray, domain: str) -> np.ndarray:
    """Where (H, W) zeros don't say nodata.

    In linear SAR and in reflectance a zero in any band is nodata. In dB and in 8-bit pictures zero is a value
    like any other, except in regions, zero in all bands, that touch the border of the image.
    """
    if domain in ("linear", "amplitude"):
        return (values > 0).all(axis=0)
    if domain == "reflectance":
        return (values != 0).all(axis=0)
    return ~_touching_border((values == 0).all(axis=0))


def _touching_border(dark: np.ndarray) -> np.ndarray:
    """The part of a boolean image (H, W) whose connected regions (4 neighbours) reach the border."""
    edge = np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]])
    if not edge.any():
        return np.zeros_like(dark)
    from scipy import ndimage

    labels, _ = ndimage.label(dark)
    outer = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, outer[outer > 0])
