"""A place on a Ray cluster without the cluster: what it does when its claim is gone, or nobody wants anything of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest

from ablate import rayslot
from ablate.executor import Outcome
from ablate.rayslot import ENDED, LOOK_SECONDS, TAKEN, Claim, Need, Slot, cause
from ablate.records import TrialFolder
from tests import processes
from tests.trainers import jobs
from trainers.batch import claim


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "claims").mkdir()
    return tmp_path


def state(place: Path, trial: str, batch: str) -> None:
    claim(place / "claims", trial).write_text(json.dumps({"batch": batch}))


def test_a_claim_holds_until_it_names_another_or_is_gone(place, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    state(place, "t", "ours")
    held = Claim(claim(place / "claims", "t"), "ours")
    assert held.holds()
    state(place, "t", "theirs")
    assert held.holds(), "it looks now and then"
    assert not held.anew().holds()
    now[0] += LOOK_SECONDS
    assert not held.holds()
    state(place, "t", "ours")
    assert held.holds()
    claim(place / "claims", "t").unlink()
    now[0] += LOOK_SECONDS
    assert not held.holds()


def test_a_disk_that_does_not_answer_takes_no_claim_away(place):
    claim(place / "claims", "t").mkdir()  # reading it fails
    assert Claim(claim(place / "claims", "t"), "ours").holds()


@pytest.mark.parametrize(("said", "line"), [
    ("The actor died unexpectedly.\n\tclass_name: Slot\n\tpid: 1\nIts node is lost.", "Its node is lost."),
    ("", "ValueError"),
    ("The actor died because of an error raised in its creation task, x\n  File 1\nKeyError: 'y'", "KeyError: 'y'"),
])  # fmt: skip
def test_what_ray_says_of_an_end_becomes_a_line(said, line):
    assert cause(ValueError(said)) == line


@pytest.mark.slow
@pytest.mark.parametrize("why", [TAKEN, ENDED])
def test_a_trial_that_was_given_away_or_is_stopped_ends_here(place, monkeypatch, why):
    """The fence: whatever the cluster knows of the actor, it looks at its claim."""
    monkeypatch.setattr(rayslot, "IDLE_SECONDS", 3600.0)  # after which it would end this process
    folder: TrialFolder = jobs.alone(place / "study", "t", steps=400, every=2, ranks=2)
    slot = Slot(str(place / "claims"), str(place / "log"), Need(1, 2, 0), {})
    job = {"kind": "run", "folder": str(folder.root), "ranks": 2, "threads": 1}
    state(place, "t", "ours")
    found: list[Outcome] = []

    async def both() -> None:
        await slot.start("ours", job, 0.0)
        found.append(await slot.outcome("ours"))

    thread = threading.Thread(target=lambda: asyncio.run(both()))
    thread.start()
    end = time.monotonic() + 120
    while not [*folder.checkpoints.glob("step-*")] and time.monotonic() < end:
        time.sleep(0.05)
    if why == TAKEN:
        state(place, "t", "theirs")
    else:
        asyncio.run(slot.stop("ours"))
    thread.join(60)
    assert found == [Outcome(lost=True, said=why)]
    assert not processes.ranks(place / "study")
    assert asyncio.run(slot.outcome("ours")) == found[0], "told again"
