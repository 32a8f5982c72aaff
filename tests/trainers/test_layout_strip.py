"""pix2pix strips: one file, two halves."""

import numpy as np
import pytest

from tests.trainers.images import picture, refuses, write
from trainers.families import LAYOUTS, build
from trainers.layouts._common import Sar
from trainers.layouts.strip import Options as Strip
from trainers.prepare import fingerprint, prepare
from trainers.tiles import Tiles


def strip(seed: int, size: int = 64) -> np.ndarray:
    return np.concatenate([picture(2 * seed, size), picture(2 * seed + 1, size)], axis=2)


@pytest.fixture
def root(tmp_path):
    for index, place in enumerate(["train/1", "train/2", "val/1", "val/2"]):
        write(tmp_path / "data" / f"{place}.png", strip(index))
    return tmp_path / "data"


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_halves_are_sar_and_optical(root, tmp_path, side):
    data = Strip(root=str(root), sar_side=side)
    tiles = Tiles.open(prepare(data, tmp_path / "cache"))
    assert [pair.name for pair in build(LAYOUTS, data).pairs] == ["train/1", "train/2", "val/1", "val/2"]
    assert len(tiles) == 4
    for index, name in enumerate(tiles.names):
        seed = ["train/1", "train/2", "val/1", "val/2"].index(name.split(":")[0])
        halves = [picture(2 * seed + half) / 127.5 - 1 for half in (0, 1)]
        sar, optical = halves if side == "left" else reversed(halves)
        for found, truth in zip(tiles.read([index]), (sar, optical, 1), strict=True):
            np.testing.assert_allclose(found[0], truth, atol=1e-5)


def test_the_other_side_is_another_data_set(root):
    assert fingerprint(Strip(root=str(root))) != fingerprint(Strip(root=str(root), sar_side="right"))


def test_one_band_of_a_grey_half_is_enough(root, tmp_path):
    tiles = Tiles.open(prepare(Strip(root=str(root), sar=Sar(bands=(1,))), tmp_path / "cache"))
    assert (tiles.sar_bands, tiles.optical_bands) == (1, 3)


def test_a_scene_is_found_in_the_name(root):
    assert [pair.scene for pair in build(LAYOUTS, Strip(root=str(root), scene_pattern=r"(\d)$")).pairs] == list("1212")


def test_an_odd_width_is_refused_with_its_number(root, tmp_path):
    write(root / "train/3.png", strip(9)[:, :, 1:])
    said = refuses(Strip(root=str(root)), tmp_path)
    assert f"{root}/train/3.png: 127 px wide" in said
    assert [left.reason for left in build(LAYOUTS, Strip(root=str(root))).left] == ["odd_width"]


def test_a_strip_that_is_no_image_is_refused(root, tmp_path):
    (root / "train/3.png").write_bytes(b"GIF89a")
    assert "train/3.png: begins with b'GIF8'" in refuses(Strip(root=str(root)), tmp_path)


def test_folders_without_a_strip_are_refused(tmp_path):
    write(tmp_path / "data/1.png", strip(0)[:, :, 1:])
    assert "holds no strip of two halves" in refuses(Strip(root=str(tmp_path / "data")), tmp_path)
