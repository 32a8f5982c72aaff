"""BigEarthNet: metadata links, one file a band, mixed resolutions."""

import json
import shutil

import numpy as np
import pytest

from tests.trainers.bigearthnet import S1, S2, SIDE, bigearthnet, ramp
from tests.trainers.images import decibels, reflectance, refuses
from trainers.families import LAYOUTS, build
from trainers.layouts.bigearthnet import Options as BigEarthNet
from trainers.prepare import prepare
from trainers.tiles import Tiles


@pytest.fixture
def root(tmp_path):
    return bigearthnet(tmp_path / "data")


def metadata(root, patch=S1[0]):
    return root / "BigEarthNet-S1" / patch / f"{patch}_labels_metadata.json"


def test_metadata_link_the_patches_and_a_scene_is_a_tile(root):
    pairs = build(LAYOUTS, BigEarthNet(root=str(root))).pairs
    assert {(pair.name, pair.scene) for pair in pairs} == {(S1[0], "33UUP"), (S1[1], "33UUP"), (S1[2], "35VPK")}
    one = next(pair for pair in pairs if pair.name == S1[0])
    assert [path.rsplit("_", 1)[1] for path in (*one.sar, *one.optical)] == [
        "VV.tif", "VH.tif", "B04.tif", "B03.tif", "B02.tif"
    ]  # fmt: skip
    assert all(S2[0] in path for path in one.optical)


def test_bands_are_stacked_in_the_order_asked_for(root, tmp_path):
    data = BigEarthNet(root=str(root), tile=SIDE, polarisations=("VH",), optical_bands=("B03", "B08"))
    tiles = Tiles.open(prepare(data, tmp_path / "cache"))
    assert (tiles.sar_bands, tiles.optical_bands) == (1, 2)
    for index, name in enumerate(tiles.names):
        seed = S1.index(name.split(":")[0])
        vh = np.clip(2 * decibels(seed, SIDE)[1] / 25 + 1, -1, 1)
        sar, optical, _ = tiles.read([index])
        np.testing.assert_allclose(sar[0, 0], vh, atol=5e-4)
        for band, number in enumerate((1, 3)):
            truth = reflectance(10 * seed + number, SIDE, 1)[0] / 5000 - 1
            np.testing.assert_allclose(optical[0, band], truth, atol=5e-4)


@pytest.mark.parametrize("band, size", [("B11", 30), ("B01", 10)])
def test_a_coarser_band_is_refused_with_both_grids_or_resampled_when_asked(root, tmp_path, band, size):
    data = BigEarthNet(root=str(root), tile=SIDE, optical_bands=("B04", band))
    said = refuses(data, tmp_path)
    pixel = 10.0 * SIDE / size
    assert f"_{band}.tif: transform ({pixel}, 0.0, " in said and "_VV.tif: transform (10.0, 0.0, " in said
    assert "data.resample" in said
    asked = BigEarthNet(root=str(root), tile=SIDE, optical_bands=("B04", band), resample="bilinear")
    tiles = Tiles.open(prepare(asked, tmp_path / "cache"))
    factor = SIDE // size
    centres = (np.arange(SIDE) + 0.5) / factor - 0.5  # in px of the coarse band
    inner = slice(factor, -factor)  # beyond the outermost centres a kernel has one side only
    for index, name in enumerate(tiles.names):
        start = float(ramp(10 * S1.index(name.split(":")[0]) + (4 if band == "B11" else 5), size)[0, 0, 0])
        truth = start + 20 * centres[:, None] + 10 * centres
        found = 5000 * (tiles.read([index])[1][0, 1] + 1)
        np.testing.assert_allclose(found[inner, inner], truth[inner, inner], atol=1)  # whole numbers are stored


@pytest.mark.parametrize(
    "text, says",
    [
        ("{", "not a JSON mapping"),
        ("[]", "not a JSON mapping"),
        ("{}", "not a JSON mapping with corresponding_s2_patch"),
        ('{"corresponding_s2_patch": 7}', "corresponding_s2_patch is 7"),
        ('{"corresponding_s2_patch": "S2A_nowhere"}', "Sentinel-2 patch S2A_nowhere is absent"),
        ('{"corresponding_s2_patch": "../../etc"}', "Sentinel-2 patch ../../etc is absent"),
    ],
)
def test_wrong_metadata_are_refused_by_name(root, tmp_path, text, says):
    metadata(root).write_text(text)
    said = refuses(BigEarthNet(root=str(root)), tmp_path)
    assert S1[0] in said and says in said


def test_what_is_absent_is_named(root, tmp_path):
    metadata(root, S1[1]).unlink()
    (root / "BigEarthNet-S2" / S2[2] / f"{S2[2]}_B03.tif").unlink()
    data = BigEarthNet(root=str(root))
    said = refuses(data, tmp_path)
    assert f"{S1[1]}_labels_metadata.json: No such file" in said and f"{S2[2]}_B03.tif (absent)" in said
    assert f"{S2[1]} (no Sentinel-1 patch names it)" in said and f"{S2[2]} (no" not in said
    assert {left.reason for left in build(LAYOUTS, data).left} == {"bad_metadata", "no_band", "no_partner"}


def test_a_folder_without_a_link_is_refused(root, tmp_path):
    shutil.rmtree(root / "BigEarthNet-S2")
    assert "no Sentinel-1 patch is linked" in refuses(BigEarthNet(root=str(root)), tmp_path)
    (tmp_path / "empty").mkdir()
    assert "there is no Sentinel-1 patch" in refuses(BigEarthNet(root=str(tmp_path / "empty")), tmp_path)


def test_no_band_at_all_is_refused():
    with pytest.raises(ValueError, match="polarisations is empty"):
        BigEarthNet(root="x", polarisations=())


def test_other_keys_of_the_metadata_do_not_matter(root):
    text = json.loads(metadata(root).read_text())
    metadata(root).write_text(json.dumps({**text, "labels": ["Pastures"], "projection": None}))
    assert len(build(LAYOUTS, BigEarthNet(root=str(root))).pairs) == 3
