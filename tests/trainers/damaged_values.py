"""Data sets whose files are whole, and whose grids, bands or numbers are wrong: more of `damage`."""

from __future__ import annotations

import numpy as np
from rasterio import Affine

from tests.trainers.damage import GRID, UTM, placed, read_with, refused, table
from tests.trainers.images import decibels, folders, picture, reflectance, write
from trainers.layouts._common import Optical, Sar


@refused("sar/p1.tif: 64 x 64 px", "optical/p1.tif: 80 x 80 px")
def another_size(root):
    write(root / "optical/p1.tif", reflectance(1, size=80))


@refused("sar/p1.tif: CRS EPSG:32632", "optical/p1.tif: CRS EPSG:32633")
def another_crs(root):
    placed(root, optical={"crs": "EPSG:32633", "transform": GRID})


@refused("sar/p1.tif: transform", "optical/p1.tif: transform", "500010.0", "data.resample")
def another_transform(root):
    placed(root, optical={"crs": UTM, "transform": GRID @ Affine.translation(1, 0)})


@refused("sar/p1.tif: transform", "without a CRS in both")
def another_transform_without_a_crs(root):
    placed(root, sar={"transform": GRID}, optical={"transform": GRID @ Affine.translation(1, 0)})
    return read_with(root, resample="bilinear")


@refused("sar/p1.tif: transform", "optical/p1.tif: transform")
def rotated(root):
    placed(root, optical={"crs": UTM, "transform": GRID @ Affine.rotation(10)})


@refused("VH.tif: transform", "the bands of one SAR image must lie on one grid")
def bands_on_two_grids(root):
    write(root / "VV.tif", decibels(bands=1), crs=UTM, transform=GRID)
    write(root / "VH.tif", decibels(bands=1), crs=UTM, transform=GRID @ Affine.translation(5, 0))
    return table(root, "VV.tif;VH.tif,optical/p0.tif,a", "sar/p1.tif,optical/p1.tif,b")


@refused("VV.tif: float32 and uint16 values among the files of one image")
def bands_of_two_types(root):
    write(root / "VV.tif", decibels(bands=1))
    write(root / "VH.tif", reflectance(bands=1))
    return table(root, "VV.tif;VH.tif,optical/p0.tif,a", "sar/p1.tif,optical/p1.tif,b")


@refused("optical/p0.tif: has no band 12; bands are 1 to 3")
def wrong_band(root):
    return read_with(root, optical=Optical(bands=(12,)))


@refused("sar/p1.tif: 1 bands are read, but 2 of other files")
def fewer_bands_in_one_file(root):
    write(root / "sar/p1.tif", decibels(1, bands=1))


@refused("optical/p1.tif: 8-bit values (uint8), but other files hold integer values")
def another_type_in_one_file(root):
    write(root / "optical/p1.tif", picture(1))


@refused("sar/p1.tif: no valid pixel; all 4096 are NaN")
def all_nan(root):
    write(root / "sar/p1.tif", decibels() * np.nan)


@refused("sar/p1.tif: no valid pixel")
def all_infinite(root):
    write(root / "sar/p1.tif", decibels() * np.inf)


@refused("optical/p1.tif: no valid pixel")
def all_declared_nodata(root):
    write(root / "optical/p1.tif", np.full((3, 64, 64), 7, np.uint16), nodata=7)


@refused("no train tile is left in its scenes (p")
def all_black(root):
    folders(root, optical=lambda seed: reflectance(seed) * (np.arange(64) == seed))  # but for a column, other in each


@refused("SAR numbers (uint16) run from", "not negative")
def unsigned_wrapped_decibels(root):
    folders(root, sar=lambda seed: np.clip(decibels(seed), -40, -1).astype(np.int16).astype(np.uint16))


@refused("sar/p1.tif: values", "are not dB, as other files' are")
def linear_among_decibels(root):
    write(root / "sar/p1.tif", 10 ** (decibels(1) / 10))


@refused("SAR numbers (float32) run from", "normalised already; declare data.sar.domain")
def normalised_by_somebody(root):
    folders(root, sar=lambda seed: decibels(seed) / 25 + 0.5)


@refused("display values of type float32 have no known range")
def declared_display_but_float(root):
    return read_with(root, sar=Sar(domain="display"))


@refused("sar/p0.tif", "are not dB")
def declared_decibels_but_linear(root):
    folders(root, sar=lambda seed: 10 ** (decibels(seed) / 10))
    return read_with(root, sar=Sar(domain="db"))


@refused(".tif: values -", "are no linear backscatter; is it dB?")
def declared_linear_but_decibels(root):
    folders(root, sar=lambda seed: np.minimum(decibels(seed), -1))
    return read_with(root, sar=Sar(domain="linear"))


@refused("3 SAR bands in dB; give data.sar.low and high")
def three_bands_of_decibels(root):
    folders(root, sar=lambda seed: decibels(seed, bands=3))


@refused("optical values of type float32 have no known range")
def optical_floats(root):
    folders(root, optical=lambda seed: reflectance(seed).astype(np.float32))


@refused("smaller than data.tile 128: p", " (64 x 64 px)")
def tile_beyond_all_images(root):
    return read_with(root, tile=128)
