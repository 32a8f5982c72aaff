"""Kills of the driver, a rank and the launcher, at moments drawn from a fixed seed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest

from ablate.records import StudyFolder
from tests import processes
from tests.ablate import studies
from tests.invariants import violations

pytestmark = pytest.mark.slow

KILLS = 6
LONGER = studies.STUDY.replace("generator_updates: 6", "generator_updates: 40").replace("every: 3", "every: 10")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> StudyFolder:
    root = tmp_path_factory.mktemp("undisturbed")
    studies.write(root, LONGER)
    assert studies.ablate("run", "tiny.yaml", cwd=root).returncode == 0
    return StudyFolder(root / "runs", "tiny")


def test_a_driver_killed_again_and_again_loses_and_doubles_nothing(undisturbed, tmp_path):
    studies.write(tmp_path, LONGER)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    draw = random.Random(2)
    for _ in range(KILLS):
        process = studies.start("run", "tiny.yaml", cwd=tmp_path)
        try:
            process.wait(timeout=draw.uniform(1, 14))
        except subprocess.TimeoutExpired:
            below = studies.kill(process)
            studies.wait_until(
                lambda below=below: not studies.alive(below), seconds=10, what="nothing outlives the driver"
            )
    done = studies.ablate("run", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert violations(folder, undisturbed=undisturbed) == []


def pid_of(victim: str, process: subprocess.Popen[str], folder: StudyFolder) -> int:
    """A rank by its number, or the launcher: the process between the driver and its ranks that the driver started."""
    ranks = processes.ranks(folder.root)
    return processes.between(process.pid, ranks[0].pid)[0] if victim == "launcher" else ranks[int(victim[-1])].pid


@pytest.mark.parametrize("victim", ["rank 0", "rank 1", "launcher"])
def test_a_killed_rank_or_launcher_is_the_machines_failure_and_the_trial_goes_on(undisturbed, tmp_path, victim):
    studies.write(tmp_path, LONGER)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    process = studies.start("run", "tiny.yaml", cwd=tmp_path)
    studies.wait_until(lambda: studies.measured(folder) >= 12, seconds=120, what="the first trial measures")
    studies.wait_until(lambda: len(processes.ranks(folder.root)) == 2, seconds=60, what="two ranks run")
    os.kill(pid_of(victim, process, folder), signal.SIGKILL)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "taken up again" in said
    assert violations(folder, undisturbed=undisturbed) == []


def test_a_trial_runs_by_hand_under_torchrun_and_gives_the_same_numbers(undisturbed, tmp_path):
    import shutil

    runs = tmp_path / "runs"
    shutil.copytree(undisturbed.runs, runs)
    folder = StudyFolder(runs, "tiny")
    trial = folder.trial(studies.plan(folder)["cells"][0]["trial"])
    for path in trial.root.iterdir():
        if path.name != "spec.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "trainers",
        "run",
    ]
    done = subprocess.run([*command, str(trial.root)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert studies.scores(folder) == studies.scores(undisturbed)


def test_an_arm_whose_code_raises_fails_once_is_told_and_the_study_goes_on(tmp_path):
    """A part that breaks in one arm only: a sitecustomize module makes the spectral arm raise."""
    study = studies.STUDY.replace("half: {optimizer.lr_ratio: 0.5}", "half: {discriminator.norm: spectral}")
    studies.write(tmp_path, study)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(
        "import torch.nn.utils.parametrizations as p\n"
        "def broken(*a, **k): raise ValueError('no power iteration today')\n"
        "p.spectral_norm = broken\n"
    )
    paths = os.pathsep.join(filter(None, (str(tmp_path / "broken"), os.environ.get("PYTHONPATH"))))
    environment = {**studies.environment(), "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-m", "ablate.cli", "run", "tiny.yaml"], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 done, 2 failed" in done.stdout and "no power iteration today" in done.stdout
    folder = StudyFolder(tmp_path / "runs", "tiny")
    states = studies.optuna_states(folder)
    assert states["base/1"] == ["COMPLETE"] and states["lr_ratio=half/1"] == ["FAIL"]
    assert studies.mlflow_runs(folder)["lr_ratio=half/1"] == ["FAILED"]
    assert "no power iteration today" in (folder.report / "report.md").read_text()
    assert violations(folder) == []
    again = subprocess.run(
        [sys.executable, "-m", "ablate.cli", "run", "tiny.yaml"], cwd=tmp_path, env=studies.environment(),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert again.returncode == 1, "a failure of the arm stays until it is asked to run again"
    retried = studies.ablate("run", "tiny.yaml", "--retry-failed", cwd=tmp_path)
    assert retried.returncode == 0 and "4 trials: 4 done" in retried.stdout, retried.stdout + retried.stderr
    assert studies.optuna_states(folder)["lr_ratio=half/1"] == ["FAIL", "COMPLETE"]
    assert studies.mlflow_runs(folder)["lr_ratio=half/1"] == ["FINISHED"]
    assert violations(folder) == []
