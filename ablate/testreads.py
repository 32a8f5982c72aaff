"""How often the test scenes have been looked at: every plan that scores them, a line each.

A split that many plans have been chosen by no longer tests anything; the report prints the count.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from ablate.disk import remove_leftovers_of
from ablate.lock import turn
from ablate.records import StudyFolder, write_atomically
from ablate.stored import Damaged

if TYPE_CHECKING:
    from ablate.plan import Plan


def count(plan: Plan, folder: StudyFolder) -> int | None:
    """Which look at its data's test scenes this plan is, from 1; None if no trial of it scores them.

    A plan is counted once, however often it is run; one that was extended is another look. Raises Damaged.
    """
    if not any(arm.resolved.recipe.evaluate.test for arm in plan.arms):
        return None
    data = plan.specs[plan.cells[0].trial].data
    own = {"data": data, "plan": plan.to_json()["hash"]}
    with turn(folder.test_reads.with_suffix(".lock")):  # other studies of this runs folder write there too
        return _counted(plan, folder, own)


def _counted(plan: Plan, folder: StudyFolder, own: dict[str, str]) -> int:
    remove_leftovers_of(folder.test_reads)
    lines = _lines(folder)
    looks = [{key: line[key] for key in own} for line in lines if line["data"] == own["data"]]
    if own not in looks:
        entry = {**own, "study": plan.study.name, "trials": len(plan.specs), "time": time.time()}
        text = "".join(json.dumps(line) + "\n" for line in [*lines, entry])
        write_atomically(folder.test_reads, text)
        looks.append(own)
    return looks.index(own) + 1


def _lines(folder: StudyFolder) -> list[dict]:
    """The complete lines: one without its newline is none."""
    path = folder.test_reads
    try:
        lines = [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []
        if all({"data", "plan"} <= line.keys() for line in lines):
            return lines
    except (ValueError, AttributeError, RecursionError):
        pass
    raise Damaged(f"{path}: damaged: put it back from a copy; moved away, the looks so far are forgotten")
