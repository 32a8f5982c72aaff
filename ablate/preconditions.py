"""What a study needs before it starts: a device, a disk, permissions, stores that can be, databases that are sound."""

from __future__ import annotations

import os
from pathlib import Path

from ablate import machine, optuna_storage, postgresql
from ablate.disk import remove_leftovers
from ablate.ledger import LedgerError
from ablate.mlflow_store import resolve, sqlite_file, unknown_store
from ablate.plan import Plan
from ablate.problems import counted
from ablate.processes import evict
from ablate.records import StudyFolder
from ablate.resources import LOCAL
from ablate.space import shortage
from ablate.sqlite import misread, unsound
from ablate.stored import Damaged
from trainers import ways

# Bytes at least: of a launcher that has loaded torch, and what a rank does not share with it.
LAUNCHER, RANK = 150 * 2**20, 50 * 2**20


class CannotRun(Exception):
    """This machine can't run the study as it stands."""


def clear_away(folder: StudyFolder, *, evicting: bool = True) -> None:
    """End what a dead driver left alive (a stopped process can't see that it has died), then remove its half files.

    Without `evicting`, what it left is to be found alive: jobs that outlive their driver.
    """
    for place in (folder.root / "trials", folder.references.root, folder.log) if evicting else ():
        evict(place)
    remove_leftovers(folder.root)


def check_databases(plan: Plan, folder: StudyFolder) -> None:
    """Raises Damaged for a database that SQLite's own check finds unsound, LedgerError where a server lets nobody in.
    """
    records = optuna_storage.resolve(plan.study.tracking.optuna, folder)
    if wrong := optuna_storage.unanswered(records):
        raise LedgerError(wrong)
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
            f"resources: {_side_by_side(plan.slots, widest)} {counted(widest * plan.slots, 'GPU')},"
            f" this machine shows {found}; set resources.ranks and resources.slots to fit, or resources.device to cpu"
        )
    if plan.study.resources.executor == LOCAL:
        check_memory(plan.slots, widest)
    try:
        runs.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CannotRun(f"the runs folder can't be made: {runs}: {error.strerror}") from None
    if not os.access(runs, os.W_OK | os.X_OK):
        raise CannotRun(f"the runs folder is not writable: {runs}")
    check_space(plan, runs)


def _side_by_side(trials: int, ranks: int) -> str:
    if trials == 1:
        return f"a trial with {counted(ranks, 'rank')} needs"
    return f"{trials} trials side by side with {counted(ranks, 'rank')} each need"


def check_memory(slots: int, ranks: int) -> None:
    """Raises CannotRun where processes that have but loaded torch would not fit into this machine's memory."""
    needed, there = slots * (LAUNCHER + ranks * RANK), machine.memory()
    if there and needed > there:
        raise CannotRun(
            f"resources.slots: {_side_by_side(slots, ranks)} {needed / 2**30:.1f} GiB of memory before training,"
            f" this machine has {there / 2**30:.1f} GiB; fewer slots, or auto"
        )


def check_stores(uri: str | None, storage: str, folder: StudyFolder) -> None:
    """Raises CannotRun where there can't be a store: one that the environment names, one whose driver is not
    installed, a SQLite file under a path that its address can't hold."""
    place = resolve(uri, folder) or ""
    if wrong := unknown_store(place) or (postgresql.is_address(place) and postgresql.driver_missing()):
        raise CannotRun(f"{'MLFLOW_TRACKING_URI' if uri == 'auto' else 'tracking.mlflow'}: {wrong}")
    if wrong := optuna_storage.unusable(storage):
        raise CannotRun(wrong)
    if place == resolve("auto", folder, {}):
        check_address(folder.mlflow)
    if isinstance(records := optuna_storage.resolve(storage, folder), Path):
        check_address(records)


def check_address(database: Path) -> None:
    """Raises CannotRun for a database under the runs folder that Optuna and MLflow would take for another file."""
    if said := no_address(database):
        raise CannotRun(said)


def no_address(place: Path) -> str:
    """Why no database can be at a path under the runs folder; empty where it can."""
    found = misread(place.absolute())
    return found and (f"the runs folder's path holds {found!r}, which the address of a SQLite file can't:"
                      f" {place.absolute()}; move the folder, or name another with --runs")  # fmt: skip


def check_space(plan: Plan, runs: Path) -> None:
    """Raises CannotRun where what is left to run would fill the disk."""
    if said := shortage(plan, runs):
        raise CannotRun(said)
