"""The line to MLflow: training never waits, an outage is outlasted, no password is shown."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from ablate.events import EventWriter, Measured
from ablate.mlflow_store import resolve
from ablate.problems import redacted
from ablate.records import Status, StudyFolder, TrialResult
from ablate.tracking import Tracking
from tests.ablate.stores import (
    ARMS,
    CELLS,
    FACTORS,
    IMPATIENT,
    PLAN,
    SPECS,
    WHOLE,
    Away,
    connected,
    pictures_of,
    result_of,
    rows_of,
    runs_of,
    trained,
    write_trial,
)


def test_auto_means_the_environments_store_or_a_file_under_runs(tmp_path):
    folder = StudyFolder(tmp_path, "s")
    assert resolve("auto", folder, {}) == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve("auto", folder, {"MLFLOW_TRACKING_URI": "http://host:5000"}) == "http://host:5000"
    assert resolve("sqlite:///mine.db", folder, {"MLFLOW_TRACKING_URI": "http://host:5000"}) == "sqlite:///mine.db"
    assert resolve(None, folder, {"MLFLOW_TRACKING_URI": "http://host:5000"}) is None


def test_without_tracking_every_call_does_nothing(tmp_path):
    tracking = Tracking.open(None, StudyFolder(tmp_path / "runs", "s"), arms=ARMS, factors=FACTORS)
    tracking.begin(CELLS[0], SPECS[CELLS[0].trial])
    tracking.follow(CELLS[0])
    tracking.end(CELLS[0], TrialResult(CELLS[0].trial, Status.done))
    tracking.finish_study(tmp_path, "")
    tracking.interrupt()
    tracking.close()
    assert tracking.unreachable is None and not (tmp_path / "runs").exists()


def test_the_driver_sees_an_absent_server_as_a_reason_without_the_password_and_never_waits(folder, caplog, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://user:canary%2Fsecret@127.0.0.1:{port}"
    caplog.set_level(logging.DEBUG)
    tracking = Tracking.open(uri, folder, **PLAN, patience=IMPATIENT)
    begun = time.monotonic()
    for cell in CELLS:
        tracking.begin(cell, SPECS[cell.trial])
        tracking.end(cell, TrialResult(cell.trial, Status.done))
    tracking.interrupt()
    queued = time.monotonic() - begun
    while not tracking.unreachable and time.monotonic() < begun + 30:
        assert not tracking.flush(0.1)
    tracking.close(0.1)
    assert queued < 0.5 and time.monotonic() - begun < 20  # MLflow's own limits: 246 s
    assert tracking.unreachable == f"http://***@127.0.0.1:{port}: opening the store: Connection refused"
    said = tracking.unreachable + tracking.place + caplog.text + "".join(capfd.readouterr())
    assert "canary" not in said and "secret" not in said


def test_an_outage_ends_and_everything_queued_meanwhile_arrives(folder, client):
    write_trial(folder, CELLS[0])
    runs = connected(folder)
    runs.open_study = lambda: None
    there, runs._client = runs._client, Away()
    tracking = Tracking(runs, patience=IMPATIENT)
    tracking.begin(CELLS[0], SPECS[CELLS[0].trial])
    tracking.follow(CELLS[0])
    tracking.end(CELLS[0], result_of(folder, CELLS[0]))
    assert not tracking.flush(0.3)  # far more attempts than a refused call gets
    assert tracking.unreachable == ": run base/1: no route"
    runs._client = there
    tracking.close(30)
    assert tracking.unreachable is None
    assert runs_of(client)["base/1"].info.status == "FINISHED" and len(rows_of(folder)) == 12


def test_what_has_not_arrived_at_the_end_is_said(folder):
    runs = connected(folder)
    runs.open_study, runs._client = (lambda: None), Away()
    tracking = Tracking(runs, uri="http://ann:canary@host", patience=IMPATIENT)
    tracking.interrupt()
    tracking.close(0.2)
    assert tracking.unreachable == "http://***@host: closing the runs: no route"


def test_a_call_that_the_store_refuses_is_given_up_and_the_others_go_through(folder, client):
    tracking = Tracking.open(f"sqlite:///{folder.mlflow}", folder, **PLAN, patience=IMPATIENT)
    writer = EventWriter(folder.trial(CELLS[0].trial).events)
    writer.append(Measured, step=1, images=4, split="train", values={"not a name!?": 1.0})
    writer.close()
    tracking.begin(CELLS[0], SPECS[CELLS[0].trial])
    tracking.end(CELLS[0], TrialResult(CELLS[0].trial, Status.diverged, why="x"))
    tracking.mirror(CELLS[1], SPECS[CELLS[1].trial], trained(folder, CELLS[1]))
    tracking.close()
    assert "run base/1" in tracking.unreachable
    assert [runs_of(client)[cell].info.status for cell in ("base/1", "lr_ratio=half/1")] == ["FINISHED"] * 2
    assert "ablate.result" not in runs_of(client)["base/1"].data.tags  # so that it is told again


def test_secrets_of_a_uri_do_not_survive_redaction():
    uri = "postgresql://ann:p%40ss@db:5432/mlflow?sslpassword=hunter2&sslmode=require"
    text = f"cannot reach {uri}; tried p@ss, p%40ss and hunter2 with sslmode=require"
    assert redacted(text, uri) == (
        "cannot reach postgresql://***@db:5432/mlflow?sslpassword=***&sslmode=require; tried ***, *** and *** with"
        " sslmode=require"
    )
    assert redacted("http://ann:pa/ss@host/x failed") == "http://***@host/x failed"
    assert redacted("nothing here: a@b") == "nothing here: a@b"


def test_a_new_store_is_the_owners_alone_and_artifacts_lie_beside_it(tmp_path):
    from mlflow import MlflowClient

    folder = StudyFolder(tmp_path / "new", "quick")
    tracking = Tracking.open(f"sqlite:///{folder.mlflow}", folder, **PLAN)
    tracking.interrupt()
    tracking.close(60)
    assert tracking.unreachable is None
    assert stat.S_IMODE(folder.mlflow.stat().st_mode) == 0o600
    client = MlflowClient(tracking_uri=f"sqlite:///{folder.mlflow}")
    assert client.get_experiment_by_name("quick").artifact_location == folder.artifacts.as_uri()


@pytest.mark.slow
def test_processes_that_create_one_store_at_once_all_succeed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from ablate.records import StudyFolder\n"
        "from ablate.tracking import Tracking\n"
        "t = Tracking.open('auto', StudyFolder(Path(sys.argv[1]), sys.argv[2]), arms=[], factors={})\n"
        "t.interrupt(); t.close(120); sys.exit(t.unreachable)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"study{n}"], env=environment) for n in range(4)
    ]
    assert [process.wait(timeout=150) for process in started] == [0] * 4


@pytest.mark.slow
def test_a_real_server_killed_in_the_middle_loses_nothing_and_prints_no_password(folder, tmp_path, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def serve():
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ]
        command += [
            "--backend-store-uri",
            f"sqlite:///{folder.mlflow}",
            "--artifacts-destination",
            str(tmp_path / "served"),
        ]
        return subprocess.Popen(
            command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def train(cell):
        tracking.begin(cell, SPECS[cell.trial])
        write_trial(folder, cell)
        tracking.follow(cell)
        tracking.end(cell, result_of(folder, cell))

    folder.report.mkdir(parents=True)
    (folder.report / "old.md").write_text("the report")
    server = serve()
    try:
        tracking = Tracking.open(f"http://ann:canary@127.0.0.1:{port}", folder, **PLAN)
        train(CELLS[0])
        tracking.finish_study(folder.report, "first")
        assert tracking.flush(120), tracking.unreachable
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        train(CELLS[1])
        while not tracking.unreachable:
            tracking.flush(0.1)
        server = serve()
        (folder.report / "old.md").rename(folder.report / "new.md")
        tracking.finish_study(folder.report, "second")
        tracking.close(120)
        assert tracking.unreachable is None
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"http://127.0.0.1:{port}")
        found = runs_of(client)
        assert set(found) == {"", "base/1", "lr_ratio=half/1"}
        assert {run.info.status for run in found.values()} == {"FINISHED"}
        assert all(pictures_of(client, run) == WHOLE for cell, run in found.items() if cell)
        assert [file.path for file in client.list_artifacts(found[""].info.run_id, "report")] == ["report/new.md"]
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert len(rows_of(folder)) == 2 * 12
    assert "canary" not in "".join(capfd.readouterr())
