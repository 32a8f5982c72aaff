"""Kills of the driver at each of its named points: the same command goes on, and everything is there once."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from ablate.artifacts import problems
from ablate.disk import leftovers
from ablate.failpoints import POINTS
from ablate.records import StudyFolder
from ablate.sqlite import unsound
from tests.ablate import drives, studies
from tests.ablate.test_race import STUDY as RACE
from tests.trainers.test_faults import SHARING, WORKERS

KILLED = -9
# What the workers' tests kill stands in the driver too: its own writes, and ends that it writes for others.
SHARED = ["disk-write", "file-written", "file-replaced", "stream-opened", "event-appended"]
FAST = {"told"}
OFTEN = {"disk-write": 10, "file-written": 8, "file-replaced": 8, "database-made": 2, "spec-written": 4,
         "trial-begun": 4, "run-created": 5, "result-read": 4, "told": 4, "run-ended": 4}  # fmt: skip
FAILING = {"failure-recorded", "stream-opened", "event-appended"}  # reached where a trial breaks
RETRYING = {"put-aside"}
SEARCHING, RACING = {"arm-drawn"}, {"look-recorded"}
SEARCH = studies.STUDY.partition("factors:")[0] + """\
design:
  search:
    sampler: random
    trials: 3
    seeds_per_arm: 1
    space:
      optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
metric: {name: gmsd}
also: [mae]
"""


def study_of(point: str) -> str:
    if point in SEARCHING:
        return SEARCH
    return RACE.replace("name: raced", "name: tiny") if point in RACING else drives.STUDY


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a study of that text that nothing disturbed, spoilt or not."""
    found: dict[tuple[str, bool], StudyFolder] = {}

    def of(text: str, spoilt: bool = False) -> StudyFolder:
        if (text, spoilt) not in found:
            place = prepared(tmp_path_factory.mktemp("undisturbed"), text, spoilt)
            ended = drives.run(place, "tiny.yaml")
            assert ended.code == int(spoilt), ended.said
            found[text, spoilt] = StudyFolder(place / "runs", "tiny")
        return found[text, spoilt]

    return of


def prepared(place: Path, text: str, spoilt: bool = False) -> Path:
    studies.write(place, text)
    if spoilt:
        (place / drives.SPOILT).write_text("0.5")
    return place


@pytest.fixture
def place(tmp_path, empty_store) -> Path:
    """An empty folder but for an MLflow store: making one takes seconds, copying it does not."""
    (tmp_path / "runs").mkdir(mode=0o700)
    shutil.copy(empty_store, tmp_path / "runs" / "mlflow.db")
    return tmp_path


def told(folder: StudyFolder) -> dict:
    """What the study amounts to on disk and in both stores."""
    report = (folder.report / "report.md").read_text().partition("\n## Provenance")
    assert report[1], "the report has no part that depends on time and place"
    return {
        "table": (folder.report / "table.csv").read_bytes(), "report": report[0], "scores": studies.scores(folder),
        "optuna": studies.optuna_states(folder), "mlflow": studies.mlflow_runs(folder),
    }  # fmt: skip


def wrong(folder: StudyFolder) -> list[str]:
    trials = [folder.trial(path.name) for path in (folder.root / "trials").iterdir() if ".failed-" not in path.name]
    found = [said for trial in trials for said in problems(trial)]
    found += [str(path) for path in leftovers(folder.root)]
    return found + [said for path in (folder.optuna, folder.mlflow) if (said := unsound(path))]


def rule(point: str) -> str:
    return f"{point}=kill@{random.Random(point).randint(1, OFTEN.get(point, 1))}"


DRIVERS = [point for point in POINTS if point not in (*WORKERS, *SHARING) or point in SHARED]


@pytest.mark.parametrize("rule", [
    pytest.param(rule(point), marks=[] if point in FAST else [pytest.mark.slow])
    for point in DRIVERS if point not in RETRYING
])  # fmt: skip
def test_killed_at_a_point_the_same_command_brings_all_to_the_same_end(undisturbed, place, rule):
    point = rule.partition("=")[0]
    if point == "database-made":
        (place / "runs" / "mlflow.db").unlink()
    text, spoilt = study_of(point), point in FAILING
    prepared(place, text, spoilt)
    ended = drives.run(place, "tiny.yaml", failpoints=rule)
    assert ended.code == KILLED, ended.said
    again = drives.run(place, "tiny.yaml")
    assert again.code == int(spoilt), again.said
    folder = StudyFolder(place / "runs", "tiny")
    assert told(folder) == told(undisturbed(text, spoilt))
    assert wrong(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["put-aside=kill", "trial-begun=kill", "told=kill@2"])
def test_killed_while_failed_trials_are_tried_again_each_is_tried_once_more(undisturbed, place, rule):
    prepared(place, drives.STUDY, spoilt=True)
    assert drives.run(place, "tiny.yaml").code == 1
    (place / drives.SPOILT).unlink()
    assert drives.run(place, "tiny.yaml", "--retry-failed", failpoints=rule).code == KILLED
    again = drives.run(place, "tiny.yaml", "--retry-failed")
    assert again.code == 0, again.said
    folder = StudyFolder(place / "runs", "tiny")
    wanted = told(undisturbed(drives.STUDY))
    wanted["optuna"] |= {f"lr_ratio=half/{seed}": ["FAIL", "COMPLETE"] for seed in (1, 2)}
    found = told(folder)
    found["scores"] = {id: scores for id, scores in found["scores"].items() if ".failed-" not in id}
    assert found == wanted
    assert wrong(folder) == []


@pytest.mark.slow
def test_killed_again_and_again_all_come_to_the_same_end(undisturbed, place):
    prepared(place, drives.STUDY)
    draw, points = random.Random(11), [point for point in DRIVERS if point in OFTEN]
    codes = []
    for _ in range(8):
        point = draw.choice(points)
        codes.append(drives.run(place, "tiny.yaml", failpoints=f"{point}=kill@{draw.randint(1, 3)}").code)
    assert KILLED in codes and set(codes) <= {KILLED, 0}
    assert drives.run(place, "tiny.yaml").code == 0
    folder = StudyFolder(place / "runs", "tiny")
    assert told(folder) == told(undisturbed(drives.STUDY))
    assert wrong(folder) == []


def test_what_ends_a_run_is_a_sentence_on_the_terminal_and_a_traceback_in_the_log(place):
    prepared(place, drives.STUDY)
    ended = drives.run(place, "tiny.yaml", failpoints="plan-written=raise")
    said = "an error of ablate's own: Injected: raised by a failpoint; its traceback: runs/tiny/driver.log"
    assert ended.code == 4 and ended.said.splitlines()[-1] == said and "Traceback" not in ended.said, ended.said
    log = StudyFolder(place / "runs", "tiny").log.read_text()
    assert "Traceback" in log and 'failpoint("plan-written")' in log


FULL = (1, 3, 9, 17, 27)  # writes of the lock, of the study, of a trial, of its stream, of the report


@pytest.mark.parametrize("good", ["", pytest.param("+", marks=pytest.mark.long)])
@pytest.mark.parametrize("k", [pytest.param(k, marks=[] if k in FULL else pytest.mark.long) for k in range(1, 51)])
def test_a_disk_that_is_full_at_any_write_of_the_driver_ends_the_run_with_a_sentence(undisturbed, place, k, good):
    """Once, or (+) for good; the data have been prepared before, which takes hundreds of writes."""
    shutil.copytree(undisturbed(drives.STUDY).cache, place / "runs/cache")
    prepared(place, drives.STUDY)
    ended = drives.run(place, "tiny.yaml", failpoints=f"disk-write=enospc@{k}{good}")
    if ended.code:
        assert ended.code == 4 and ended.said.splitlines()[-1].startswith("disk full: runs/tiny/"), ended.said
        again = drives.run(place, "tiny.yaml")
        assert again.code == 0, again.said
    else:  # there is no k-th, or tracking's thread met it, which tries again
        assert "disk full" not in ended.said or ".uid." in ended.said, ended.said
    assert "Traceback" not in ended.said
    folder = StudyFolder(place / "runs", "tiny")
    assert told(folder) == told(undisturbed(drives.STUDY))
    assert wrong(folder) == []
