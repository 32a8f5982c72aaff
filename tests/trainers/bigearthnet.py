"""A small BigEarthNet: patches of two Sentinel-2 tiles, bands of 10, 20 and 60 m."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rasterio import Affine

from tests.trainers.images import decibels, reflectance, write

CRS = "EPSG:32633"
SIDE = 60  # px of 10 m
S1 = ("S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48", "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_4_55",
      "S1B_IW_GRDH_1SDV_20180204T043253_35VPK_57_38")  # fmt: skip
S2 = ("S2A_MSIL2A_20170613T101031_87_48", "S2A_MSIL2A_20170613T101031_4_55", "S2B_MSIL2A_20180204T94161_57_38")


def bigearthnet(root: Path) -> Path:
    """Both halves of the data set below a folder."""
    for index, (sar, optical) in enumerate(zip(S1, S2, strict=True)):
        folder = root / "BigEarthNet-S1" / sar
        place = Affine(10, 0, 400_000 + 5000 * index, 0, -10, 5_300_000)
        for band, values in zip(("VV", "VH"), decibels(index, SIDE), strict=True):
            write(folder / f"{sar}_{band}.tif", values[None], crs=CRS, transform=place)
        (folder / f"{sar}_labels_metadata.json").write_text(json.dumps({"corresponding_s2_patch": optical}))
        folder = root / "BigEarthNet-S2" / optical
        for number, (band, factor) in enumerate({"B02": 1, "B03": 1, "B04": 1, "B08": 1, "B11": 2, "B01": 6}.items()):
            seed = 10 * index + number
            values = ramp(seed, SIDE // factor) if factor > 1 else reflectance(seed, SIDE, 1)
            write(folder / f"{optical}_{band}.tif", values, crs=CRS, transform=place @ Affine.scale(factor))
        (folder / f"{optical}_labels_metadata.json").write_text(json.dumps({"labels": []}))
    return root


def ramp(seed: int, size: int) -> np.ndarray:
    """uint16 values (1, size, size) that rise steadily, so that any kernel's result is known."""
    rows, columns = np.mgrid[:size, :size]
    return (1000 + 100 * seed + 20 * rows + 10 * columns).astype(np.uint16)[None]
