"""A trial's folder is what its stream says: every listed artifact with its sha256, and nothing left over."""

from __future__ import annotations

import hashlib

import pytest

from ablate import artifacts, events
from ablate.records import TrialFolder

FILES = {"sample": "samples/000003.npz", "scores": "scores.csv", "generator": "checkpoints/generator.pt"}


@pytest.fixture
def folder(tmp_path) -> TrialFolder:
    """An ended trial that has saved one of each, the sample twice."""
    made = TrialFolder(tmp_path / "trial")
    writer = events.EventWriter(made.events, clock=lambda: 1.0)
    for content in (b"first", b"second"):
        for what, name in FILES.items():
            path = made.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            writer.append(events.Saved, step=3, what=what, path=name, sha256=digest)
    writer.append(events.Saved, step=3, what="checkpoint", path="checkpoints/step-00000003.pt", sha256="0" * 64)
    writer.append(events.Ended, step=3, images=12, status="done")
    writer.close()
    return made


def test_a_whole_folder_has_no_problems_and_checkpoints_are_not_asked_for(folder):
    assert artifacts.problems(folder) == []
    assert {each.path for each in artifacts.listed(events.read(folder.events))} == set(FILES.values())


@pytest.mark.parametrize(("what", "name"), FILES.items())
def test_a_missing_and_a_damaged_artifact_are_named(folder, what, name):
    (folder.root / name).write_bytes(b"Second")
    assert artifacts.problems(folder)[0].startswith(f"{name}: {what} is damaged: sha256 ")
    (folder.root / name).unlink()
    assert artifacts.problems(folder) == [f"{name}: {what} is missing"]


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_an_artifact_outside_the_folder_is_named_and_not_read(folder, name):
    writer = events.EventWriter(folder.events)
    writer.append(events.Saved, step=3, what="sample", path=name, sha256="0" * 64)
    writer.close()
    assert artifacts.problems(folder) == [f"{name}: sample outside the trial's folder"]


def test_what_a_kill_left_is_named_and_tidied_up(folder):
    for name in ("checkpoints/step-00000003.pt", "checkpoints/manifest.json", ".scores.csv.77.partial"):
        (folder.root / name).touch()
    assert len(artifacts.problems(folder)) == 3
    artifacts.tidy(folder)
    assert artifacts.problems(folder) == []
    assert (folder.root / FILES["generator"]).exists()


def test_a_trial_that_has_not_ended_keeps_its_checkpoints(tmp_path):
    folder = TrialFolder(tmp_path)
    folder.checkpoints.mkdir()
    (folder.checkpoints / "step-00000003.pt").touch()
    events.EventWriter(folder.events).close()
    artifacts.tidy(folder)
    assert (folder.checkpoints / "step-00000003.pt").exists() and artifacts.problems(folder) == []
