"""The truth at any moment: a living driver, a dead one, one elsewhere, damaged files, and the words for it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

from ablate import events, lock
from ablate.plan import make_plan
from ablate.records import StudyFolder, write_atomically
from ablate.status import study_status
from ablate.status_words import describe
from ablate.study import load
from tests.ablate import commands, studies

AT = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
HOLDER = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from ablate.events import EventWriter, Measured
from ablate.lock import hold
with ExitStack() as stack:
    writers = []
    for path in map(Path, sys.argv[1:]):
        if path.suffix == ".lock":
            stack.enter_context(hold(path))
        else:
            writers.append(EventWriter(path, attempt=2))
            writers[-1].append(Measured, step=3, images=12, split="train", values={})
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def living():
    """Starts a process that holds the locks of these files, as a driver (`.lock`) or a first rank does."""
    started = []

    def start(*paths) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", HOLDER, *map(str, paths)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A planned study of which nothing has run: its folder and the ids of its trials."""
    monkeypatch.chdir(tmp_path)
    plan = make_plan(load(studies.write(tmp_path)))
    folder = StudyFolder(tmp_path / "runs", "tiny")
    write_atomically(folder.plan, json.dumps(plan.to_json()))
    for id, spec in plan.specs.items():
        write_atomically(folder.trial(id).spec, json.dumps({"spec": spec.to_json()}))
    return folder, list(plan.specs)


def write(folder: StudyFolder, id: str, *, attempts: int = 1, end: str = "", step: int = 3) -> None:
    """A trial's stream: so many attempts, each with a line at `step`, and an end if it has one."""
    for attempt in range(1, attempts + 1):
        writer = events.EventWriter(folder.trial(id).events, attempt=attempt)
        writer.append(events.Started, world_size=1, threads=1, device="cpu", start_up=1.25)
        writer.append(events.Measured, step=step, images=4 * step, split="train", values={"loss_d": 1.0})
        if end and attempt == attempts:
            writer.append(events.Ended, step=6, images=24, status=end, why="" if end == "done" else "so it was")
        writer.close()


def told(folder: StudyFolder, *, every: bool = True) -> tuple[dict, str]:
    status = study_status(folder.runs, folder.name)
    return status, describe(status, every=every)


def states(status: dict) -> list[str]:
    return [trial["state"] for trial in status["trials"]]


def killed(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_study_that_has_only_been_planned_waits(study):
    folder, _ = study
    status, text = told(folder)
    assert (status["state"], status["driver"], states(status)) == ("stopped", None, ["waiting"] * 4)
    assert "no driver is alive" in text and text.endswith("go on with: ablate run tiny")


def test_a_living_driver_is_named_and_a_trial_runs_while_its_stream_is_held(study, living):
    folder, ids = study
    write(folder, ids[0], end="done")
    write(folder, ids[1])
    process = living(folder.lock, folder.trial(ids[1]).events)
    write(folder, ids[2])  # taken up later: nobody is at work on it now
    status, text = told(folder)
    assert status["state"] == "running" and status["driver"]["pid"] == process.pid and status["driver"]["alive"]
    assert states(status) == ["done", "running", "waiting", "waiting"]
    assert re.search(rf"driver: pid {process.pid} on \S+, since {AT}$", text, re.MULTILINE)
    assert "running, 3 generator updates done" in text and "go on with" not in text


def test_a_killed_driver_died_after_its_last_sign_of_life(study, living):
    folder, ids = study
    process = living(folder.lock, folder.trial(ids[0]).events)
    killed(process)
    status, text = told(folder)
    assert (status["state"], states(status)[0]) == ("stopped", "waiting")
    assert status["driver"]["alive"] is False and status["driver"]["ended"] is None
    assert status["driver"]["last_sign"] == status["trials"][0]["last"] > status["driver"]["since"]
    assert re.search(rf"the driver \(pid {process.pid} on \S+, since {AT}\) died after {AT}", text)
    assert "waiting to be taken up again, 3 generator updates done" in text
    assert text.endswith("go on with: ablate run tiny")


def test_a_rank_that_outlives_its_driver_is_still_running_and_that_is_said(study, living):
    folder, ids = study
    killed(living(folder.lock))
    rank = living(folder.trial(ids[0]).events)
    status, text = told(folder)
    assert (status["state"], states(status)[0]) == ("stopped", "running")
    assert "a rank without its driver still holds a stream" in text
    killed(rank)
    assert states(told(folder)[0])[0] == "waiting" and "rank without" not in told(folder)[1]


@pytest.mark.parametrize(("error", "says"), [
    (None, "stopped cleanly at"),
    (KeyboardInterrupt, "was ended at once by a signal at"),
    (OSError, r"ended with an error at .* \(OSError\); driver.log"),
])  # fmt: skip
def test_how_a_driver_let_go_is_said(study, error, says):
    folder, ids = study
    write(folder, ids[0])
    try:
        with lock.hold(folder.lock):
            if error:
                raise error
    except (KeyboardInterrupt, OSError):
        pass
    status, text = told(folder)
    assert status["state"] == "stopped" and re.search(says, text) and "died" not in text


def elsewhere(folder: StudyFolder) -> None:
    """The lock file as a driver on another machine leaves it, living or dead."""
    with lock.hold(folder.lock):
        document = json.loads(folder.lock.read_text()) | {"host": "node7", "boot": "another"}
    folder.lock.write_text(json.dumps(document))


def test_of_a_driver_on_another_machine_what_is_known_is_said_and_no_more(study):
    folder, ids = study
    elsewhere(folder)
    write(folder, ids[0], end="done")
    write(folder, ids[1])
    status, text = told(folder)
    assert (status["state"], status["driver"]["alive"]) == ("unknown", None)
    assert states(status) == ["done", "unknown", "waiting", "waiting"]
    assert "on node7" in text and "can't be seen from this machine; it lived at 20" in text
    assert "died" not in text and "stopped" not in text
    for id in ids[1:]:
        write(folder, id, end="done")
    assert told(folder)[0]["state"] == "finished", "what has ended has ended, wherever its driver is"


def test_a_driver_that_died_after_the_last_trial_may_have_left_no_report(study, living):
    folder, ids = study
    process = living(folder.lock)
    for id in ids:
        write(folder, id, end="done")
    killed(process)
    status, text = told(folder)
    assert status["state"] == "finished" and "died after" in text and "`ablate run` writes its report" in text
    with lock.hold(folder.lock):
        pass
    assert "driver" not in told(folder)[1], "a finished study's driver is nobody's concern"


def test_another_command_that_holds_the_study_is_no_driver(study):
    folder, ids = study
    write(folder, ids[0])
    with lock.hold(folder.lock, what="ablate clean"):
        assert told(folder)[0]["state"] == "stopped"


def test_a_damaged_stream_is_named_with_its_line_and_hides_no_other(study):
    folder, ids = study
    write(folder, ids[0], end="diverged")
    write(folder, ids[1], end="done")
    stream = folder.trial(ids[1]).events
    lines = stream.read_text().splitlines(keepends=True)
    stream.write_text("".join([lines[0], lines[1].replace("1.0", "1.1"), *lines[2:]]))
    for named in (("tiny",), ()):
        ended = commands.ablate("status", *named)
        assert ended.code == 3 and f"{stream.relative_to(folder.runs.parent)}:2: damaged: " in ended.out, ended.err
        assert "1 diverged" in ended.out and "1 damaged" in ended.out and "2 waiting" in ended.out
        assert "diverged: so it was" in ended.out and "move the trial's folder away" in ended.out
    found = json.loads(commands.ablate("status", "tiny", "--json").out)
    assert found["counts"]["damaged"] == 1 and found["trials"][1]["state"] == "damaged"


def test_a_damaged_plan_hides_no_other_study(study):
    folder, _ = study
    write_atomically(StudyFolder(folder.runs, "a-broken").plan, "{")
    ended = commands.ablate("status")
    assert ended.code == 3 and "a-broken: runs/a-broken/plan.json: damaged: not JSON" in ended.out
    assert "tiny: stopped; 4 trials: 4 waiting" in ended.out
    assert [one["state"] for one in json.loads(commands.ablate("status", "--json").out)] == ["damaged", "stopped"]
    assert commands.ablate("status", "a-broken").code == 3


def test_a_study_whose_data_are_being_prepared_is_named_with_its_driver(tmp_path, monkeypatch, living):
    monkeypatch.chdir(tmp_path)
    process = living(StudyFolder(tmp_path / "runs", "early").lock)
    said = rf"early: preparing its data: pid {process.pid} on \S+, since {AT}\n"
    for command in (("status",), ("status", "early"), ("sync",)):
        ended = commands.ablate(*command)
        assert ended.code == 0 and re.fullmatch(said, ended.out), ended
    for command in ("sync", "report", "clean", "confirm"):
        ended = commands.ablate(command, "early")
        assert (ended.code, ended.out) == (75, "") and re.fullmatch(said, ended.err), ended
    found = json.loads(commands.ablate("status", "early", "--json").out)
    assert (found["state"], found["driver"]["pid"], found["trials"]) == ("preparing", process.pid, [])
    killed(process)
    assert commands.ablate("status").out == "no study has run under runs/ yet\n", "it has left nothing to tell of"
    assert commands.ablate("status", "early").code == 2


def test_it_stands_beside_studies_that_have_a_plan(study, living):
    folder, _ = study
    living(StudyFolder(folder.runs, "early").lock)
    assert [one["state"] for one in json.loads(commands.ablate("status", "--json").out)] == ["preparing", "stopped"]
    with lock.hold(StudyFolder(folder.runs, "other").lock, what="ablate clean"):
        assert "other" not in commands.ablate("status").out


def test_what_being_taken_up_again_has_cost_is_one_line_and_one_for_each_trial(study):
    folder, ids = study
    write(folder, ids[0], attempts=3, end="done", step=2)
    write(folder, ids[1], attempts=2, end="done", step=3)
    write(folder, ids[2], end="done")
    status, text = told(folder)
    assert "  recovery: 3 resumptions of 2 trials; at most 3 updates repeated by one, 7 to 9 updates by all " in text
    assert "(checkpoint interval 3); start-up 1.2 s at most, 3.8 s in all" in text
    assert "attempt 3, 4 to 6 updates done twice, 2.5 s of start-up" in text
    assert "attempt 2, 3 updates done twice, 1.2 s of start-up" in text
    assert [trial["attempts"] for trial in status["trials"]] == [3, 2, 1, 0]
    assert status["recovery"] | {"away": 0} == {
        "resumptions": 3, "trials": 2, "interval": [3, 3], "repeated": 7, "repeated_at_most": 9, "largest": 3,
        "beyond": 0, "start_up": 3.75, "start_up_largest": 1.25, "away": 0,
    }  # fmt: skip


def test_without_a_resumption_there_is_no_such_line(study):
    folder, ids = study
    write(folder, ids[0], end="done")
    assert "recovery" not in told(folder)[1]


def test_the_resume_command_names_another_runs_folder(study):
    folder, _ = study
    folder.runs.rename(folder.runs.with_name("elsewhere"))
    assert "go on with: ablate run tiny --runs elsewhere" in commands.ablate("status", "--runs", "elsewhere").out
    folder.runs.with_name("elsewhere").rename("some where; else")
    said = commands.ablate("status", "--runs", "some where; else").out
    assert "go on with: ablate run tiny --runs 'some where; else'\n" in said
