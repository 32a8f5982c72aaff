"""The stabilizer study on real pairs, with other data by `--set`: two arms, a few steps, to a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.records import StudyFolder
from tests.ablate import studies
from tests.realdata import real_data

STABILIZER = Path(__file__).parents[2] / "studies" / "stabilizer.yaml"
SHORT = ("seeds=1", "design={one_at_a_time: [updates]}", "base.budget.generator_updates=4", "base.evaluate.every=2")
SETS = {
    # 220 pairs of 8-bit PNG; the table's groups are the scenes
    "ombria": "base.data={layout: csv, table: pairs.csv, tile: 128}",
    # 5 GeoTIFF pairs, float64 dB; the folders have names of their own
    "terramind_terramesh": "base.data={layout: folders, root: ., sar_folder: S1RTC, optical_folder: S2RGB, tile: 64}",
}


@pytest.mark.parametrize("name", SETS)
def test_the_study_runs_on_real_pairs_to_a_report(name, tmp_path):
    data = real_data(name)
    settings = [part for value in (f"name={name}", SETS[name], *SHORT) for part in ("--set", value)]
    done = studies.ablate("run", STABILIZER, "--runs", tmp_path / "runs", *settings, cwd=data)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = StudyFolder(tmp_path / "runs", name)
    assert len(studies.plan(folder)["arms"]) == 2
    report = (folder.report / "report.md").read_text()
    assert "mean colour" in report and "linear map" in report
    assert (folder.report / "figures" / "pictures.png").stat().st_size > 10_000
    assert {state for states in studies.mlflow_runs(folder).values() for state in states} == {"FINISHED"}
