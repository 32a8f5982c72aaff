"""What becomes -1 and +1: fixed limits, or what the training scenes hold."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.trainers.images import decibels, folders, picture, reflectance, refuses, write
from trainers import ranges
from trainers.layouts._common import Optical, Sar
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.layouts.synthetic import Options as Synthetic
from trainers.pairs import Window
from trainers.prepare import fingerprint, prepare
from trainers.tiles import Tiles


def shifted(seed: int) -> np.ndarray:
    """dB whose level differs from scene to scene: validation and test would show in a range that saw them."""
    return decibels(seed) - 2 * seed


@pytest.fixture
def root(tmp_path):
    return str(folders(tmp_path / "data", count=6, sar=shifted))


def prepared(data, tmp_path) -> tuple[dict, Tiles]:
    folder = prepare(data, tmp_path / "cache")
    return json.loads((folder / "meta.json").read_text()), Tiles.open(folder)


def of_training(meta: dict, make) -> np.ndarray:
    """Values (B, N) of the training scenes."""
    scenes = sorted(meta["splits"]["train"])
    return np.concatenate([make(int(scene[1:])).reshape(len(make(0)), -1) for scene in scenes], axis=1)


def intensity(seed: int) -> np.ndarray:
    return 10 ** (shifted(seed).astype(np.float64) / 10)


@pytest.mark.parametrize("scale, make", [("db", shifted), ("linear", intensity)])
@pytest.mark.parametrize("percentiles", [(1.0, 99.0), (5.0, 90.0)])
def test_percentiles_are_those_of_the_training_scenes_on_the_chosen_scale(root, tmp_path, scale, make, percentiles):
    data = Folders(root=root, sar=Sar(scale=scale, range="percentiles", percentiles=percentiles))
    meta, _ = prepared(data, tmp_path)
    facts, pixels = meta["domains"]["sar"], of_training(meta, make)
    np.testing.assert_allclose([facts["low"], facts["high"]], np.percentile(pixels, percentiles, axis=1), rtol=1e-5)
    low, high, count = *percentiles, pixels.shape[1]
    said = f"percentiles {low:g} and {high:g} of {count} pixels in {count // 4096} training pairs"
    assert facts["range_from"] == said and facts["scale"] == scale


@pytest.mark.parametrize("scale", ["db", "linear"])
def test_standard_gives_the_training_tiles_mean_0_and_standard_deviation_one_third(root, tmp_path, scale):
    meta, tiles = prepared(Folders(root=root, sar=Sar(scale=scale, range="standard")), tmp_path)
    facts = meta["domains"]["sar"]
    pixels = of_training(meta, shifted if scale == "db" else intensity)
    low, high = (pixels.mean(axis=1) + sign * 3 * pixels.std(axis=1) for sign in (-1, 1))
    np.testing.assert_allclose([facts["low"], facts["high"]], [low, high], rtol=1e-4)
    sar = tiles.read(tiles.split("train"))[0]
    if scale == "db":  # intensity has a heavy tail, which is clipped
        np.testing.assert_allclose(sar.mean(axis=(0, 2, 3)), 0, atol=5e-3)
        np.testing.assert_allclose(sar.std(axis=(0, 2, 3)), 1 / 3, atol=5e-3)
    assert np.abs(sar).max() <= 1


def test_linear_tiles_are_intensity_between_the_limits_in_db(root, tmp_path):
    low, high = (-20.0, -22.0), (-2.0, -4.0)
    meta, tiles = prepared(Folders(root=root, sar=Sar(scale="linear", low=low, high=high)), tmp_path)
    floor, ceiling = (10 ** (np.array(limit)[:, None, None] / 10) for limit in (low, high))
    np.testing.assert_allclose(meta["domains"]["sar"]["low"], floor.ravel())
    for index, name in enumerate(tiles.names):
        truth = np.clip(2 * (intensity(int(name[1])) - floor) / (ceiling - floor) - 1, -1, 1)
        np.testing.assert_allclose(tiles.read([index])[0][0], truth, atol=3e-5)


def test_intensity_in_files_and_db_in_files_give_the_same_linear_tiles(root, tmp_path):
    other = str(folders(tmp_path / "linear", count=6, sar=intensity))
    _, one = prepared(Folders(root=root, sar=Sar(scale="linear")), tmp_path)
    _, two = prepared(Folders(root=other, sar=Sar(domain="linear", scale="linear")), tmp_path)
    np.testing.assert_allclose(one.read(range(6))[0], two.read(range(6))[0], atol=4e-5)


def test_nodata_has_no_part_in_a_range(tmp_path):
    def holed(seed):
        values = shifted(seed)
        values[:, :, :8] = np.nan
        return values

    def black(seed):
        values = reflectance(seed)
        values[:, :6] = 0  # masked in both
        return values

    data = Folders(root=str(folders(tmp_path / "d", count=6, sar=holed, optical=black)), sar=Sar(range="percentiles"))
    data = replace(data, optical=Optical(percentiles=(2, 98)))
    meta, _ = prepared(data, tmp_path)
    for key, make in (("sar", shifted), ("optical", reflectance)):
        pixels = of_training(meta, lambda seed, make=make: make(seed)[:, 6:, 8:])
        limits = (1, 99) if key == "sar" else (2, 98)
        expected = np.percentile(pixels, limits, axis=1)
        np.testing.assert_allclose([meta["domains"][key][end] for end in ("low", "high")], expected, rtol=1e-5)


def test_a_range_is_of_what_the_filter_leaves(root, tmp_path):
    plain, _ = prepared(Folders(root=root, sar=Sar(range="standard")), tmp_path)
    smooth, tiles = prepared(Folders(root=root, sar=Sar(range="standard", despeckle="lee")), tmp_path)
    widths = [np.subtract(meta["domains"]["sar"]["high"], meta["domains"]["sar"]["low"]) for meta in (plain, smooth)]
    assert (widths[1] < 0.8 * widths[0]).all()
    np.testing.assert_allclose(tiles.read(tiles.split("train"))[0].std(axis=(0, 2, 3)), 1 / 3, atol=0.01)
    assert smooth["domains"]["sar"]["despeckle"] == {"window": 7, "looks": 4.4}


@pytest.mark.parametrize(
    "option, one, other",
    [
        ("scale", {}, {"scale": "linear"}),
        ("range", {}, {"range": "percentiles"}),
        ("range", {}, {"range": "standard"}),
        ("percentiles", {"range": "percentiles"}, {"range": "percentiles", "percentiles": (5.0, 95.0)}),
        ("despeckle", {}, {"despeckle": "lee"}),
        ("window", {"despeckle": "lee"}, {"despeckle": "lee", "window": 5}),
        ("looks", {"despeckle": "lee"}, {"despeckle": "lee", "looks": 1.0}),
        ("low", {"low": (-25.0, -25.0), "high": (0.0, 0.0)}, {"low": (-20.0, -25.0), "high": (0.0, 0.0)}),
        ("high", {"low": (-25.0, -25.0), "high": (0.0, 0.0)}, {"low": (-25.0, -25.0), "high": (-1.0, 0.0)}),
    ],
)
def test_an_option_of_sar_changed_alone_changes_sar_and_nothing_else(root, tmp_path, option, one, other):
    sets = [prepared(Folders(root=root, sar=Sar(**options)), tmp_path)[1] for options in (one, other)]
    sar, optical, mask = zip(*(tiles.read(range(6)) for tiles in sets), strict=True)
    assert np.abs(sar[0] - sar[1]).mean() > 1e-3, f"{option} shows nowhere"
    np.testing.assert_array_equal(optical[0], optical[1])
    np.testing.assert_array_equal(mask[0], mask[1])


@pytest.mark.parametrize(
    "one, other",
    [
        (Optical(), Optical(range=(0, 9000))),
        (Optical(), Optical(offset=-1000)),
        (Optical(range=(0, 0.9), scale=1e-4), Optical(range=(0, 0.9), scale=1.1e-4)),
        (Optical(), Optical(percentiles=(1, 99))),
        (Optical(percentiles=(1, 99)), Optical(percentiles=(2, 99))),
    ],
)
def test_an_option_of_optical_changed_alone_changes_optical_and_nothing_else(root, tmp_path, one, other):
    sets = [prepared(Folders(root=root, optical=options), tmp_path)[1] for options in (one, other)]
    sar, optical, mask = zip(*(tiles.read(range(6)) for tiles in sets), strict=True)
    assert np.abs(optical[0] - optical[1]).mean() > 1e-3
    np.testing.assert_array_equal(sar[0], sar[1])
    np.testing.assert_array_equal(mask[0], mask[1])


@pytest.mark.parametrize("inert", [{"window": 5}, {"looks": 1.0}, {"percentiles": (5.0, 95.0)}])
def test_an_inert_option_changes_no_tile(root, tmp_path, inert):
    sets = [prepared(Folders(root=root, sar=Sar(**options)), tmp_path)[1] for options in ({}, inert)]
    for one, other in zip(*(tiles.read(range(6)) for tiles in sets), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_offset_of_sentinel_2_comes_first_and_zero_stays_nodata(tmp_path):
    def stored(seed):
        values = reflectance(seed) + 1000
        values[:, 10:12] = 0
        values[:, 20] = 400  # below the offset: reflectance -600
        return values.astype(np.uint16)

    root = str(folders(tmp_path / "d", optical=stored))
    _, tiles = prepared(Folders(root=root, optical=Optical(offset=-1000, scale=1e-4, range=(0, 1))), tmp_path)
    _, optical, mask = tiles.read(range(3))
    assert not mask[:, :, 10:12].any() and mask[:, :, 20].all() and (optical[:, :, 20] == -1).all()
    for index, name in enumerate(tiles.names):
        truth = reflectance(int(name[1])) / 5000 - 1
        np.testing.assert_allclose(optical[index, :, 21:], truth[:, 21:], atol=3e-5)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"scale": "linear", "domain": "display"}, "scale linear with domain display"),
        ({"range": "percentiles", "low": (-20.0,), "high": (0.0,)}, "low and high belong to range fixed"),
        ({"range": "standard", "low": (-20.0,), "high": (0.0,)}, "low and high belong to range fixed"),
        ({"percentiles": (99.0, 1.0)}, "low below high"),
        ({"percentiles": (0.0, 101.0)}, "in 0..100"),
    ],
)
def test_sar_options_that_contradict_each_other_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Sar(**options)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"range": (0.0, 1.0), "percentiles": (1.0, 99.0)}, "give one of them"),
        ({"percentiles": (1.0, 99.0), "offset": -1000.0}, "percentiles move with offset and scale"),
        ({"percentiles": (1.0, 99.0), "scale": 0.1}, "percentiles move with offset and scale"),
        ({"percentiles": (50.0, 50.0)}, "low below high"),
        ({"scale": 1e-4}, "scale 0.0001 needs a range"),
    ],
)
def test_optical_options_that_contradict_each_other_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Optical(**options)


def test_pictures_that_turn_out_to_be_stretched_are_not_made_linear(tmp_path):
    data = Folders(root=str(folders(tmp_path, sar=picture)), sar=Sar(scale="linear"))
    assert "scale linear with 8-bit values" in refuses(data, tmp_path)


def test_stretched_pictures_three_bands_and_floats_can_have_the_range_of_the_training_scenes(tmp_path):
    for name, kinds in {
        "pictures": {"sar": picture},
        "bands": {"sar": lambda seed: decibels(seed, bands=3)},
        "floats": {"optical": lambda seed: reflectance(seed) / np.float32(1e4)},
    }.items():
        root = str(folders(tmp_path / name, **kinds))
        options = {"sar": Sar(range="percentiles"), "optical": Optical(percentiles=(0, 100))}
        _, tiles = prepared(Folders(root=root, **options), tmp_path)
        sar, optical, _ = tiles.read(tiles.split("train"))
        assert sar.min() == -1 and sar.max() == 1 and optical.min() == -1 and optical.max() == 1


def test_a_band_that_does_not_vary_has_no_range(tmp_path):
    flat = folders(tmp_path / "d", sar=lambda seed: np.where([[[1]], [[0]]], decibels(seed), np.float32(-12)))
    said = refuses(Folders(root=str(flat), sar=Sar(domain="db", range="standard")), tmp_path)
    assert "SAR band 2" in said and "does not vary" in said


def test_meta_says_what_was_found_and_what_was_declared(root, tmp_path):
    found, _ = prepared(Folders(root=root), tmp_path)
    declared, _ = prepared(Folders(root=root, sar=Sar(domain="db", low=(-20, -20), high=(0, 0))), tmp_path)
    known, _ = prepared(Synthetic(scenes=4, size=64, tile=32), tmp_path)
    said = [meta["domains"]["sar"] for meta in (found, declared, known)]
    assert said[0]["domain_from"].startswith("detected in 6 files: median -1")
    assert [facts["domain_from"] for facts in said[1:]] == ["declared", "known of the layout"]
    assert [facts["range_from"] for facts in said] == [
        "defaults of VV and VH", "data.sar.low and high", "defaults of VV and VH"
    ]  # fmt: skip
    assert found["domains"]["optical"]["domain_from"] == "uint16 values"


def test_validation_and_test_scenes_change_no_range(root, tmp_path):
    data = Folders(root=root, sar=Sar(range="standard"))
    before, _ = prepared(data, tmp_path)
    for split in ("validation", "test"):
        for scene in before["splits"][split]:
            write(tmp_path / "data/sar" / f"{scene}.tif", decibels(int(scene[1:])) - 40)
    after, _ = prepared(data, tmp_path)
    assert before["fingerprint"] != after["fingerprint"]
    assert all(before["domains"]["sar"][end] == after["domains"]["sar"][end] for end in ("low", "high"))


class Heads(tuple):
    """A source of which only the shape is asked."""

    shape = property(lambda self: lambda pair: self)


def test_of_a_large_image_parts_all_over_it_are_read():
    found = list(ranges._windows(Heads((20_000, 900)), None))
    assert [(window.row, window.rows) for window in found] == [(0, 256), (6581, 256), (13162, 256), (19744, 256)]
    assert {(window.column, window.columns) for window in found} == {(0, 900)}
    assert list(ranges._windows(Heads((300, 200)), None)) == [Window(0, 0, 300, 200)]


def test_a_sample_of_bounded_size_stands_for_all_pixels(tmp_path, monkeypatch):
    rows = []
    for index in range(4):
        write(tmp_path / f"s{index}.tif", decibels(index, size=300))
        write(tmp_path / f"o{index}.tif", reflectance(index, size=300))
        rows.append(f"s{index}.tif,o{index}.tif,scene{index}")
    (tmp_path / "pairs.csv").write_text("\n".join(["sar,optical,group", *rows]) + "\n")
    data = Csv(table=str(tmp_path / "pairs.csv"), sar=Sar(range="standard"))
    whole, _ = prepared(data, tmp_path)
    monkeypatch.setattr(ranges, "BLOCK", 128)
    monkeypatch.setattr(ranges, "PART", 32)
    parts, _ = prepared(replace(data, tile=128), tmp_path)
    for meta in (whole, parts):
        np.testing.assert_allclose(meta["domains"]["sar"]["low"], -24, atol=0.3)
        count = int(meta["domains"]["sar"]["range_from"].split(" pixels")[0].rsplit(" ", 1)[1])
        assert count <= ranges.PIXELS * len(meta["splits"]["train"])


def test_the_same_ranges_are_found_again(root, tmp_path):
    one, other = (prepare(Folders(root=root, sar=Sar(range="percentiles")), tmp_path / name) for name in "ab")
    assert (one / "meta.json").read_bytes() == (other / "meta.json").read_bytes()


def test_every_way_to_scale_is_a_data_set_of_its_own(root):
    ways = [{}, {"scale": "linear"}, {"range": "percentiles"}, {"range": "standard"}, {"despeckle": "lee"}]
    ways += [{"despeckle": "lee", "window": 9}, {"despeckle": "lee", "looks": 3.0}]
    assert len({fingerprint(Folders(root=root, sar=Sar(**way))) for way in ways}) == len(ways)
