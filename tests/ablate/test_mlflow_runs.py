"""MLflow as a projection, in a real SQLite store: whatever a kill left, a restart makes it right."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from ablate.events import Measured, read
from ablate.mlflow_facts import flat
from ablate.mlflow_runs import METRICS_PER_CALL
from ablate.pictures import strip
from ablate.records import Cell, Status, StudyFolder
from ablate.tracking import Tracking
from tests.ablate.stores import (
    CELLS,
    IMPATIENT,
    RECIPE,
    SPECS,
    WHOLE,
    connected,
    pictures_of,
    result_of,
    rows_of,
    runs_of,
    write_trial,
)


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


@pytest.mark.parametrize("moment", ["begun", "told later", "known from before"])
@pytest.mark.parametrize("status", [Status.done, Status.failed])
def test_a_trial_that_was_run_anew_leaves_no_row_of_its_first_stream(folder, client, moment, status):
    """After `--retry-failed`, and after its folder was moved away by hand."""
    cell, runs = CELLS[0], connected(folder)
    write_trial(folder, cell, status)
    runs.mirror(cell, SPECS[cell.trial], result_of(folder, cell))
    shutil.move(folder.trial(cell.trial).root, folder.root / "aside")
    if moment != "known from before":
        runs = connected(folder)
    if moment == "begun":
        runs.begin(cell, SPECS[cell.trial])
    events = write_trial(folder, cell, extra=0.1, begins=5000)
    if moment == "begun":
        runs.follow(cell, events[:3])
    for _ in range(2):
        runs.mirror(cell, SPECS[cell.trial], result_of(folder, cell))
        runs = connected(folder)
    run = runs_of(client)["base/1"]
    rows = [(key, step, value) for id, key, step, _, value, _ in rows_of(folder) if id == run.info.run_id]
    assert len({row[:2] for row in rows}) == len(rows) > 5 and ("loss_d", 20, 0.7 + 0.1) in rows
    assert run.info.status == "FINISHED" and run.data.tags["ablate.status"] == "done"


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
    write_trial(folder, CELLS[0])
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
    runs.open_study = lambda: None
    tracking = Tracking(runs, patience=IMPATIENT)
    tracking.begin(CELLS[0], SPECS[CELLS[0].trial])
    tracking.flush(10)
    tracking.interrupt()
    tracking.begin(CELLS[0], SPECS[CELLS[0].trial])
    tracking.follow(CELLS[0])
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
    assert run.data.tags.get("ablate.diagnosis") == (None if status is Status.failed else "healthy")
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


def test_pictures_whose_last_reply_was_lost_are_shown_all_the_same(folder, client):
    """MLflow tags a run that has pictures after the last of their files; without the tag its page has no grid."""
    write_trial(folder, CELLS[0])
    connected(folder).mirror(CELLS[0], SPECS[CELLS[0].trial])
    run = runs_of(client)["base/1"].info.run_id
    client.delete_tag(run, "mlflow.loggedImages")
    connected(folder).mirror(CELLS[0], SPECS[CELLS[0].trial], result_of(folder, CELLS[0]))
    assert client.get_run(run).data.tags["mlflow.loggedImages"] == "True"
    assert pictures_of(client, client.get_run(run)) == WHOLE


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
