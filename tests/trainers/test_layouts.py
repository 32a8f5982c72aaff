"""How studies describe data, and how files pair up."""

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.trainers.images import decibels, folders, picture, refuses, three, write
from trainers.families import LAYOUTS, as_document, build, from_document
from trainers.layouts._common import Optical, Sar, Split
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.layouts.synthetic import Options as Synthetic
from trainers.prepare import prepare
from trainers.tiles import Tiles


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_options_survive_their_document(name):
    given = {"folders": {"root": "x"}, "csv": {"table": "x"}}.get(name, {})
    nested = {"split": Split(seed=3), "sar": Sar(low=(-20.0,), high=(0.0,), bands=(1,)), "optical": Optical(bands=(2,))}
    options = LAYOUTS.options(name)(**given, **nested)
    assert from_document(LAYOUTS, as_document(LAYOUTS, options)) == options


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_options_are_validated_down_to_the_nested_ones(name):
    given = {"folders": {"root": "x"}, "csv": {"table": "x"}}.get(name, {})
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
    assert all(pair.sar.endswith(pair.name + ".tif") and pair.optical.endswith(pair.name + ".png") for pair in pairs)


def test_images_without_a_partner_are_listed(tmp_path):
    data = three(tmp_path)
    (tmp_path / "optical" / "p1.tif").unlink()
    (tmp_path / "sar" / "p2.tif").unlink()
    assert "p1 (only in sar), p2 (only in optical)" in refuses(data, tmp_path)


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


def table(tmp_path, text: str) -> Csv:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    return Csv(table=str(path))


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
