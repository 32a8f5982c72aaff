"""The trees and names of SEN1-2 and SEN12MS."""

import pytest

from tests.trainers.images import decibels, picture, reflectance, refuses, write
from trainers.families import LAYOUTS, build
from trainers.layouts.sen12 import Options as Sen12
from trainers.prepare import prepare
from trainers.tiles import Tiles

PATCHES = [("ROIs1158_spring", scene, patch) for scene in (1, 7) for patch in (30, 31)] + [("ROIs1868_summer", 1, 30)]


def sen1_2(root):
    """SEASON/s1_SCENE/SEASON_s1_SCENE_pPATCH.png, 8-bit."""
    for index, (season, scene, patch) in enumerate(PATCHES):
        for kind, bands in (("s1", 1), ("s2", 3)):
            folder = root / season / f"{kind}_{scene}"
            write(folder / f"{season}_{kind}_{scene}_p{patch}.png", picture(2 * index + bands, bands=bands))
    return root


def sen12ms(root):
    """SEASON_s1/s1_SCENE/SEASON_s1_SCENE_pPATCH.tif: two bands of dB, thirteen of reflectance, land cover beside."""
    for index, (season, scene, patch) in enumerate(PATCHES):
        for kind, values in (
            ("s1", decibels(index)), ("s2", reflectance(index, bands=13)), ("lc", picture(index)),
            ("s2_cloudy", reflectance(index + 50, bands=13)),
        ):  # fmt: skip
            folder = root / f"{season}_{kind}" / f"{kind}_{scene}"
            write(folder / f"{season}_{kind}_{scene}_p{patch}.tif", values)
    return root


@pytest.mark.parametrize("make, bands", [(sen1_2, 1), (sen12ms, 2)])
def test_patches_pair_up_and_a_scene_is_a_number_of_a_season(tmp_path, make, bands):
    data = Sen12(root=str(make(tmp_path / "data")))
    source = build(LAYOUTS, data)
    assert [(pair.name, pair.scene) for pair in source.pairs] == [
        (f"{season}_{scene}_p{patch}", f"{season}_{scene}") for season, scene, patch in PATCHES
    ]
    for pair, (season, scene, patch) in zip(source.pairs, PATCHES, strict=True):
        assert f"{season}_s1_{scene}_p{patch}." in pair.sar[0] and f"{season}_s2_{scene}_p{patch}." in pair.optical[0]
    tiles = Tiles.open(prepare(data, tmp_path / "cache"))
    assert (len(tiles), tiles.sar_bands, tiles.optical_bands) == (5, bands, 3)


def test_a_patch_without_its_partner_is_named(tmp_path):
    root = sen1_2(tmp_path / "data")
    (root / "ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p31.png").unlink()
    (root / "ROIs1868_summer/s1_1/ROIs1868_summer_s1_1_p30.png").unlink()
    said = refuses(Sen12(root=str(root)), tmp_path)
    assert "ROIs1158_spring_s1_1_p31.png (its s2 image is absent)" in said
    assert "ROIs1868_summer_s2_1_p30.png (its s1 image is absent)" in said


def test_another_name_is_refused(tmp_path):
    root = sen1_2(tmp_path / "data")
    write(root / "ROIs1158_spring/s1_1/overview.png", picture())
    data = Sen12(root=str(root))
    assert "s1_1/overview.png (not called SEASON_s1_SCENE_pPATCH)" in refuses(data, tmp_path)
    assert [left.reason for left in build(LAYOUTS, data).left] == ["other_name"]


def test_the_same_patch_twice_is_refused(tmp_path):
    root = sen1_2(tmp_path / "data")
    write(root / "copy/ROIs1158_spring_s1_1_p30.png", picture())
    assert "the same name as" in refuses(Sen12(root=str(root)), tmp_path)


def test_a_tree_without_a_pair_is_refused(tmp_path):
    write(tmp_path / "data/ROIs1158_spring_s1_1_p30.png", picture())
    said = refuses(Sen12(root=str(tmp_path / "data")), tmp_path)
    assert "no SEASON_s1_SCENE_pPATCH image has its _s2_ partner" in said
