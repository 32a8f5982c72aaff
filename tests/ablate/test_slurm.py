"""Studies on a real Slurm: the same results as here, whoever is killed, cancelled, pre-empted or leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate import events
from ablate.records import StudyFolder
from tests import processes, slurm
from tests.ablate import studies
from tests.invariants import violations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LONG = studies.STUDY.replace("generator_updates: 6", "generator_updates: 240").replace("every: 3", "every: 20")
ON_SLURM = ("--set", "resources.executor=slurm")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> StudyFolder:
    """The study as this machine runs it by itself."""
    slurm.needed()
    return run(tmp_path_factory.mktemp("undisturbed"))


def run(root: Path, *more: str) -> StudyFolder:
    done = studies.ablate("run", studies.write(root, LONG), *more, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return StudyFolder(root / "runs", "tiny")


def begin(root: Path, *more: str) -> tuple[subprocess.Popen, StudyFolder]:
    with studies.hang_up(signal.SIG_DFL):
        driver = studies.start("run", studies.write(root, LONG), *ON_SLURM, *more, cwd=root)
    return driver, StudyFolder(root / "runs", "tiny")


def when(condition: Callable[[], object], what: str) -> None:
    studies.wait_until(lambda: bool(condition()), seconds=180, what=what)


def queue(folder: StudyFolder, *states: str) -> dict[str, str]:
    """The study's jobs that wait or run, or are in those states: id -> name. Other tests may have theirs."""
    asked = ["squeue", "--noheader", "--format", "%i %j", *(["--states", ",".join(states)] if states else [])]
    listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    own = {json.loads(path.read_text())["batch"] for path in folder.slurm.glob("*.json")}
    return {id: name for id, name in map(str.split, listed) if name in own}


def checkpoints(folder: StudyFolder) -> int:
    return len([*folder.root.glob("trials/*/checkpoints/step-*.pt")])


def attempts(folder: StudyFolder) -> dict[str, int]:
    """How often each trial has begun."""
    return {
        path.parent.name: sum(isinstance(event, events.Started) for event in events.read(path))
        for path in folder.root.glob("trials/*/events.jsonl")
    }


def is_whole(folder: StudyFolder, undisturbed: StudyFolder) -> None:
    assert violations(folder, undisturbed=undisturbed) == []


def test_trials_that_share_a_job_give_what_this_machine_gives(undisturbed, tmp_path):
    folder = run(tmp_path, *ON_SLURM, "--set", "resources.trials_per_job=2")
    is_whole(folder, undisturbed)
    assert len([path for path in folder.slurm.glob("ablate-*") if "references" not in path.name]) == 2
    assert {*attempts(folder).values()} == {1}


@pytest.mark.long  # every executor is asked for it, and killed drivers come back in test_slurm_kills
def test_a_driver_that_comes_back_finds_its_jobs(undisturbed, tmp_path):
    driver, folder = begin(tmp_path)
    when(lambda: checkpoints(folder), "a trial writes a checkpoint")
    driver.kill()
    driver.communicate()
    assert queue(folder), "its jobs go on"
    driver, folder = begin(tmp_path)
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, said
    is_whole(folder, undisturbed)
    assert {*attempts(folder).values()} == {1}, "nothing was submitted twice"


@pytest.mark.long
def test_a_lost_terminal_leaves_the_jobs_and_a_word(undisturbed, tmp_path):
    driver, folder = begin(tmp_path)
    when(lambda: checkpoints(folder), "a trial writes a checkpoint")
    driver.send_signal(signal.SIGHUP)
    said, _ = driver.communicate(timeout=60)
    assert driver.returncode == 5 and "jobs go on" in said
    when(lambda: not queue(folder), "all jobs end without a driver")
    assert studies.ablate("run", tmp_path / "tiny.yaml", *ON_SLURM, cwd=tmp_path).returncode == 0
    is_whole(folder, undisturbed)
    assert {*attempts(folder).values()} == {1}


def test_an_interruption_ends_running_and_waiting_jobs(undisturbed, tmp_path):
    driver, folder = begin(tmp_path)
    when(lambda: checkpoints(folder), "a trial writes a checkpoint")
    driver.send_signal(signal.SIGINT)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 5, said
    assert not queue(folder) and not processes.ranks(folder.root)
    assert studies.ablate("run", tmp_path / "tiny.yaml", *ON_SLURM, cwd=tmp_path).returncode == 0
    is_whole(folder, undisturbed)


@pytest.mark.long  # Slurm keeps a job that it requeues waiting for two minutes
@pytest.mark.parametrize("fate", ["scancel", "requeue", "time is up", "drained node"])
def test_what_slurm_does_to_a_job_costs_no_result(undisturbed, tmp_path, fate):
    driver, folder = begin(tmp_path)
    when(lambda: checkpoints(folder), "a trial writes a checkpoint")
    id = next(iter(queue(folder, "RUNNING")))
    strike(fate, id)
    said, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, said
    is_whole(folder, undisturbed)
    again = sum(number - 1 for number in attempts(folder).values())
    assert again == (0 if fate == "drained node" else 1), said
    if fate == "time is up":
        stopped = max(folder.root.glob("trials/*/events.jsonl"), key=lambda path: path.read_bytes().count(b'"started"'))
        stream = events.read(stopped)
        again = [event for event in stream if isinstance(event, events.Started)][-1]
        assert again.step >= stream[stream.index(again) - 1].step, "no update is lost"


def strike(fate: str, id: str) -> None:
    node = os.uname().nodename.partition(".")[0]
    commands = {
        "scancel": [["scancel", id]],
        "requeue": [["scontrol", "requeue", id]],  # as pre-emption does
        "time is up": [["scancel", "--signal", "USR2", id]],  # as Slurm says before the limit
        "drained node": [["scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test"],
                         ["scontrol", "update", f"NodeName={node}", "State=RESUME"]],
    }  # fmt: skip
    for at, command in enumerate(commands[fate]):
        time.sleep(3 * at)
        subprocess.run(command, check=True)


@pytest.mark.long
def test_a_second_interruption_ends_everything_at_once(tmp_path):
    slurm.needed()
    driver, folder = begin(tmp_path)
    when(lambda: [name for name in queue(folder).values() if "references" not in name], "trials are submitted")
    driver.send_signal(signal.SIGINT)
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=120)
    when(lambda: not queue(folder), "all jobs go")
