"""What a killed driver wrote of a plan, and another plan has come since: files say what holds now."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from ablate.records import StudyFolder, TrialFolder
from tests.ablate import drives, studies


@pytest.fixture
def place(tmp_path, empty_store) -> Path:
    (tmp_path / "runs").mkdir(mode=0o700)
    shutil.copy(empty_store, tmp_path / "runs" / "mlflow.db")
    studies.write(tmp_path, drives.STUDY)
    return tmp_path


def metrics(folder: StudyFolder) -> list[list[str]]:
    return [json.loads(path.read_text())["metrics"] for path in sorted(folder.root.glob("trials/*/spec.json"))]


def test_a_trial_that_had_not_begun_is_scored_by_the_metrics_of_now(place):
    folder = StudyFolder(place / "runs", "tiny")
    assert drives.run(place, "tiny.yaml", failpoints="spec-written=kill").code == -9
    assert metrics(folder) == [["gmsd", "psnr", "mae"]]
    ended = drives.run(place, "tiny.yaml", "--set", "also=[ssim]")
    assert ended.code == 0, ended.said
    assert metrics(folder) == [["gmsd", "ssim"]] * studies.CELLS


@pytest.mark.parametrize("left", ["", "{", "[]", "\x00\x00"])
def test_a_damaged_specification_is_written_anew(place, left):
    folder = StudyFolder(place / "runs", "tiny")
    assert drives.run(place, "tiny.yaml").code == 0
    spec = sorted(folder.root.glob("trials/*/spec.json"))[0]
    whole = spec.read_bytes()
    for path in spec.parent.iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    spec.write_text(left)
    ended = drives.run(place, "tiny.yaml")
    assert ended.code == 0, ended.said
    assert spec.read_bytes() == whole


@pytest.mark.parametrize("left", ["", "{", "[]", "{}"])
def test_a_damaged_plan_without_a_result_is_written_anew(place, left):
    folder = StudyFolder(place / "runs", "tiny")
    assert drives.run(place, "tiny.yaml", failpoints="plan-written=kill").code == -9
    whole = folder.plan.read_bytes()
    folder.plan.write_text(left)
    ended = drives.run(place, "tiny.yaml")
    assert ended.code == 0, ended.said
    assert folder.plan.read_bytes() == whole


def test_a_damaged_stream_ends_the_run_with_the_line_and_what_helps(place):
    folder = StudyFolder(place / "runs", "tiny")
    assert drives.run(place, "tiny.yaml").code == 0
    stream = sorted(folder.root.glob("trials/*/events.jsonl"))[0]
    stream.write_text("{\n" + stream.read_text())
    ended = drives.run(place, "tiny.yaml")
    assert ended.code == 3 and f"{stream.name}:1: damaged" in ended.said
    assert "move the trial's folder away" in ended.said
    shutil.move(stream.parent, place / "away")
    assert drives.run(place, "tiny.yaml").code == 0


def test_the_studys_file_follows_its_plan_and_what_is_no_part_of_it(place):
    folder = StudyFolder(place / "runs", "tiny")
    assert drives.run(place, "tiny.yaml").code == 0
    before = folder.study.read_text()
    killed = drives.run(place, "tiny.yaml", "--set", "seeds=3", "--extend", failpoints="study-written=kill")
    assert killed.code == -9 and folder.study.read_text() != before
    assert drives.run(place, "tiny.yaml").code == 0 and folder.study.read_text() == before
    assert drives.run(place, "tiny.yaml", "--set", "resources.slots=1").code == 0
    assert "slots: 1" in folder.study.read_text()
    assert drives.run(place, "tiny").code == 0, "by its name"


def test_places_are_joined_as_they_are_written_whatever_is_a_link(tmp_path):
    trial = tmp_path / "runs" / "one" / "trials" / "abc"
    elsewhere = tmp_path / "large" / "one"
    (elsewhere / "trials" / "abc").mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    os.symlink(elsewhere, tmp_path / "runs" / "one")
    assert TrialFolder(trial).beside("../../../cache/x") == tmp_path / "runs" / "cache" / "x"


@pytest.mark.slow
def test_a_study_whose_folder_was_moved_to_another_disk_goes_on_behind_a_link(tmp_path):
    studies.write(tmp_path, drives.STUDY)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    assert studies.ablate("run", "tiny.yaml", cwd=tmp_path).returncode == 0
    shutil.rmtree(next(folder.root.glob("trials/*")))
    (tmp_path / "large").mkdir()
    shutil.move(folder.root, tmp_path / "large" / "tiny")
    os.symlink(tmp_path / "large" / "tiny", folder.root)
    done = studies.ablate("run", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
