"""`ablate run --extend`: a study may grow, what has run stays, and every other change is refused with what differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ablate.records import StudyFolder
from tests.ablate import drives, studies

GROWN = {
    "a level": drives.STUDY.replace("design:", "    twice: {optimizer.lr_ratio: 2.0}\ndesign:"),
    "an arm": drives.STUDY.replace("design:", "  rate:\n    low: {optimizer.lr: 1.0e-4}\ndesign:"),
}
NEW = {"a level": "lr_ratio=twice", "an arm": "rate=low"}
# What may not change, even so -> the change, and what of it is said.
REFUSED = {
    "the budget": ("generator_updates: 6", "generator_updates: 9", "generator_updates: 6 -> 9"),
    "the metric": ("name: gmsd", "name: ssim", "metric.name: 'gmsd' -> 'ssim'"),
    "a seed more and another metric": ("seeds: 2\nmetric: {name: gmsd", "seeds: 3\nmetric: {name: ssim",
                                       "seeds: 1, 2 -> 1, 2, 3"),
    "the data": ("scenes: 4", "scenes: 5", "scenes: 4 -> 5"),
    "a level less": ("half: {optimizer.lr_ratio: 0.5}", "low: {optimizer.lr_ratio: 0.3}", "['base', 'half'] -> ['ba"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, empty_store) -> Path:
    place = tmp_path_factory.mktemp("whole")
    (place / "runs").mkdir(mode=0o700)
    shutil.copy(empty_store, place / "runs" / "mlflow.db")
    studies.write(place, drives.STUDY)
    ended = drives.run(place, "tiny.yaml")
    assert ended.code == 0, ended.said
    return place


@pytest.mark.parametrize("added", GROWN)
def test_what_is_added_runs_and_what_has_run_keeps_its_bytes(whole, tmp_path, added):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    before = {path: path.read_bytes() for path in folder.root.glob("trials/*/events.jsonl")}
    cells = studies.optuna_states(folder)
    studies.write(tmp_path, GROWN[added])
    refused = drives.run(tmp_path, "tiny.yaml")
    assert refused.code == 2 and NEW[added] in refused.said and "--extend accepts" in refused.said, refused.said
    grown = drives.run(tmp_path, "tiny.yaml", "--extend")
    assert grown.code == 0 and "6 trials: 6 done" in grown.said, grown.said
    assert all(path.read_bytes() == data for path, data in before.items())
    assert studies.optuna_states(folder) == cells | {f"{NEW[added]}/{seed}": ["COMPLETE"] for seed in (1, 2)}


def test_a_study_that_is_another_one_is_refused_also_with_extend(whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in (tmp_path / "runs/tiny").rglob("*.json*")}
    for what, (old, new, said) in REFUSED.items():
        studies.write(tmp_path, drives.STUDY.replace(old, new))
        ended = drives.run(tmp_path, "tiny.yaml", "--extend")
        assert ended.code == 2 and said in ended.said, (what, ended.said)
        assert "holds another study under the name 'tiny'; what differs:" in ended.said
    assert {path: path.read_bytes() for path in (tmp_path / "runs/tiny").rglob("*.json*")} == before
