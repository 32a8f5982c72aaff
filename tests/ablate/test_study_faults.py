"""Faults in the middle of a real study: each ends in time, is named as what it is, and the study goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from ablate.processes import speaking_into
from ablate.records import StudyFolder
from tests import processes
from tests.ablate import studies
from tests.ablate.test_kills import LONGER
from tests.ablate.test_run import assert_every_cell_ran_once, local

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> StudyFolder:
    root = tmp_path_factory.mktemp("undisturbed")
    studies.write(root)
    assert studies.ablate("run", "tiny.yaml", cwd=root).returncode == 0
    return StudyFolder(root / "runs", "tiny")


def assert_as(folder: StudyFolder, other: StudyFolder) -> None:
    assert_every_cell_ran_once(folder)
    assert studies.scores(folder) == studies.scores(other)
    assert (folder.report / "table.csv").read_bytes() == (other.report / "table.csv").read_bytes()


def faulty(tmp_path, rules: str, limits: str = "") -> dict[str, str]:
    once = tmp_path / "once"
    once.mkdir()
    return {"ABLATE_FAILPOINTS": rules, "ABLATE_FAILPOINTS_ONCE": str(once), "ABLATE_LIMITS": limits}


def test_a_rank_that_hangs_one_that_leaves_and_one_that_is_stopped_cost_their_limits_and_nothing_else(
    undisturbed, tmp_path
):
    studies.write(tmp_path)
    more = faulty(tmp_path, "step=sleep:600@3#1,step=exit@4#0,step=stop@5#1", "step=4,collective=60")
    done = studies.ablate("run", "tiny.yaml", cwd=tmp_path, more=more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("taken up again") == 3 == len(list((tmp_path / "once").iterdir()))
    assert "no progress for" in done.stdout
    # Whoever is first: its peer's watchdog, whose limit grows with the slowest update, or the launcher.
    named = "rank 1 (pid " in done.stdout and "is stopped" in done.stdout
    assert named or "rank 1 was ended by SIGKILL" in done.stdout
    assert_as(StudyFolder(tmp_path / "runs", "tiny"), undisturbed)


def test_an_exception_in_one_rank_and_refused_memory_are_the_arms_and_the_others_go_on(tmp_path):
    studies.write(tmp_path)
    done = studies.ablate("run", "tiny.yaml", cwd=tmp_path, more=faulty(tmp_path, "step=raise@4#1,step=memory@5#0"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 done, 2 failed" in done.stdout and "taken up again" not in done.stdout
    states = studies.optuna_states(StudyFolder(tmp_path / "runs", "tiny"))
    assert sorted(states.values()) == [["COMPLETE"], ["COMPLETE"], ["FAIL"], ["FAIL"]]
    said = studies.ablate("status", "tiny", cwd=tmp_path).stdout
    assert "arm: rank 1: Injected: raised by a failpoint" in said
    assert "arm: rank 0: MemoryError: out of memory at batch 4 on 2 ranks; this rank held at most 0." in said


@local
@pytest.mark.parametrize("frozen", ["the launcher", "launcher and ranks"])
def test_a_launcher_that_is_stopped_is_ended_within_its_limit_and_the_trial_goes_on(tmp_path, frozen):
    studies.write(tmp_path, LONGER)
    impatient = "import ablate.executor as e; e.FROZEN_SECONDS = 4; from ablate.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", impatient, "run", "tiny.yaml"], cwd=tmp_path, env=studies.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    folder = StudyFolder(tmp_path / "runs", "tiny")
    studies.wait_until(lambda: studies.measured(folder) >= 4, seconds=120, what="a trial measures")
    ranks = [*speaking_into(folder.root / "trials")]
    launcher = next(way[0] for pid in ranks if (way := processes.between(process.pid, pid)))
    for pid in [launcher, *ranks] if "ranks" in frozen else [launcher]:
        os.kill(pid, signal.SIGSTOP)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert_every_cell_ran_once(folder)
    assert not [*speaking_into(folder.root)]


@local
def test_stopped_processes_of_a_dead_driver_are_ended_when_the_study_goes_on(tmp_path):
    studies.write(tmp_path, LONGER)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    process = studies.start("run", "tiny.yaml", cwd=tmp_path)
    studies.wait_until(lambda: studies.measured(folder) >= 4, seconds=120, what="a trial measures")
    below = studies.descendants(process.pid)
    for pid in below:
        os.kill(pid, signal.SIGSTOP)
    studies.kill(process)
    assert studies.ablate("run", "tiny.yaml", cwd=tmp_path).returncode == 0
    assert_every_cell_ran_once(folder)
    studies.wait_until(lambda: not [*speaking_into(folder.root)], seconds=10, what="nobody speaks any more")


def test_a_second_interruption_ends_everything_at_once(tmp_path):
    studies.write(tmp_path, LONGER)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    process = studies.start("run", "tiny.yaml", cwd=tmp_path)
    studies.wait_until(lambda: studies.measured(folder) >= 4, seconds=120, what="a trial measures")
    ranks = [*speaking_into(folder.root / "trials")]
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)  # the first one would wait for them
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 5 and "ended at once" in said, said
    assert time.monotonic() - began < 40
    assert not studies.alive(set(ranks)) or not [*speaking_into(folder.root / "trials")]
    assert studies.ablate("run", "tiny.yaml", cwd=tmp_path).returncode == 0
    assert_every_cell_ran_once(folder)


def test_a_trial_that_is_stopped_from_outside_goes_on_and_it_does_not_count(undisturbed, tmp_path):
    """As a scheduler's warning before the end of its time: the ranks checkpoint and end well."""
    studies.write(tmp_path)
    done = studies.ablate("run", "tiny.yaml", cwd=tmp_path, more=faulty(tmp_path, "step=warn@2#1"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("stopped from outside; taken up again") == 1
    assert_as(StudyFolder(tmp_path / "runs", "tiny"), undisturbed)
