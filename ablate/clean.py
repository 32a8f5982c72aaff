"""`ablate clean`: removes what can be rebuilt or is of no use to anybody, and never a result.

Weights, scores, curves, samples, logs, reports, databases and copies of files that a study starts from stay.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate import artifacts, events, lock
from ablate.branching import left_for
from ablate.datacache import users
from ablate.disk import abandoned, leftovers
from ablate.records import StudyFolder, TrialFolder
from ablate.space import in_bytes
from ablate.status import study_status
from ablate.stored import Damaged
from trainers.pairs import DataError
from trainers.prepare import NAME, in_use, prune

CACHE, CHECKPOINTS, LEFTOVERS, FAILED = "prepared data", "checkpoints", "leftovers", "failed"
WORDS = {
    CACHE: "prepared data that no unfinished study needs; made again by a run that needs it",
    CHECKPOINTS: "checkpoints of trials that have ended",
    LEFTOVERS: "half files of writers that were killed",
    FAILED: "failed trials that were put aside for another attempt",
}
PUT_ASIDE = re.compile(r"(.+)\.failed-(\d+)")


@dataclass(frozen=True)
class Item:
    """A file or folder that may go."""

    kind: str
    path: Path
    bytes: int


@dataclass
class Cleaned:
    """What was removed, or would be, and what was left alone with the reason, a sentence each."""

    items: list[Item] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        kinds = {kind: [item for item in self.items if item.kind == kind] for kind in WORDS}
        return {
            "dry_run": self.dry_run, "bytes": sum(item.bytes for item in self.items), "spared": self.spared,
            "kinds": {kind: {"number": len(items), "bytes": sum(item.bytes for item in items),
                             "paths": [str(item.path) for item in items]} for kind, items in kinds.items()},
        }  # fmt: skip


def clean(runs: Path, study: str | None = None, *, failed: bool = False, dry_run: bool = False) -> Cleaned:
    """Clean one study's folder, or all under `runs`, and the prepared data that it, or anybody, has used.

    `failed` removes failed trials that were put aside too; `dry_run` removes nothing. Raises Busy where the study's
    driver lives, or may live on another machine, and Damaged for its plan; among all studies such a one is spared.
    """
    found = Cleaned(dry_run=dry_run)
    names = [study] if study else sorted(path.parent.name for path in runs.glob("*/plan.json"))
    for name in names:
        try:
            _study(StudyFolder(runs, name), found, failed=failed)
        except (lock.Busy, Damaged) as error:
            if study:
                raise
            found.spared.append(f"{name}: {error}")
    if not study:
        strays = [path for path in leftovers(runs / "cache") if path.is_file()] + sorted(runs.glob(".*.partial"))
        _remove([Item(LEFTOVERS, path, _size(path)) for path in strays], found)
    _cache(runs, study, found)
    return found


# -- a study's folder ---------------------------------------------------------------------------------------


def _study(folder: StudyFolder, found: Cleaned, *, failed: bool) -> None:
    with _held(folder, dry_run=found.dry_run):
        status = study_status(folder.runs, folder.name)
        if status["state"] == "unknown":
            who = "a driver on {host} (pid {pid}) has not said that it ended".format(**status["driver"])
            raise lock.Busy(f"{who}, and can't be seen from here; bring {folder.name} to its end first, there or here")
        aside = sorted(path for path in (folder.root / "trials").glob("*") if PUT_ASIDE.fullmatch(path.name))
        if failed:
            # The last first: a trial that fails again is named by how many there are.
            _remove([Item(FAILED, path, _size(path)) for path in sorted(aside, key=_attempt, reverse=True)], found)
        for path in sorted((folder.root / "trials").glob("*")):
            if path.is_dir() and not (failed and path in aside):
                _trial(TrialFolder(path), found)
        _remove([Item(LEFTOVERS, path, _size(path)) for path in leftovers(folder.root)], found)


@contextmanager
def _held(folder: StudyFolder, *, dry_run: bool) -> Iterator[None]:
    """No driver starts meanwhile; without a lock of its own where nothing is to be written."""
    if dry_run or not folder.lock.exists():
        if lock.is_held(folder.lock):
            raise lock.Busy(lock.describe(folder.lock))
        yield
        return
    with lock.hold(folder.lock, what="ablate clean"):
        yield


def _trial(folder: TrialFolder, found: Cleaned) -> None:
    """The checkpoints of a trial that has ended, a put-aside one too; none of a stream that can't be read."""
    try:
        over = artifacts.ended(events.read(folder.events))
    except events.CorruptStream as error:
        found.spared.append(str(error))
        return
    if over and not lock.is_held(folder.events):
        _remove([Item(CHECKPOINTS, path, _size(path)) for path in artifacts.transient(folder.checkpoints)], found)
        if folder.branches.is_dir() and not _awaited(folder):
            _remove([Item(CHECKPOINTS, folder.branches, _size(folder.branches))], found)


def _awaited(folder: TrialFolder) -> bool:
    """Whether a trial that has yet to end may go on from this one; from one that was put aside none does."""
    if PUT_ASIDE.fullmatch(folder.root.name):
        return False
    others = {id for ids in left_for(folder).values() for id in ids}
    try:
        last = [events.last(folder.root.parent / id / "events.jsonl") for id in others]
    except events.CorruptStream:
        return True
    return not all(isinstance(event, events.Ended) for event in last)


def _attempt(path: Path) -> int:
    return int(PUT_ASIDE.fullmatch(path.name)[2])


# -- prepared data ------------------------------------------------------------------------------------------


def _cache(runs: Path, study: str | None, found: Cleaned) -> None:
    """Sets that no study with work left needs, and half ones; what another process uses or builds stays."""
    cache = StudyFolder(runs, "").cache
    sets = {path.name: _size(path) for path in cache.glob("*") if NAME.fullmatch(path.name) and path.is_dir()}
    try:
        used = users(runs)
    except DataError as error:
        found.spared.append(str(error))
        return
    unfinished = {name for name in set().union(*used.values()) if _has_work(runs, name)} if used else set()
    needed = {key for key, names in used.items() if names & unfinished}
    unneeded = {key for key in sets if study is None or study in used.get(key, ())} - needed
    busy = {key for key in unneeded if in_use(cache, key)}
    half = (path for path in cache.glob("*.partial") if path.is_dir())
    stale = [path for path in half if not in_use(cache, path.stem)]
    found.items += [Item(CACHE, cache / key, sets[key]) for key in sorted(unneeded - busy)]
    found.items += [Item(LEFTOVERS, path, _size(path)) for path in stale]
    found.spared += [f"{cache / key}: in use by another process" for key in sorted(busy)]
    if not found.dry_run and (unneeded or stale):
        prune(cache, keep=set(sets) - (unneeded - busy))


def _has_work(runs: Path, name: str) -> bool:
    """Whether trials of a study are left to train; of one that can't be read, it is assumed."""
    try:
        return study_status(runs, name)["state"] != "finished"
    except (Damaged, OSError):
        return True


# -- removal ------------------------------------------------------------------------------------------------


def _remove(items: list[Item], found: Cleaned) -> None:
    """Remove what nobody holds, or see what would be."""
    for item in items:
        if item.kind == LEFTOVERS and not abandoned(item.path, remove=not found.dry_run):
            continue
        if not found.dry_run and item.path.is_dir():
            shutil.rmtree(item.path)
        elif not found.dry_run:
            item.path.unlink(missing_ok=True)
        found.items.append(item)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def describe(cleaned: Cleaned, runs: Path) -> str:
    """What went, kind by kind with bytes, then what was left alone and why."""
    facts = cleaned.to_json()
    kinds = {kind: each for kind, each in facts["kinds"].items() if each["number"]}
    lines = [f"{in_bytes(each['bytes']):>10}  {each['number']} {WORDS[kind]}" for kind, each in kinds.items()]
    verb = "would be removed" if cleaned.dry_run else "removed"
    lines.append(f"{in_bytes(facts['bytes']):>10}  {verb}" if kinds else f"nothing to remove under {runs}/")
    return "\n".join([*lines, *(f"left alone: {said}" for said in cleaned.spared)])
