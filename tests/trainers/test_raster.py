"""Which files are read, and what a refusal says."""

import numpy as np
import pytest
from rasterio import Affine

from tests.trainers.images import decibels, folders, picture, reflectance, refuses, three, write
from trainers.layouts._common import Optical, Sar
from trainers.layouts.folders import Options as Folders
from trainers.pairs import DataError
from trainers.prepare import prepare
from trainers.raster import read
from trainers.tiles import Tiles

UTM = "EPSG:32632"
GRID = Affine(10, 0, 500_000, 0, -10, 5_500_000)


def test_different_shapes_are_refused_with_both(tmp_path):
    data = three(tmp_path, optical=lambda seed: reflectance(seed, size=64 if seed else 80))
    said = refuses(data, tmp_path)
    assert "sar/p0.tif: 64 x 64 px" in said and "optical/p0.tif: 80 x 80 px" in said


def test_different_transforms_of_equal_shape_are_refused_with_both(tmp_path):
    """As in SSL4EO-S12: same shape, same CRS, pixels of 0.00010217 and of 0.00010141 degrees."""
    data = three(tmp_path)
    fine = Affine(0.00010141, 0, 73.2925, 0, -8.797e-05, 30.4755)
    coarse = Affine(0.00010217, 0, 73.2921, 0, -8.83e-05, 30.4758)
    write(tmp_path / "sar/p1.tif", decibels(), crs="EPSG:4326", transform=coarse)
    write(tmp_path / "optical/p1.tif", reflectance(), crs="EPSG:4326", transform=fine)
    said = refuses(data, tmp_path)
    assert "0.00010217" in said and "0.00010141" in said and "sar/p1.tif" in said and "optical/p1.tif" in said


def test_different_crs_are_refused_with_both(tmp_path):
    data = three(tmp_path)
    write(tmp_path / "sar/p1.tif", decibels(), crs=UTM, transform=GRID)
    write(tmp_path / "optical/p1.tif", reflectance(), crs="EPSG:32633", transform=GRID)
    said = refuses(data, tmp_path)
    assert "EPSG:32632" in said and "EPSG:32633" in said


def test_a_transform_off_by_rounding_is_the_same_grid(tmp_path):
    data = three(tmp_path)
    write(tmp_path / "sar/p1.tif", decibels(), crs=UTM, transform=GRID)
    write(tmp_path / "optical/p1.tif", reflectance(), crs=UTM, transform=Affine(10, 0, 500_000.001, 0, -10, 5_500_000))
    assert len(Tiles.open(prepare(data, tmp_path / "cache"))) == 3


@pytest.mark.parametrize("keep", [0, 3, 300, 0.9])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix, keep):
    data = three(tmp_path, sar=picture, optical=picture, suffix=suffix)
    path = tmp_path / f"sar/p2{suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    assert str(path) in refuses(data, tmp_path)


def test_a_virtual_raster_that_calls_itself_tif_is_refused(tmp_path):
    data = three(tmp_path)
    source = tmp_path / "sar/p1.tif"
    source.write_text(
        f'<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Float32" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path}/sar/p0.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    assert "sar/p1.tif: begins with b'<VRT'" in refuses(data, tmp_path)


@pytest.mark.parametrize("path", ["/vsizip/a.zip/b.tif", "http://host/a.tif", "s3://bucket/a.tif", "/vsicurl/x.tif"])
def test_remote_and_virtual_files_are_not_opened(path):
    with pytest.raises(DataError, match="remote and virtual"):
        read([path])


def test_a_file_that_declares_too_much_is_refused_before_it_is_read(tmp_path):
    import rasterio

    path = tmp_path / "bomb.tif"
    profile = {"driver": "GTiff", "count": 2, "dtype": "float32", "width": 60_000, "height": 60_000}
    with rasterio.open(path, "w", **profile, sparse_ok=True, tiled=True, crs=UTM, transform=GRID):
        pass
    assert path.stat().st_size < 2_000_000
    with pytest.raises(DataError, match="declares 60000 x 60000 x 2"):
        read([str(path)])


def test_complex_values_are_refused(tmp_path):
    path = write(tmp_path / "slc.tif", np.ones((1, 8, 8), np.complex64), crs=UTM, transform=GRID)
    with pytest.raises(DataError, match="complex64"):
        read([str(path)])


def test_a_file_of_nan_is_refused(tmp_path):
    data = three(tmp_path, sar=lambda seed: decibels(seed) * (np.nan if seed == 1 else 1))
    assert "sar/p1.tif: no valid pixel; all 4096 are NaN" in refuses(data, tmp_path)


def test_a_wrong_band_number_is_refused_with_those_there_are(tmp_path):
    root = str(folders(tmp_path))
    assert "sar/p0.tif: has no band 3; bands are 1 to 2" in refuses(Folders(root=root, sar=Sar(bands=(3,))), tmp_path)
    said = refuses(Folders(root=root, optical=Optical(bands=(4, 3, 2))), tmp_path)
    assert "optical/p0.tif: has no band 4; bands are 1 to 3" in said


def test_files_with_other_bands_or_types_than_the_rest_are_refused(tmp_path):
    one_band = three(tmp_path / "a", sar=lambda seed: decibels(seed, bands=1 if seed == 1 else 2))
    assert "sar/p1.tif: 1 bands are read" in refuses(one_band, tmp_path)
    mixed = three(tmp_path / "b", optical=lambda seed: picture(seed) if seed == 1 else reflectance(seed))
    assert "optical/p1.tif: 8-bit values (uint8)" in refuses(mixed, tmp_path)
    linear = three(tmp_path / "c", sar=lambda seed: 10 ** (decibels(seed) / 10) if seed == 1 else decibels(seed))
    assert "sar/p1.tif: values" in (said := refuses(linear, tmp_path)) and "not dB" in said


def test_a_16_bit_png_keeps_its_16_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (1, 32, 32)).astype(np.uint16)
    image = read([str(write(tmp_path / "deep.png", values))])
    assert image.values.dtype == np.uint16
    np.testing.assert_array_equal(image.values, values)


def test_alpha_is_no_band_but_hides_pixels(tmp_path):
    values = picture(bands=4)
    values[3] = 255
    values[3, :10] = 0
    image = read([str(write(tmp_path / "rgba.png", values))])
    assert image.bands == (1, 2, 3) and not image.valid[:10].any() and image.valid[10:].all()


def test_reading_writes_nothing_beside_the_data(tmp_path):
    data = three(tmp_path / "data", sar=picture, optical=picture, suffix=".png")
    before = sorted(tmp_path.joinpath("data").rglob("*"))
    prepare(data, tmp_path / "cache")
    assert sorted(tmp_path.joinpath("data").rglob("*")) == before


@pytest.mark.parametrize("kernel", ["bilinear", "cubic", "average"])
def test_untagged_zeros_are_not_blended_into_their_neighbours(tmp_path, kernel):
    from trainers.grids import Grid

    values = np.full((3, 64, 64), 2000, np.uint16)
    values[:, :20] = 0
    path = str(write(tmp_path / "a.tif", values, crs=UTM, transform=GRID))
    onto = Grid("sar", (64, 64), UTM, (10.0, 0.0, 500_005.0, 0.0, -10.0, 5_499_995.0))
    image = read([path], onto=onto, kernel=kernel)
    assert set(np.unique(image.values[:, image.valid])) == {2000} and image.valid[25:60, 5:60].all()


def test_a_zero_in_one_band_is_not_blended_into_its_neighbours(tmp_path):
    from trainers.grids import Grid

    values = np.full((3, 64, 64), 2000, np.uint16)
    values[0, 30, 30] = 0
    path = str(write(tmp_path / "a.tif", values, crs=UTM, transform=GRID))
    onto = Grid("sar", (64, 64), UTM, (10.0, 0.0, 500_005.0, 0.0, -10.0, 5_499_995.0))
    image = read([path], onto=onto, kernel="bilinear")
    assert set(np.unique(image.values[:, image.valid])) == {2000}


def test_an_alpha_band_is_no_hindrance_to_resampling(tmp_path):
    from trainers.grids import Grid

    path = str(write(tmp_path / "a.tif", picture(bands=4), crs=UTM, transform=GRID))
    import rasterio
    from rasterio.enums import ColorInterp

    with rasterio.open(path, "r+") as file:
        file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    onto = Grid("sar", (64, 64), UTM, (10.0, 0.0, 500_005.0, 0.0, -10.0, 5_499_995.0))
    assert read([path], onto=onto, kernel="bilinear").values.shape == (3, 64, 64)
