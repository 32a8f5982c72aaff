"""Whose runs are whose: several folders, machines and people on one MLflow store."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ablate.mlflow_store import own_uid
from ablate.records import Cell, StudyFolder
from ablate.tracking import Tracking
from tests.ablate.stores import (
    CELLS,
    PLAN,
    SPECS,
    connected,
    experiment_of,
    result_of,
    runs_of,
    told_of,
    trained,
    write_trial,
)


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


@pytest.mark.parametrize("places", ["runs/one runs/two", "runs/same colleague/same"])
def test_studies_running_side_by_side_do_not_disturb_each_other(folder, client, tmp_path, places):
    """Two drivers share one store: two studies under one runs folder, or one name under two of them."""
    cells = CELLS[:2]
    folders = [StudyFolder((tmp_path / place).parent, Path(place).name) for place in places.split()]

    def study(place):
        tracking = Tracking.open(f"sqlite:///{folder.mlflow}", place, **PLAN)
        for cell in cells:
            tracking.begin(cell, SPECS[cell.trial])
            write_trial(place, cell)
            tracking.follow(cell)
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
