"""Small image files for the tests of the data half."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from trainers.layouts.folders import Options as Folders
from trainers.pairs import DataError
from trainers.prepare import prepare


def write(path: Path, values: np.ndarray, *, crs=None, transform=None, nodata=None) -> Path:
    """An image file of values (B, H, W), its driver chosen by its suffix."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    path.parent.mkdir(parents=True, exist_ok=True)
    driver = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG"}[path.suffix]
    bands, rows, columns = values.shape
    shape = {"width": columns, "height": rows, "count": bands, "dtype": values.dtype}
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, **shape, crs=crs, transform=transform, nodata=nodata) as file:
            file.write(values)
    return path


def decibels(seed: int = 0, size: int = 64, bands: int = 2) -> np.ndarray:
    """Float32 SAR in dB (bands, size, size), about -12 dB with a spread of 15 dB."""
    return np.random.default_rng(seed).normal(-12, 4, (bands, size, size)).astype(np.float32)


def reflectance(seed: int = 0, size: int = 64, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 9000, (bands, size, size)).astype(np.uint16)


def picture(seed: int = 0, size: int = 64, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (bands, size, size)).astype(np.uint8)


def folders(root: Path, count: int = 3, *, sar=decibels, optical=reflectance, suffix: str = ".tif") -> Path:
    """A data set in the layout `folders`: `count` pairs made by the two functions of a seed."""
    for index in range(count):
        write(root / "sar" / f"p{index}{suffix}", sar(index))
        write(root / "optical" / f"p{index}{suffix}", optical(index))
    return root


def refuses(data, tmp_path) -> str:
    """What `prepare` says about data that it must refuse."""
    with pytest.raises(DataError) as caught:
        prepare(data, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("[0-9a-f]*"))  # nothing is left, whole or half
    return str(caught.value)


def three(root: Path, **kinds) -> Folders:
    """Options that read three pairs written below a folder."""
    return Folders(root=str(folders(root, **kinds)))
