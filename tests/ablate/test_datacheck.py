"""What `ablate data check` finds: each fault planted in synthetic scenes, and none in those left as they are."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ablate.datacheck import check, document
from ablate.datacheck_words import describe
from ablate.datafaults import faults
from tests.ablate import studies
from tests.realdata import real_data
from tests.trainers.images import write
from trainers.checks.baselines import baselines
from trainers.export import export
from trainers.layouts._common import Split
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.layouts.synthetic import Options as Synthetic
from trainers.misregistration import moved
from trainers.pairs import DataError
from trainers.prepare import prepare
from trainers.synthesis import render

SCENES = Synthetic(scenes=12, size=128, tile=64, shifts=0)
GRID = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_500_000.0)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    export(folder, SCENES)
    return folder


@pytest.fixture
def copy(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "pairs"))


def codes(found) -> set[str]:
    return {fault.code for fault in faults(found)}


def names(folder: Path, side: str) -> list[Path]:
    return sorted((folder / side).iterdir())


def read(path: Path):
    import rasterio

    with rasterio.open(path) as file:
        return file.read(), {"crs": file.crs, "transform": file.transform, "nodata": file.nodata}


def test_scenes_as_they_are_have_nothing_wrong(good):
    found = check(Folders(root=str(good)))
    assert list(faults(found)) == []
    facts = document(found)
    assert facts["pairs"] == 12 and facts["dropped"]["counts"] == {} and facts["grid"]["georeferenced"] == 12
    shift = facts["misregistration"]
    assert shift["verdict"] == "aligned" and shift["peak"] > 10 * shift["shuffled_peak"]
    assert abs(shift["median_dx"]) < 0.25 and abs(shift["median_dy"]) < 0.25 and shift["share_beyond_2px"] == 0
    costs = facts["references"]
    assert costs["linear_map"] < costs["mean_colour"] < costs["random_partner"]
    assert {one["method"] for one in facts["leaks"]} >= {"scene", "bounds", "borders", "overlap", "duplicates"}
    assert "Nothing wrong was found." in describe(found)
    assert json.loads(json.dumps(facts)) == facts


def test_partners_out_of_order_are_unpaired(copy):
    optical = names(copy, "optical")
    order = [*optical[3:], *optical[:3]]
    contents = [read(path)[0] for path in order]
    for path, values in zip(optical, contents, strict=True):
        write(path, values, **read(path)[1])
    found = check(Folders(root=str(copy)))
    assert "unpaired" in codes(found)
    assert "don't show the same ground" in describe(found)


@pytest.mark.parametrize("shift", [(0.0, 3.0), (-2.5, 0.0)])
def test_a_shift_is_found_with_its_sign_and_its_price(copy, shift):
    for path in names(copy, "optical"):
        values, profile = read(path)
        whole = np.ones(values.shape[1:], bool)
        there, _ = moved(values / 5000 - 1, whole, shift)
        write(path, np.clip(np.rint((there + 1) * 5000), 1, 65535).astype(np.uint16), **profile)
    found = check(Folders(root=str(copy)))
    assert "shifted" in codes(found)
    assert (found.alignment.median_dy, found.alignment.median_dx) == pytest.approx(shift, abs=0.25)
    assert "of G_L1 at lambda 100" in describe(found)


def test_sides_in_each_others_place_are_found(good):
    found = check(Folders(root=str(good), sar_folder="optical", optical_folder="sar", sar=_display(), optical=_db()))
    assert "swapped" in codes(found)


def _display():
    from trainers.layouts._common import Sar

    return Sar(domain="display", low=(0, 0, 0), high=(2300, 2300, 2300))


def _db():
    from trainers.layouts._common import Optical

    return Optical(bands=(1, 2), range=(-30, 0))


def test_one_image_under_two_names_leaks_and_is_refused_by_preparation(copy, tmp_path):
    data = Folders(root=str(copy))
    splits = check(data).splits
    train, validation = (next(name for name, split in sorted(splits.items()) if split == wanted)
                         for wanted in ("train", "validation"))  # fmt: skip
    for side in ("sar", "optical"):
        shutil.copy(copy / side / f"{train}.tif", copy / side / f"{validation}.tif")
    found = check(data)
    assert {"leak_duplicates", "leak_bounds"} <= codes(found)
    with pytest.raises(DataError, match="different splits overlap on the ground") as caught:
        prepare(data, tmp_path / "cache")
    assert train in str(caught.value) and validation in str(caught.value)
    assert "allow_leak" in str(caught.value)
    folder = prepare(Folders(root=str(copy), allow_leak=True), tmp_path / "cache")
    assert any("allow_leak" in text for text in json.loads((folder / "meta.json").read_text())["warnings"])


def cut_tiles(folder: Path, stride: int, *, georeferenced: bool, group: bool) -> str:
    """Synthetic scenes cut beforehand: a file a tile, each a scene of its own unless they are grouped."""
    rows = []
    for index in range(6):
        scene = render(SCENES, index)
        for row in range(0, 128 - 64 + 1, stride):
            for column in range(0, 128 - 64 + 1, stride):
                name = f"s{index}_{row}_{column}"
                a, b, c, d, e, f = GRID
                place = (a, b, c + a * (column + 5000 * index), d, e, f + e * row)
                profile = {"crs": "EPSG:32632", "transform": _affine(place)} if georeferenced else {}
                inside = np.s_[:, row : row + 64, column : column + 64]
                sar = np.nan_to_num(scene.sar[inside], nan=-25.0)
                write(folder / "sar" / f"{name}.tif", sar, **profile)
                write(folder / "optical" / f"{name}.tif", np.maximum(scene.optical[inside], 1), **profile)
                rows.append((f"sar/{name}.tif", f"optical/{name}.tif", f"s{index}" if group else name))
    with open(folder / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([("sar", "optical", "group"), *rows])
    return str(folder / "pairs.csv")


def _affine(place):
    from rasterio import Affine

    return Affine(*place)


def test_tiles_cut_with_overlap_leak_under_a_random_split_and_not_under_one_by_scene(tmp_path):
    hidden = Csv(table=cut_tiles(tmp_path / "hidden", 32, georeferenced=False, group=False))
    assert "leak_overlap" in codes(check(hidden))
    grouped = Csv(table=cut_tiles(tmp_path / "grouped", 32, georeferenced=False, group=True))
    assert not any(code.startswith("leak") for code in codes(check(grouped)))


def test_a_guard_keeps_georeferenced_neighbours_in_one_split(tmp_path):
    table = cut_tiles(tmp_path, 64, georeferenced=True, group=False)
    assert "leak_bounds" in codes(check(Csv(table=table)))  # they touch
    prepare(Csv(table=table), tmp_path / "cache")  # and don't overlap: a run goes on
    kept = check(Csv(table=table, split=Split(guard=1)))
    assert kept.splits and not any(code.startswith("leak") for code in codes(kept))
    by_scene = {}
    for name, split in kept.splits.items():
        by_scene.setdefault(name.split("/")[1].split("_")[0], set()).add(split)
    assert len(by_scene) == 6 and all(len(splits) == 1 for splits in by_scene.values())
    overlapping = Csv(table=cut_tiles(tmp_path / "half", 32, georeferenced=True, group=False))
    assert "leak_bounds" in codes(check(overlapping))


def test_pairs_that_cannot_be_read_are_named_and_the_rest_is_checked(copy):
    sar, optical = names(copy, "sar"), names(copy, "optical")
    sar[0].write_bytes(sar[0].read_bytes()[:500])
    values, profile = read(optical[1])
    write(optical[1], values[:, :100], **profile)
    optical[2].unlink()
    found = check(Folders(root=str(copy)))
    facts = document(found)
    assert facts["pairs"] == 9 and facts["dropped"]["counts"] == {"grid": 1, "no_partner": 1, "unreadable": 1}
    said = describe(found)
    for path in (sar[0], optical[1], sar[2]):
        assert path.stem in said
    assert {"dropped_grid", "dropped_no_partner", "dropped_unreadable"} <= codes(found)


def test_constant_white_and_masked_images_are_named(copy):
    sar, optical = names(copy, "sar"), names(copy, "optical")
    values, profile = read(sar[0])
    write(sar[0], np.full_like(values, -12), **profile)
    values, profile = read(optical[1])
    write(optical[1], np.full_like(values, 1000), **profile)
    values, profile = read(optical[2])
    values[:, :64] = 9900
    write(optical[2], values, **profile)
    values, profile = read(optical[3])
    values[:, :64] = 0
    write(optical[3], values, **profile)
    found = check(Folders(root=str(copy)))
    said = {fault.code: fault.what for fault in faults(found)}
    for code, path in (("constant_sar", sar[0]), ("constant_optical", optical[1]), ("bright", optical[2]),
                       ("nodata", optical[3])):  # fmt: skip
        assert path.stem in said[code]


def test_references_are_those_of_the_report(tmp_path):
    """On the same tiles, trainers.references by torch and these by numpy agree."""
    from trainers.references import compare
    from trainers.tiles import Tiles

    tiles = Tiles.open(prepare(SCENES, tmp_path))
    theirs = compare(tiles, metrics=("mae",), split="validation")
    samples = {}
    for split in ("train", "validation"):
        chosen = tiles.split(split)
        sar, optical, mask = tiles.read(chosen)
        samples[split] = [(s, o, m[0] > 0) for s, o, m in zip(sar, optical, mask, strict=True)]
    scenes = [tiles.scenes[index] for index in tiles.split("validation")]
    found = baselines(samples["train"], samples["validation"], scenes)
    for name in ("mean_colour", "linear_map"):  # ours are means over tiles, theirs over scenes of equal size
        assert found[name] == pytest.approx(theirs[f"{name}/g_l1"], rel=0.03)
    assert found["random_partner"] == pytest.approx(theirs["random_partner/g_l1"], rel=0.25)


def test_ombria_leaks_under_a_random_split_and_not_by_group(tmp_path):
    root = real_data("ombria")
    grouped = check(Csv(table=str(root / "pairs.csv"), tile=256))
    assert not any(code.startswith(("leak", "unpaired", "shifted", "swapped")) for code in codes(grouped))
    with open(root / "pairs.csv", newline="") as file:
        rows = [(str(root / row["sar"]), str(root / row["optical"]), row["pair_id"]) for row in csv.DictReader(file)]
    with open(tmp_path / "hidden.csv", "w", newline="") as file:
        csv.writer(file).writerows([("sar", "optical", "group"), *rows])
    hidden = check(Csv(table=str(tmp_path / "hidden.csv"), tile=256))
    assert {code for code in codes(hidden) if code.startswith("leak")} == {"leak_borders"}


def test_the_command_says_it_by_its_exit_code_and_in_json(good, copy, tmp_path):
    done = studies.ablate("data", "check", good, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert {"pairs", "dropped", "domains", "grid", "misregistration", "references", "leaks", "warnings"} <= facts.keys()
    assert {"median_dx", "median_dy", "share_beyond_2px", "peak", "verdict"} <= facts["misregistration"].keys()
    names(copy, "optical")[0].unlink()
    done = studies.ablate("data", "check", copy, "--out", "preview.png", cwd=tmp_path)
    assert done.returncode == 1 and "1 thing to look at" in done.stdout and done.stderr == ""
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")
    done = studies.ablate("data", "check", "nowhere", cwd=tmp_path)
    assert done.returncode == 2 and "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_a_scene_that_is_stretched_is_called_deformed_by_how_much(tmp_path):
    """One large scene in blocks of none: its optical image is 0.4 % longer than its SAR, 3 px over 768."""
    from scipy import ndimage

    from trainers.layouts.scenes import Options as Scenes

    for index in range(3):
        scene = render(Synthetic(scenes=12, size=768, tile=64, shifts=0), index)
        optical = scene.optical.astype(float)
        if index == 1:
            stretch = np.array([1.0, 1 / 1.004, 1 / 1.004])
            offset = (1 - stretch) * (np.array(optical.shape) / 2)
            optical = ndimage.affine_transform(optical, stretch, offset, order=3, mode="nearest")
        write(tmp_path / "sar" / f"s{index}.tif", np.nan_to_num(scene.sar, nan=-25.0))
        write(tmp_path / "optical" / f"s{index}.tif", np.clip(np.rint(optical), 1, 65535).astype(np.uint16))
    found = check(Scenes(root=str(tmp_path), tile=64))
    said = {fault.code: fault.what for fault in faults(found)}
    assert "over 1 scenes, over s1 by" in said["deformed"]
    one = next(each for each in document(found)["misregistration"]["scenes"] if each["scene"] == "s1")["affine"]
    assert one["dy_per_1000_px"]["down"] == pytest.approx(4, abs=1)
    assert one["dx_per_1000_px"]["right"] == pytest.approx(4, abs=1)
    assert one["dy_per_1000_px"]["right"] == pytest.approx(0, abs=1)


@pytest.mark.parametrize("side, stride, method", [(120, 60, "overlap"), (120, 120, "borders"), (100, 100, "borders")])
def test_leaks_are_found_whatever_the_tile_of_training_is(tmp_path, side, stride, method):
    """Files of 120 px with training tiles of 32 or 96: what lies beyond the last whole tile is compared as well."""
    rows = []
    for index in range(3):
        scene = render(Synthetic(scenes=12, size=360, tile=64, shifts=0), index)
        for row in range(0, 360 - side + 1, stride):
            for column in range(0, 360 - side + 1, stride):
                name = f"s{index}_{row}_{column}"
                inside = np.s_[:, row : row + side, column : column + side]
                write(tmp_path / "sar" / f"{name}.tif", np.nan_to_num(scene.sar[inside], nan=-25.0))
                write(tmp_path / "optical" / f"{name}.tif", np.maximum(scene.optical[inside], 1))
                rows.append((f"sar/{name}.tif", f"optical/{name}.tif", name))
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([("sar", "optical", "group"), *rows])
    for tile in (32, 96):
        assert f"leak_{method}" in codes(check(Csv(table=str(tmp_path / "pairs.csv"), tile=tile)))


def test_few_scenes_that_lie_apart_are_named(copy):
    path = names(copy, "optical")[2]
    values, profile = read(path)
    there, _ = moved(values / 5000 - 1, np.ones(values.shape[1:], bool), (0.0, 4.0))
    write(path, np.clip(np.rint((there + 1) * 5000), 1, 65535).astype(np.uint16), **profile)
    for other in names(copy, "sar")[8:] + names(copy, "optical")[8:]:
        other.unlink()
    said = {fault.code: fault.what for fault in faults(check(Folders(root=str(copy))))}["shifted"]
    assert re.match(rf"1 of 8 scenes lie more than 2 px apart: {path.stem} \(dx \+[34]\.", said)


def test_one_tiny_image_does_not_spoil_the_measure_of_all(copy):
    for side in ("sar", "optical"):
        values, profile = read(names(copy, side)[0])
        write(names(copy, side)[0], values[:, :6, :6], **profile)
    found = check(Folders(root=str(copy)))
    assert found.alignment.verdict == "aligned" and "small" in codes(found)


def test_what_was_guessed_of_a_folder_is_said(tmp_path, good):
    for side in ("sar", "optical"):
        for path in names(good, side):
            values, profile = read(path)
            linear = np.nan_to_num(10 ** (values / 10), nan=0.0).astype(np.float32)
            write(tmp_path / "pairs" / side / path.name, linear if side == "sar" else values, **profile)
    done = studies.ablate("data", "check", "pairs", cwd=tmp_path)
    assert "assumed  SAR numbers are not negative: taken as intensity" in done.stdout
    done = studies.ablate("data", "check", "pairs", "--json", cwd=tmp_path)
    assert "amplitude" in " ".join(json.loads(done.stdout)["assumed"])


@pytest.mark.parametrize(
    ("sentence", "code"),
    [
        ("/d/transform/a.tif: no such file", "missing"),
        ("/data/values/a.png: Permission denied", "unreadable"),
        ("/CRS/x.png: truncated or damaged", "unreadable"),
        ("/a/b.tif: declares 20000 x 20000 x 1 values; at most 9", "too_large"),
        ("/a/b.tif: CRS EPSG:1, but /a/c.tif: CRS EPSG:2; pixels", "grid"),
        ("/a/b.tif: transform (1, 2), but /a/c.tif: transform (3, 4)", "grid"),
        ("/a/b.tif: 3 bands are read, but 2 of other files", "bands"),
    ],
)
def test_a_reason_is_read_from_the_sentence_and_not_from_the_path(sentence, code):
    from trainers.checks.examination import code_of

    assert code_of(sentence) == code


def test_a_run_says_so_where_images_are_no_pairs(good, copy, tmp_path):
    from ablate.pairing import unpaired

    assert unpaired(prepare(Folders(root=str(good)), tmp_path / "cache")) is None
    optical = names(copy, "optical")
    contents = [read(path)[0] for path in [*optical[3:], *optical[:3]]]
    for path, values in zip(optical, contents, strict=True):
        write(path, values, **read(path)[1])
    said = unpaired(prepare(Folders(root=str(copy)), tmp_path / "cache"))
    assert said is not None and "no better than those of shuffled pairs" in said
