from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, optimize, special

from trainers.landscape import Cover
from trainers.layouts._common import Optical, Sar
from trainers.layouts.folders import Options as Folders
from trainers.layouts.scenes import Options as Scenes
from trainers.layouts.synthetic import Options
from trainers.prepare import prepare
from trainers.synthesis import LOOKS_OF, _shift, render, roles, speckle
from trainers.tiles import Tiles

OPTIONS = Options()


@pytest.fixture(scope="module")
def scenes():
    return [render(OPTIONS, index) for index in range(OPTIONS.scenes)]


def _plain(scene) -> np.ndarray:
    """Pixels away from echoes, shadows and nodata."""
    return ~ndimage.binary_dilation(scene.special) & np.isfinite(scene.sar[0])


def _looks(log_intensity: np.ndarray) -> float:
    """Equivalent looks of a gamma variable from the variance of its logarithm: trigamma(L) = var."""
    variance = log_intensity.var(ddof=1)
    return optimize.brentq(lambda looks: special.polygamma(1, looks) - variance, 0.1, 1000)


def _windows(scenes, size=15):
    """Log intensity of VV in windows of one cover, parcels apart."""
    for scene in scenes:
        plain = _plain(scene)
        for row in range(0, 192 - size, size):
            for col in range(0, 192 - size, size):
                window = np.s_[row : row + size, col : col + size]
                if plain[window].all() and np.ptp(scene.cover[window]) == 0:
                    yield scene.sar[0][window] * np.log(10) / 10


def test_a_scene_is_a_pure_function_of_options_and_index():
    one, two = render(OPTIONS, 3), render(OPTIONS, 3)
    for name in ("sar", "optical", "cover", "changed", "special", "cloudy"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.optical, render(replace(OPTIONS, seed=1), 3).optical)
    assert not np.array_equal(one.optical, render(OPTIONS, 4).optical)


def test_speckle_has_the_looks_and_the_correlation_of_real_files(scenes):
    windows = list(_windows(scenes))
    assert len(windows) > 100
    centred = [window - window.mean() for window in windows]
    lag = [(d[:, 1:] * d[:, :-1]).mean() / (d**2).mean() for d in centred]
    assert 3.7 <= np.median([_looks(window) for window in windows]) <= 4.8
    assert 0.7 <= np.median(lag) <= 0.8


def test_speckle_has_mean_one():
    field = speckle(np.random.default_rng(0), (256, 256))
    assert field.mean() == pytest.approx(1, abs=1e-4) and field.min() > 0


# VV in dB of the mean intensity; VH lies 4 to 8 dB lower.
RANGES = {
    Cover.forest: (-10.6, -7.5),
    Cover.village: (-12, -9),
    Cover.house: (-12, -9),
    Cover.cereal: (-14, -10),
    Cover.maize: (-14, -10),
    Cover.beet: (-14, -10),
    Cover.rape: (-14, -10),
    Cover.meadow: (-14, -10),
    Cover.bare: (-18, -16),
    Cover.rough: (-17, -12),
    Cover.lake: (-24, -17),
    Cover.river: (-24, -17),
}


@pytest.mark.parametrize("cover", RANGES, ids=lambda cover: cover.name)
def test_the_mean_backscatter_of_a_cover_is_the_published_one(scenes, cover):
    intensity = np.concatenate([10 ** (s.sar[:, _plain(s) & (s.cover == cover)] / 10) for s in scenes], axis=1)
    vv, vh = 10 * np.log10(intensity.mean(axis=1))
    assert intensity.shape[1] > 300
    assert RANGES[cover][0] <= vv <= RANGES[cover][1]
    assert 4 <= vv - vh <= 8


def test_some_covers_share_their_backscatter_but_not_their_colour():
    shared = 0
    for one, two in [(Cover.maize, Cover.rape), (Cover.beet, Cover.rape), (Cover.cereal, Cover.meadow)]:
        (low, high), (low2, high2) = LOOKS_OF[one].vv, LOOKS_OF[two].vv
        overlap = (min(high, high2) - max(low, low2)) / min(high - low, high2 - low2)
        colours = np.abs(np.subtract(LOOKS_OF[one].colour, LOOKS_OF[two].colour))
        shared += overlap > 0.8 and abs(LOOKS_OF[one].vh - LOOKS_OF[two].vh) < 1 and colours.max() >= 400
    assert shared == 3


def _measured_shift(scene) -> np.ndarray:
    """Shift (dy, dx) of the optical image against one rendered from the truth without it, by phase correlation."""
    from skimage.registration import phase_cross_correlation

    colours = np.array([LOOKS_OF[cover].colour[0] for cover in Cover], float)
    truth = ndimage.gaussian_filter(np.where(scene.changed, 0, colours[scene.cover]), 1)
    image = ndimage.gaussian_filter(scene.optical[0].astype(float), 1)
    edges = [np.hypot(ndimage.sobel(x, 0), ndimage.sobel(x, 1))[8:-8, 30:-8] for x in (image, truth)]
    return phase_cross_correlation(*edges, upsample_factor=20, normalization=None)[0]


def test_the_stated_shift_is_the_one_in_the_pixels(scenes):
    clear = [s for i, s in enumerate(scenes) if i not in roles(OPTIONS).cloud | roles(OPTIONS).nodata]
    errors = np.array([_measured_shift(scene) - scene.shift for scene in clear])
    assert np.abs(np.median(errors, axis=0)).max() < 0.25
    assert np.median(np.hypot(*errors.T)) < 0.4


def test_shifts_are_half_a_pixel_wide_and_one_scene_is_off_by_two_or_three(scenes):
    rng = np.random.default_rng(0)
    usual = np.array([_shift(rng, bad=False) for _ in range(2000)])
    assert usual.std() == pytest.approx(0.5, abs=0.02) and np.abs(usual.mean(axis=0)).max() < 0.05
    lengths = {index: float(np.hypot(*scene.shift)) for index, scene in enumerate(scenes)}
    bad = roles(OPTIONS).bad_shift
    assert len(bad) == 1
    assert all((2 <= length <= 3) == (index in bad) for index, length in lengths.items())


def test_fields_change_between_the_dates_and_nothing_else_does(scenes):
    share = np.mean([scene.changed.mean() for scene in scenes])
    assert 0.01 < share < 0.08
    assert not any(scene.changed[scene.cover > Cover.bare].any() for scene in scenes)


def test_the_scenes_with_a_role_carry_its_defect_and_no_others_do(scenes):
    special = roles(OPTIONS)
    for index, scene in enumerate(scenes):
        assert scene.cloudy.any() == (index in special.cloud)
        assert np.isnan(scene.sar).any() == (index in special.nodata)
        assert (scene.optical == 0).any() == (index in special.nodata)
    cloud = scenes[min(special.cloud)]
    assert cloud.optical[:, ndimage.binary_erosion(cloud.cloudy, iterations=2)].mean() > 4000


def test_walls_that_face_the_radar_are_bright_and_ground_behind_houses_is_dark(scenes):
    """Walls are +8..+15 dB over their surroundings; which side is lit tells the look direction."""
    for look in (-1, 1):
        chosen = [scene for scene in scenes if scene.look == look]
        near, far = [], []
        for scene in chosen:
            house = scene.cover == Cover.house
            before = house & ~np.roll(house, look, axis=1)  # first house pixel that the radar meets
            behind = np.roll(house, look, axis=1) & ~house
            near.append(10 ** (scene.sar[0][before & np.isfinite(scene.sar[0])] / 10))
            far.append(10 ** (scene.sar[0][behind & np.isfinite(scene.sar[0])] / 10))
        lit, dark = (10 * np.log10(np.concatenate(values).mean()) for values in (near, far))
        assert -10.5 + 8 <= lit <= -9.5 + 15
        assert dark < lit - 8
    special = np.concatenate([scene.sar[0][scene.special & np.isfinite(scene.sar[0])] for scene in scenes])
    assert np.quantile(special, 0.3) < -18  # shadow


def test_the_radar_looks_both_ways(scenes):
    assert {scene.look for scene in scenes} == {-1, 1}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    from trainers.export import export

    root = tmp_path_factory.mktemp("export")
    options = Options(scenes=8, stride=64)
    for kind in ("geotiff", "png"):
        export(root / kind, options, kind)
    direct = Tiles.open(prepare(options, root / "cache"))
    return root, direct


def test_the_geotiff_export_reads_back_as_the_same_tiles(exported):
    root, direct = exported
    read = Tiles.open(prepare(Folders(root=str(root / "geotiff"), optical=Optical(range=(0, 2300))), root / "cache"))
    assert read.names == direct.names and read.splits == direct.splits
    for name in ("sar", "optical", "mask"):
        np.testing.assert_array_equal(getattr(read, name), getattr(direct, name))


def test_scenes_are_stored_in_blocks_and_read_back_as_the_same_tiles(exported, tmp_path):
    import rasterio

    from trainers.export import export

    root, direct = exported
    export(tmp_path / "scenes", Options(scenes=8, stride=64), layout="scenes")
    with rasterio.open(tmp_path / "scenes/sar/scene-00.tif") as file:
        assert file.profile["tiled"] and file.block_shapes == [(256, 256)] * 2 and file.crs.to_epsg() == 32632
    data = Scenes(root=str(tmp_path / "scenes"), stride=64, optical=Optical(range=(0, 2300)))
    read = Tiles.open(prepare(data, root / "cache"))
    assert read.names == direct.names and read.splits == direct.splits
    for name in ("sar", "optical", "mask"):
        np.testing.assert_array_equal(getattr(read, name), getattr(direct, name))


def test_another_kind_or_layout_is_not_exported(tmp_path):
    from trainers.export import export

    with pytest.raises(ValueError, match="no such kind: 'jpeg'; there are geotiff, png"):
        export(tmp_path, Options(scenes=2), "jpeg")
    with pytest.raises(ValueError, match="no such layout: 'strip'; there are folders, scenes"):
        export(tmp_path, Options(scenes=2), layout="strip")


def test_the_png_export_reads_back_within_eight_bits(exported):
    root, direct = exported
    read = Tiles.open(prepare(Folders(root=str(root / "png"), sar=Sar(bands=(1, 2))), root / "cache"))
    assert read.names == direct.names
    np.testing.assert_array_equal(read.mask, direct.mask)
    every = range(len(direct))
    for found, truth in zip(read.read(every), direct.read(every), strict=True):
        assert np.abs(found - truth).max() < 2.1 / 255  # 0 is kept for nodata, so the lowest step is one wide


def test_the_geotiff_export_is_what_a_satellite_product_is(exported):
    import rasterio

    with rasterio.open(exported[0] / "geotiff/sar/scene-00.tif") as file:
        assert (file.count, file.dtypes[0], file.crs.to_epsg(), file.res) == (2, "float32", 32632, (10.0, 10.0))
    with rasterio.open(exported[0] / "geotiff/optical/scene-00.tif") as file:
        assert (file.count, file.dtypes[0], file.nodata) == (3, "uint16", 0)


def test_the_colour_can_be_learnt_from_the_backscatter_but_not_wholly(scenes):
    """Per-cover mean colour against one mean colour: at least 4 dB better, so a network can gain 2; backscatter
    groups give less than covers do, so the problem stays ill-posed."""
    groups = {Cover.forest: 1, Cover.lake: 2, Cover.river: 2, Cover.rough: 3, Cover.bare: 4, Cover.road: 4}
    groups |= {Cover.village: 5, Cover.house: 5}
    colour = np.concatenate([np.clip(scene.optical.reshape(3, -1) / 2300, 0, 1) for scene in scenes], axis=1)
    cover = np.concatenate([scene.cover.ravel() for scene in scenes])
    group = np.array([groups.get(each, 0) for each in Cover])[cover]

    def error(labels):
        parts = [colour[:, labels == label] for label in np.unique(labels)]
        return sum(((part - part.mean(axis=1, keepdims=True)) ** 2).sum() for part in parts) / colour.size

    gain_of_groups, gain_of_covers = (10 * np.log10(error(0 * cover) / error(labels)) for labels in (group, cover))
    assert gain_of_groups > 4
    assert gain_of_covers > gain_of_groups + 0.3


def test_scenes_without_shifts_are_those_with_but_for_their_registration():
    usual, exact = (render(Options(scenes=8, shifts=scale), 3) for scale in (1.0, 0.0))
    assert usual.shift != (0.0, 0.0) == exact.shift
    assert np.array_equal(usual.sar, exact.sar, equal_nan=True)
    again = ndimage.shift(exact.optical.astype(float), (0, *usual.shift), order=1)
    inner = (slice(None), slice(8, -8), slice(8, -8))
    assert np.abs(again[inner] - usual.optical[inner]).mean() < 10  # of reflectances of hundreds: two interpolations
