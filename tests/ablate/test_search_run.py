"""Searches and races for real: DDP, Optuna's file, MLflow, and a kill in the middle."""

from __future__ import annotations

import json

import pytest

from ablate.records import StudyFolder
from tests.ablate import studies
from tests.invariants import violations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SEARCH = (
    studies.STUDY.partition("factors:")[0]
    + """\
design:
  search:
    sampler: tpe
    trials: 5
    seeds_per_arm: 1
    space:
      optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
      objective.name: [vanilla, hinge]
metric: {name: gmsd, smallest_effect: 0.005}
also: [psnr, mae]
resources: {ranks: 1, slots: 1}
"""
)
RACE = """\
name: tiny
base:
  data: {layout: synthetic, tile: 32, scenes: 4, size: 64}
  generator: {name: unet, width: 4, norm: instance}
  discriminator: {name: patchgan, width: 4, layers: 2, norm: instance}
  batch: 4
  budget: {generator_updates: 60}
  evaluate: {every: 30}
factors:
  lr:
    none: {optimizer.lr: 1.0e-7}
seeds: 5
race: true
metric: {name: gmsd}
resources: {ranks: 1, slots: 2}
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> StudyFolder:
    root = tmp_path_factory.mktemp("search")
    studies.write(root, SEARCH)
    done = studies.ablate("run", "tiny.yaml", cwd=root, timeout=900)
    assert done.returncode == 0 and "6 trials: 6 done" in done.stdout, done.stdout + done.stderr
    return StudyFolder(root / "runs", "tiny")


def assert_every_cell_once(folder: StudyFolder) -> None:
    cells = {f"{cell['arm']}/{cell['seed']}" for cell in studies.plan(folder)["cells"]}
    assert studies.optuna_states(folder) == {cell: ["COMPLETE"] for cell in cells}
    assert studies.mlflow_runs(folder) == {"parent": ["FINISHED"], **{cell: ["FINISHED"] for cell in cells}}
    assert {path.name for path in (folder.root / "trials").iterdir()} == {
        cell["trial"] for cell in studies.plan(folder)["cells"]
    }


def test_a_search_runs_to_its_report_with_real_distributions_in_optunas_file(undisturbed):
    import optuna

    assert_every_cell_once(undisturbed)
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{undisturbed.optuna}")
    kinds = study.trials[1].distributions
    assert kinds["optimizer.lr"] == optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)
    assert all(1e-4 <= trial.params["optimizer.lr"] <= 1e-2 for trial in study.trials)
    report = (undisturbed.report / "report.md").read_text()
    assert "## Search" in report and "`s005`" in report and "Not given: tpe draws" in report


def test_killed_in_the_middle_it_draws_the_same_arms_and_runs_nothing_twice(undisturbed, tmp_path):
    studies.write(tmp_path, SEARCH)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    process = studies.start("run", "tiny.yaml", cwd=tmp_path)
    studies.wait_until(
        lambda: folder.plan.exists() and len(studies.plan(folder)["arms"]) >= 4, seconds=600, what="arms are drawn"
    )
    below = studies.kill(process)
    studies.wait_until(lambda: not studies.alive(below), seconds=30, what="no process outlives the driver")
    status = json.loads(studies.ablate("status", "tiny", "--json", cwd=tmp_path).stdout)
    assert status["state"] == "stopped" and sum(status["counts"].values()) == 6
    done = studies.ablate("run", "tiny.yaml", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert studies.plan(folder) == studies.plan(undisturbed)
    assert violations(folder, undisturbed=undisturbed) == []


def test_a_race_stops_an_arm_for_good_and_says_so_everywhere(tmp_path):
    studies.write(tmp_path, RACE)
    done = studies.ablate("run", "tiny.yaml", cwd=tmp_path, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = StudyFolder(tmp_path / "runs", "tiny")
    looks = json.loads(folder.race.read_text())["looks"]
    assert [look["after"] for look in looks] == [3, 4]
    assert {arm for look in looks for arm in look["stopped"]} == {"lr=none"}, looks
    states = studies.optuna_states(folder)
    assert states["lr=none/5"] == ["PRUNED"] and states["base/5"] == ["COMPLETE"]
    assert set(studies.mlflow_runs(folder)["lr=none/5"]) == {"FINISHED"}
    assert "race, after 3 seeds: " in done.stdout and "stopped" in studies.ablate("status", cwd=tmp_path).stdout
    again = studies.ablate("run", "tiny.yaml", cwd=tmp_path)
    assert again.returncode == 0 and json.loads(folder.race.read_text())["looks"] == looks
    assert violations(folder) == []
