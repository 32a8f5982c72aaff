"""A scheduler's job: what it runs, what it leaves alone, and what it says when its time is up."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ablate.records import TrialFolder
from trainers.batch import Batch, answer, claim, requeued
from trainers.pool import Job


@pytest.fixture
def trial(tmp_path) -> TrialFolder:
    folder = tmp_path / "trials/one"
    folder.mkdir(parents=True)
    return TrialFolder(folder)


class Recorded(Batch):
    """Jobs that are over when they have begun; `began` names them."""

    began: tuple[str, ...] = ()
    during = staticmethod(lambda batch: None)

    def _on_one_node(self):
        def run(job: Job) -> dict[str, int]:
            self.began = (*self.began, Path(job.folder).name)
            self.during(self)
            return {"1": -9}

        return run


def batch(trial: TrialFolder, name: str = "this", claimed: str = "this") -> Recorded:
    place = trial.root.parents[1]
    claim(place, "one").write_text(json.dumps({"batch": claimed}))
    return Recorded(name, str(place), (Job("run", str(trial.root), 1, 1),))


def test_how_a_job_ended_becomes_a_file_and_is_not_done_again(trial, tmp_path):
    made = batch(trial)
    made()
    assert json.loads(answer(tmp_path, "this", "one").read_text()) == {"failures": {"1": -9}}
    made()
    assert made.began == ("one",)


def test_what_a_later_batch_was_made_for_is_left_to_it(trial, tmp_path):
    made = batch(trial, claimed="later")
    made()
    assert made.began == () and not answer(tmp_path, "this", "one").exists() and [*trial.root.iterdir()] == []


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"other": 1}'])
def test_a_claim_that_says_nothing_lets_nothing_run(trial, tmp_path, damage):
    made = batch(trial)
    claim(tmp_path, "one").write_text(damage)
    made()
    assert made.began == ()


def test_a_trial_that_is_asked_to_stop_before_its_turn_is_not_begun(trial, tmp_path):
    trial.stop.touch()
    made = batch(trial)
    made()
    assert made.began == () and json.loads(answer(tmp_path, "this", "one").read_text()) == {"failures": {}}


def test_when_time_is_up_the_trial_is_asked_for_a_checkpoint_and_goes_on_in_the_next_start(trial, tmp_path):
    made = batch(trial)
    made.during = lambda running: running.checkpoint()
    made._current = made.jobs[0]
    again = made.checkpoint().function
    assert trial.stop.exists() and requeued(tmp_path, "this").read_text() == str(trial.root)
    again()
    assert not trial.stop.exists() and not requeued(tmp_path, "this").exists() and again.began == ("one",)


@pytest.mark.parametrize("why", ["", "pruned: no better than half"])
def test_a_flag_that_others_raise_stays(trial, tmp_path, why):
    trial.stop.write_text(why)
    made = batch(trial)
    made._current = made.jobs[0]
    again = made.checkpoint().function
    assert not requeued(tmp_path, "this").exists(), "it was raised already"
    again()
    assert trial.stop.read_text() == why and again.began == ()


def test_a_reason_that_comes_after_the_flag_was_raised_stays(trial, tmp_path):
    made = batch(trial)
    made._current = made.jobs[0]
    again = made.checkpoint().function
    trial.stop.write_text("pruned")
    again()
    assert trial.stop.read_text() == "pruned" and again.began == ()


def test_a_batch_that_its_scheduler_ends_tells_nothing(trial, tmp_path):
    """Ranks die with it: that is no failure of theirs."""
    made = batch(trial)
    made.during = lambda running: os.kill(os.getpid(), signal.SIGTERM)
    pid = os.fork()
    if not pid:
        made()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGTERM
    assert not answer(tmp_path, "this", "one").exists()


def test_a_batch_leaves_signals_as_they_were(trial):
    before = signal.getsignal(signal.SIGTERM)
    batch(trial)()
    assert signal.getsignal(signal.SIGTERM) is before
