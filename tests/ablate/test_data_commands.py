"""`ablate init --data` and `ablate data synth | preview | cache`: from a folder to a study that runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ablate import datacache
from ablate.detect import detect
from ablate.plan import make_plan
from ablate.startdata import write_scenes, write_starter_on
from ablate.study import load
from tests.ablate import studies
from tests.realdata import real_data
from tests.trainers.images import decibels, folders, picture, write
from trainers.families import part_name
from trainers.pairs import DataError
from trainers.prepare import prepare


def intensity(seed: int) -> np.ndarray:
    return 10 ** (decibels(seed) / 10)


def normalised(seed: int) -> np.ndarray:
    return np.tanh(decibels(seed) / 10).astype(np.float32)


def fractions(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.01, 0.9, (3, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("kind", ["geotiff", "png"])
@pytest.mark.parametrize("layout", ["folders", "scenes"])
def test_synthetic_scenes_as_files_become_a_study_that_has_a_plan(tmp_path, kind, layout):
    write_scenes(tmp_path / "pairs", layout=layout, kind=kind, scenes=5, size=128, seed=0)
    paths, _ = write_starter_on(tmp_path / "new", tmp_path / "pairs")
    assert [path.name for path in paths] == ["study.yaml", "stabilizer.yaml", "study.schema.json"]
    plan = make_plan(load(paths[0], sets=["design={one_at_a_time: [updates]}"]))
    (data,) = plan.data.values()
    assert part_name(data) == "folders" and data.tile == 128 and len(plan.cells) == 6
    folder = prepare(data, tmp_path / "cache")
    assert json.loads((folder / "meta.json").read_text())["domains"]["sar"]["domain"] == (
        "db" if kind == "geotiff" else "display"
    )


def test_paths_in_a_starter_study_are_relative_where_the_folder_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scenes(Path("pairs"), layout="folders", kind="png", scenes=4, size=64, seed=0)
    write_starter_on(Path("new"), Path("pairs"))
    assert "root: ../pairs" in Path("new/study.yaml").read_text()
    monkeypatch.chdir(tmp_path / "new")
    assert len(make_plan(load("study.yaml")).data) == 1


@pytest.mark.parametrize(
    ("sar", "optical", "options", "doubt"),
    [
        (decibels, picture, {}, None),
        (intensity, picture, {"sar": {"domain": "linear"}}, "taken as intensity"),
        (normalised, picture, {"domain": "display"}, "as somebody normalised them"),
        (decibels, fractions, {"optical": {"range": [0.0, 1.0]}}, "taken as 0..1"),
    ],
)
def test_what_numbers_mean_is_detected_or_doubted_and_reads(tmp_path, sar, optical, options, doubt):
    found = detect(folders(tmp_path / "pairs", 4, sar=sar, optical=optical))
    if "domain" in options:
        assert found.options["sar"]["domain"] == "display" and len(found.options["sar"]["low"]) == 2
    else:
        assert {key: found.options[key] for key in options} == options
    assert any(doubt in said for said in found.doubts) if doubt else not found.doubts[1:]
    assert prepare(found.data, tmp_path / "cache").is_dir()


@pytest.mark.parametrize("sar, optical", [("sar", "optical"), ("s1", "s2"), ("S1RTC", "S2RGB"), ("trainA", "trainB")])
def test_folders_are_told_apart_by_their_names(tmp_path, sar, optical):
    folders(tmp_path, 4)
    if (sar, optical) != ("sar", "optical"):
        (tmp_path / "sar").rename(tmp_path / sar)
        (tmp_path / "optical").rename(tmp_path / optical)
    found = detect(tmp_path)
    assert (found.data.sar_folder, found.data.optical_folder) == (sar, optical)


def test_scenes_are_taken_from_names_that_tell_them(tmp_path):
    for scene in ("berlin", "paris", "rome"):
        for tile in range(3):
            write(tmp_path / "sar" / f"{scene}_{tile}.tif", decibels(tile))
            write(tmp_path / "optical" / f"{scene}_{tile}.png", picture(tile))
    assert {pair.scene for pair in detect(tmp_path).source.pairs} == {"berlin", "paris", "rome"}


def test_few_large_images_are_divided_into_blocks(tmp_path):
    folders(tmp_path, 1, sar=lambda seed: decibels(seed, size=1200), optical=lambda seed: picture(seed, size=1200))
    found = detect(tmp_path)
    assert part_name(found.data) == "scenes" and found.data.blocks == 4
    assert len({pair.scene for pair in found.source.pairs}) == 16


@pytest.mark.parametrize(
    ("name", "layout", "pairs"),
    [("ombria", "csv", 220), ("bigearthnet_common", "bigearthnet", 6), ("terramind_terramesh", "folders", 5)],
)
def test_real_folders_are_recognised(name, layout, pairs):
    found = detect(real_data(name))
    assert part_name(found.data) == layout and len(found.source.pairs) == pairs


def test_a_folder_of_something_else_is_refused_with_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing\n")
    with pytest.raises(DataError, match="no layout is recognised") as caught:
        detect(tmp_path)
    for layout in ("folders", "csv", "strip", "sen12", "bigearthnet", "scenes"):
        assert f"{layout}: " in str(caught.value)
    with pytest.raises(DataError, match="no such folder"):
        detect(tmp_path / "absent")


def test_the_cache_is_listed_with_its_users_and_pruned_of_the_rest(tmp_path):
    path = studies.write(tmp_path)
    runs = tmp_path / "runs"
    (data,) = make_plan(load(path)).data.values()
    (other,) = make_plan(load(path, sets=["base.data.seed=7"])).data.values()
    used, unused = (prepare(one, runs / "cache").name for one in (data, other))
    assert datacache.users(runs) == {}
    (runs / "tiny").mkdir()
    (runs / "tiny" / "plan.json").write_text(json.dumps({"data": {"fingerprint": used}}))
    found = {entry["fingerprint"]: entry["studies"] for entry in datacache.entries(runs)}
    assert found == {used: ["tiny"], unused: []}
    assert studies.ablate("data", "cache", "--prune", cwd=tmp_path).returncode == 0
    assert (runs / "cache" / unused).is_dir()  # this process may be about to read it
    assert [entry["fingerprint"] for entry in datacache.prune_unused(runs)] == [unused]
    assert sorted(path.name for path in (runs / "cache").iterdir() if path.is_dir()) == [used]
    assert used in studies.ablate("data", "cache", cwd=tmp_path).stdout


def test_the_commands_write_their_files_and_refuse_to_write_over_them(tmp_path):
    done = studies.ablate("data", "synth", "pairs", "--scenes", "4", "--size", "64", cwd=tmp_path)
    assert done.returncode == 0 and "ablate init --data pairs" in done.stdout
    assert studies.ablate("data", "synth", "pairs", cwd=tmp_path).returncode == 2
    done = studies.ablate("init", "--data", "pairs", "new", cwd=tmp_path)
    assert done.returncode == 0 and "caution: every file counts as a scene" in done.stdout
    assert studies.ablate("init", "--data", "pairs", "new", cwd=tmp_path).returncode == 2
    done = studies.ablate("data", "preview", "new/study.yaml", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")
    shutil.rmtree(tmp_path / "pairs" / "sar")
    done = studies.ablate("data", "check", "new/study.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "no such folder" in done.stderr and "Traceback" not in done.stderr


def test_a_damaged_set_is_listed_and_pruned_and_a_damaged_study_stops_the_pruning(tmp_path):
    runs = tmp_path / "runs"
    (data,) = make_plan(load(studies.write(tmp_path))).data.values()
    folder = prepare(data, runs / "cache")
    (folder / "meta.json").write_text("{")
    assert [entry["layout"] for entry in datacache.entries(runs)] == ["damaged"]
    (runs / "s").mkdir()
    (runs / "s" / "plan.json").write_text("{")
    done = studies.ablate("data", "cache", "--prune", cwd=tmp_path)
    assert done.returncode == 2 and "plan.json: damaged" in done.stderr and "Traceback" not in done.stderr
    (runs / "s" / "plan.json").unlink()
    assert [entry["fingerprint"] for entry in datacache.prune_unused(runs)] == [folder.name]


def test_one_bad_pair_does_not_keep_a_folder_from_being_recognised(tmp_path):
    folders(tmp_path, 5)
    (tmp_path / "sar" / "p2.tif").write_bytes(b"II*\0nothing")
    assert len(detect(tmp_path).source.pairs) == 5


def test_other_grids_are_resampled_and_said(tmp_path):
    from rasterio import Affine

    for index in range(3):
        for side, values, west in (("sar", decibels(index), 500_000), ("optical", picture(index), 500_005)):
            place = Affine(10, 0, west + 10_000 * index, 0, -10, 5_500_000)
            write(tmp_path / side / f"p{index}.tif", values, crs="EPSG:32632", transform=place)
    found = detect(tmp_path)
    assert found.options["resample"] == "bilinear" and any("resampled" in said for said in found.doubts)


def test_exchanged_folders_are_seen(tmp_path):
    folders(tmp_path, 4)
    (tmp_path / "sar").rename(tmp_path / "x")
    (tmp_path / "optical").rename(tmp_path / "sar")
    (tmp_path / "x").rename(tmp_path / "optical")
    with pytest.raises(DataError, match="in each other's place"):
        detect(tmp_path)
