"""`ablate run` for real: two gloo ranks a trial, SQLite MLflow and Optuna, kills and interruptions."""

from __future__ import annotations

import json
import signal

import pytest

from ablate import events
from ablate.records import StudyFolder
from tests.ablate import studies

CELL_NAMES = {f"{arm}/{seed}" for arm in ("base", "lr_ratio=half") for seed in (1, 2)}

local = pytest.mark.skipif(bool(studies.ELSEWHERE), reason="of the local executor: elsewhere jobs outlive their driver")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study that ran undisturbed: its folder and what the command said."""
    root = tmp_path_factory.mktemp("whole")
    studies.write(root)
    done = studies.ablate("run", "tiny.yaml", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return StudyFolder(root / "runs", "tiny"), done


def assert_every_cell_ran_once(folder: StudyFolder) -> None:
    assert studies.optuna_states(folder) == {cell: ["COMPLETE"] for cell in CELL_NAMES}
    assert studies.mlflow_runs(folder) == {"parent": ["FINISHED"], **{cell: ["FINISHED"] for cell in CELL_NAMES}}
    planned = {cell["trial"] for cell in studies.plan(folder)["cells"]}
    assert {path.name for path in (folder.root / "trials").iterdir()} == planned
    assert set(studies.scores(folder)) == planned


def test_a_study_runs_to_its_report_with_one_record_per_cell(whole):
    folder, done = whole
    assert_every_cell_ran_once(folder)
    assert "4 trials: 4 done" in done.stdout
    assert f"report: {folder.report.relative_to(folder.runs.parent)}" in done.stdout
    report = (folder.report / "report.md").read_text()
    assert "lr\\_ratio=half" in report or "lr_ratio=half" in report


def test_progress_is_plain_lines_when_nobody_watches(whole):
    _, done = whole
    assert "[4/4] lr_ratio=half · seed 2  done" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_finished_study_is_found_finished_and_its_report_has_the_same_bytes(whole):
    folder, _ = whole
    before = (
        (folder.report / "table.csv").read_bytes(),
        {p: p.stat().st_mtime_ns for p in folder.root.glob("trials/*/*")},
    )
    left = next(folder.root.glob("trials/*")) / ".spec.json.999999.partial"  # of a writer that was killed
    left.write_text("{")
    again = studies.ablate("run", "tiny.yaml", cwd=folder.runs.parent)
    assert again.returncode == 0 and "4 trials: 4 done\nnothing was left to train\n" in again.stdout
    assert "nothing was left to train" not in whole[1].stdout
    assert not left.exists()
    after = (
        (folder.report / "table.csv").read_bytes(),
        {p: p.stat().st_mtime_ns for p in folder.root.glob("trials/*/*")},
    )
    assert before == after
    assert_every_cell_ran_once(folder)


def test_results_are_private(whole):
    folder, _ = whole
    assert folder.runs.stat().st_mode & 0o077 == 0
    assert folder.mlflow.stat().st_mode & 0o077 == 0


def test_another_study_under_the_same_name_is_refused_with_what_differs(whole):
    folder, _ = whole
    refused = studies.ablate("run", "tiny.yaml", "--set", "base.batch=2", cwd=folder.runs.parent)
    assert refused.returncode == 2
    assert "base.batch: 4 -> 2" in refused.stderr and "--set name=" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_study_grows_by_extend_and_keeps_what_has_run(whole, tmp_path):
    import shutil

    folder = StudyFolder(tmp_path / "runs", "tiny")
    shutil.copytree(whole[0].runs, folder.runs)
    studies.write(tmp_path)
    before = {path: path.read_bytes() for path in folder.root.glob("trials/*/events.jsonl")}
    asked = ("run", "tiny.yaml", "--set", "seeds=3")
    refused = studies.ablate(*asked, cwd=tmp_path)
    assert refused.returncode == 2 and "--extend" in refused.stderr
    grown = studies.ablate(*asked, "--extend", cwd=tmp_path)
    assert grown.returncode == 0 and "6 trials: 6 done" in grown.stdout, grown.stdout + grown.stderr
    assert all(path.read_bytes() == data for path, data in before.items())
    cells = CELL_NAMES | {"base/3", "lr_ratio=half/3"}
    assert studies.optuna_states(folder) == {cell: ["COMPLETE"] for cell in cells}
    assert studies.mlflow_runs(folder) == {"parent": ["FINISHED"], **{cell: ["FINISHED"] for cell in cells}}


@pytest.mark.slow
def test_references_of_a_plan_that_never_ran_a_trial_are_scored_anew(whole, tmp_path):
    import shutil

    folder = StudyFolder(tmp_path / "runs", "tiny")
    shutil.copytree(whole[0].runs, folder.runs)
    shutil.rmtree(folder.root / "trials")
    studies.write(tmp_path)
    done = studies.ablate("run", "tiny.yaml", "--set", "also=[ssim]", "--set", "seeds=1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    scored = events.fold("references", events.read(folder.references.events)).scores
    assert "mean_colour/ssim" in scored and "mean_colour/psnr" not in scored


def test_the_report_says_how_many_tiles_and_scenes_it_rests_on(whole):
    folder, _ = whole
    report = (folder.report / "report.md").read_text()
    assert "2 train, 1 validation, 1 test" in report


def test_a_damaged_stream_is_named_with_its_file_and_hides_no_other(whole, tmp_path):
    import shutil

    folder = StudyFolder(tmp_path / "runs", "tiny")
    shutil.copytree(whole[0].runs, folder.runs)
    stream = next(folder.root.glob("trials/*/events.jsonl"))
    first, rest = stream.read_bytes().split(b"\n", 1)
    stream.write_bytes(first + b"\ngarbage\n" + rest)
    place = f"{stream.relative_to(tmp_path)}:2: damaged: "
    reported = studies.ablate("report", "tiny", cwd=tmp_path)
    assert reported.returncode == 3 and place in reported.stderr, reported.stderr
    for named in (("tiny",), ()):
        status = studies.ablate("status", *named, cwd=tmp_path)
        assert status.returncode == 3 and place in status.stdout, status.stdout + status.stderr
        assert "4 trials: 3 done, 1 damaged" in status.stdout


def test_status_show_and_report_read_the_folders(whole):
    folder, _ = whole
    cwd = folder.runs.parent
    assert "tiny: finished; 4 trials: 4 done" in studies.ablate("status", cwd=cwd).stdout
    trial = studies.plan(folder)["cells"][0]["trial"]
    shown = studies.ablate("show", trial[:8], cwd=cwd)
    assert shown.returncode == 0 and "load_generator" in shown.stdout and "base · seed 1" in shown.stdout
    table = (folder.report / "table.csv").read_bytes()
    assert studies.ablate("report", "tiny", cwd=cwd).returncode == 0
    assert (folder.report / "table.csv").read_bytes() == table


def test_the_five_lines_that_show_prints_apply_the_generator(whole):
    import subprocess
    import sys

    folder, _ = whole
    shown = studies.ablate("show", studies.plan(folder)["cells"][0]["trial"], cwd=folder.runs.parent).stdout
    code = "\n".join(line[2:] for line in shown.split("apply its generator\n")[1].splitlines())
    code += "\nprint(tuple(optical.shape), float(optical.abs().max()) <= 1)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder.runs.parent, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "(1, 3, 32, 32) True", done.stderr


@local
def test_killed_and_started_again_every_trial_runs_once_with_the_same_numbers(whole, tmp_path):
    reference, _ = whole
    studies.write(tmp_path)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    process = studies.start("run", "tiny.yaml", cwd=tmp_path)
    studies.wait_until(lambda: studies.measured(folder) >= 10, seconds=120, what="the second trial measures")
    below = studies.kill(process)
    studies.wait_until(lambda: not studies.alive(below), seconds=10, what="no process outlives the driver")
    said = studies.ablate("status", cwd=tmp_path).stdout
    assert "tiny: stopped" in said and f"the driver (pid {process.pid} on" in said and ") died after 20" in said, said
    done = studies.ablate("run", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_every_cell_ran_once(folder)
    assert studies.scores(folder) == studies.scores(reference)
    assert (folder.report / "table.csv").read_bytes() == (reference.report / "table.csv").read_bytes()
    status = json.loads(studies.ablate("status", "tiny", "--json", cwd=tmp_path).stdout)
    cost = status["recovery"]
    assert status["state"] == "finished" and cost["resumptions"] == cost["trials"] >= 1, cost
    assert cost["interval"] == [3, 3] and cost["largest"] <= 3 and cost["beyond"] == 0
    assert 0 < cost["start_up"] < 120


@pytest.mark.parametrize("number", [
    signal.SIGINT, *(pytest.param(number, marks=[pytest.mark.slow, local])
                     for number in (signal.SIGTERM, signal.SIGHUP)),
])  # fmt: skip
def test_interrupted_it_stops_cleanly_says_how_to_go_on_and_a_second_driver_is_turned_away(tmp_path, number):
    studies.write(tmp_path)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    held = {"ABLATE_FAILPOINTS": "step=sleep:20@4", "ABLATE_FAILPOINTS_ONCE": str(tmp_path)}  # time for what follows
    with studies.hang_up(signal.SIG_DFL):
        process = studies.start("run", "tiny.yaml", cwd=tmp_path, more=held)
    studies.wait_until(lambda: studies.measured(folder) >= 1, seconds=120, what="a trial measures")
    second = studies.ablate("run", "tiny.yaml", cwd=tmp_path)
    assert second.returncode == 75 and f"pid {process.pid}" in second.stderr
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 5, said
    assert [*folder.root.glob("trials/*/checkpoints/manifest.json")]
    assert "go on with: ablate run tiny" in said
    status = studies.ablate("status", cwd=tmp_path).stdout
    assert "tiny: stopped" in status and "stopped cleanly at 20" in status and "go on with: ablate run tiny" in status
    assert "RUNNING" not in {state for states in studies.mlflow_runs(folder).values() for state in states}
    assert studies.ablate("run", "tiny.yaml", cwd=tmp_path).returncode == 0
    assert_every_cell_ran_once(folder)


@pytest.mark.slow
def test_a_signal_that_the_caller_has_had_ignored_stays_ignored(tmp_path):
    """nohup: the terminal may go, the study goes on."""
    studies.write(tmp_path)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    with studies.hang_up(signal.SIG_IGN):
        process = studies.start("run", "tiny.yaml", "--set", "seeds=1", cwd=tmp_path)
    studies.wait_until(lambda: studies.measured(folder) >= 1, seconds=120, what="a trial measures")
    process.send_signal(signal.SIGHUP)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "2 trials: 2 done" in said, said


def test_a_reader_of_the_output_that_goes_away_does_not_end_the_study(tmp_path):
    studies.write(tmp_path)
    process = studies.start("run", "tiny.yaml", "--set", "seeds=1", cwd=tmp_path)
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    folder = StudyFolder(tmp_path / "runs", "tiny")
    assert set(studies.optuna_states(folder)) == {"base/1", "lr_ratio=half/1"}
    assert (folder.report / "report.md").exists()
