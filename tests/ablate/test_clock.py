"""A wall clock that jumps by hours, days and weeks under a whole study, in the driver and in every rank."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ablate.records import StudyFolder
from tests.ablate import studies
from tests.invariants import violations

# Put before every Python process of the study: each look at the clock finds it set anew.
JUMPING = """
import itertools, time
true, jumps = time.time, itertools.cycle([0, 3600, -3600, -86400, 1e6])
time.time = lambda: true() + next(jumps)
"""


@pytest.mark.slow
def test_a_clock_that_jumps_costs_a_study_nothing_and_is_taken_for_no_time(tmp_path):
    (tmp_path / "jumping").mkdir()
    (tmp_path / "jumping/sitecustomize.py").write_text(JUMPING)
    studies.write(tmp_path)
    path = os.pathsep.join([str(tmp_path / "jumping"), str(Path(__file__).parents[2])])
    done = studies.ablate("run", "tiny.yaml", cwd=tmp_path, more={"PYTHONPATH": path})
    assert done.returncode == 0 and "4 trials: 4 done" in done.stdout, done.stdout + done.stderr
    assert " min left" not in done.stdout and " h " not in done.stdout, done.stdout
    folder = StudyFolder(tmp_path / "runs", "tiny")
    assert violations(folder) == []
    provenance = json.loads(folder.provenance.read_text())
    assert 0 < provenance["trial_seconds"] < 60 * studies.CELLS
    assert 0 < provenance["ended"] - provenance["started"] < 600
