"""Real pairs are read as rasterio reads them, with the documented scaling."""

import shutil
from dataclasses import asdict

import numpy as np
import pytest

from tests.realdata import real_data
from tests.trainers.images import refuses
from trainers.families import LAYOUTS, build
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.prepare import prepare
from trainers.tiles import Tiles


def expected(path, bands, low, high) -> np.ndarray:
    """The documented scaling, on rasterio's own reading."""
    import rasterio

    with rasterio.open(path) as file:
        values = file.read(bands).astype(np.float64)
    low, high = (np.broadcast_to(limit, len(bands))[:, None, None] for limit in (low, high))
    return np.clip(2 * (values - low) / (high - low) - 1, -1, 1)


def assert_reads_like(tiles, sources, size, **limits):
    """Every valid pixel of about 40 tiles equals the documented scaling of the file it is from."""
    for index in range(0, len(tiles), max(1, len(tiles) // 40)):
        name = tiles.names[index]
        pair, row, col = name.rsplit(":", 2)
        window = np.s_[:, int(row) : int(row) + size, int(col) : int(col) + size]
        mask = tiles.mask[index, 0] > 0
        for key, array in (("sar", tiles.sar), ("optical", tiles.optical)):
            truth = expected(sources[pair][key], *limits[key])[window]
            np.testing.assert_allclose(np.asarray(array[index], float)[:, mask], truth[:, mask], atol=5e-4)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_ombria_is_read_through_its_table_with_groups_kept_whole(tmp_path):
    root = real_data("ombria")
    data = Csv(table=str(root / "pairs.csv"), tile=256)
    tiles = Tiles.open(prepare(data, tmp_path))
    pairs = {pair.name: asdict(pair) for pair in build(LAYOUTS, data).pairs}
    assert len(pairs) == 220 and 210 <= len(tiles) <= 220
    assert [pairs[name.rsplit(":", 2)[0]]["scene"] for name in tiles.names] == list(tiles.scenes)
    groups = [{tiles.scenes[i] for i in tiles.split(split)} for split in ("train", "validation", "test")]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert len(tiles.split("train")) > 110
    limits = {"sar": ([1], 0, 255), "optical": ([1, 2, 3], 0, 255)}
    assert_reads_like(tiles, pairs, 256, **limits)


@pytest.mark.parametrize("optical, bands, high", [("S2RGB", [1, 2, 3], 255), ("S2L2A", [4, 3, 2], 10_000)])
def test_terramind_is_read_from_its_folders(tmp_path, optical, bands, high):
    root = real_data("terramind_terramesh")
    data = Folders(root=str(root), sar_folder="S1RTC", optical_folder=optical)
    tiles = Tiles.open(prepare(data, tmp_path))
    pairs = {pair.name: asdict(pair) for pair in build(LAYOUTS, data).pairs}
    assert (len(pairs), len(tiles)) == (5, 45) and np.asarray(tiles.mask).mean() > 0.99
    assert_reads_like(tiles, pairs, 64, sar=([1, 2], [-25, -32.5], [0, 0]), optical=(bands, 0, high))


def test_sen1floods11_with_its_outliers_is_in_db(tmp_path):
    root = real_data("sen1floods11") / "sample"
    for index in range(2):  # one chip stands for two scenes
        for side, folder in (("sar", "S1"), ("optical", "S2")):
            target = tmp_path / side / f"p{index}.tif"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(next((root / folder).glob("*.tif")), target)
    folder = prepare(Folders(root=str(tmp_path), tile=256), tmp_path / "cache")
    tiles = Tiles.open(folder)
    assert len(tiles) == 8 and tiles.sar_bands == 2 and float(np.asarray(tiles.sar).max()) == 1


def test_ssl4eo_is_refused_with_both_transforms(tmp_path):
    root = real_data("ssl4eo_rico")
    for index in range(2):
        for side, pattern in (("sar", "s1/**/VV.tif"), ("optical", "s2a/**/B4.tif")):
            target = tmp_path / side / f"p{index}.tif"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(sorted(root.glob(pattern))[0], target)
    said = refuses(Folders(root=str(tmp_path)), tmp_path)
    assert "0.0001021680851165116" in said and "0.0001014112844859978" in said
