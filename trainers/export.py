"""Synthetic scenes as files, so that the readers of real data can be tried on known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trainers.domains import DB_RANGES
from trainers.layouts.synthetic import Options
from trainers.synthesis import CRS, OPTICAL_RANGE, PIXEL, Synthetic, render

ORIGIN = (500_000.0, 5_500_000.0)  # m, upper left corner of the first scene; the others follow eastward
KINDS, LAYOUTS = ("geotiff", "png"), ("folders", "scenes")
BLOCK = 256  # px: side of the blocks in which a scene is stored


def export(folder: Path, options: Options, kind: str = "geotiff", layout: str = "folders") -> None:
    """Write sar/ and optical/ below a folder, a file a scene, for one of these two layouts.

    `geotiff`: float32 dB (VV, VH; NaN is nodata) and uint16 reflectance (0 is nodata), UTM, 10 m.
    `png`: 8-bit display of the same content over the default ranges, SAR as VV, VH and their difference, 0 kept for
    nodata; read its first two SAR bands.
    The same pixels for both layouts; a GeoTIFF for `scenes` is stored in blocks of 256 px, to be read by window.
    """
    for noun, name, allowed in (("kind", kind, KINDS), ("layout", layout, LAYOUTS)):
        if name not in allowed:
            raise ValueError(f"no such {noun}: {name!r}; there are {', '.join(allowed)}")
    for index, pair in enumerate(Synthetic(options).pairs):
        scene = render(options, index)
        sar, optical = (scene.sar, scene.optical) if kind == "geotiff" else _display(scene.sar, scene.optical)
        for name, values in (("sar", sar), ("optical", optical)):
            path = folder / name / f"{pair.name}.{'tif' if kind == 'geotiff' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, values, **_profile(index, options.pixels, kind, layout))


def _profile(index: int, pixels: int, kind: str, layout: str) -> dict[str, Any]:
    if kind == "png":
        return {"driver": "PNG"}
    from rasterio import Affine

    west = ORIGIN[0] + index * (pixels + 100) * PIXEL
    place = Affine(PIXEL, 0, west, 0, -PIXEL, ORIGIN[1])
    blocks = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK} if layout == "scenes" else {}
    return {"driver": "GTiff", "crs": CRS, "transform": place, "compress": "deflate", **blocks}


def _write(path: Path, values: np.ndarray, **profile: Any) -> None:
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    bands, rows, columns = values.shape
    nodata = {np.dtype(np.float32): np.nan, np.dtype(np.uint16): 0}.get(values.dtype)
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", width=columns, height=rows, count=bands, dtype=values.dtype, nodata=nodata, **profile
        ) as file:
            file.write(values)


def _display(sar: np.ndarray, optical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = (np.array(limit, np.float32)[:, None, None] for limit in zip(*DB_RANGES, strict=True))
    vv, vh = _stretch(sar, low, high)
    difference = _stretch(sar[:1] - sar[1:], np.float32(0), np.float32(15))
    colour = np.where((optical == 0).all(axis=0), 0, _stretch(optical.astype(np.float32), *OPTICAL_RANGE))
    return np.stack([vv, vh, difference[0]]), colour.astype(np.uint8)


def _stretch(values: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """8-bit values 1..255 over a range on the scale 0..255; NaN becomes 0."""
    stretched = np.clip(np.rint((values - low) / (high - low) * 255), 1, 255)
    return np.where(np.isnan(values), 0, stretched).astype(np.uint8)
