"""Predictors without training, scored once per study as a job of their own."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable

from ablate import outcome
from ablate.executor import Executor
from ablate.failpoints import failpoint
from ablate.outcome import Next
from ablate.plan import Plan
from ablate.records import StudyFolder, write_atomically

POLL_SECONDS = 0.05


class ReferencesFailed(RuntimeError):
    """Mean colour and linear map could not be scored: the data or the environment is at fault."""


def score_references(
    plan: Plan, study: StudyFolder, executor: Executor, sleep: Callable[[float], None] = time.sleep,
    left: Callable[[], bool] = lambda: False, note: Callable[[str], None] = lambda text: None,
) -> None:  # fmt: skip
    """Score mean colour and linear map on the base's data, unless that is done, or the job is `left` to go on alone.

    Each further try is a `note`. Raises ReferencesFailed.
    """
    folder, base = study.references, plan.specs[plan.cells[0].trial]
    cache, split = f"../../cache/{base.data}", plan.study.metric.split
    wanted = json.dumps({"metrics": list(plan.metrics), "split": split, "cache": cache}, indent=1)
    if folder.spec.exists() and folder.spec.read_text() != wanted:
        shutil.rmtree(folder.root)  # scored for a plan that never ran a trial: other data or metrics
    for attempt in range(1, outcome.RESUMES + 2):
        if outcome.finished("references", folder) is not None:
            return
        write_atomically(folder.spec, wanted)
        handle = executor.adopt(folder.root)
        if handle is None:
            outcome.clear(folder)
            handle = executor.start("references", folder.root, ranks=1, threads=1)
        while (ended := handle.poll()) is None:
            if left():
                return
            sleep(POLL_SECONDS)
        failpoint("references-scored")
        settlement = outcome.settle("references", folder, ended, attempts=attempt)
        if settlement.next is Next.settled:
            return
        if settlement.next in (Next.fail, Next.halt) or attempt > outcome.RESUMES:
            why = f"the reference predictors could not be scored: {settlement.why}"
            raise ReferencesFailed(f"{why}; see {folder.log}")
        note(f"reference predictors: {settlement.why or 'stopped from outside'}; scored again")
