"""Two generations under a manifest: the newest whole one is taken up, and what was passed over is said."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from ablate import disk, events
from ablate.artifacts import problems
from tests import faults
from tests.trainers import jobs, tiny
from tests.trainers.test_train import interrupt_after
from trainers import train
from trainers.checkpoint import Checkpoints, Generation, read


def state(step: int) -> dict:
    return {"step": step, "weights": torch.full((50,), float(step))}


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    """Three saved, two kept: of updates 6 and 9."""
    made = Checkpoints(tmp_path / "checkpoints")
    for step in (3, 6, 9):
        made.save(step, state(step))
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "of another": lambda path: path.write_bytes(path.with_name("step-00000006.pt").read_bytes() + b"x"),
}


def test_two_generations_are_kept_and_the_manifest_states_them(checkpoints):
    assert names(checkpoints.folder) == ["manifest.json", "step-00000006.pt", "step-00000009.pt"]
    for entry, step in zip(json.loads(checkpoints.manifest.read_text()), (9, 6), strict=True):
        known, path = Generation(**entry), checkpoints.folder / f"step-{step:08d}.pt"
        assert (known.file, known.step, known.bytes) == (path.name, step, path.stat().st_size)
        assert read(path, known.sha256)["step"] == step


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_newest_generation_sends_back_to_the_one_before_and_is_named(checkpoints, kind):
    DAMAGE[kind](checkpoints.folder / "step-00000009.pt")
    found = checkpoints.find()
    assert found.state["step"] == 6 and len(found.damaged) == 1
    assert found.damaged[0].startswith("step-00000009.pt is " + ("missing" if kind == "missing" else "damaged"))


def test_with_both_damaged_there_is_none_and_both_are_named(checkpoints):
    flip(checkpoints.folder / "step-00000009.pt")
    (checkpoints.folder / "step-00000006.pt").write_bytes(b"")
    found = checkpoints.find()
    assert found.state is None
    assert [words.split()[0] for words in found.damaged] == ["step-00000009.pt", "step-00000006.pt"]


@pytest.mark.parametrize("manifest", [None, b"", b"{", b"[{}]", b"null", b'[{"file": "../x", "step": 1}]', b"\xff"])
def test_without_its_manifest_the_digests_in_the_stream_vouch(checkpoints, manifest):
    vouched = {entry["file"]: entry["sha256"] for entry in json.loads(checkpoints.manifest.read_text())}
    checkpoints.manifest.unlink()
    if manifest is not None:
        checkpoints.manifest.write_bytes(manifest)
    found = checkpoints.find(vouched)
    assert found.state["step"] == 9 and found.damaged == ("manifest.json is damaged or missing",)
    assert checkpoints.find().state is None


def test_a_manifest_that_points_outside_of_the_folder_is_damaged():
    with pytest.raises(ValueError, match="lies beside its manifest"):
        Generation("../../other/step-00000009.pt", 9, 1, "0" * 64)


def test_nothing_that_runs_code_is_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return print, ("boom",)

    torch.save({"step": Bomb()}, tmp_path / "step-00000001.pt")
    with pytest.raises(pickle.UnpicklingError):
        read(tmp_path / "step-00000001.pt")


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("k", range(1, 51))
def test_a_disk_that_fills_up_at_any_call_leaves_a_whole_generation_and_can_save_again(
    checkpoints, monkeypatch, k, for_good
):
    monkeypatch.setattr(disk, "PIECE", 300)
    saved = 9
    with faults.full_disk(k, for_good=for_good) as full:
        try:
            for step in (12, 15, 18, 21):
                checkpoints.save(step, state(step))
                saved = step
        except disk.DiskFull as error:
            assert str(error).startswith(f"disk full: {checkpoints.folder}")
    assert full.failed
    found = checkpoints.find()
    assert found.state["step"] in (saved, saved + 3) and found.damaged == ()
    assert torch.equal(found.state["weights"], state(found.state["step"])["weights"])
    checkpoints.save(99, state(99))
    assert checkpoints.newest()["step"] == 99 and len(names(checkpoints.folder)) == 3
    assert disk.leftovers(checkpoints.folder) == []


def cut_trial(root: Path) -> tuple[tiny.TrialFolder, tuple]:
    """A trial that stopped at update 7, with checkpoints of 6 and 7; and the facts of one that did not stop."""
    whole = jobs.alone(root / "whole", steps=9, every=3)
    train.run(whole.root)
    folder = jobs.alone(root / "cut", steps=9, every=3)
    interrupt_after(7, folder)
    folder.stop.unlink()
    return folder, jobs.facts(whole)


@pytest.mark.parametrize("broken", [1, 2])
def test_a_trial_whose_checkpoints_are_damaged_says_so_and_ends_with_the_same_numbers(tmp_path, broken):
    folder, facts = cut_trial(tmp_path)
    for path in sorted(folder.checkpoints.glob("step-*.pt"))[-broken:]:
        flip(path)
    train.run(folder.root)
    started = [event for event in events.read(folder.events) if isinstance(event, events.Started)]
    warned = [event for event in events.read(folder.events) if isinstance(event, events.Warned)]
    assert started[-1].step == (6 if broken == 1 else 0)
    assert [event.message for event in warned][0] == (
        f"checkpoint: step-00000007.pt is damaged; taken up from update {started[-1].step}"
    )
    assert len(warned) == broken
    assert jobs.facts(folder) == facts and problems(folder) == []


def test_a_trial_whose_manifest_is_lost_goes_on_by_what_its_stream_vouches_for(tmp_path):
    folder, facts = cut_trial(tmp_path)
    (folder.checkpoints / "manifest.json").write_text("[")
    train.run(folder.root)
    started = [event for event in events.read(folder.events) if isinstance(event, events.Started)]
    assert [event.step for event in started] == [0, 7] and jobs.facts(folder) == facts
