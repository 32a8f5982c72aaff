"""MLflow as a projection, in a real SQLite store: a second object over the same store stands for a restart."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ablate.events import Ended, Event, EventWriter, Measured, Saved, Started, fold, read
from ablate.mlflow_facts import flat
from ablate.mlflow_runs import METRICS_PER_CALL, MlflowRuns
from ablate.mlflow_store import own_uid, redacted, resolve
from ablate.pictures import strip
from ablate.records import Arm, Cell, Status, StudyFolder, TrialResult, TrialSpec
from ablate.tracking import Patience, Tracking

FACTORS = {"lr_ratio": ["base", "half"], "batch": ["base", "two"]}
ARMS = [Arm("base"), Arm("lr_ratio=half", {"lr_ratio": "half"})]
RECIPE = {"generator": {"name": "unet", "width": 8}, "terms": {"l1": {"weight": 100.0}}, "batch": 4}
IMPATIENT = Patience(attempts=2, first=0.01, longest=0.02)


class Away:
    """A client whose server does not answer."""

    def __getattr__(self, name):
        raise ConnectionError("no route")


class Clock:
    """Every look at it is a second later, so that a time that is taken twice shows."""

    now = 5_000.0

    def __call__(self) -> float:
        Clock.now += 1
        return Clock.now


def spec_of(seed: int, arm: Arm) -> TrialSpec:
    ratio = 0.5 if arm.changes else 1.0
    recipe = {**RECIPE, "optimizer": {"lr_ratio": ratio, "betas": [0.5, 0.999]}}
    return TrialSpec(recipe, seed, ranks=2, threads=1, device="cpu", data="synthetic")


SPECS = {spec.id: spec for spec in (spec_of(seed, arm) for seed in (1, 2) for arm in ARMS)}
CELLS = [Cell(arm.name, seed, spec_of(seed, arm).id) for seed in (1, 2) for arm in ARMS]
PLAN = {"arms": ARMS, "factors": FACTORS, "question": "Which remedy helps?"}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A created store: making one takes seconds, copying it does not."""
    folder = StudyFolder(tmp_path_factory.mktemp("store"), "empty")
    MlflowRuns(resolve("auto", folder, {}), folder, **PLAN).connect()
    return folder.mlflow


@pytest.fixture
def folder(tmp_path, empty_store) -> StudyFolder:
    folder = StudyFolder(tmp_path / "runs", "quick")
    folder.runs.mkdir()
    shutil.copy(empty_store, folder.mlflow)
    return folder


@pytest.fixture
def client(folder):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder.mlflow}")


@pytest.fixture
def colleague(tmp_path) -> StudyFolder:
    """Another runs folder with a study of the same name."""
    return StudyFolder(tmp_path / "colleague", "quick")


def connected(folder: StudyFolder, store: Path | None = None, **changes) -> MlflowRuns:
    runs = MlflowRuns(f"sqlite:///{store or folder.mlflow}", folder, clock=Clock(), **{**PLAN, **changes})
    runs.connect()
    return runs


def write_trial(folder: StudyFolder, cell: Cell, status: Status = Status.done, *, extra: float = 0.0) -> list[Event]:
    """A trial's folder as a worker leaves it: two evaluations, two sample pictures, an end."""
    trial = folder.trial(cell.trial)
    times = iter(range(1000, 2000))
    writer = EventWriter(trial.events, clock=lambda: float(next(times)))
    writer.append(Started, world_size=2, threads=1, device="cpu")
    trial.samples.mkdir(parents=True, exist_ok=True)
    for step in (10, 20):
        losses = {"loss_d": 0.7 + extra, "term/l1": 0.2, "health/grad_d": math.inf if step == 20 else 1.0}
        writer.append(Measured, step=step, images=4 * step, split="train", values=losses)
        scores = {"psnr": 10.0 + step, "gmsd": 0.3}
        writer.append(Measured, step=step, images=4 * step, split="validation", values=scores)
        tiles = np.full((2, 8, 8, 3), step, np.uint8)
        np.savez(trial.samples / f"{step:06d}.npz", sar=tiles[..., 0], fake=tiles, real=tiles)
        writer.append(Saved, step=step, what="sample", path=f"samples/{step:06d}.npz", sha256="")
    writer.append(Ended, step=20, images=80, status=status, why="" if status is Status.done else "said so")
    writer.close()
    return read(trial.events)


def result_of(folder: StudyFolder, cell: Cell) -> TrialResult:
    return fold(cell.trial, read(folder.trial(cell.trial).events))


def trained(folder: StudyFolder, cell: Cell) -> TrialResult:
    write_trial(folder, cell)
    return result_of(folder, cell)


def runs_of(client, study: str = "quick", *, owner: StudyFolder | None = None) -> dict:
    """Run by cell ("" is the parent), of one folder if given; a second run of a cell fails the test."""
    experiment = client.get_experiment_by_name(study).experiment_id
    uid = owner and owner.uid.read_text().strip()
    runs = [run for run in client.search_runs([experiment]) if uid in (None, run.data.tags.get("ablate.uid"))]
    cells = [run.data.tags.get("ablate.cell", "") for run in runs]
    assert len(set(cells)) == len(cells), cells
    return dict(zip(cells, runs, strict=True))


def rows_of(folder: StudyFolder) -> list[tuple]:
    """Every metric row, read past MLflow."""
    with sqlite3.connect(folder.mlflow) as database:
        return sorted(database.execute("select run_uuid, key, step, timestamp, value, is_nan from metrics"))


def experiment_of(client) -> str:
    return client.get_experiment_by_name("quick").experiment_id


def told_of(folder: StudyFolder, client, owner: StudyFolder) -> dict:
    """All that the store says of a folder's runs: id, state, tags, parameters and every metric row."""
    found = {cell: (run.info.run_id, run.info.status, run.data) for cell, run in runs_of(client, owner=owner).items()}
    rows = rows_of(folder)
    return {
        cell: (id, status, data.tags, data.params, [row for row in rows if row[0] == id])
        for cell, (id, status, data) in found.items()
    }


def pictures_of(client, run) -> list[str]:
    names = [Path(file.path).name for file in client.list_artifacts(run.info.run_id, "images")]
    return sorted(name.split("+timestamp")[0] + Path(name).suffix for name in names)


WHOLE = ["samples+step+10.png", "samples+step+10.webp", "samples+step+20.png", "samples+step+20.webp"]


def test_a_finished_study_reads_well_in_the_store(folder, client):
    runs = connected(folder)
    for cell in CELLS:
        events = write_trial(folder, cell)
        runs.begin(cell, SPECS[cell.trial])
        runs.follow(cell, events[:3])
        runs.follow(cell, events[3:])
        runs.end(cell, result_of(folder, cell))
    folder.report.mkdir()
    (folder.report / "report.md").write_text("the report")
    runs.finish_study(folder.report, "**half is better**")

    found = runs_of(client)
    assert set(found) == {"", "base/1", "base/2", "lr_ratio=half/1", "lr_ratio=half/2"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    parent, child = found[""], found["lr_ratio=half/2"]
    assert parent.info.run_name == "quick" and parent.data.tags["mlflow.note.content"] == "**half is better**"
    assert [file.path for file in client.list_artifacts(parent.info.run_id, "report")] == ["report/report.md"]
    assert child.info.run_name == "lr_ratio=half · seed 2"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["ablate.status"] == "done" and child.data.tags["ablate.trial"] == CELLS[3].trial
    assert {run.data.tags["ablate.study"] for run in found.values()} == {"quick"}
    assert {run.data.tags["ablate.uid"] for run in found.values()} == {folder.uid.read_text().strip()}
    assert child.data.params == {
        "lr_ratio": "half", "batch": "base", "arm": "lr_ratio=half", "seed": "2", "replica": "0",
        "generator.name": "unet", "generator.width": "8", "terms.l1.weight": "100.0", "recipe.batch": "4",
        "optimizer.lr_ratio": "0.5", "optimizer.betas": "[0.5, 0.999]",
        "resources.ranks": "2", "resources.threads": "1", "resources.device": "cpu",
    }  # fmt: skip
    assert child.data.metrics == {
        "loss_d": 0.7, "term/l1": 0.2, "health/grad_d": 1.0, "validation/psnr": 30.0, "validation/gmsd": 0.3,
        "psnr": 30.0, "gmsd": 0.3, "seconds": 7.0,
    }  # fmt: skip
    assert child.data.tags["ablate.not_finite"] == "health/grad_d"
    assert pictures_of(client, child) == WHOLE


def test_a_metric_row_carries_the_events_own_time_and_step(folder, client):
    events = write_trial(folder, CELLS[0])
    runs = connected(folder)
    runs.begin(CELLS[0], SPECS[CELLS[0].trial])
    runs.follow(CELLS[0], events)
    history = client.get_metric_history(runs_of(client)["base/1"].info.run_id, "validation/psnr")
    measured = [event for event in events if isinstance(event, Measured) and event.split == "validation"]
    assert [(row.step, row.timestamp, row.value) for row in history] == [
        (event.step, round(event.time * 1000), event.values["psnr"]) for event in measured
    ]


def test_a_kill_after_any_call_leaves_one_run_per_cell_and_not_a_row_more(folder, client):
    """The driver's script, cut after its n-th call and run whole by a second driver; n = all gives the truth."""
    folder.report.mkdir(parents=True)
    (folder.report / "report.md").write_text("the report")
    cells = CELLS[:2]
    for cell in cells:
        write_trial(folder, cell)

    def script(runs):
        for cell in cells:
            events = read(folder.trial(cell.trial).events)
            yield runs.begin(cell, SPECS[cell.trial])
            yield runs.follow(cell, events[:3])
            yield runs.follow(cell, events[3:])
            yield runs.end(cell, result_of(folder, cell))
        yield runs.finish_study(folder.report, "the answer")

    def state(study):
        names = {run.info.run_id: cell for cell, run in runs_of(client, study).items()}
        rows = [(names[id], *rest) for id, *rest in rows_of(folder) if id in names]
        assert {run.info.status for run in runs_of(client, study).values()} == {"FINISHED"}
        assert all(pictures_of(client, run) == WHOLE for cell, run in runs_of(client, study).items() if cell)
        return sorted(rows)

    truth = None
    for cut in [9, *range(9)]:
        study = StudyFolder(folder.runs, f"cut{cut}")
        shutil.copytree(folder.root, study.root)
        steps = script(connected(study))
        for _ in range(cut):
            next(steps)
        again = connected(study)
        assert [run.info.status for cell, run in runs_of(client, study.name).items() if cell].count("RUNNING") == 0
        for _ in script(again):
            pass
        truth = truth or state(study.name)
        assert state(study.name) == truth, cut


@pytest.mark.parametrize("call", ["create_run", "log_batch", "log_image", "set_tag", "set_terminated", "update_run"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_call_that_breaks_inside_is_repeated_without_a_trace(folder, client, call, moment):
    """Each MLflow call breaks once, before or after it took effect (a dropped reply); the queue tries again."""
    events = write_trial(folder, CELLS[0])
    runs = connected(folder)
    original, broken = getattr(runs._client, call), []

    def breaking(*args, **options):
        if not broken:
            broken.append(call)
            if moment == "after":
                original(*args, **options)
            raise ConnectionError("reply lost")
        return original(*args, **options)

    setattr(runs._client, call, breaking)
    runs.connect = lambda: None
    tracking = Tracking(runs, patience=IMPATIENT)
    tracking.begin(CELLS[0], SPECS[CELLS[0].trial])
    tracking.interrupt()
    tracking.begin(CELLS[0], SPECS[CELLS[0].trial])
    tracking.follow(CELLS[0], events)
    tracking.end(CELLS[0], result_of(folder, CELLS[0]))
    tracking.close()
    assert broken == [call] and tracking.unreachable is None
    run = runs_of(client)["base/1"]
    assert run.info.status == "FINISHED" and run.data.tags["ablate.status"] == "done"
    assert pictures_of(client, run) == WHOLE
    assert len(rows_of(folder)) == 2 * 5 - 1 + 3


@pytest.mark.parametrize("status", list(Status))
def test_only_a_done_trial_has_final_scores_and_only_a_failed_one_is_failed(folder, client, status):
    write_trial(folder, CELLS[0], status)
    connected(folder).mirror(CELLS[0], SPECS[CELLS[0].trial], result_of(folder, CELLS[0]))
    run = runs_of(client)["base/1"]
    assert run.info.status == ("FAILED" if status is Status.failed else "FINISHED")
    assert run.data.tags["ablate.status"] == status
    assert ("psnr" in run.data.metrics) == (status is Status.done)
    assert run.data.tags.get("ablate.why", "") == ("" if status is Status.done else "said so")


def test_a_deleted_store_is_rebuilt_from_the_folders_alone(folder, client):
    for cell in CELLS:
        write_trial(folder, cell)
    runs = connected(folder)
    for _ in range(2):  # the second time nothing may change
        for cell in CELLS:
            runs.mirror(cell, SPECS[cell.trial], result_of(folder, cell))
        rows = rows_of(folder)
        runs = connected(folder)
    found = runs_of(client)
    assert rows_of(folder) == rows and len(rows) == len(CELLS) * 12
    assert found["base/1"].info.start_time == 1000_000 and found["base/1"].info.end_time == 1007_000
    assert {run.info.status for cell, run in found.items() if cell} == {"FINISHED"}


def test_a_retried_trial_goes_on_in_its_own_run_and_sheds_its_old_reason(folder, client):
    write_trial(folder, CELLS[0], Status.failed)
    connected(folder).mirror(CELLS[0], SPECS[CELLS[0].trial], result_of(folder, CELLS[0]))
    folder.trial(CELLS[0].trial).events.unlink()
    write_trial(folder, CELLS[0], extra=0.1)
    connected(folder).mirror(CELLS[0], SPECS[CELLS[0].trial], result_of(folder, CELLS[0]))
    run = runs_of(client)["base/1"]
    assert (run.info.status, run.data.tags["ablate.status"], run.data.tags["ablate.why"]) == ("FINISHED", "done", "")
    assert run.data.metrics["psnr"] == 30.0


def test_an_interrupted_study_has_no_run_running_and_goes_on_in_the_same_runs(folder, client):
    events = write_trial(folder, CELLS[0])
    runs = connected(folder)
    runs.begin(CELLS[0], SPECS[CELLS[0].trial])
    runs.follow(CELLS[0], events[:3])
    runs.interrupt()
    before = runs_of(client)
    assert {run.info.status for run in before.values()} == {"KILLED"}
    assert before["base/1"].data.tags["ablate.status"] == "interrupted"
    again = connected(folder)
    again.begin(CELLS[0], SPECS[CELLS[0].trial])
    assert {run.info.status for run in runs_of(client).values()} == {"RUNNING"}
    again.follow(CELLS[0], events)
    again.end(CELLS[0], result_of(folder, CELLS[0]))
    assert runs_of(client)["base/1"].info.run_id == before["base/1"].info.run_id
    assert len(rows_of(folder)) == 12


def test_lines_repeated_by_a_resumed_worker_do_not_become_rows(folder):
    events = write_trial(folder, CELLS[0])
    later = [dataclasses.replace(event, time=event.time + 500, attempt=2) for event in events]
    runs = connected(folder)
    runs.begin(CELLS[0], SPECS[CELLS[0].trial])
    runs.follow(CELLS[0], events[:3])
    runs.follow(CELLS[0], later[1:3] + events[3:])
    assert len(rows_of(folder)) == 2 * 5 - 1


def test_of_two_runs_of_one_cell_one_stays_and_other_peoples_runs_are_left_alone(folder, client):
    runs = connected(folder)
    runs.begin(CELLS[0], SPECS[CELLS[0].trial])
    experiment = client.get_experiment_by_name("quick").experiment_id
    tags = {"ablate.study": "quick", "ablate.cell": "base/1", "ablate.trial": CELLS[0].trial}
    client.create_run(experiment, tags={**tags, "ablate.uid": folder.uid.read_text().strip()})
    foreign = client.create_run(experiment, tags={"mlflow.user": "someone"})
    connected(folder)
    cells = [run.data.tags.get("ablate.cell") for run in client.search_runs([experiment])]
    assert cells.count("base/1") == 1
    assert client.get_run(foreign.info.run_id).info.status == "RUNNING"


def test_whatever_an_equally_named_study_does_in_the_store_leaves_this_ones_runs_as_they_are(folder, client, colleague):
    """Mine has a finished child, a living one and a living parent, all older than the colleague's runs."""
    runs = connected(folder)
    runs.mirror(CELLS[0], SPECS[CELLS[0].trial], trained(folder, CELLS[0]))
    runs.begin(CELLS[1], SPECS[CELLS[1].trial])
    runs.follow(CELLS[1], write_trial(folder, CELLS[1])[:3])
    mine = told_of(folder, client, folder)
    assert {cell: state for cell, (_, state, *_) in mine.items()} == {
        "": "RUNNING", "base/1": "FINISHED", "lr_ratio=half/1": "RUNNING"
    }  # fmt: skip

    other = dataclasses.replace(SPECS[CELLS[0].trial], data="other")  # the same cell, another trial
    moved = Cell("base", 1, other.id)
    colleague.report.mkdir(parents=True)
    (colleague.report / "report.md").write_text("theirs")

    def theirs():
        there = connected(colleague, folder.mlflow)
        yield
        yield there.begin(moved, other)
        yield there.follow(moved, write_trial(colleague, moved, extra=0.1))
        yield there.interrupt()
        there = connected(colleague, folder.mlflow)
        yield there.mirror(moved, other, result_of(colleague, moved))
        yield there.mirror(CELLS[1], SPECS[CELLS[1].trial], trained(colleague, CELLS[1]))
        yield there.finish_study(colleague.report, "their answer")

    for _ in theirs():
        assert told_of(folder, client, folder) == mine
    before = told_of(folder, client, colleague)
    assert {cell: state for cell, (_, state, *_) in before.items()} == dict.fromkeys(mine, "FINISHED")
    assert before["base/1"][2]["ablate.trial"] == other.id and len(before["base/1"][4]) == 12

    runs = connected(folder)  # mine goes on, to its end
    runs.mirror(CELLS[1], SPECS[CELLS[1].trial], result_of(folder, CELLS[1]))
    runs.interrupt()
    assert told_of(folder, client, colleague) == before
    after = told_of(folder, client, folder)
    assert {cell: id for cell, (id, *_) in after.items()} == {cell: id for cell, (id, *_) in mine.items()}
    assert len(after["lr_ratio=half/1"][4]) == 12 and after["lr_ratio=half/1"][1] == "FINISHED"
    assert [run.info.run_name for run in client.search_runs([experiment_of(client)])].count("quick") == 2


def test_runs_that_carry_no_uid_are_nobodys_to_touch(folder, client):
    connected(folder)
    tags = {"ablate.study": "quick", "ablate.cell": "base/1", "ablate.trial": CELLS[0].trial}
    old = client.create_run(experiment_of(client), tags=tags)
    runs = connected(folder)
    runs.begin(CELLS[0], SPECS[CELLS[0].trial])
    runs.interrupt()
    found = client.get_run(old.info.run_id)
    assert (found.info.status, found.info.lifecycle_stage, found.data.params) == ("RUNNING", "active", {})


def test_a_study_whose_runs_folder_moves_keeps_its_runs(folder, client, tmp_path):
    shared = tmp_path / "shared.db"
    shutil.copy(folder.mlflow, shared)
    connected(folder, shared).mirror(CELLS[0], SPECS[CELLS[0].trial], trained(folder, CELLS[0]))
    folder.runs.rename(tmp_path / "elsewhere")
    moved = StudyFolder(tmp_path / "elsewhere", "quick")
    runs = connected(moved, shared)
    runs.mirror(CELLS[0], SPECS[CELLS[0].trial], result_of(moved, CELLS[0]))
    runs.mirror(CELLS[1], SPECS[CELLS[1].trial], trained(moved, CELLS[1]))
    from mlflow import MlflowClient

    assert set(runs_of(MlflowClient(tracking_uri=f"sqlite:///{shared}"))) == {"", "base/1", "lr_ratio=half/1"}


def test_a_lost_store_is_rebuilt_under_the_same_uid(folder, client, tmp_path):
    connected(folder).mirror(CELLS[0], SPECS[CELLS[0].trial], trained(folder, CELLS[0]))
    again = tmp_path / "again.db"
    with sqlite3.connect(again) as new, sqlite3.connect(folder.mlflow) as old:
        old.backup(new)
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            new.execute(f"delete from {table}")
    connected(folder, again).mirror(CELLS[0], SPECS[CELLS[0].trial], result_of(folder, CELLS[0]))
    from mlflow import MlflowClient

    rebuilt, first = runs_of(MlflowClient(tracking_uri=f"sqlite:///{again}")), runs_of(client)
    assert set(rebuilt) == set(first) and rebuilt["base/1"].info.run_id != first["base/1"].info.run_id
    assert rebuilt["base/1"].data.metrics == first["base/1"].data.metrics
    assert {run.data.tags["ablate.uid"] for run in [*rebuilt.values(), *first.values()]} == {own_uid(folder)}


def test_a_uid_is_made_once_also_by_many_at_once_and_differs_between_folders(folder, colleague):
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(own_uid, [folder] * 16))
    assert len(made) == 1 and re.fullmatch("[0-9a-f]{32}", made.pop())
    assert own_uid(folder) == own_uid(folder) != own_uid(colleague)
    folder.uid.write_text("")  # a file emptied by hand must not make every run ours
    assert re.fullmatch("[0-9a-f]{32}", own_uid(folder))


def test_a_run_of_another_trial_id_gives_way(folder, client):
    connected(folder).begin(CELLS[0], SPECS[CELLS[0].trial])
    spec = dataclasses.replace(SPECS[CELLS[0].trial], data="other")
    moved = Cell("base", 1, spec.id)
    connected(folder).begin(moved, spec)
    assert runs_of(client)["base/1"].data.tags["ablate.trial"] == spec.id


def test_long_parameters_are_clipped_and_many_metrics_go_in_several_calls(folder, client):
    spec = dataclasses.replace(SPECS[CELLS[0].trial], recipe={**RECIPE, "data": {"root": "x" * 10_000}})
    cell = Cell("base", 1, spec.id)
    runs = connected(folder)
    runs.begin(cell, spec)
    values = {f"term/t{index}": float(index) for index in range(METRICS_PER_CALL + 7)}
    runs.follow(cell, [Measured(time=1.0, step=1, images=4, split="train", values=values)])
    run = runs_of(client)["base/1"]
    assert len(run.data.metrics) == METRICS_PER_CALL + 7
    assert run.data.params["data.root"].startswith("xxx") and len(run.data.params["data.root"]) == 6000


def test_a_torn_picture_is_replaced_and_a_lost_sample_file_is_no_error(folder, client):
    events = write_trial(folder, CELLS[0])
    (folder.trial(CELLS[0].trial).samples / "000010.npz").write_bytes(b"PK torn")
    runs = connected(folder)
    runs.begin(CELLS[0], SPECS[CELLS[0].trial])
    runs.follow(CELLS[0], events)
    run = runs_of(client)["base/1"]
    place = Path(run.info.artifact_uri.removeprefix("file://")) / "images"
    next(place.glob("*compressed.webp")).unlink()  # as after a kill between MLflow's two files
    runs = connected(folder)
    runs.begin(CELLS[0], SPECS[CELLS[0].trial])
    runs.follow(CELLS[0], events)
    assert pictures_of(client, run) == WHOLE[2:]


def test_a_new_report_replaces_the_old_one_whole(folder, client):
    folder.report.mkdir(parents=True)
    (folder.report / "old.png").write_text("x")
    connected(folder).finish_study(folder.report, "first")
    (folder.report / "old.png").rename(folder.report / "new.png")
    connected(folder).finish_study(folder.report, "second")
    parent = runs_of(client)[""]
    assert [file.path for file in client.list_artifacts(parent.info.run_id, "report")] == ["report/new.png"]
    assert parent.data.tags["mlflow.note.content"] == "second"


def test_a_strip_holds_sar_generated_and_real_in_a_row_per_sample():
    rng = np.random.default_rng(0)
    sar = rng.integers(0, 255, (3, 8, 10), np.uint8)
    fake, real = rng.integers(0, 255, (2, 3, 8, 10, 3), np.uint8)
    picture = strip(sar, fake, real)
    assert picture.shape == (3 * 8 + 2 * 2, 3 * 10 + 2 * 2, 3)
    assert (picture[10:18, :10, 1] == sar[1]).all() and (picture[20:, 12:22] == fake[2]).all()
    assert (picture[:8, 24:] == real[0]).all() and (picture[8:10] == 255).all()
    with pytest.raises(ValueError, match=r"expected sar \(N, H, W\)"):
        strip(sar, fake[:2], real)


def test_flat_keeps_empty_mappings_and_dots_the_rest():
    assert dict(flat({"a": {"b": {"c": 1}, "d": {}}, "e": [1]})) == {"a.b.c": 1, "a.d": {}, "e": [1]}


def test_auto_means_the_environments_store_or_a_file_under_runs(tmp_path):
    folder = StudyFolder(tmp_path, "s")
    assert resolve("auto", folder, {}) == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve("auto", folder, {"MLFLOW_TRACKING_URI": "http://host:5000"}) == "http://host:5000"
    assert resolve("sqlite:///mine.db", folder, {"MLFLOW_TRACKING_URI": "http://host:5000"}) == "sqlite:///mine.db"
    assert resolve(None, folder, {"MLFLOW_TRACKING_URI": "http://host:5000"}) is None


def test_without_tracking_every_call_does_nothing(tmp_path):
    tracking = Tracking.open(None, StudyFolder(tmp_path / "runs", "s"), arms=ARMS, factors=FACTORS)
    tracking.begin(CELLS[0], SPECS[CELLS[0].trial])
    tracking.follow(CELLS[0], [Ended(time=0, step=0, images=0, status="done")])
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
    assert tracking.unreachable.startswith(f"http://***@127.0.0.1:{port}: opening the store: ")
    said = tracking.unreachable + tracking.place + caplog.text + "".join(capfd.readouterr())
    assert "canary" not in said and "secret" not in said


def test_an_outage_ends_and_everything_queued_meanwhile_arrives(folder, client):
    events = write_trial(folder, CELLS[0])
    runs = connected(folder)
    runs.connect = lambda: None
    there, runs._client = runs._client, Away()
    tracking = Tracking(runs, patience=IMPATIENT)
    tracking.begin(CELLS[0], SPECS[CELLS[0].trial])
    tracking.follow(CELLS[0], events)
    tracking.end(CELLS[0], result_of(folder, CELLS[0]))
    assert not tracking.flush(0.3)  # far more attempts than a refused call gets
    assert tracking.unreachable == ": run base/1: ConnectionError: no route"
    runs._client = there
    tracking.close(30)
    assert tracking.unreachable is None
    assert runs_of(client)["base/1"].info.status == "FINISHED" and len(rows_of(folder)) == 12


def test_what_has_not_arrived_at_the_end_is_said(folder):
    runs = connected(folder)
    runs.connect, runs._client = (lambda: None), Away()
    tracking = Tracking(runs, uri="http://ann:canary@host", patience=IMPATIENT)
    tracking.interrupt()
    tracking.close(0.2)
    assert tracking.unreachable == "http://***@host: closing the runs: ConnectionError: no route"


def test_a_call_that_the_store_refuses_is_given_up_and_the_others_go_through(folder, client):
    tracking = Tracking.open(f"sqlite:///{folder.mlflow}", folder, **PLAN, patience=IMPATIENT)
    bad = Measured(time=1.0, step=1, images=4, split="train", values={"not a name!?": 1.0})
    tracking.begin(CELLS[0], SPECS[CELLS[0].trial])
    tracking.follow(CELLS[0], [bad])
    tracking.end(CELLS[0], TrialResult(CELLS[0].trial, Status.diverged, why="x"))
    tracking.close()
    assert "metrics of base/1" in tracking.unreachable
    assert runs_of(client)["base/1"].info.status == "FINISHED"


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


@pytest.mark.parametrize("places", ["runs/one runs/two", "runs/same colleague/same"])
def test_studies_running_side_by_side_do_not_disturb_each_other(folder, client, tmp_path, places):
    """Two drivers share one store: two studies under one runs folder, or one name under two of them."""
    cells = CELLS[:2]
    folders = [StudyFolder((tmp_path / place).parent, Path(place).name) for place in places.split()]

    def study(place):
        tracking = Tracking.open(f"sqlite:///{folder.mlflow}", place, **PLAN)
        for cell in cells:
            tracking.begin(cell, SPECS[cell.trial])
            tracking.follow(cell, write_trial(place, cell))
            tracking.end(cell, result_of(place, cell))
        tracking.close()
        assert tracking.unreachable is None

    threads = [threading.Thread(target=study, args=(place,)) for place in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place in folders:
        found = runs_of(client, place.name, owner=place)
        assert {cell: run.info.status for cell, run in found.items()} == {
            "": "RUNNING", "base/1": "FINISHED", "lr_ratio=half/1": "FINISHED"
        }  # fmt: skip
        assert {run.data.metrics["psnr"] for cell, run in found.items() if cell} == {30.0}


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
        tracking.follow(cell, write_trial(folder, cell))
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
