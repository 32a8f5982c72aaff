"""A small study of the design `both` with its A/A twin, run for real to its report."""

from __future__ import annotations

import json

import pytest

from ablate.records import StudyFolder
from tests.ablate import studies

FACTORS = """\
  loss:
    ssim: {terms.ssim: 10}
  objective:
    hinge: {objective.name: hinge}
full: {}
aa: true
"""
ARMS = ["base", "lr_ratio=half", "loss=ssim", "objective=hinge", "full", "full_without_lr_ratio", "full_without_loss",
        "full_without_objective", "aa"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_both_with_a_twin_runs_to_its_report_with_a_record_per_cell(tmp_path):
    text = studies.STUDY.replace("design: one_at_a_time\n", FACTORS).replace("ranks: 2", "ranks: 1")
    text = text.replace("generator_updates: 6", "generator_updates: 4").replace("every: 3", "every: 2")
    studies.write(tmp_path, text)
    done = studies.ablate("run", "tiny.yaml", cwd=tmp_path, timeout=1100)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = StudyFolder(tmp_path / "runs", "tiny")
    plan, cells = studies.plan(folder), {f"{arm}/{seed}" for arm in ARMS for seed in (1, 2)}
    assert plan["design"] == "both" and [arm["name"] for arm in plan["arms"]] == ARMS
    assert plan["full"] == {"lr_ratio": "half", "loss": "ssim", "objective": "hinge"}
    assert plan["arms"][-1]["twin_of"] == "base" and plan["arms"][-1]["changes"] == {}
    assert studies.optuna_states(folder) == {cell: ["COMPLETE"] for cell in cells}
    assert studies.mlflow_runs(folder) == {"parent": ["FINISHED"], **{cell: ["FINISHED"] for cell in cells}}
    by_cell = {(cell["arm"], cell["seed"]): studies.scores(folder)[cell["trial"]]["gmsd"] for cell in plan["cells"]}
    assert all(by_cell["aa", seed] != by_cell["base", seed] for seed in (1, 2))
    status = json.loads(studies.ablate("status", "tiny", "--json", cwd=tmp_path).stdout)
    assert status["counts"]["done"] == 18
    shown = studies.ablate("show", next(c["trial"] for c in plan["cells"] if c["arm"] == "aa"), cwd=tmp_path)
    assert shown.returncode == 0 and "aa · seed 1 of tiny" in shown.stdout
    again = studies.ablate("plan", "tiny", cwd=tmp_path)
    assert "cost: nothing is left to run" in again.stdout and "finished trials of this study" in again.stdout
    table = (folder.report / "table.csv").read_text()
    assert "full_without_loss" in table and "\naa," not in table and ",aa," not in table
