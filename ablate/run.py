"""`ablate run`: from a checked plan to outcomes, projections and the report."""

from __future__ import annotations

import json
import logging
import platform
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from ablate import codechange, executors, failpoints, importances, machine, optuna_storage
from ablate.clock import steady
from ablate.display import Display
from ablate.driver import Driver, counts
from ablate.interrupts import Interrupt
from ablate.lock import hold
from ablate.logs import log_into
from ablate.outcome import finished
from ablate.plan import Plan
from ablate.planfile import check_plan, write_plan
from ablate.preconditions import check_databases, check_machine, check_space, clear_away
from ablate.projections import open_projections, unreachable
from ablate.race import Judge
from ablate.records import Status, StudyFolder, TrialResult, write_atomically
from ablate.resources import LOCAL
from ablate.searchplan import restored
from ablate.studydata import prepare_data

log = logging.getLogger(__name__)


class Exit(IntEnum):
    """Exit codes of `ablate run`."""

    done = 0  # every planned trial has its outcome
    some_failed = 1  # finished, some trials failed; the report says so
    usage = 2  # a mistake in the study or its data; nothing was started
    storage = 3  # a store is corrupt, or was unreachable at the end
    environment = 4  # device, disk, permission, version
    interrupted = 5  # stopped cleanly with work left
    busy = 75  # another driver holds this study


@dataclass(frozen=True)
class Ended:
    """What a run amounts to: `report` is the report's path, None if there was nothing to report."""

    code: Exit
    report: Path | None
    counts: Mapping[str, int]
    unreachable: Mapping[str, str] = field(default_factory=dict)  # store -> why something has not arrived there
    place: str = ""  # of the tracking store, safe to show
    storage: str = ""  # of Optuna's records and the study's name there, safe to show; empty for a file in its folder
    remark: str = ""  # about the code that trained, where it is not the one that is installed
    ran: bool = True  # whether a trial was started


Report = Callable[[Path], Path]
Summary = Callable[[Path], str]


def run(plan: Plan, runs: Path, *, report: Report, summary: Summary, judge: Judge, retry_failed: bool = False,
        extend: bool = False, accept_code_change: bool = False) -> Ended:  # fmt: skip
    """Run or resume the plan under `runs`. `report` writes a study folder's report, `summary` reads its answer,
    `judge` says which arms leave a race.

    Trials that failed before stay failed unless `retry_failed` asks for another attempt. `extend` accepts a plan
    that adds arms or seeds to the one that is there, `accept_code_change` training under other code than before.

    Raises Busy, StudyChanged, CodeChanged, CannotRun, DataError and LedgerError before anything is started.
    """
    check_machine(plan, runs)
    folder = StudyFolder(runs, plan.study.name)
    with hold(folder.lock):
        clock, interrupt = steady(), Interrupt()
        began = clock()
        interrupt.install()
        executors.check(plan, folder)  # before anything is cleared away that lives
        interrupt.lasting = plan.study.resources.executor != LOCAL
        clear_away(folder, evicting=not interrupt.lasting)
        plan = restored(plan, folder)
        check_plan(plan, folder, extend=extend)
        check_databases(plan, folder)
        remark = codechange.check(plan, folder, accept=accept_code_change, retry_failed=retry_failed)
        log_into(folder.log)
        if asked := failpoints.asked_for():
            log.warning("faults are injected: %s", asked)
        executor = executors.make(plan, folder)
        try:
            if plan.undrawn or not all(finished(id, folder.trial(id)) for id in plan.specs):
                executor.warm_up()  # the launchers load torch while the data is prepared
            prepare_data(plan, folder)
            check_space(plan, runs)  # again: by now it is known what the data take
            write_plan(plan, folder)  # last: a study whose data is refused leaves its name free
            stores = plan.study.tracking
            with open_projections(plan.to_json(), stores.mlflow, folder, storage=stores.optuna) as (ledger, tracking):
                total = len(plan.specs) + plan.undrawn
                with Display(
                    total, metric=plan.study.metric.name, split=plan.study.metric.split, slots=plan.slots
                ) as display:
                    driver = Driver(plan, folder, executor, ledger, tracking, display, judge, interrupt, retry_failed,
                                    sleep=executor.wait)  # fmt: skip
                    results, plan = driver.run(), driver.plan
                interrupt.patient = True  # what is left takes seconds
                if interrupt.leave:
                    executor.leave()
                elif interrupt.ends(executor.outlives) or not driver.running:
                    executor.close()
                if driver.ran or not folder.provenance.exists():
                    write_provenance(plan, folder, results, began=began, ended=clock())
                whole = len(results) == len(plan.specs) and not plan.undrawn
                if whole and plan.study.search:
                    importances.write(plan, folder, results)
                path = report(folder.root)
                if whole:
                    tracking.finish_study(folder.report, summary(folder.report))
        finally:
            if interrupt.ends(executor.outlives):
                executor.close()
        behind = unreachable(ledger, tracking)
        return Ended(
            _code(plan, results, behind), path, counts(plan, results), behind, tracking.place,
            optuna_storage.described(plan.study.tracking.optuna, folder), remark, driver.ran,
        )  # fmt: skip


def _code(plan: Plan, results: Mapping[str, TrialResult], behind: Mapping[str, str]) -> Exit:
    if len(results) < len(plan.specs) or plan.undrawn:
        return Exit.interrupted
    if behind:
        return Exit.storage
    failed = any(result.status is Status.failed for result in results.values())
    return Exit.some_failed if failed else Exit.done


def write_provenance(plan: Plan, folder: StudyFolder, results: Mapping[str, TrialResult], *, began: float,
                     ended: float) -> None:  # fmt: skip
    """What depends on machine, time and cost: kept apart, since comparisons of reports leave it out."""
    seconds = sum(result.seconds for result in results.values())
    document = {
        "command": shlex.join(["ablate", *sys.argv[1:]]),
        "host": socket.gethostname(), "platform": platform.platform(),
        "cores": machine.cores(), "gpus": len(machine.gpus()),
        "device": plan.device, "slots": plan.slots, "python": platform.python_version(),
        "versions": machine.versions(), "started": _first_start(folder, began), "ended": ended,
        "trial_seconds": seconds, "core_hours": seconds * _cores_a_trial(plan) / 3600,
        "sets": list(plan.study.sets),
    }  # fmt: skip
    write_atomically(folder.provenance, json.dumps(document, indent=1))


def _cores_a_trial(plan: Plan) -> int:
    return plan.study.resources.ranks * plan.study.resources.threads


def _first_start(folder: StudyFolder, began: float) -> float:
    """When the first of the runs that made up the study began."""
    return json.loads(folder.provenance.read_text())["started"] if folder.provenance.exists() else began
