"""Value domains: what the numbers of SAR and optical files mean, and their scaling to [-1, 1].

SAR enters the networks as scaled backscatter (dB, or intensity where `scale` is linear; or a picture stretched by
somebody) in [-1, 1], optical as bands in [-1, 1]. Decibels are never averaged as if they were intensities: the speckle
filter sees intensity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainers.despeckle import Lee
from trainers.layouts._common import Optical, Sar, refuse_display
from trainers.pairs import DataError

# Sentinel-1 over land; the first range is VV's, the second VH's.
DB_RANGES = ((-25.0, 0.0), (-32.5, 0.0))
NORMALISED = 5.0  # floats within +-5 may be anything that somebody has normalised
BACKSCATTER = ("db", "linear", "amplitude")
Limits = tuple[tuple[float, ...], tuple[float, ...], str]  # low, high, and where they come from
DECLARE = "declare data.sar.domain as db, linear (intensity), amplitude or display (with low and high)"


@dataclass(frozen=True)
class Scaling:
    """How the numbers of one modality become [-1, 1]: `low` and `high`, one a band, become -1 and +1.

    The limits are on `scale`: `db` or `linear` (intensity) of backscatter; `stored`, which is (number + `offset`) *
    `factor`, of pictures and reflectance. Limits that the training scenes give are NaN until `survey` has found them.
    `domain_from` and `range_from` say how both were come by.
    """

    domain: str
    storage: str  # 8-bit, integer or float: alike in all files of a data set
    low: tuple[float, ...]
    high: tuple[float, ...]
    scale: str = "db"
    despeckle: Lee | None = None
    offset: float = 0.0
    factor: float = 1.0
    domain_from: str = ""
    range_from: str = ""

    def apply(self, values: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Values (B, H, W) as float32 in [-1, 1], and which of them were clipped (B, H, W). NaN becomes -1.

        A speckle filter uses and changes only `valid` pixels (H, W); by default all that are finite.
        """
        physical = self.physical(values, valid)
        low, high = (np.asarray(limit, np.float32)[:, None, None] for limit in (self.low, self.high))
        clipped = (physical < low) | (physical > high)
        scaled = (physical - low) * (2 / (high - low)) - 1
        return np.clip(np.nan_to_num(scaled, nan=-1.0), -1, 1), clipped

    def physical(self, values: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """What the limits are of: dB, intensity, or stored numbers with offset and factor; float32 (B, H, W)."""
        if self.domain not in BACKSCATTER:
            return _affine(values.astype(np.float32), self.offset, self.factor)
        if self.scale == "db" and self.despeckle is None:
            return to_db(values, self.domain)
        intensity = to_intensity(values, self.domain)
        if self.despeckle is not None:
            valid = np.isfinite(intensity).all(axis=0) if valid is None else valid
            intensity = self.despeckle(intensity, valid)
        return intensity if self.scale == "linear" else to_db(intensity, "linear")

    @property
    def exact_in_8_bits(self) -> bool:
        """Whether stored 8-bit numbers are what [-1, 1] is a picture of."""
        plain = (self.offset, self.factor, self.despeckle) == (0, 1, None)
        return self.storage == "8-bit" and plain and {*self.low} == {0.0} and {*self.high} == {255.0}


def _affine(values: np.ndarray, offset: float, factor: float) -> np.ndarray:
    if offset:
        values = values + np.float32(offset)
    return values * np.float32(factor) if factor != 1 else values


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


def to_intensity(values: np.ndarray, domain: str) -> np.ndarray:
    """float32 intensity of SAR in `db`, `linear` or `amplitude`; 0 and below, which is nodata, stays as it is."""
    physical = values.astype(np.float32)
    if domain == "db":
        return np.float32(10) ** (physical / 10)
    return physical**2 * np.sign(physical) if domain == "amplitude" else physical


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
    if domain == "display":
        try:
            refuse_display(options, found=f"8-bit values, which are read as display ({example})")
        except ValueError as error:
            raise DataError(str(error)) from None
    lee = Lee(options.window, options.looks) if options.despeckle == "lee" else None
    low, high, said = _sar_limits(options, domain=domain, dtype=dtype, bands=bands, example=example)
    if domain != "display" and options.scale == "linear":
        low, high = (tuple(10 ** (limit / 10) for limit in limits) for limits in (low, high))
    scale = "stored" if domain == "display" else options.scale
    return Scaling(domain, storage(dtype), low, high, scale=scale, despeckle=lee, range_from=said)


def _sar_limits(options: Sar, *, domain: str, dtype: np.dtype, bands: int, example: str) -> Limits:
    """Limits in dB, or in the numbers of a display, and where they come from."""
    if options.range != "fixed":
        return *unknown(bands), options.range
    if options.low is not None and options.high is not None:
        if len(options.low) != bands:
            raise DataError(f"{example}: {bands} SAR bands are read, but data.sar.low has {len(options.low)} numbers")
        return options.low, options.high, "data.sar.low and high"
    if domain == "display":
        if dtype != np.uint8:
            raise DataError(
                f"{example}: display values of type {dtype} have no known range; give data.sar.low and high, or "
                "data.sar.range percentiles"
            )
        return (0.0,) * bands, (255.0,) * bands, "8-bit values"
    if bands > len(DB_RANGES):
        raise DataError(
            f"{example}: {bands} SAR bands in dB; give data.sar.low and high, choose data.sar.bands, or take "
            "data.sar.range percentiles"
        )
    return *zip(*DB_RANGES[:bands], strict=True), "defaults of VV and VH"


def unknown(bands: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Limits that are still to be found."""
    return (float("nan"),) * bands, (float("nan"),) * bands


def optical_scaling(
    options: Optical, *, dtype: np.dtype, bands: int, default: tuple[float, float] | None, example: str
) -> Scaling:
    """The scaling of optical bands: 8-bit pictures are `display`, all else is `reflectance`."""
    domain = "display" if dtype == np.uint8 else "reflectance"
    low, high, said = _optical_limits(options, dtype=dtype, bands=bands, default=default, example=example)
    return Scaling(
        domain, storage(dtype), low, high, scale="stored", offset=options.offset, factor=options.scale,
        domain_from=f"{dtype} values", range_from=said,
    )  # fmt: skip


def _optical_limits(
    options: Optical, *, dtype: np.dtype, bands: int, default: tuple[float, float] | None, example: str
) -> Limits:
    """Limits of stored values with offset and factor, and where they come from."""
    if options.percentiles is not None:
        return *unknown(bands), "percentiles"
    if options.range is not None:
        limits, said = options.range, "data.optical.range"
    else:
        usual = {np.dtype(np.uint8): (0.0, 255.0), np.dtype(np.uint16): (0.0, 1e4), np.dtype(np.int16): (0.0, 1e4)}
        limits, said = default or usual.get(dtype), "the data set's own" if default else f"default of {dtype}"
        if limits is None:
            raise DataError(
                f"{example}: optical values of type {dtype} have no known range; give data.optical.range or percentiles"
            )
    low, high = map(float, limits)
    return (low,) * bands, (high,) * bands, said
