"""What is said of a study that is not the one its folder holds."""

from __future__ import annotations

import pytest

from ablate.plan import make_plan
from ablate.planfile import StudyChanged, check_plan, write_plan
from ablate.records import StudyFolder
from ablate.study import load
from tests.ablate import studies


def changed(tmp_path, *sets: str) -> list[str]:
    """The lines that name what differs from the plain study, of which something has run."""
    path, folder = studies.write(tmp_path), StudyFolder(tmp_path / "runs", "tiny")
    plan = make_plan(load(path))
    write_plan(plan, folder)
    stream = folder.trial(plan.cells[0].trial).events
    stream.parent.mkdir(parents=True, exist_ok=True)
    stream.touch()
    with pytest.raises(StudyChanged) as raised:
        check_plan(make_plan(load(path, sets=sets)), folder, extend=False)
    return [line.strip() for line in str(raised.value).splitlines() if line.startswith("  ")]


@pytest.mark.parametrize(("sets", "said"), [
    ("seeds=3", "seeds: 1, 2 -> 1, 2, 3"),
    ("seeds=[2, 7]", "seeds: 1, 2 -> 2, 7"),
    ("seeds=40", "seeds: 1, 2 -> 1, 2, 3, ..., 40"),
])  # fmt: skip
def test_seeds_are_named_as_they_are_counted(tmp_path, sets, said):
    assert said in changed(tmp_path, sets) and not [line for line in changed(tmp_path, sets) if "None" in line]


def test_other_lists_and_values_are_shown_as_they_are(tmp_path):
    lines = changed(tmp_path, "also=[psnr]", "base.batch=2")
    assert "base.batch: 4 -> 2" in lines and not [line for line in lines if line.startswith("seeds")]
