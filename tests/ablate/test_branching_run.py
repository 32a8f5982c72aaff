"""A study whose trials share their first stage amounts to the study whose trials train alone, whatever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from ablate import events
from ablate.records import StudyFolder
from tests import processes
from tests.ablate import studies
from tests.ablate.test_branching import STUDY as SMALL
from tests.invariants import violations
from tests.ondisk import OnDisk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

STUDY = (
    SMALL.replace("generator_updates: 6", "generator_updates: 40").replace("every: 3", "every: 10")
    .replace("resources: {slots: 1}", "resources: {slots: 2}")
)  # fmt: skip
TAKEN = 2 * (20 + 20 + 32)  # updates: of late, slow and third, with two seeds


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> StudyFolder:
    """The study, each trial trained by itself."""
    root = tmp_path_factory.mktemp("alone")
    studies.write(root, STUDY)
    done = studies.ablate("run", "tiny.yaml", "--set", "resources.share=false", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = StudyFolder(root / "runs", "tiny")
    assert taken_over(folder) == 0 and violations(folder) == []
    return folder


def taken_over(folder: StudyFolder) -> int:
    """Updates with which trials began that they had not made."""
    first = [next(event for event in stream if isinstance(event, events.Started))
             for stream in OnDisk(folder).streams.values()]  # fmt: skip
    return sum(event.step for event in first)


def run(root: Path, **more: str) -> StudyFolder:
    done = studies.ablate("run", "tiny.yaml", cwd=root, more=more)
    assert done.returncode == 0, done.stdout + done.stderr
    return StudyFolder(root / "runs", "tiny")


def test_all_is_the_same_and_a_part_of_the_updates_is_not_made_again(alone, tmp_path):
    studies.write(tmp_path, STUDY)
    planned = studies.ablate("plan", "tiny.yaml", cwd=tmp_path).stdout
    assert f"{TAKEN} of 400 updates are made once for all that share them: 36% saved" in planned
    folder = run(tmp_path)
    assert violations(folder, undisturbed=alone) == []
    assert taken_over(folder) == TAKEN
    said = studies.ablate("status", "tiny", "--json", cwd=tmp_path)
    assert json.loads(said.stdout)["state"] == "finished"


RULES = ["branch-saved=kill", "branch-taken=kill", "branch-saved=kill,branch-taken=kill",
         "event-appended=kill@8,step=kill@23"]  # fmt: skip


@pytest.mark.parametrize("rules", RULES)
def test_workers_killed_where_they_share_change_nothing(alone, tmp_path, rules):
    studies.write(tmp_path, STUDY)
    once = tmp_path / "once"
    once.mkdir()
    folder = run(tmp_path, ABLATE_FAILPOINTS=rules, ABLATE_FAILPOINTS_ONCE=str(once))
    assert len(list(once.iterdir())) == rules.count("=")
    assert violations(folder, undisturbed=alone) == []
    assert taken_over(folder) > 0


def test_a_driver_killed_again_and_again_changes_nothing(alone, tmp_path):
    studies.write(tmp_path, STUDY)
    draw, folder = random.Random(5), StudyFolder(tmp_path / "runs", "tiny")
    for _ in range(5):
        process = studies.start("run", "tiny.yaml", cwd=tmp_path)
        try:
            process.wait(timeout=draw.uniform(4, 16))
        except subprocess.TimeoutExpired:
            below = studies.kill(process)
            studies.wait_until(lambda below=below: not studies.alive(below), seconds=10, what="all of it ends")
            assert violations(folder, after="kill") == []
    assert violations(run(tmp_path), undisturbed=alone) == []


def test_a_trunk_killed_for_good_before_its_branch_leaves_the_others_to_themselves(alone, tmp_path):
    """Its rank is killed as often as it begins, until the machine is given up; then the failed trial is tried again."""
    studies.write(tmp_path, STUDY)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    process = studies.start("run", "tiny.yaml", "--set", "resources.slots=1", cwd=tmp_path)
    trunk = ""
    while process.poll() is None:
        trunk = trunk or next((id for id in sorted({rank.trial for rank in processes.ranks(folder.root)})
                               if OnDisk(folder).plan["cells"][0]["trial"] == id), "")  # fmt: skip
        for rank in processes.ranks(folder.root) if trunk else ():
            if rank.trial == trunk and not folder.trial(trunk).branches.exists():
                os.kill(rank.pid, signal.SIGKILL)
        if trunk and any(isinstance(event, events.Ended) for event in OnDisk(folder).streams.get(trunk, ())):
            break
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 1, said
    again = studies.ablate("run", "tiny.yaml", "--set", "resources.slots=1", "--retry-failed", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert taken_over(folder) > 0
    for what in ("curves", "scores", "findings"):
        assert {id: getattr(result, what) for id, result in OnDisk(folder).results.items()} == {
            id: getattr(result, what) for id, result in OnDisk(alone).results.items()
        }  # fmt: skip
