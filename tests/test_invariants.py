"""The oracle can fail: every invariant, broken by hand in a copy of a finished study, is named, and nothing else is."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ablate import events
from ablate.records import StudyFolder, TrialFolder
from tests.ablate import studies
from tests.invariants import Acknowledged, crowded, violations

pytestmark = pytest.mark.slow  # like all that asks the oracle

SHORT = {"seeds: 2": "seeds: 1", "updates: 6": "updates: 2", "every: 3": "every: 1"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> StudyFolder:
    root = tmp_path_factory.mktemp("finished")
    text = studies.STUDY
    for long, short in SHORT.items():
        text = text.replace(long, short)
    studies.write(root, text)
    done = studies.ablate("run", "tiny.yaml", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return StudyFolder(root / "runs", "tiny")


@pytest.fixture
def copy(finished, tmp_path) -> StudyFolder:
    """MLflow's runs of the copy have their artifacts in the copy."""
    made = StudyFolder(tmp_path / "runs", "tiny")
    shutil.copytree(finished.runs, made.runs)
    on(made.mlflow, "update runs set artifact_uri = replace(artifact_uri, ?, ?)", str(finished.runs), str(made.runs))
    return made


def on(database: Path, *statement: str) -> None:
    with closing(sqlite3.connect(database)) as store, store:
        store.execute(statement[0], statement[1:])


def trial(folder: StudyFolder) -> TrialFolder:
    """Of the first cell, `base/1`."""
    return folder.trial(studies.plan(folder)["cells"][0]["trial"])


def rewrite(folder: StudyFolder, change) -> None:
    """Put the events that `change` makes of a trial's events in their place."""
    path = trial(folder).events
    path.write_text("".join(map(events.to_line, change(events.read(path)))))


def test_a_study_that_ended_undisturbed_breaks_nothing_and_neither_does_its_copy(finished, copy):
    assert violations(finished) == []
    for after in ("kill", "interruption", "end"):
        assert violations(copy, undisturbed=finished, after=after, acknowledged=Acknowledged()) == []


def test_times_hosts_and_what_a_report_says_of_them_are_no_difference(finished, copy):
    provenance = json.loads(copy.provenance.read_text())
    copy.provenance.write_text(json.dumps(provenance | {"host": "elsewhere", "ended": 0.0}))
    shutil.rmtree(copy.report)
    assert studies.ablate("report", "tiny", cwd=copy.runs.parent).returncode == 0
    assert (copy.report / "report.md").read_bytes() != (finished.report / "report.md").read_bytes()
    assert [words for words in violations(copy, undisturbed=finished) if "MLflow's copy" not in words] == []


OPTUNA = "insert into trials (number, study_id, state) select number + 7, study_id, state from trials where number = 0"
FACTS = ("insert into trial_user_attributes (trial_id, key, value_json) select (select max(trial_id) from trials), key,"
         " value_json from trial_user_attributes where trial_id = 1")  # fmt: skip
RUN = "insert into runs select 'twice', {} from runs where name like 'base%'"
TAGS = "insert into tags select key, value, 'twice' from tags join runs using (run_uuid) where name like 'base%'"
OF_BASE = "run_uuid = (select run_uuid from runs where name like 'base%')"
METRIC = "key = 'validation/gmsd' and step = 1 and " + OF_BASE


def second_record(folder: StudyFolder) -> None:
    on(folder.optuna, OPTUNA)
    on(folder.optuna, FACTS)


def second_run(folder: StudyFolder) -> None:
    with closing(sqlite3.connect(folder.mlflow)) as store:
        names = [row[1] for row in store.execute("pragma table_info(runs)")][1:]
    on(folder.mlflow, RUN.format(", ".join(names)))
    on(folder.mlflow, TAGS)


def other_weights(folder: StudyFolder) -> None:
    import torch

    path = trial(folder).checkpoints / "generator.pt"
    state = torch.load(path, weights_only=True)
    next(iter(state["generator"].values())).view(-1)[0] += 1e-7
    torch.save(state, path)


def other_curve(stream: list[events.Event]) -> list[events.Event]:
    return [replace(event, values={**event.values, "loss_d": 0.5}) if getattr(event, "split", "") == "train" else event
            for event in stream]  # fmt: skip


def interleaved(stream: list[events.Event]) -> list[events.Event]:
    """A second worker begins in the middle, and the first one goes on."""
    half = len(stream) // 2
    return [*stream[:half], replace(stream[0], attempt=2), *stream[half:]]


def without(folder: Path, pattern: str) -> None:
    next(iter(sorted(folder.rglob(pattern)))).unlink()


def spoil(path: Path) -> None:
    """Every page of a database but the first."""
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))


BREACHES = {
    "a trial that nobody planned": ("I1", "trials/stranger is of no planned cell", lambda of: shutil.copytree(
        trial(of).root, of.trial("stranger").root)),
    "an end told twice": ("I1", "has 2 ends", lambda of: rewrite(of, lambda stream: [*stream, stream[-1]])),
    "an end that is missing": ("I1", "has 0 ends", lambda of: rewrite(of, lambda stream: stream[:-1])),
    "a second record in Optuna": ("I1", "Optuna has 2 records of base/1", second_record),
    "a record left running": ("I1", "base/1 is RUNNING", lambda of: on(
        of.optuna, "update trials set state = 'RUNNING' where number = 0")),
    "another value in Optuna": ("I1", "base/1 is another result", lambda of: on(
        of.optuna, "update trial_values set value = value + 1 where trial_id = 1")),
    "a record that is missing": ("I1", "Optuna has 0 records of base/1", lambda of: on(
        of.optuna, "delete from trial_user_attributes where trial_id = 1")),
    "a result that changes": ("I2", "scores.csv has changed", lambda of: trial(of).scores.write_text("tile,scene\n")),
    "a result that goes": ("I2", "events.jsonl has changed", lambda of: trial(of).events.unlink()),
    "two workers at once": ("I3", "attempts of trial", lambda of: rewrite(of, interleaved)),
    "an attempt without a start": ("I3", "attempt 1 of trial", lambda of: rewrite(of, lambda stream: stream[1:])),
    "a second run in MLflow": ("I4", "MLflow has 2 runs of base/1", second_run),
    "a run that is missing": ("I4", "MLflow has 0 runs of base/1", lambda of: on(
        of.mlflow, "delete from runs where name like 'base%'")),
    "a run left running": ("I4", "MLflow's run of base/1 is RUNNING", lambda of: on(
        of.mlflow, "update runs set status = 'RUNNING' where name like 'base%'")),
    "a parent left running": ("I4", "MLflow's run of the study is RUNNING", lambda of: on(
        of.mlflow, "update runs set status = 'RUNNING' where name = 'tiny'")),
    "a run of nobody": ("I4", "MLflow has 2 runs of the study (or of nobody)", lambda of: on(
        of.mlflow, f"delete from tags where {OF_BASE}")),
    "a row sent twice": ("I5", "MLflow has 2 rows of base/1: validation/gmsd at 1", lambda of: on(
        of.mlflow, f"insert into metrics select key, value, timestamp + 1, run_uuid, step, is_nan from metrics"
                   f" where {METRIC}")),
    "a row that is missing": ("I5", "lacks validation/gmsd at 1 of base/1", lambda of: on(
        of.mlflow, f"delete from metrics where {METRIC}")),
    "a row at the wrong time": ("I5", "validation/gmsd at 1 that was not measured of base/1", lambda of: on(
        of.mlflow, f"update metrics set timestamp = 7 where {METRIC}")),
    "an evaluation that is missing": ("I5", "validation gmsd at [2], declared [1, 2]", lambda of: rewrite(
        of, lambda stream: [each for each in stream if getattr(each, "split", "") != "validation" or each.step != 1])),
    "a damaged artifact": ("I6", "samples/000001.npz: sample is damaged", lambda of: (
        trial(of).samples / "000001.npz").write_bytes(b"x")),
    "a picture that is missing": ("I6", "MLflow has 1 of 2 pictures of", lambda of: without(of.artifacts, "*.webp")),
    "another report in MLflow": ("I6", "MLflow's copy of the report", lambda of: without(of.artifacts, "table.csv")),
    "checkpoints that stay": ("I6", "step-00000001.pt: of a trial that has ended", lambda of: (
        trial(of).checkpoints / "step-00000001.pt").touch()),
    "other weights": ("I7", "its final weights differ", other_weights),
    "another curve": ("I7", "its curves differ", lambda of: rewrite(of, other_curve)),
    "a resume that computes otherwise": ("I7", "loss_d at 1 came out differently in attempt 2", lambda of: rewrite(
        of, lambda stream: [*stream[:2], replace(stream[0], attempt=2), *(
            replace(each, attempt=2) for each in other_curve(stream[1:]))])),
    "another report": ("I8", "report/table.csv differs", lambda of: (of.report / "table.csv").write_text("rank,arm\n")),
    "another sentence": ("I8", "report/report.md differs", lambda of: (of.report / "report.md").write_text("# tiny\n")),
    "another picture": ("I8", "report/figures/curves.png differs", lambda of: without(of.report, "curves.png")),
    "a damaged database": ("I10", "mlflow.db: ", lambda of: spoil(of.mlflow)),
    "a damaged ledger": ("I10", "optuna.db: ", lambda of: spoil(of.optuna)),
    "a damaged stream": ("I10", "events.jsonl:1: damaged", lambda of: trial(of).events.write_text("{}\n")),
    "a file of a killed writer": ("I10", ".plan.json.77.partial is left over", lambda of: (
        of.root / ".plan.json.77.partial").touch()),
    "half a report": ("I10", ".report.new is left over", lambda of: (of.root / ".report.new").mkdir()),
    "half a database": ("I10", ".mlflow.db.new-journal is left over", lambda of: (
        of.runs / ".mlflow.db.new-journal").touch()),
    "half a data set": ("I10", "abc.partial is left over", lambda of: (of.cache / "abc.partial").mkdir()),
}  # fmt: skip


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_is_named(finished, copy, breach):
    number, words, commit = BREACHES[breach]
    acknowledged = Acknowledged()
    acknowledged.look(copy)
    commit(copy)
    found = violations(copy, undisturbed=finished, acknowledged=acknowledged)
    assert [said for said in found if said.startswith(f"{number}: ") and words in said], found


def test_a_process_that_stays_is_named(copy):
    with open(trial(copy).log, "ab") as log:
        left = subprocess.Popen(["sleep", "60"], stdout=log)
    try:
        assert violations(copy, patience=0.1) == [f"I9: process {left.pid} has ['log.txt'] open"]
    finally:
        left.kill()
        left.wait()


def test_more_ranks_than_a_trial_states_are_named_while_they_live(copy):
    with open(trial(copy).log, "ab") as log, open(trial(copy).events, "ab") as stream:
        ranks = [subprocess.Popen(["sleep", "60"], stdout=log, pass_fds=[stream.fileno()]) for _ in range(2)]
    try:
        (said,) = crowded(copy)
        assert said.startswith(f"I3: 2 ranks work on trial {trial(copy).root.name}, which states 2: ")
        assert all(f"{rank.pid} (with the stream)" in said for rank in ranks)
        ranks[1].kill()
        assert crowded(copy) == [], "what has been killed works no more"
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def test_what_a_kill_may_leave_is_no_breach_after_one_and_is_one_in_the_end(copy):
    """A run that is still open, a torn last line, checkpoints, files not yet in their place."""
    on(copy.mlflow, "update runs set status = 'RUNNING'")
    on(copy.optuna, "update trials set state = 'RUNNING'")
    rewrite(copy, lambda stream: stream[:-1])
    with open(trial(copy).events, "ab") as stream:
        stream.write(b'{"event":"ended","ti')
    (trial(copy).checkpoints / "step-00000001.pt").touch()
    (copy.root / ".plan.json.77.partial").touch()
    (copy.root / ".report.new").mkdir()
    assert violations(copy, after="kill") == []
    assert {words.partition(":")[0] for words in violations(copy)} == {"I1", "I4", "I10"}
