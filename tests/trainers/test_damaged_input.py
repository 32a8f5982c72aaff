"""Damaged input: a sentence that names the file, no traceback, and nothing half-written; what is legal works."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.trainers import damage, damaged_values
from tests.trainers.bigearthnet import S1, bigearthnet
from tests.trainers.damage import GRID, KINDS, UTM, read_with, refused, table
from tests.trainers.images import decibels, folders, picture, reflectance, refuses, write
from trainers.layouts._common import Optical, Sar
from trainers.layouts.bigearthnet import Options as BigEarthNet
from trainers.layouts.csv import Options as Csv
from trainers.layouts.scenes import Options as Scenes
from trainers.layouts.strip import Options as Strip
from trainers.prepare import prepare
from trainers.tiles import Tiles

ROWS = [f"sar/p{index}.tif,optical/p{index}.tif,g{index}" for index in range(3)]
assert damage and damaged_values  # their kinds are in KINDS


@refused("pairs.csv: not a UTF-8 CSV table")
def table_in_utf_16(root):
    (root / "pairs.csv").write_bytes("sar,optical,group\n".encode("utf-16"))
    return Csv(table=str(root / "pairs.csv"))


@refused("pairs.csv: not a UTF-8 CSV table")
def table_in_latin_1(root):
    (root / "pairs.csv").write_bytes("sar,optical,group\nsar/straße.tif,o.tif,g\n".encode("latin-1"))
    return Csv(table=str(root / "pairs.csv"))


@refused("pairs.csv: no column group; it has sar, optical, scene")
def table_without_a_column(root):
    return table(root, *ROWS, head="sar,optical,scene")


@refused("pairs.csv: no column sar, optical, group; it has sar;optical;group")
def table_with_semicolons(root):
    return table(root, *(row.replace(",", ";") for row in ROWS), head="sar;optical;group")


@refused("pairs.csv:3: optical is empty")
def empty_cell(root):
    return table(root, ROWS[0], "sar/p1.tif,,g1", ROWS[2])


@refused("pairs.csv:3: more cells than columns: b.tif")
def comma_in_a_cell(root):
    return table(root, ROWS[0], "sar/p1.tif,optical/p1.tif,a,b.tif")


@refused("p1.tif stands in two rows")
def row_twice(root):
    return table(root, *ROWS, ROWS[1])


@refused("pairs.csv: holds no pair")
def table_without_a_row(root):
    return table(root)


@refused("1 of its files don't exist", "optical/p9.tif")
def path_to_nowhere(root):
    return table(root, *ROWS[:2], "sar/p2.tif,optical/p9.tif,g")


@refused("1 of its files don't exist", "/sar")
def path_to_a_folder(root):
    return table(root, *ROWS[:2], "sar,optical/p2.tif,g")


@refused("1 of its files don't exist", "http:/host/p2.tif")
def address_in_a_table(root):
    return table(root, *ROWS[:2], "http://host/p2.tif,optical/p2.tif,g")


@refused("1 of its files don't exist", "/vsizip/a.zip/p2.tif")
def archive_in_a_table(root):
    return table(root, *ROWS[:2], "/vsizip/a.zip/p2.tif,optical/p2.tif,g")


@refused("Is a directory")
def table_that_is_a_folder(root):
    return Csv(table=str(root))


@refused(S1[0], "not a JSON mapping")
def broken_metadata(root):
    bigearthnet(root / "b")
    (root / "b/BigEarthNet-S1" / S1[0] / f"{S1[0]}_labels_metadata.json").write_text('{"corresponding_s2')
    return BigEarthNet(root=str(root / "b"))


@refused(S1[0], "its Sentinel-2 patch S2A_elsewhere is absent")
def metadata_that_name_an_absent_patch(root):
    bigearthnet(root / "b")
    path = root / "b/BigEarthNet-S1" / S1[0] / f"{S1[0]}_labels_metadata.json"
    path.write_text(json.dumps({"corresponding_s2_patch": "S2A_elsewhere"}))
    return BigEarthNet(root=str(root / "b"))


@refused("strip.png: 127 px wide")
def strip_of_odd_width(root):
    for name in ("a", "b", "strip"):
        write(root / "strips" / f"{name}.png", picture(size=128)[:, :, : 127 if name == "strip" else 128])
    return Strip(root=str(root / "strips"))


@refused("sar/p0.tif: 64 x 64 px give 2 x 2 blocks of 16 x 16 px")
def blocks_below_a_tile(root):
    return Scenes(root=str(root), blocks=2)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damaged_input_is_refused_with_a_sentence_that_names_it(kind, tmp_path):
    root = folders(tmp_path / "data")
    said = refuses(kind(root) or read_with(root), tmp_path)  # refuses: a DataError, and nothing whole or half is left
    assert all(words in said for words in kind.says), said
    assert "\n" not in said and said.isprintable()


def test_forty_kinds_of_damage_are_tried():
    assert len({kind.__name__ for kind in KINDS}) == len(KINDS) >= 40


# No permission: root may read everything, so that it is also played


def refusing(usual, part: str):
    """`open`, `scandir`: as usual but for paths with this part, which may not be read."""

    def call(path, *rest):
        if part in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, *rest)

    return call


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    data = read_with(folders(tmp_path / "data"))
    monkeypatch.setattr("trainers.raster.open", refusing(open, "sar/p1"), raising=False)
    assert "sar/p1.tif: Permission denied" in refuses(data, tmp_path)


def test_a_folder_that_may_not_be_read_is_named_and_not_left_out(tmp_path, monkeypatch):
    root = folders(tmp_path / "data")
    for side in ("sar", "optical"):
        write(root / side / "more/p9.tif", decibels() if side == "sar" else reflectance())
    monkeypatch.setattr(os, "scandir", refusing(os.scandir, "/more"))
    assert "sar/more: Permission denied" in refuses(read_with(root), tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("path", ["sar/p1.tif", "sar", "pairs.csv"])
def test_without_permission_the_file_is_named(tmp_path, path):
    data = table(folders(tmp_path / "data"), *ROWS) if path == "pairs.csv" else read_with(folders(tmp_path / "data"))
    (tmp_path / "data" / path).chmod(0)
    try:
        assert f"{path}: Permission denied" in refuses(data, tmp_path)
    finally:
        (tmp_path / "data" / path).chmod(0o700)


# What looks odd and is legal


def tiles_of(data, tmp_path: Path) -> Tiles:
    return Tiles.open(prepare(data, tmp_path / "cache"))


ODD = ["two words", "Ümläut-日本", "a#b", "what?", "100%", "[x]!", "zip:a", "new\nline", "'quoted\""]


@pytest.mark.parametrize("name", ODD)
def test_a_name_may_be_anything_that_is_text(tmp_path, name):
    root = folders(tmp_path / "data")
    for folder in ("sar", "optical"):
        (root / folder / "p1.tif").rename(root / folder / f"{name}.tif")
    tiles = tiles_of(read_with(root), tmp_path)
    assert f"{name}:0:0" in tiles.names and len(tiles) == 3


def test_links_to_files_are_read_and_a_circle_of_folders_is_not_walked(tmp_path):
    root = folders(tmp_path / "data")
    (root / "sar/p1.tif").rename(root / "elsewhere.tif")
    (root / "sar/p1.tif").symlink_to("../elsewhere.tif")
    (root / "sar/again").symlink_to(root / "sar")
    assert len(tiles_of(read_with(root), tmp_path)) == 3


def test_hidden_files_and_capital_suffixes(tmp_path):
    root = folders(tmp_path / "data")
    (root / "sar/._p0.tif").write_bytes(b"\0\5\x16\7")  # what macOS leaves on foreign disks
    (root / "sar/p1.tif").rename(root / "sar/p1.TIF")
    assert len(tiles_of(read_with(root), tmp_path)) == 3


def test_a_table_may_have_a_byte_order_mark_windows_lines_and_quoted_commas(tmp_path):
    root = folders(tmp_path / "data")
    (root / "sar/p1.tif").rename(root / "sar/p,1.tif")
    rows = [ROWS[0], '"sar/p,1.tif",optical/p1.tif,g1', f"{ROWS[2]},,"]
    text = "\ufeff" + "\r\n".join(["sar,optical,group", *rows, "", ""])
    (root / "pairs.csv").write_bytes(text.encode())
    assert len(tiles_of(Csv(table=str(root / "pairs.csv")), tmp_path)) == 3


def test_a_16_bit_png_is_not_clipped_to_8_bits(tmp_path):
    def deep(seed):
        return np.random.default_rng(seed).integers(1, 65536, (1, 64, 64)).astype(np.uint16)

    root = folders(tmp_path / "data", sar=deep, optical=lambda seed: picture(seed), suffix=".png")
    data = read_with(root, sar=Sar(domain="display", low=(0,), high=(65535,)))
    tiles = tiles_of(data, tmp_path)
    for index, name in enumerate(tiles.names):
        truth = deep(int(name[1])) / 32767.5 - 1
        np.testing.assert_allclose(tiles.read([index])[0][0], truth, atol=2e-5)


def test_alpha_hides_pixels_and_is_no_band(tmp_path):
    def transparent(seed):
        values = picture(seed, bands=4)
        values[3] = 255
        values[3, :8] = 0
        return values

    root = folders(tmp_path / "data", sar=picture, optical=transparent, suffix=".png")
    tiles = tiles_of(read_with(root), tmp_path)
    assert tiles.optical_bands == 3
    assert not tiles.mask[..., :8, :].any() and tiles.mask[..., 8:, :].all()


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf, -9999.0, np.finfo(np.float32).min])
def test_gaps_in_decibels_are_masked(tmp_path, gap):
    def holed(seed):
        values = decibels(seed)
        values[0, :, :5] = gap
        return values

    tiles = tiles_of(read_with(folders(tmp_path / "data", sar=holed)), tmp_path)
    assert not tiles.mask[..., :5].any() and tiles.mask[..., 5:].all()


def test_a_black_image_among_others_is_dropped_with_its_reason(tmp_path):
    root = folders(tmp_path / "data", count=6, optical=lambda seed: reflectance(seed) * (seed != 2))
    folder = prepare(read_with(root), tmp_path / "cache")
    assert [(row["name"], row["reason"]) for row in json.loads((folder / "meta.json").read_text())["dropped"]] == [
        ("p2", "nodata")
    ]  # fmt: skip


def test_a_rotated_grid_is_a_grid_like_any_other(tmp_path):
    from rasterio import Affine

    root = tmp_path / "data"
    for index in range(3):
        turned = {"crs": UTM, "transform": Affine.translation(1e4 * index, 0) @ GRID @ Affine.rotation(10)}
        write(root / f"sar/p{index}.tif", decibels(index), **turned)
        write(root / f"optical/p{index}.tif", reflectance(index), **turned)
    assert len(tiles_of(read_with(root), tmp_path)) == 3


def test_both_kinds_of_16_bits_go_together(tmp_path):
    root = folders(tmp_path / "data", optical=lambda seed: reflectance(seed).astype([np.int16, np.uint16][seed % 2]))
    assert len(tiles_of(read_with(root), tmp_path)) == 3


@pytest.mark.parametrize("creation", [{"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, {"interleave": "pixel"}])
def test_every_flavour_of_tiff_is_read(tmp_path, creation):
    import rasterio

    root = folders(tmp_path / "data")
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 2, "dtype": "float32"}
    with rasterio.open(root / "sar/p1.tif", "w", **profile, **creation, crs=UTM, transform=GRID) as file:
        file.write(decibels(1))
    assert len(tiles_of(read_with(root, optical=Optical(bands=(1,))), tmp_path)) == 3
