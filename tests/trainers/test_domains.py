"""What the numbers of a file mean."""

import numpy as np
import pytest

from tests.trainers.images import decibels, folders, picture, reflectance, refuses, three
from trainers.domains import Scaling, detect_sar
from trainers.layouts._common import Sar
from trainers.layouts.folders import Options as Folders
from trainers.nodata import has_data
from trainers.pairs import DataError
from trainers.prepare import prepare
from trainers.tiles import Tiles


def test_the_domain_is_recognised_or_asked_for():
    intensity = np.random.default_rng(0).gamma(4, 0.02, 5000)
    for values, dtype, expected in [
        (decibels().ravel(), np.float32, "db"),
        (decibels().ravel().astype(np.float16), np.float16, "db"),
        (picture().ravel(), np.uint8, "display"),
    ]:
        assert detect_sar(values, np.dtype(dtype), example="x") == expected
    for values, dtype, says in [
        (intensity, np.float32, "within +-5"),
        (np.tanh(decibels().ravel()), np.float32, "within +-5"),
        (1e4 * intensity, np.float32, "intensity or amplitude"),
        (np.rint(1e4 * intensity).astype(np.uint16), np.uint16, "intensity or amplitude"),
        (np.full(100, -12.0), np.float32, "neither dB"),
        (np.array([]), np.float32, "nothing but zeros"),
    ]:
        with pytest.raises(DataError) as caught:
            detect_sar(values, np.dtype(dtype), example="a.tif")
        assert "a.tif" in str(caught.value) and says in str(caught.value) and "data.sar.domain" in str(caught.value)


def test_linear_sar_gives_the_tiles_of_the_same_sar_in_db(tmp_path):
    db = Folders(root=str(folders(tmp_path / "db")))
    tiles = Tiles.open(prepare(db, tmp_path / "cache"))
    for domain, factor in (("linear", 10), ("amplitude", 20)):
        root = folders(tmp_path / domain, sar=lambda seed: 10 ** (decibels(seed).astype(np.float64) / factor))  # noqa: B023
        other = Tiles.open(prepare(Folders(root=str(root), sar=Sar(domain=domain)), tmp_path / "cache"))
        for one, two, error in zip(other.read(range(3)), tiles.read(range(3)), (1e-4, 0, 0), strict=True):
            np.testing.assert_allclose(one, two, atol=error)


def test_zero_is_nodata_in_linear_sar_and_not_very_dark(tmp_path):
    def holed(seed):
        values = 10 ** (decibels(seed) / 10)
        values[:, 20:30, 20:30] = 0
        return values

    tiles = Tiles.open(prepare(three_linear(tmp_path, holed), tmp_path / "cache"))
    assert not tiles.mask[:, 0, 20:30, 20:30].any() and tiles.mask.sum() == len(tiles) * (64 * 64 - 100)


def three_linear(root, sar) -> Folders:
    return Folders(root=str(folders(root, sar=sar)), sar=Sar(domain="linear"))


@pytest.mark.parametrize("domain", ["db", "display"])
def test_zero_in_db_and_8_bit_is_nodata_only_at_the_border(domain):
    values = np.full((2, 20, 20), 7.0)
    values[:, 8:12, 8:12] = 0  # dark, but inside
    values[:, :, :3] = 0  # the end of the swath
    values[0, 15:, 10:] = 0  # one band only
    data = has_data(values, domain)
    assert not data[:, :3].any() and data[:, 3:].all()


def test_zero_is_nodata_anywhere_in_reflectance():
    values = np.full((3, 20, 20), 500)
    values[1, 8, 9] = 0
    assert (~has_data(values, "reflectance")).sum() == 1


def test_scaling_maps_the_range_to_minus_one_and_one_and_counts_what_it_clips():
    scaling = Scaling("db", "float", (-25.0, -32.5), (0.0, 0.0))
    values = np.array([[[-25.0, -12.5, 0.0, 25.7]], [[-32.5, -16.25, -40.0, np.nan]]])
    scaled, clipped = scaling.apply(values)
    np.testing.assert_allclose(scaled, [[[-1, 0, 1, 1]], [[-1, 0, -1, -1]]])
    assert clipped.tolist() == [[[False, False, False, True]], [[False, False, True, False]]]


@pytest.mark.parametrize(
    "sar, says",
    [
        (Sar(low=(-20.0,), high=(0.0,)), "2 SAR bands are read, but data.sar.low has 1"),
        (Sar(domain="display"), "display values of type float32 have no known range"),
    ],
)
def test_a_range_that_does_not_fit_is_refused(tmp_path, sar, says):
    assert says in refuses(Folders(root=str(folders(tmp_path)), sar=sar), tmp_path)


def test_three_bands_in_db_need_ranges_and_floats_in_optical_too(tmp_path):
    assert "3 SAR bands in dB" in refuses(three(tmp_path / "a", sar=lambda seed: decibels(seed, bands=3)), tmp_path)
    floats = three(tmp_path / "b", optical=lambda seed: reflectance(seed) / np.float32(1e4))
    assert "give data.optical.range" in refuses(floats, tmp_path)
