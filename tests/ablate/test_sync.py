"""`ablate sync`: what a driver tells while it runs, told from the folders alone."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import optuna
import pytest

from ablate.cli import running_summary
from ablate.driver import Interrupt
from ablate.events import read
from ablate.lock import hold
from ablate.records import StudyFolder
from ablate.run import Ended, Exit
from ablate.sync import describe, sync
from tests.ablate import studies
from tests.ablate.commands import ablate
from tests.ablate.live import ANSWER, PacedExecutor, drive_live, every_row, facts_in, plan_at
from tests.ablate.test_searching import plan_of

TOLD = "up to date: 4 of 4 cells with their outcome, the report"


def new_runs(folder, empty_store):
    (folder / "runs").mkdir()
    shutil.copy(empty_store, folder / "runs" / "mlflow.db")
    return folder / "runs"


@pytest.fixture
def runs(tmp_path, empty_store, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return new_runs(tmp_path, empty_store)


@pytest.fixture(scope="module")
def driven(tmp_path_factory, empty_store):
    """A study that was driven to its end, with its stores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return drive(new_runs(tmp_path_factory.mktemp("driven"), empty_store)).folder


@pytest.fixture
def whole(tmp_path, driven, monkeypatch):
    """A copy of it in another place."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(driven.runs, tmp_path / "runs")
    return StudyFolder(tmp_path / "runs", "tiny")


def drive(runs, at: int | None = None, **options):
    """A study that is driven to its end, or interrupted once `at` events have been written."""
    interrupt = Interrupt()

    def asked(written: int) -> None:
        interrupt.count = int(written == at)

    return drive_live(plan_at(runs.parent), runs, PacedExecutor(at=asked, **options), interrupt=interrupt)


def records(folder: StudyFolder) -> list[tuple]:
    """What Optuna's storage says of each trial, but for when this machine wrote it."""
    study = optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder.optuna}")
    return [(one.number, one.state.name, one.params, one.distributions, one.user_attrs, one.values,
             one.intermediate_values) for one in study.trials]  # fmt: skip


def rows(folder: StudyFolder) -> dict:
    return {path.name: every_row(path) for path in (folder.mlflow, folder.optuna)}


def synced(folder: StudyFolder):
    return sync(folder, summary=lambda report: ANSWER)


def without_stores(folder: StudyFolder, empty_store) -> None:
    shutil.rmtree(folder.artifacts, ignore_errors=True)
    shutil.copy(empty_store, folder.mlflow)
    folder.optuna.unlink()


def pictures(folder: StudyFolder) -> int:
    return len(list(folder.artifacts.glob("*/artifacts/images/*.webp")))


@pytest.mark.parametrize("at", [None, 2, 10])
def test_deleted_stores_are_told_what_the_driver_told_them_and_a_second_call_changes_no_row(runs, empty_store, at):
    """A whole study, one interrupted in its first trial, one in its second."""
    ran = drive(runs, at)
    folder = ran.folder
    assert ran.code is (Exit.interrupted if at else Exit.done) and not ran.unreachable
    ran.assert_never_held_up()
    told, known, shown = facts_in(folder.mlflow, folder), records(folder), pictures(folder)
    assert {cell: facts["status"] for cell, facts in told.items()} == {
        None: {"": "FINISHED", **dict.fromkeys(["base/1", "lr_ratio=half/1", "base/2", "lr_ratio=half/2"], "FINISHED")},
        2: {"": "KILLED", "base/1": "KILLED"},
        10: {"": "KILLED", "base/1": "FINISHED", "lr_ratio=half/1": "KILLED"},
    }[at]

    before = rows(folder)
    found = synced(folder)
    assert rows(folder) == before, "all had arrived"
    assert (found.ended, found.begun, found.report) == {None: (4, 0, True), 2: (0, 1, None), 10: (1, 1, None)}[at]

    without_stores(folder, empty_store)
    synced(folder)
    assert facts_in(folder.mlflow, folder) == told and records(folder) == known
    assert pictures(folder) == shown
    before = rows(folder)
    synced(folder)
    assert rows(folder) == before


def test_an_interrupted_study_that_was_synced_goes_on_in_the_same_runs(runs, empty_store):
    folder = drive(runs, 10).folder
    without_stores(folder, empty_store)
    synced(folder)
    assert "KILLED" in {facts["status"] for facts in facts_in(folder.mlflow, folder).values()}
    assert drive(runs).code is Exit.done
    told, known = facts_in(folder.mlflow, folder), records(folder)
    assert {facts["status"] for facts in told.values()} == {"FINISHED"} and len(told) == 5
    assert [record[1] for record in known] == ["COMPLETE"] * 4
    without_stores(folder, empty_store)
    synced(folder)
    assert facts_in(folder.mlflow, folder) == told and records(folder) == known


def test_a_search_is_told_with_its_distributions(runs, empty_store):
    plan = plan_of(runs.parent, "design.search.trials=3", sampler="random")
    ran = drive_live(plan, runs, PacedExecutor(pictures=False))
    assert ran.code is Exit.done
    told, known = facts_in(ran.folder.mlflow, ran.folder), records(ran.folder)
    without_stores(ran.folder, empty_store)
    synced(ran.folder)
    assert records(ran.folder) == known and len(known) == 8
    assert facts_in(ran.folder.mlflow, ran.folder) == told


def test_what_a_store_lost_in_the_middle_comes_back_without_disturbing_the_rest(whole):
    from mlflow import MlflowClient

    folder = whole
    told = facts_in(folder.mlflow, folder)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder.mlflow}")
    lost = next(run for run in client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
                if run.data.tags.get("ablate.cell") == "base/2")  # fmt: skip
    client.delete_run(lost.info.run_id)
    assert len(facts_in(folder.mlflow, folder)) == 4
    synced(folder)
    assert facts_in(folder.mlflow, folder) == told


def test_another_store_is_told_by_the_environment_and_the_command_says_what_there_was(whole, empty_store, tmp_path):
    folder = whole
    other = tmp_path / "other.db"
    shutil.copy(empty_store, other)
    found = ablate("sync", "tiny", environment={"MLFLOW_TRACKING_URI": f"sqlite:///{other}"})
    assert found.code == 0, found.err
    assert found.out == f"tiny: MLflow (sqlite:///{other}) and Optuna's storage {TOLD}\n"
    there, here = facts_in(other, folder), facts_in(folder.mlflow, folder)
    assert there[""].pop("tags")["mlflow.note.content"] != here[""].pop("tags")["mlflow.note.content"] == ANSWER
    assert there == here


def test_a_server_that_is_away_is_exit_3_and_no_password_is_shown(whole, monkeypatch):
    monkeypatch.setattr("ablate.tracking.SERVER_SECONDS", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = ablate("sync", "tiny", environment={"MLFLOW_TRACKING_URI": f"http://ann:canary@127.0.0.1:{port}"})
    assert found.code == 3
    optuna_line, mlflow_line = found.out.splitlines()
    assert optuna_line.startswith("tiny: Optuna's storage up to date: 4 of 4 cells")
    assert mlflow_line.startswith(f"tiny: MLflow could not be brought up to date: http://***@127.0.0.1:{port}: ")
    assert mlflow_line.endswith(": Connection refused") and found.err == "", "it is said once"
    assert "Connection refused" in whole.log.read_text()
    assert "canary" not in found.out + found.err and "Traceback" not in found.err


def test_a_study_that_a_driver_holds_is_left_to_it_and_the_others_are_told(whole):
    tiny, runs = whole, whole.runs
    shutil.copytree(tiny.root, runs / "other")
    (runs / "other" / "uid").unlink()
    document = (runs / "other" / "plan.json").read_text().replace('"name": "tiny"', '"name": "other"')
    (runs / "other" / "plan.json").write_text(document)
    before = rows(tiny)
    with hold(tiny.lock):
        found = ablate("sync")
    assert found.code == 75 and f"another driver runs this study: pid {os.getpid()}" in found.err
    assert found.out.startswith("other: MLflow") and rows(tiny)["optuna.db"] == before["optuna.db"]
    other = StudyFolder(runs, "other")
    assert len(facts_in(other.mlflow, other)) == 5 and len(facts_in(tiny.mlflow, tiny)) == 5


def test_mistakes_are_sentences(whole):
    assert "no study has run" in ablate("sync", "--runs", "nowhere").out
    unknown = ablate("sync", "nothing")
    assert unknown.code == 2 and "no study of this name has run" in unknown.err
    folder = whole
    wrong = ablate("sync", "tiny", environment={"MLFLOW_TRACKING_URI": "ftp://host"})
    assert wrong.code == 4 and "MLFLOW_TRACKING_URI" in wrong.err
    folder.optuna.write_bytes(b"not a database, but long enough to be read as one" * 100)
    corrupt = ablate("sync", "tiny")
    assert corrupt.code == 3 and "rebuilt from them once it is moved away" in corrupt.err
    folder.optuna.unlink()
    (folder.report / "report.json").unlink()
    lacking = ablate("sync", "tiny")
    assert lacking.code == 0 and "its report is not written: ablate report tiny" in lacking.out


def test_a_run_that_could_not_tell_a_store_names_the_command_that_will(tmp_path):
    made = plan_at(tmp_path)
    behind = {"Optuna's storage": "it is locked", "MLflow": "http://***@host: no route"}
    ended = Ended(Exit.storage, tmp_path / "report.md", {"done": 4}, behind, "http://***@host")
    said = running_summary(made, ended, tmp_path / "there").splitlines()
    whole = f"the results are whole under {tmp_path}/there/; once it answers: ablate sync tiny --runs {tmp_path}/there"
    assert said[-2:] == [f"{store} could not be brought up to date: {why}; {whole}" for store, why in behind.items()]


def test_the_commands_that_a_run_prints_are_for_a_shell(tmp_path):
    ended = Ended(Exit.interrupted, tmp_path / "report.md", {"done": 4}, place="sqlite:///mlflow.db")
    said = running_summary(plan_at(tmp_path), ended, Path("my runs/$(x)"))
    assert "MLflow: ablate ui --runs 'my runs/$(x)'\n" in said
    assert said.endswith("go on with: ablate run tiny --runs 'my runs/$(x)'")


def test_sync_changes_nothing_that_it_reads(runs):
    folder = drive(runs, 10).folder
    files = {path: path.read_bytes() for path in (folder.root / "trials").rglob("*") if path.is_file()}
    files |= {path: path.read_bytes() for path in (folder.plan, folder.study)}
    synced(folder)
    assert {path: path.read_bytes() for path in files} == files
    assert all(read(path) for path in files if path.name == "events.jsonl")


def test_without_tracking_only_optunas_storage_is_told(runs):
    text = studies.STUDY + "tracking: {mlflow: null}\n"
    folder = drive_live(plan_at(runs.parent, text), runs, PacedExecutor(pictures=False), None).folder
    known = records(folder)
    folder.optuna.unlink()
    assert describe(synced(folder)) == f"tiny: Optuna's storage {TOLD}"
    assert records(folder) == known
