"""The cache: keyed by content, whole or absent, safe for several processes, the same bytes every time."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio import Affine

from tests.trainers.images import decibels, folders, reflectance, write
from trainers.cutting import _warnings
from trainers.families import LAYOUTS, build
from trainers.layouts._common import Optical, Sar, Split
from trainers.layouts.folders import Options as Folders
from trainers.layouts.synthetic import Options as Synthetic
from trainers.pairs import DataError
from trainers.prepare import fingerprint, prepare
from trainers.splits import split_of_pairs, split_scenes
from trainers.tiles import Tiles, damage

SMALL = Synthetic(scenes=4, size=64, tile=32)
STOCK = ["sar.npy", "optical.npy", "mask.npy", "meta.json"]


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# The fingerprint


def test_the_fingerprint_changes_with_whatever_shapes_the_data():
    base = Synthetic()
    others = [
        replace(base, tile=96),
        replace(base, seed=1),
        replace(base, scenes=25),
        replace(base, stride=16),
        replace(base, split=Split(seed=1)),
        replace(base, sar=Sar(bands=(1,))),
        replace(base, optical=Optical(range=(0, 3000))),
    ]
    prints = [fingerprint(data) for data in [base, *others]]
    assert len(set(prints)) == len(prints) and all(len(each) == 12 for each in prints)


def test_flips_happen_while_reading_so_both_kinds_share_one_cache():
    assert fingerprint(replace(SMALL, flip="none")) == fingerprint(SMALL)


def test_the_fingerprint_follows_the_content_and_the_names_not_the_place(tmp_path):
    first = Folders(root=str(folders(tmp_path / "a")))
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    second = replace(first, root=str(tmp_path / "elsewhere"))
    assert fingerprint(first) == fingerprint(second)
    os.rename(tmp_path / "elsewhere/sar/p1.tif", tmp_path / "elsewhere/sar/q1.tif")
    os.rename(tmp_path / "elsewhere/optical/p1.tif", tmp_path / "elsewhere/optical/q1.tif")
    assert fingerprint(first) != fingerprint(second)


def test_a_changed_pixel_changes_the_fingerprint_also_within_one_process(tmp_path):
    data = Folders(root=str(folders(tmp_path)))
    before = fingerprint(data)
    values = decibels(1)
    values[0, 0, 0] += 1
    write(tmp_path / "sar/p1.tif", values)
    os.utime(tmp_path / "sar/p1.tif", ns=(1, 1))
    assert fingerprint(data) != before
    write(tmp_path / "sar/p1.tif", decibels(1))
    os.utime(tmp_path / "sar/p1.tif", ns=(2, 2))
    assert fingerprint(data) == before


# The cache


def test_two_preparations_write_the_same_bytes(tmp_path):
    one, other = prepare(SMALL, tmp_path / "a"), prepare(SMALL, tmp_path / "b")
    assert contents(one) == contents(other) and sorted(contents(one)) == sorted(STOCK)


def test_a_second_preparation_touches_nothing(tmp_path):
    folder = prepare(SMALL, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare(SMALL, tmp_path) == folder == tmp_path / fingerprint(SMALL)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("harm", ["cut", "removed"])
def test_a_damaged_cache_is_built_again(tmp_path, name, harm):
    folder = prepare(SMALL, tmp_path)
    whole = contents(folder)
    if harm == "cut":
        (folder / name).write_bytes(whole[name][: len(whole[name]) // 2])
    else:
        (folder / name).unlink()
    assert damage(folder)
    assert contents(prepare(SMALL, tmp_path)) == whole


def _prepare(cache, ready, go):
    ready.set()
    go.wait()
    prepare(SMALL, cache)


def test_processes_at_once_leave_one_whole_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    go = context.Event()
    ready = [context.Event() for _ in range(3)]
    workers = [context.Process(target=_prepare, args=(tmp_path / "c", event, go)) for event in ready]
    for worker in workers:
        worker.start()
    for event in ready:
        event.wait()
    go.set()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    visible = [path.name for path in (tmp_path / "c").iterdir() if not path.name.startswith(".")]
    assert visible == [fingerprint(SMALL)]
    assert contents(tmp_path / "c" / visible[0]) == contents(prepare(SMALL, tmp_path / "alone"))


def _prepare_long(cache):
    prepare(Synthetic(scenes=200, size=128), cache)


def test_a_killed_writer_leaves_nothing_that_looks_whole_and_the_next_one_clears_up(tmp_path):
    worker = multiprocessing.get_context("spawn").Process(target=_prepare_long, args=(tmp_path,))
    worker.start()
    while not list(tmp_path.glob("*.partial/sar.npy")):
        assert worker.is_alive()
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    left = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert [path.suffix for path in left] == [".partial"]
    folder = prepare(SMALL, tmp_path)  # another data set: the dead writer's lock is free
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == [folder]


# Tiles, splits, drops


def test_tiles_hold_the_pixels_of_their_window(tmp_path):
    root = folders(
        tmp_path / "data", sar=lambda seed: decibels(seed, size=100), optical=lambda s: reflectance(s, size=100)
    )
    tiles = Tiles.open(prepare(Folders(root=str(root), tile=48), tmp_path / "cache"))
    assert len(tiles) == 3 * 4  # two by two a file, the rest of 4 px left over
    for index, name in enumerate(tiles.names):
        pair, row, col = name.split(":")
        window = np.s_[:, int(row) : int(row) + 48, int(col) : int(col) + 48]
        db = np.clip(decibels(int(pair[1:]), size=100)[window], [[[-25]], [[-32.5]]], 0)
        sar, optical, _ = (array[0] for array in tiles.read([index]))
        np.testing.assert_allclose(sar, 2 * db / np.array([[[25]], [[32.5]]]) + 1, atol=2e-5)
        colours = reflectance(int(pair[1:]), size=100)[window]
        np.testing.assert_allclose(optical, colours / 5000 - 1, atol=2e-5)


def test_training_tiles_overlap_and_the_others_never_do(tmp_path):
    meta = json.loads((prepare(Synthetic(scenes=6, size=96, tile=32), tmp_path) / "meta.json").read_text())
    rows = meta["tiles"]
    for split, step in (("train", 16), ("validation", 32), ("test", 32)):
        corners = {rows[key][i] for key in ("row", "col") for i, each in enumerate(rows["split"]) if each == split}
        assert corners == set(range(0, 65, step))


def test_a_tile_over_a_quarter_of_nodata_is_dropped_with_its_reason(tmp_path):
    def swath(seed):
        values = decibels(seed, size=128)
        values[:, :, :20] = np.nan  # 20 of 64 columns: 31 % of the left tiles
        values[:, :, 120:] = np.nan  # 12 % of the right ones
        return values

    root = folders(tmp_path / "data", sar=swath, optical=lambda seed: reflectance(seed, size=128))
    folder = prepare(Folders(root=str(root)), tmp_path / "cache")
    meta, tiles = json.loads((folder / "meta.json").read_text()), Tiles.open(folder)
    assert len(tiles) == 6 and set(meta["tiles"]["col"]) == {64}
    assert [(row["reason"], row["col"], row["masked"]) for row in meta["dropped"]] == [("nodata", 0, 0.3125)] * 6
    assert "6 tiles or images are dropped (nodata)" in meta["warnings"]
    assert not tiles.mask[..., 56:].any() and tiles.mask[..., :56].all()


@pytest.mark.parametrize(("number", "said"), [(1, "1 tile or image is dropped (nodata)"),
                                              (2, "2 tiles or images are dropped (nodata)")])  # fmt: skip
def test_how_many_are_dropped_is_counted_in_words(number, said):
    splits = {"test": ["p1"]}
    meta = {"domains": {}, "dropped": [{"reason": "nodata"}] * number, "splits": splits, "tiles": {"split": ["test"]}}
    assert _warnings(meta) == [said]


def test_images_below_a_tile_are_dropped_and_if_no_other_is_left_refused(tmp_path):
    small = folders(tmp_path / "data", count=5)
    write(small / "sar/p9.tif", decibels(9, size=40))
    write(small / "optical/p9.tif", reflectance(9, size=40))
    folder = prepare(Folders(root=str(small)), tmp_path / "cache")
    dropped = json.loads((folder / "meta.json").read_text())["dropped"]
    assert dropped == [{"name": "p9", "scene": "p9", "reason": "small", "rows": 40, "columns": 40}]
    with pytest.raises(DataError, match=r"smaller than data.tile 256: .*\(64 x 64 px\)"):
        prepare(Folders(root=str(small), tile=256), tmp_path / "cache")


def test_much_clipping_is_warned_about(tmp_path):
    root = folders(tmp_path / "data", optical=lambda seed: reflectance(seed) * 3)
    meta = json.loads((prepare(Folders(root=str(root)), tmp_path / "cache") / "meta.json").read_text())
    assert meta["domains"]["optical"]["clipped"][0] == pytest.approx(1 - 10 / 27, abs=0.02)
    assert any("% of optical band 1 lies outside 0..10000" in each for each in meta["warnings"])


def test_a_guard_keeps_scenes_together_that_lie_side_by_side(tmp_path):
    for index in range(8):  # four times two scenes that touch
        west = 640 * index + 90_000 * (index // 2)
        place = {"crs": "EPSG:32632", "transform": Affine(10, 0, west, 0, -10, 5_500_000)}
        write(tmp_path / f"sar/p{index}.tif", decibels(index), **place)
        write(tmp_path / f"optical/p{index}.tif", reflectance(index), **place)
    torn = []
    for guard in (0, 2):
        data = [Folders(root=str(tmp_path), split=Split(seed=seed, guard=guard)) for seed in range(6)]
        splits = [split_of_pairs(each, source, source.pairs) for each in data for source in [build(LAYOUTS, each)]]
        torn.append(sum(split[f"p{i}"] != split[f"p{i + 1}"] for split in splits for i in range(0, 8, 2)))
    assert torn[0] > 0 and torn[1] == 0


names = st.lists(st.sampled_from([f"s{i}" for i in range(30)]), min_size=2, max_size=200)


@given(names, st.floats(0.05, 0.45), st.floats(0, 0.45), st.integers(0, 10))
def test_a_split_parts_the_scenes_and_every_part_has_one(scenes, validation, test, seed):
    if len(set(scenes)) < 2:
        return
    parts = split_scenes(scenes, validation=validation, test=test, seed=seed)
    assert sorted(sum(parts.values(), ())) == sorted(set(scenes))
    assert parts["train"] and parts["validation"]
    assert bool(parts["test"]) == (test > 0 and len(set(scenes)) > 2)
    assert parts == split_scenes(sorted(scenes, reverse=True), validation=validation, test=test, seed=seed)


@pytest.mark.parametrize("count", [10, 24, 100])
def test_scenes_of_equal_size_are_split_by_the_shares_and_by_the_seed(count):
    scenes = [f"s{index}" for index in range(count)]
    parts = [split_scenes(scenes, validation=0.2, test=0.2, seed=seed) for seed in range(5)]
    for part in parts:
        assert abs(len(part["validation"]) - 0.2 * count) <= 1 and abs(len(part["test"]) - 0.2 * count) <= 1
    assert len({part["validation"] for part in parts}) == 5


def test_a_scene_with_most_of_the_pairs_mostly_goes_to_training():
    scenes = ["large"] * 88 + [f"s{index}" for index in range(22) for _ in range(6)]
    parts = [split_scenes(scenes, validation=0.2, test=0.2, seed=seed) for seed in range(100)]
    assert sum("large" in part["train"] for part in parts) >= 90


def test_blank_images_in_two_splits_are_no_leak_and_equal_ones_are(tmp_path):
    root = folders(tmp_path / "pairs", 6)
    for name in ("p0", "p1", "p2", "p3", "p4", "p5"):
        write(root / "optical" / f"{name}.tif", np.full((3, 64, 64), 500, np.uint16))
    assert prepare(Folders(root=str(root)), tmp_path / "cache").is_dir()
    for name in ("p0", "p1", "p2", "p3", "p4", "p5"):
        write(root / "sar" / f"{name}.tif", decibels(1))
    with pytest.raises(DataError, match="images stand in two splits"):
        prepare(Folders(root=str(root)), tmp_path / "cache")


def test_a_scene_in_two_of_the_tables_own_splits_is_said_where_it_is_allowed(tmp_path):
    from trainers.layouts.csv import Options as Csv

    folders(tmp_path, 4)
    splits = ("train", "val", "train", "val")
    rows = [f"sar/p{i}.tif,optical/p{i}.tif,s{i // 2},{split}" for i, split in enumerate(splits)]
    (tmp_path / "pairs.csv").write_text("\n".join(["sar,optical,group,part", *rows]) + "\n")
    data = Csv(table=str(tmp_path / "pairs.csv"), split_column="part")
    with pytest.raises(DataError, match="2 scenes stand in two"):
        prepare(data, tmp_path / "cache")
    folder = prepare(replace(data, allow_leak=True), tmp_path / "cache")
    (said,) = [text for text in json.loads((folder / "meta.json").read_text())["warnings"] if "allow_leak" in text]
    assert "2 scenes stand in two of the data set's own splits: s0 (train, validation)" in said
