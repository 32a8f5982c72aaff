"""`ablate run`: from a checked plan to outcomes, projections and the report."""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from ablate import (
    codechange,
    executors,
    failpoints,
    importances,
    machine,
    optuna_storage,
    postgresql,
    startfiles,
    testreads,
)
from ablate.clock import steady
from ablate.disk import remove_leftovers
from ablate.display import Display
from ablate.driver import Driver, counts
from ablate.failpoints import failpoint
from ablate.interrupts import Interrupt
from ablate.lock import hold
from ablate.logs import log_into
from ablate.mlflow_store import resolve, sqlite_file, unknown_store
from ablate.outcome import finished
from ablate.pairing import unpaired
from ablate.patches import differences
from ablate.plan import Plan, PlannedArm
from ablate.problems import Problem, StudyError, dotted
from ablate.processes import evict
from ablate.projections import open_projections, unreachable
from ablate.race import Judge, looks_of
from ablate.records import Status, StudyFolder, TrialResult, TrialSpec, write_atomically
from ablate.resources import LOCAL
from ablate.searchplan import only_adds, restored
from ablate.space import shortage
from ablate.sqlite import unsound
from ablate.stored import Damaged, read_plan, stated
from ablate.yamlfile import write_yaml
from trainers import ways
from trainers.availability import caution, unavailable
from trainers.pairs import DataError
from trainers.start_rules import band_refusals

log = logging.getLogger(__name__)

SHOWN_DIFFERENCES = 12
SPLITS = ("train", "validation", "test")


class Exit(IntEnum):
    """Exit codes of `ablate run`."""

    done = 0  # every planned trial has its outcome
    some_failed = 1  # finished, some trials failed; the report says so
    usage = 2  # a mistake in the study or its data; nothing was started
    storage = 3  # a store is corrupt, or was unreachable at the end
    environment = 4  # device, disk, permission, version
    interrupted = 5  # stopped cleanly with work left
    busy = 75  # another driver holds this study


class StudyChanged(Exception):
    """The runs folder holds another study under this name; the text shows what differs."""


class CannotRun(Exception):
    """This machine can't run the study as it stands."""


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


# -- before anything starts ---------------------------------------------------------------------


def clear_away(folder: StudyFolder, *, evicting: bool = True) -> None:
    """End what a dead driver left alive (a stopped process can't see that it has died), then remove its half files.

    Without `evicting`, what it left is to be found alive: jobs that outlive their driver.
    """
    for place in (folder.root / "trials", folder.references.root, folder.log) if evicting else ():
        evict(place)
    remove_leftovers(folder.root)


def check_databases(plan: Plan, folder: StudyFolder) -> None:
    """Raises Damaged for a database that SQLite's own check finds unsound."""
    records = optuna_storage.resolve(plan.study.tracking.optuna, folder)
    store = sqlite_file(resolve(plan.study.tracking.mlflow, folder) or "")
    for path, rebuilt in ((records, "the same command"), (store, f"`ablate sync {folder.name}`")):
        if isinstance(path, Path) and path.exists() and (found := unsound(path)):
            raise Damaged(f"{found}; the trial folders are whole: move the file away, and {rebuilt} makes it anew")


def check_machine(plan: Plan, runs: Path) -> None:
    """Raises CannotRun where the device, the disk or a permission would stop the study."""
    check_stores(plan.study.tracking.mlflow, plan.study.tracking.optuna, StudyFolder(runs, plan.study.name))
    try:
        ways.asked()
    except ValueError as error:
        raise CannotRun(str(error)) from None
    widest, found = max(spec.ranks for spec in plan.specs.values()), len(machine.gpus())
    shared = widest == 1 and found > 0  # trials of one rank may stand side by side on a GPU
    if plan.study.resources.executor == LOCAL and plan.device == "cuda" and found < widest * plan.slots and not shared:
        raise CannotRun(
            f"resources: {plan.slots} trials side by side with {widest} ranks each need {widest * plan.slots} GPUs,"
            f" this machine shows {found}; set resources.ranks and resources.slots to fit, or resources.device to cpu"
        )
    try:
        runs.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CannotRun(f"the runs folder can't be made: {runs}: {error.strerror}") from None
    if not os.access(runs, os.W_OK | os.X_OK):
        raise CannotRun(f"the runs folder is not writable: {runs}")
    check_space(plan, runs)


def check_stores(uri: str | None, storage: str, folder: StudyFolder) -> None:
    """Raises CannotRun where the environment names a store that there can't be, or its driver is not installed."""
    place = resolve(uri, folder) or ""
    if wrong := unknown_store(place) or (postgresql.is_address(place) and postgresql.driver_missing()):
        raise CannotRun(f"{'MLFLOW_TRACKING_URI' if uri == 'auto' else 'tracking.mlflow'}: {wrong}")
    if wrong := optuna_storage.unusable(storage):
        raise CannotRun(wrong)


def check_space(plan: Plan, runs: Path) -> None:
    """Raises CannotRun where what is left to run would fill the disk."""
    if said := shortage(plan, runs):
        raise CannotRun(said)


def check_plan(plan: Plan, folder: StudyFolder, *, extend: bool) -> None:
    """Raises StudyChanged where the folder holds results of another plan, unless this one only adds to it."""
    folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not folder.plan.exists() or not any(folder.root.glob("trials/*/events.jsonl")):
        return  # without a result there is nothing to protect
    before, now = read_plan(folder), plan.to_json()
    if before["hash"] == now["hash"]:
        return
    if extend and _only_adds(before, now):
        if looks_of(folder):
            raise StudyChanged(f"{folder.root}: its race was decided on what it was; nothing can be added any more")
        return
    raise StudyChanged(_what_changed(folder, before, now))


def _only_adds(before: dict, now: dict) -> bool:
    """Whether every cell of the plan before is in the new one with the same trial, and the question is the same."""
    cells = [{(cell["arm"], cell["seed"], cell["trial"]) for cell in plan["cells"]} for plan in (before, now)]
    if before.get("race") != now.get("race") or ("search" in before) != ("search" in now):
        return False
    if "search" in before and not only_adds(before["search"], now["search"]):
        return False
    return cells[0] <= cells[1] and all(before[key] == now[key] for key in ("metric", "also", "failure", "data"))


def write_plan(plan: Plan, folder: StudyFolder) -> None:
    """Write study.yaml and plan.json; a plan with the same hash stays as it was written.

    Where its stores are is no part of the plan: `ablate sync` reads it in study.yaml, which then is written again.
    """
    document = plan.to_json()
    same = folder.plan.exists() and json.loads(folder.plan.read_text())["hash"] == document["hash"]
    if same and _stores(folder) == (plan.study.tracking.mlflow, plan.study.tracking.optuna):
        return
    recipes = [arm.resolved.recipe for arm in plan.arms]
    text = startfiles.in_own_copies(plan.study.text, recipes, folder.cache, beside=folder.root)
    write_atomically(folder.study, write_yaml(text))
    if same:
        return
    failpoint("study-written")
    write_atomically(folder.plan, json.dumps(document, indent=1))
    failpoint("plan-written")


def _stores(folder: StudyFolder) -> tuple[str | None, str] | None:
    """As the folder's study.yaml states them; None where it can't be read, which others say."""
    try:
        return stated(folder)
    except (StudyError, OSError, AttributeError):
        return None


def _what_changed(folder: StudyFolder, before: dict, now: dict) -> str:
    """Arms by name rather than by place, so that one more arm does not shift all others."""
    for document in (before, now):
        document["arms"] = {arm["name"]: arm for arm in document["arms"]}
        document["seeds"] = {str(seed): True for seed in document["seeds"]}
    derived = ("hash", "cells", "data_sets")
    changed = differences(_without(before, *derived), _without(now, *derived))
    lines = [f"  {path}: {old!r} -> {new!r}" for path, (old, new) in changed.items()]
    more = [f"  ... and {len(lines) - SHOWN_DIFFERENCES} more"] if len(lines) > SHOWN_DIFFERENCES else []
    return "\n".join((
        f"{folder.root} holds another study under the name {folder.name!r}; what differs:",
        *lines[:SHOWN_DIFFERENCES], *more,
        "give this one another name (--set name=...) or another runs folder (--runs);",
        "--extend accepts a study that only adds arms, seeds or trials of a search",
    ))  # fmt: skip


def _without(document: Mapping, *keys: str) -> dict:
    return {key: value for key, value in document.items() if key not in keys}


def prepare_data(plan: Plan, folder: StudyFolder) -> None:
    """Decode the tiles of every data set of the plan once, and keep what the base's are split into."""
    from trainers.prepare import prepare

    prepared = {fingerprint: prepare(options, folder.cache) for fingerprint, options in plan.data.items()}
    check_bands(plan, prepared)
    check_metrics(plan, prepared)
    for arm, spec in specs_of_arms(plan):
        startfiles.keep(arm.resolved.recipe, spec.recipe, folder.cache)
    base = prepared[plan.specs[plan.cells[0].trial].data]
    rows = json.loads((base / "meta.json").read_text())["tiles"]
    facts: dict[str, Any] = {}
    for noun, names in (("tiles", list(range(len(rows["name"])))), ("scenes", rows["scene"])):
        members = {split: {n for n, s in zip(names, rows["split"], strict=True) if s == split} for split in SPLITS}
        facts[noun] = ", ".join(f"{len(found)} {split}" for split, found in members.items())
    facts["splits"] = json.loads((base / "meta.json").read_text())["splits"]  # the scenes by name
    scored = rows["split"].count(plan.study.metric.split)
    if not scored:
        raise DataError(f"the data has no {plan.study.metric.split} scenes, and the arms are ranked by them")
    if len(prepared) > 1:
        facts["tiles"] += f" (of the base's data set; the arms have {len(prepared)})"
    facts["cautions"] = [said for name in plan.metrics if (said := caution(name, images=scored))]
    for said in facts["cautions"]:
        log.warning(said)
    # Those of the data are in the log since they were prepared.
    facts["cautions"] += dict.fromkeys(f"data: {said}" for one in prepared.values() for said in _warnings_of(one))
    if said := unpaired(base):
        log.warning(said)
        facts["cautions"].append(f"data: {said}")
    if (reads := testreads.count(plan, folder)) is not None:
        facts["test_reads"] = reads
    write_atomically(folder.data, json.dumps(facts, indent=1))


def _warnings_of(prepared: Path) -> list[str]:
    return json.loads((prepared / "meta.json").read_text())["warnings"]


def check_metrics(plan: Plan, prepared: Mapping[str, Path]) -> None:
    """Raises DataError for a metric that can't be computed on the bands that the data turned out to have."""
    for folder in prepared.values():
        _, bands, tile, _ = json.loads((folder / "meta.json").read_text())["arrays"]["optical"]["shape"]
        for name in plan.metrics:
            if why := unavailable(name, tile=tile, bands=bands):
                raise DataError(f"metric {name} is unavailable: {why}; take it out of `metric` or `also`")


def specs_of_arms(plan: Plan) -> Iterator[tuple[PlannedArm, TrialSpec]]:
    """Every arm with the specification of one of its trials: they differ in their seeds only."""
    trials = {cell.arm: cell.trial for cell in plan.cells}
    return ((arm, plan.specs[trials[arm.name]]) for arm in plan.arms)


def check_bands(plan: Plan, prepared: Mapping[str, Path]) -> None:
    """Raises StudyError for every file to start from that was made for other bands than the data has."""
    problems: dict[str, Problem] = {}  # sentence -> the first arm that it is true of
    for arm, spec in specs_of_arms(plan):
        arrays = json.loads((prepared[spec.data] / "meta.json").read_text())["arrays"]
        sar, optical = (arrays[name]["shape"][1] for name in ("sar", "optical"))
        for path, message in band_refusals(arm.resolved.recipe, bands_in=sar, bands_out=optical):
            said = f"{dotted(path)}: {message}"
            problems.setdefault(said, Problem(str(plan.study.source), 0, 0, f"arm {arm.name}", said))
    if problems:
        raise StudyError(problems.values())


# -- after ----------------------------------------------------------------------------------------


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
