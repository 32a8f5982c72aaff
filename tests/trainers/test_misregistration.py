"""Injected misregistration: the declared shift and nothing else, in training scenes and nowhere else."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from tests.realdata import real_data
from tests.trainers.images import decibels, folders
from trainers.layouts._common import Optical
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.layouts.synthetic import Options as Synthetic
from trainers.misregistration import moved, shifts
from trainers.prepare import fingerprint, prepare
from trainers.synthesis import render
from trainers.tiles import Tiles

SCENES = Synthetic(scenes=8, size=96, tile=96)  # one tile a scene
LEVELS = (0.5, 1.0, 2.0)
STUDY = Path(__file__).parents[2] / "studies" / "misregistration.yaml"


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same scenes in every layout, without a shift."""
    from trainers.export import export

    root = tmp_path_factory.mktemp("scenes") / "geotiff"
    export(root, SCENES, "geotiff")
    names = [f"scene-{index:02d}" for index in range(SCENES.scenes)]
    rows = "".join(f"sar/{name}.tif,optical/{name}.tif,{name}\n" for name in names)
    (root / "pairs.csv").write_text("sar,optical,group\n" + rows)
    files = {"tile": SCENES.tile, "optical": Optical(range=(0, 2300))}
    return {
        "synthetic": SCENES,
        "folders": Folders(root=str(root), **files),
        "csv": Csv(table=str(root / "pairs.csv"), **files),
    }


@pytest.fixture(scope="module")
def prepared(sources, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return lambda layout, pixels: prepare(replace(sources[layout], misregistration=pixels), cache)


def by_scene(folder) -> dict[str, tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Scene -> split, SAR, optical and mask of its one tile."""
    tiles = Tiles.open(folder)
    arrays = tiles.read(range(len(tiles)))
    return {
        scene: (tiles.splits[index], *(np.asarray(array[index], float) for array in arrays))
        for index, scene in enumerate(tiles.scenes)
    }


def declared(folder) -> dict[str, tuple[float, float]]:
    return json.loads((folder / "meta.json").read_text())["misregistration"]


def measured(image: np.ndarray, still: np.ndarray) -> np.ndarray:
    """How far `image` lies below and right of `still`, by phase correlation: no spline is involved."""
    size = image.shape[-1] - 24
    window = np.hanning(size)[:, None] * np.hanning(size)
    inner = [(each.mean(axis=0)[12:-12, 12:-12] - each.mean()) * window for each in (image, still)]
    return phase_cross_correlation(*inner, upsample_factor=50, normalization=None)[0]


@pytest.mark.parametrize("pixels", LEVELS)
@pytest.mark.parametrize("layout", ["synthetic", "folders", "csv"])
def test_the_declared_shift_is_the_one_in_the_pixels_of_training_scenes(prepared, layout, pixels):
    still, folder = by_scene(prepared(layout, 0.0)), prepared(layout, pixels)
    shift, now = declared(folder), by_scene(folder)
    scenes = [scene for scene, (split, *_) in now.items() if split == "train"]  # one is lost to nodata
    assert set(scenes) <= set(shift) and len(scenes) >= 3
    for scene in scenes:
        by = shift[scene]
        assert np.hypot(*by) == pytest.approx(pixels)
        np.testing.assert_allclose(measured(now[scene][2], still[scene][2]), by, atol=0.1)


def test_real_geotiffs_are_moved_by_the_declared_shift(tmp_path):
    root = real_data("terramind_terramesh")
    data = Folders(root=str(root), sar_folder="S1RTC", optical_folder="S2L2A", tile=224)
    still, folder = by_scene(prepare(data, tmp_path)), prepare(replace(data, misregistration=1.0), tmp_path)
    now = by_scene(folder)
    moved_scenes = [scene for scene, (split, *_) in now.items() if split == "train"]
    assert len(moved_scenes) >= 2
    for scene, (split, *arrays) in now.items():
        by = declared(folder)[scene] if split == "train" else (0, 0)
        np.testing.assert_allclose(measured(arrays[1], still[scene][2]), by, atol=0.1)


@pytest.mark.parametrize("pixels", LEVELS)
def test_validation_and_test_scenes_stay_as_they_are(prepared, pixels):
    still, now = by_scene(prepared("folders", 0.0)), by_scene(prepared("folders", pixels))
    kept = [{scene for scene, (split, *_) in each.items() if split != "train"} for each in (still, now)]
    assert kept[0] == kept[1] and len(kept[0]) >= 3
    for scene in kept[0]:
        assert still[scene][0] == now[scene][0]
        for before, after in zip(still[scene][1:], now[scene][1:], strict=True):
            np.testing.assert_array_equal(before, after)


def test_the_sar_does_not_move(prepared):
    still, now = by_scene(prepared("folders", 0.0)), by_scene(prepared("folders", 2.0))
    for scene, (_, sar, _, mask) in now.items():
        np.testing.assert_array_equal(sar, np.where(mask > 0, still[scene][1], 0))


def test_every_layout_is_moved_alike(prepared):
    tiles = [by_scene(prepared(layout, 1.0)) for layout in ("synthetic", "folders", "csv")]
    for scene, (_, *arrays) in tiles[0].items():
        for other in tiles[1:]:
            for one, two in zip(arrays, other[scene][1:], strict=True):
                np.testing.assert_array_equal(one, two)


def test_without_a_shift_nothing_is_said_of_one(prepared):
    assert "misregistration" not in json.loads((prepared("synthetic", 0.0) / "meta.json").read_text())


def test_every_length_is_a_data_set_of_its_own_and_always_the_same_bytes(tmp_path):
    prints = [fingerprint(replace(SCENES, misregistration=pixels)) for pixels in (0.0, *LEVELS)]
    assert len(set(prints)) == len(prints)
    one, two = (prepare(replace(SCENES, misregistration=0.5), tmp_path / name) for name in "ab")
    assert one.name == two.name
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


names = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=2, max_size=40, unique=True)


@given(names, st.sampled_from(LEVELS), st.integers(0, 100))
def test_directions_differ_between_scenes_and_the_mean_shift_is_zero(scenes, pixels, seed):
    found = shifts(scenes, pixels, seed=seed)
    vectors = np.array(list(found.values()))
    np.testing.assert_allclose(np.hypot(*vectors.T), pixels)
    np.testing.assert_allclose(vectors.sum(axis=0), 0, atol=1e-9)
    distances = np.hypot(*(vectors[:, None] - vectors[None]).transpose(2, 0, 1))
    assert distances[~np.eye(len(scenes), dtype=bool)].min() > pixels / len(scenes)
    assert found == shifts(sorted(scenes, reverse=True), pixels, seed=seed)
    for scene, vector in shifts(scenes, 3 * pixels, seed=seed).items():
        np.testing.assert_allclose(vector, 3 * np.array(found[scene]), atol=1e-9)


def test_another_seed_of_the_split_turns_the_directions():
    found = [shifts(["a", "b", "c"], 1.0, seed=seed) for seed in range(5)]
    assert len({each["a"] for each in found}) == 5


def test_one_training_scene_alone_is_warned_about(tmp_path):
    root = folders(tmp_path / "data", count=2)
    folder = prepare(Folders(root=str(root), misregistration=1.0), tmp_path / "cache")
    assert any("can be learnt" in each for each in json.loads((folder / "meta.json").read_text())["warnings"])


def test_a_study_prepares_each_length_once_and_describes_that_of_the_base():
    from ablate.plan import make_plan
    from ablate.study import load

    plan = make_plan(load(STUDY))
    lengths = {data.misregistration: print_ for print_, data in plan.data.items()}
    assert sorted(lengths) == [0, *LEVELS] and plan.to_json()["data"]["fingerprint"] == lengths[0]
    for cell in plan.cells:
        pixels = float(plan.arm(cell.arm).arm.changes.get("shift", 0))
        assert plan.specs[cell.trial].data == lengths[pixels]


# One image


def waves(dy: float = 0.0, dx: float = 0.0, size: int = 64) -> np.ndarray:
    """Smooth functions of the place, exact at any shift: periods of 5 px and more."""
    y, x = np.mgrid[:size, :size].astype(float)
    y, x = y - dy, x - dx
    return 0.3 * np.stack([np.sin(2 * np.pi * (y + 2 * x) / 12), np.cos(2 * np.pi * (x - y) / 8) + np.sin(x / 3)])


@pytest.mark.parametrize("shift", [(0.5, 0.5), (-0.5, 0.25), (1.0, -2.0), (1.9, 0.3), (-1.41, 1.41)])
def test_a_smooth_image_is_moved_to_where_it_is_evaluated(shift):
    found, valid = moved(waves(), np.ones((64, 64), bool), shift)
    inner = ndimage.binary_erosion(valid, iterations=4)
    assert np.abs(found - waves(*shift))[:, inner].max() < 2e-3


@pytest.mark.parametrize("shift", [(0.5, 0.5), (-1.3, 2.0), (2.0, 0.0)])
def test_valid_is_what_lies_between_valid_pixels_of_the_file(shift):
    """Counted by hand: a pixel comes from a place; the up to four pixels around it must all be valid."""
    valid = np.ones((20, 20), bool)
    valid[5:8, 9:12] = False
    found = moved(np.zeros((1, 20, 20)), valid, shift)[1]
    for row in range(20):
        for col in range(20):
            y, x = row - shift[0], col - shift[1]
            around = [(v, u) for v in {int(np.floor(y)), int(np.ceil(y))} for u in {int(np.floor(x)), int(np.ceil(x))}]
            expected = all(0 <= v < 20 and 0 <= u < 20 and valid[v, u] for v, u in around)
            assert found[row, col] == expected, (row, col)


def test_what_nodata_holds_reaches_no_valid_pixel():
    valid = np.ones((64, 64), bool)
    valid[20:30, 40:] = False
    rng = np.random.default_rng(0)
    images = [np.where(valid, waves(), rng.uniform(-1, 1, (2, 64, 64))) for _ in range(2)]
    (one, mask), (two, _) = (moved(image, valid, (0.7, -0.4)) for image in images)
    assert mask.any() and not mask.all()
    np.testing.assert_array_equal(one[:, mask], two[:, mask])
    assert np.abs(one - waves(0.7, -0.4))[:, ndimage.binary_erosion(mask, iterations=4)].max() < 2e-3


def test_an_image_without_a_valid_pixel_stays_as_it_is():
    image, valid = waves(), np.zeros((64, 64), bool)
    assert moved(image, valid, (1.0, 1.0))[0] is image and not moved(image, valid, (1.0, 1.0))[1].any()


def test_values_stay_in_range_beside_steps():
    step = np.where(np.arange(64) < 32, -1.0, 1.0) * np.ones((1, 64, 1))
    found, _ = moved(step, np.ones((64, 64), bool), (0.0, 0.5))
    assert found.min() == -1 and found.max() == 1


def test_half_a_pixel_does_not_blur():
    """Else an arm would differ by its blur: a linear kernel keeps 85 % of the gradient energy."""
    kept = []
    for index in range(4):
        image = np.clip(render(SCENES, index).optical / 1150 - 1, -1, 1)
        still, after = (
            sum(ndimage.sobel(each, axis) ** 2 for axis in (1, 2))[:, 8:-8, 8:-8].mean()
            for each in (image, moved(image, np.ones(image.shape[1:], bool), (0.5, 0.5))[0])
        )
        kept.append(after / still)
    assert np.abs(np.array(kept) - 1).max() < 0.01


def test_nodata_of_the_optical_moves_with_it_and_that_of_the_sar_does_not(tmp_path):
    def swath(seed):
        values = decibels(seed)
        values[:, :, 60:] = np.nan
        return values

    def reflectance(seed):
        values = np.random.default_rng(seed).integers(1, 9000, (3, 64, 64)).astype(np.uint16)
        values[:, 30:34] = 0
        return values

    root = folders(tmp_path / "data", count=4, sar=swath, optical=reflectance)
    folder = prepare(Folders(root=str(root), misregistration=2.0), tmp_path / "cache")
    still = by_scene(prepare(Folders(root=str(root)), tmp_path / "cache"))
    for scene, (dy, dx) in declared(folder).items():
        mask = by_scene(folder)[scene][3][0]
        assert not mask[:, 60:].any() and mask[:28, 8:56][8:].all()
        lines = np.flatnonzero(~mask[4:60, 32].astype(bool)) + 4
        assert lines[0] == 30 + np.floor(dy) and lines[-1] == 33 + np.ceil(dy)
        assert still[scene][3][0][10, 10:60].all() and dx  # without a shift only the stripes are masked
