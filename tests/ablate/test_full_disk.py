"""A study whose whole runs folder lies on a disk that really fills up: said, nothing lost, and gone on with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ablate.records import StudyFolder
from tests import faults
from tests.ablate import studies
from tests.invariants import violations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

STUDY = studies.STUDY.replace("generator_updates: 6", "generator_updates: 40").replace("every: 3", "every: 10")
HELD = 8  # seconds that a failpoint holds the driver, for the disk to be filled meanwhile


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> StudyFolder:
    root = tmp_path_factory.mktemp("undisturbed")
    studies.write(root, STUDY)
    assert studies.ablate("run", "tiny.yaml", cwd=root).returncode == 0
    return StudyFolder(root / "runs", "tiny")


@pytest.fixture
def small(tmp_path) -> Iterator[Path]:
    """Room for a study and a little more than `ablate run` asks for at its start."""
    with faults.small_disk(tmp_path / "small", 256) as place:
        yield place


def ended(folder: StudyFolder) -> int:
    return sum(b'"event":"ended"' in path.read_bytes() for path in folder.root.glob("trials/*/events.jsonl"))


MOMENTS: dict[str, tuple[str, Callable[[StudyFolder], bool], str]] = {
    "in the middle of training": ("", lambda folder: studies.measured(folder) >= 60, "tiny/trials/"),
    "before the stores are told": (
        f"result-read=sleep:{HELD}@4", lambda folder: ended(folder) == studies.CELLS, "tiny/"
    ),
    "while the report is written": (
        f"report-half-written=sleep:{HELD}", lambda folder: (folder.root / ".report.new").exists(), "tiny/.report.new/"
    ),
}  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_disk_that_fills_up_ends_the_study_with_a_sentence_and_costs_nothing(undisturbed, small, moment):
    failpoints, has_come, where = MOMENTS[moment]
    studies.write(small, STUDY)
    folder = StudyFolder(small / "runs", "tiny")
    process = studies.start("run", "tiny.yaml", cwd=small, more={"ABLATE_FAILPOINTS": failpoints})
    studies.wait_until(lambda: has_come(folder), seconds=240, what=moment)
    time.sleep(1)  # into the failpoint
    ballast = faults.fill(small)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 4, said
    last = said.strip().splitlines()[-1]
    assert "disk full: " in last and where in last and "0.0 MB are left on its file system" in last, said
    assert "Traceback" not in said and "moved away" not in said, said
    assert violations(folder, after="kill") == []
    ballast.unlink()
    again = studies.ablate("run", "tiny.yaml", cwd=small)
    assert again.returncode == 0, again.stdout + again.stderr
    assert violations(folder, undisturbed=undisturbed) == []
