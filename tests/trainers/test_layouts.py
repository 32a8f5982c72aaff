"""How studies describe data, and how files pair up."""

import json
import subprocess
import sys

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from tests.trainers.images import decibels, folders, picture, refuses, three, write
from trainers.families import LAYOUTS, as_document, build, from_document
from trainers.layouts._common import Optical, Sar, Split
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.layouts.synthetic import Options as Synthetic
from trainers.options import places
from trainers.prepare import fingerprint, prepare
from trainers.tiles import Tiles

REQUIRED = {name: dict.fromkeys(places(LAYOUTS.options(name)), "x") for name in LAYOUTS.names()}


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_options_survive_their_document(name):
    given = REQUIRED[name]
    nested = {"split": Split(seed=3), "sar": Sar(low=(-20.0,), high=(0.0,), bands=(1,)), "optical": Optical(bands=(2,))}
    options = LAYOUTS.options(name)(**given, **nested)
    assert from_document(LAYOUTS, as_document(LAYOUTS, options)) == options


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_options_are_validated_down_to_the_nested_ones(name):
    given = REQUIRED[name]
    adapter = TypeAdapter(LAYOUTS.options(name))
    good = adapter.validate_python({**given, "sar": {"domain": "db"}, "split": {"seed": 1}, "tile": 96})
    assert (good.sar.domain, good.split.seed, good.split.validation, good.tile) == ("db", 1, 0.2, 96)
    for wrong, place in [
        ({"tile": 8}, ("tile",)),
        ({"sar": {"domain": "decibel"}}, ("sar", "domain")),
        ({"sar": {"domian": "db"}}, ("sar", "domian")),
        ({"optical": {"bands": [0]}}, ("optical", "bands", 0)),
        ({"split": {"validation": 0.6, "test": 0.5}}, ("split",)),
        ({"sar": {"low": [-20]}}, ("sar",)),
        ({"sar": {"low": [0], "high": [-20]}}, ("sar",)),
        ({"optical": {"range": [5, 5]}}, ("optical",)),
    ]:
        with pytest.raises(ValidationError) as caught:
            adapter.validate_python({**given, **wrong})
        assert caught.value.errors()[0]["loc"] == place


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_the_head_of_a_layout_is_standard_library_only(name):
    heavy = "[name for name in ('numpy', 'torch', 'rasterio', 'scipy') if name in sys.modules]"
    code = f"import sys, trainers.layouts.{name} as part; part.Options; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("pattern, says", [("(", "not a regular expression"), ("abc", "no group")])
def test_a_wrong_scene_pattern_is_refused(pattern, says):
    with pytest.raises(ValueError, match=says):
        Folders(root="x", scene_pattern=pattern)


def test_a_synthetic_scene_below_a_tile_is_refused():
    with pytest.raises(ValueError, match="48 px is below tile 64"):
        Synthetic(size=48)


# Pairing


def test_equal_names_pair_up_also_across_suffixes_and_subfolders(tmp_path):
    for name in ("a/one", "a/two", "b/one"):
        write(tmp_path / "sar" / f"{name}.tif", decibels())
        write(tmp_path / "optical" / f"{name}.png", picture())
    pairs = build(LAYOUTS, Folders(root=str(tmp_path), scene_pattern="^(.)/")).pairs
    assert [(pair.name, pair.scene) for pair in pairs] == [("a/one", "a"), ("a/two", "a"), ("b/one", "b")]
    assert all(pair.sar == (f"{tmp_path}/sar/{pair.name}.tif",) for pair in pairs)
    assert all(pair.optical == (f"{tmp_path}/optical/{pair.name}.png",) for pair in pairs)


@pytest.mark.parametrize("sar, optical", [("trainA", "trainB"), ("s1", "s2")])
def test_folders_may_have_other_names(tmp_path, sar, optical):
    root = folders(tmp_path)
    (root / "sar").rename(root / sar)
    (root / "optical").rename(root / optical)
    pairs = build(LAYOUTS, Folders(root=str(root), sar_folder=sar, optical_folder=optical)).pairs
    assert [(pair.sar[0], pair.optical[0]) for pair in pairs] == [
        (f"{root}/{sar}/p{index}.tif", f"{root}/{optical}/p{index}.tif") for index in range(3)
    ]


def test_names_of_a_pair_may_share_a_part_only(tmp_path):
    for place in ("Ghana_1", "Spain_2"):
        write(tmp_path / f"sar/{place}_S1Hand.tif", decibels())
        write(tmp_path / f"optical/{place}_S2Hand.tif", picture())
    data = Folders(root=str(tmp_path), name_pattern="(.*)_S[12]Hand$", scene_pattern="^([A-Za-z]+)")
    found = [(pair.name, pair.scene) for pair in build(LAYOUTS, data).pairs]
    assert found == [("Ghana_1", "Ghana"), ("Spain_2", "Spain")]
    write(tmp_path / "sar/Ghana_1_S2Hand.tif", decibels())
    assert "sar/Ghana_1_S2Hand.tif: the same name as" in refuses(data, tmp_path)
    (tmp_path / "sar/Ghana_1_S2Hand.tif").rename(tmp_path / "sar/other.tif")
    assert "/sar: name_pattern '(.*)_S[12]Hand$' finds nothing in the name 'other'" in refuses(data, tmp_path)


def test_images_without_a_partner_are_listed(tmp_path):
    data = three(tmp_path)
    (tmp_path / "optical" / "p1.tif").unlink()
    (tmp_path / "sar" / "p2.tif").unlink()
    said = refuses(data, tmp_path)
    assert f"p1 (only in {tmp_path}/sar), p2 (only in {tmp_path}/optical)" in said and "2 images" in said
    left = build(LAYOUTS, data).left
    assert [(one.name, one.reason) for one in left] == [("p1", "no_partner"), ("p2", "no_partner")]


def test_folders_without_one_common_name_show_names_of_both(tmp_path):
    data = three(tmp_path)
    for path in list((tmp_path / "optical").iterdir()):
        path.rename(path.with_name(f"other-{path.name}"))
    said = refuses(data, tmp_path)
    assert "sar holds p0, p1, p2, optical holds other-p0" in said


def test_two_files_of_one_name_are_refused(tmp_path):
    data = three(tmp_path)
    write(tmp_path / "sar" / "p1.png", picture())
    assert "p1.png" in (said := refuses(data, tmp_path)) and "p1.tif" in said


def test_a_missing_and_an_empty_folder_are_refused(tmp_path):
    assert "sar: no such folder" in refuses(Folders(root=str(tmp_path)), tmp_path)
    (tmp_path / "sar").mkdir()
    assert "sar: holds no image; allowed are .tif" in refuses(Folders(root=str(tmp_path)), tmp_path)


def test_a_name_without_a_scene_is_refused(tmp_path):
    data = Folders(root=str(folders(tmp_path)), scene_pattern=r"^(s\d)")
    assert "'p0'" in refuses(data, tmp_path)


def table(tmp_path, text: str, **options) -> Csv:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    return Csv(table=str(path), **options)


ROWS = "".join(f"sar/p{i}.tif,optical/p{i}.tif,g{i}\n" for i in range(3))


def test_a_table_pairs_files_relative_to_itself_and_leaves_other_columns_aside(tmp_path, monkeypatch):
    folders(tmp_path)
    rows = "".join(f"train,sar/p{i}.tif,optical/p{i}.tif,g{i},9\n" for i in range(3))
    data = table(tmp_path, "\ufeffsplit,sar,optical,group,dy\n" + rows)
    monkeypatch.chdir("/")
    tiles = Tiles.open(prepare(data, tmp_path / "cache"))
    assert set(tiles.scenes) == {"g0", "g1", "g2"} and set(tiles.splits) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    "text, says",
    [
        ("sar,optical\n", "no column group; it has sar, optical"),
        ("", "no column sar, optical, group; it has none"),
        ("sar,optical,group\n", "holds no pair"),
        ("sar,optical,group\nsar/p0.tif,,g\n", "pairs.csv:2: optical is empty"),
        ("sar,optical,group\nsar/p0.tif,optical/p0.tif\n", "pairs.csv:2: group is empty"),
        ("sar,optical,group\n" + ROWS + ROWS, "p0.tif stands in two rows"),
        ("sar,optical,group\nsar/none.tif,optical/p0.tif,g\n", "sar/none.tif"),
        ("sar,optical,group\nsar/p0.tif, ; ,g\n", "pairs.csv:2: names no file between its ;"),
        ("sar,optical,group\nsar/p0.tif,optical/p0.tif,g,h\n", "pairs.csv:2: more cells than columns: h"),
        ("sar,optical,group,group\nsar/p0.tif,optical/p0.tif,g,h\n", "two columns group"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, says):
    folders(tmp_path)
    assert says in refuses(table(tmp_path, text), tmp_path)


def test_a_table_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "pairs.csv").write_bytes(b"sar,optical,group\n\xff\xfe,\x00,\n")
    assert "pairs.csv: not a UTF-8 CSV table" in refuses(Csv(table=str(tmp_path / "pairs.csv")), tmp_path)
    assert "nowhere.csv: No such file" in refuses(Csv(table="nowhere.csv"), tmp_path)


def test_one_scene_is_refused_with_the_ways_out(tmp_path):
    folders(tmp_path)
    said = refuses(table(tmp_path, "sar,optical,group\n" + ROWS.replace("g1", "g0").replace("g2", "g0")), tmp_path)
    assert "1 scene (g0)" in said and "column group" in said


# A split that the table brings


OWN = ("val", "train", "Test")
SPLIT_ROWS = "".join(f"sar/p{i}.tif,optical/p{i}.tif,g{i},{split}\n" for i, split in enumerate(OWN))


def test_a_table_keeps_its_own_split_when_asked(tmp_path):
    folders(tmp_path)
    asked = table(tmp_path, "sar,optical,group,fold\n" + SPLIT_ROWS, split_column="fold")
    folder = prepare(asked, tmp_path / "cache")
    tiles = Tiles.open(folder)
    assert dict(zip(tiles.scenes, tiles.splits, strict=True)) == {"g0": "validation", "g1": "train", "g2": "test"}
    assert json.loads((folder / "meta.json").read_text())["split_by"] == "data set"
    usual = prepare(Csv(table=asked.table), tmp_path / "cache")
    assert usual != folder and json.loads((usual / "meta.json").read_text())["split_by"] == "scene"


def test_another_split_in_the_table_is_another_data_set(tmp_path):
    folders(tmp_path)
    one = fingerprint(table(tmp_path, "sar,optical,group,fold\n" + SPLIT_ROWS, split_column="fold"))
    other = SPLIT_ROWS.replace("val", "Train").replace("g1,train", "g1,val")
    assert fingerprint(table(tmp_path, "sar,optical,group,fold\n" + other, split_column="fold")) != one


@pytest.mark.parametrize(
    "rows, says",
    [
        (SPLIT_ROWS.replace("val", "dev"), "pairs.csv:2: fold 'dev'; allowed are train, val, validation, test"),
        (SPLIT_ROWS.replace("val", ""), "pairs.csv:2: fold is empty"),
        (SPLIT_ROWS.replace("val", "test"), "column fold has no validation row"),
        (SPLIT_ROWS.replace("g1", "g0"), "g0 (train, validation)"),
    ],
)
def test_a_split_that_can_not_be_kept_is_refused(tmp_path, rows, says):
    folders(tmp_path)
    assert says in refuses(table(tmp_path, "sar,optical,group,fold\n" + rows, split_column="fold"), tmp_path)


def test_a_split_column_that_is_absent_is_refused(tmp_path):
    folders(tmp_path)
    said = refuses(table(tmp_path, "sar,optical,group\n" + ROWS, split_column="fold"), tmp_path)
    assert "pairs.csv: no column fold; it has sar, optical, group" in said


def test_a_torn_scene_is_kept_where_leaks_are_allowed_and_moved_in_training_only(tmp_path):
    folders(tmp_path)
    text = "sar,optical,group,fold\n" + SPLIT_ROWS.replace("g1", "g0")
    still, moved = (
        Tiles.open(prepare(
            table(tmp_path, text, split_column="fold", allow_leak=True, misregistration=shift), tmp_path / "cache"
        ))
        for shift in (0.0, 2.0)
    )  # fmt: skip
    assert sorted(still.splits) == ["test", "train", "validation"]
    for index, split in enumerate(still.splits):
        assert (split == "train") != np.array_equal(still.optical[index], moved.optical[index])
