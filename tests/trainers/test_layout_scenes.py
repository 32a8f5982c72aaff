"""Large scenes: cut by window, and split into blocks where there are few."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rasterio import Affine

from tests.trainers.images import decibels, folders, reflectance, refuses, write
from trainers import windows
from trainers.families import LAYOUTS, build
from trainers.layouts.folders import Options as Folders
from trainers.layouts.scenes import Options as Scenes
from trainers.prepare import fingerprint, prepare
from trainers.tiles import Tiles

UTM = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_500_000)}


@pytest.fixture
def one(tmp_path):
    """One scene of 400 x 300 px."""
    values = np.random.default_rng(0).normal(-12, 4, (2, 400, 300)).astype(np.float32)
    write(tmp_path / "data/sar/large.tif", values, **UTM)
    write(tmp_path / "data/optical/large.tif", reflectance(size=400)[:, :, :300], **UTM)
    return str(tmp_path / "data")


def test_whole_scenes_are_read_as_from_folders_at_the_stride_asked_for(tmp_path):
    root = str(folders(tmp_path / "data", sar=lambda s: decibels(s, 160), optical=lambda s: reflectance(s, 160)))
    plain, same = (Tiles.open(prepare(kind(root=root), tmp_path / "cache")) for kind in (Folders, Scenes))
    np.testing.assert_array_equal(plain.sar, same.sar)
    dense = prepare(Scenes(root=root, stride=32), tmp_path / "cache")
    rows = json.loads((dense / "meta.json").read_text())["tiles"]
    for split, step in (("train", 32), ("validation", 64)):
        found = {row for row, each in zip(rows["row"], rows["split"], strict=True) if each == split}
        assert found == set(range(0, 97, step))


def test_one_scene_alone_is_refused_and_in_blocks_accepted(one, tmp_path):
    assert "1 scene (large)" in refuses(Scenes(root=one), tmp_path)
    tiles = Tiles.open(prepare(Scenes(root=one, blocks=3, gap=10, tile=32), tmp_path / "cache"))
    assert set(tiles.splits) == {"train", "validation", "test"}
    assert set(tiles.scenes) == {f"large.r{row}c{column}" for row in range(3) for column in range(3)}


@pytest.mark.parametrize("blocks, gap", [(2, 0), (2, 32), (3, 7), (4, 20)])
def test_no_pixel_of_one_block_is_within_the_gap_of_another(one, blocks, gap):
    pairs = build(LAYOUTS, Scenes(root=one, blocks=blocks, gap=gap, tile=32)).pairs
    assert len(pairs) == blocks**2 and len({pair.name for pair in pairs}) == blocks**2
    for a, b in itertools.combinations([pair.window for pair in pairs], 2):
        rows, columns = (
            max(first, second) - min(first + a_size, second + b_size)
            for first, second, a_size, b_size in (
                (a.row, b.row, a.rows, b.rows), (a.column, b.column, a.columns, b.columns)
            )
        )  # fmt: skip
        assert max(rows, columns) >= gap
    assert all(pair.window.row + pair.window.rows <= 400 for pair in pairs)
    assert all(pair.window.column + pair.window.columns <= 300 for pair in pairs)


def test_tiles_of_a_block_are_the_files_pixels_there(one, tmp_path, monkeypatch):
    import rasterio

    monkeypatch.setattr(windows, "BLOCK", 96)
    data = Scenes(root=one, blocks=2, gap=20, tile=48, misregistration=0.0)
    tiles = Tiles.open(prepare(data, tmp_path / "cache"))
    places = {pair.name: pair.window for pair in build(LAYOUTS, data).pairs}
    with rasterio.open(f"{one}/optical/large.tif") as file:
        values = file.read()
    assert len(tiles) == 4 * 3 * 2
    for index, name in enumerate(tiles.names):
        pair, row, column = name.rsplit(":", 2)
        top, left = places[pair].row + int(row), places[pair].column + int(column)
        truth = values[:, top : top + 48, left : left + 48] / 5000 - 1
        np.testing.assert_allclose(tiles.read([index])[1][0], truth, atol=5e-4)


def test_blocks_enter_the_fingerprint(one):
    usual = {"root": one, "blocks": 2}
    others = [Scenes(**{**usual, **other}) for other in ({}, {"blocks": 3}, {"gap": 40}, {"stride": 32})]
    assert len({fingerprint(data) for data in others}) == 4


def test_blocks_below_a_tile_are_refused_with_their_size(one, tmp_path):
    said = refuses(Scenes(root=one, blocks=4, gap=32), tmp_path)
    assert "sar/large.tif: 400 x 300 px give 4 x 4 blocks of 76 x 51 px with data.gap 32" in said


def test_dates_of_one_place_share_their_blocks_if_they_lie_on_one_grid(one, tmp_path):
    for folder in ("sar", "optical"):
        with open(f"{one}/{folder}/large.tif", "rb") as file:
            (tmp_path / "data" / folder / "large-2.tif").write_bytes(file.read())
    data = Scenes(root=one, blocks=2, scene_pattern="^(large)")
    assert len({pair.scene for pair in build(LAYOUTS, data).pairs}) == 4
    moved = Affine(10, 0, 500_600, 0, -10, 5_500_000)
    write(tmp_path / "data/sar/large-2.tif", decibels(size=400), crs="EPSG:32632", transform=moved)
    said = refuses(data, tmp_path)
    assert "large-2.tif: transform" in said and "blocks of one scene need one grid" in said


MEASURE = """
import re, sys
from pathlib import Path
from trainers.layouts.scenes import Options
from trainers.prepare import prepare

def peak():  # MB; ru_maxrss would be that of the process which started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

prepare(Options(root=sys.argv[2], blocks=2, tile=32), Path(sys.argv[3]))
before = peak()
prepare(Options(root=sys.argv[1], blocks=2, tile=256, stride=int(sys.argv[4])), Path(sys.argv[3]))
print(peak() - before)
"""


def measured(one: str, large: Path, cache: Path, *, stride: int) -> int:
    arguments = [str(large), one, str(cache), str(stride)]
    done = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_scene_is_tiled_without_being_loaded_whole(one, tmp_path):
    """4,500 x 4,500 px hold 284 MB and need a GB as a whole; what is added stays below 250 MB, of it GDAL's 128."""
    import rasterio

    size, rng = 4500, np.random.default_rng(0)
    for folder, bands, dtype in (("sar", 2, "float32"), ("optical", 3, "uint16")):
        path = tmp_path / "large" / folder / "a.tif"
        path.parent.mkdir(parents=True)
        profile = {"width": size, "height": size, "count": bands, "dtype": dtype, "tiled": True, **UTM}
        with rasterio.open(path, "w", driver="GTiff", **profile) as file:
            values = rng.normal(-12, 4, (bands, 500, size)) if bands == 2 else rng.integers(1, 9e3, (bands, 500, size))
            for row in range(0, size, 500):
                file.write(values.astype(dtype), window=((row, row + 500), (0, size)))
    assert measured(one, tmp_path / "large", tmp_path / "cache", stride=256) < 250


@pytest.mark.long
def test_a_scene_of_20_000_px_needs_no_more_memory(one, tmp_path):
    """2.4 GB of 8-bit values; every fourth tile is cut on either side, so that the test writes little."""
    import rasterio

    size, rng = 20_000, np.random.default_rng(0)
    for folder, bands in (("sar", 2), ("optical", 4)):
        path = tmp_path / "large" / folder / "a.tif"
        path.parent.mkdir(parents=True)
        profile = {"width": size, "height": size, "count": bands, "dtype": "uint8", "tiled": True, **UTM}
        values = rng.integers(1, 255, (bands, 500, size), np.uint8)
        with rasterio.open(path, "w", driver="GTiff", bigtiff="yes", **profile) as file:
            for row in range(0, size, 500):
                file.write(values, window=((row, row + 500), (0, size)))
    assert measured(one, tmp_path / "large", tmp_path / "cache", stride=1024) < 300
