"""`ablate status`: the truth now, read from the folders, also about a driver that is dead.

A living driver holds the study's lock, a trial that trains its stream's. Locks of another machine may not show here: of
a driver that started there and has not said that it ended, this is said and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate import events, lock, slurmqueue
from ablate.records import Status, StudyFolder, TrialFolder
from ablate.recovery import Resumption, Rhythm, resumptions, summed
from ablate.stored import Damaged, read_outline, read_spec

RUNNING, WAITING, UNKNOWN, DAMAGED = "running", "waiting", "unknown", "damaged"  # of trials without an outcome
PREPARING = "preparing"  # of a study
STATES = (*Status, RUNNING, WAITING, UNKNOWN, DAMAGED)


def study_status(runs: Path, name: str) -> dict[str, Any]:
    """Study, state, driver, counts of cells, each trial, and what taking trials up again has cost.

    The state is `running`, `finished`, `stopped` (work is left and no driver lives) or `unknown` (work is left, and
    whether its driver lives can't be seen from this machine); `preparing` where the plan is still to be written.
    Raises Damaged for the plan.
    """
    folder = StudyFolder(runs, name)
    if early := preparing(folder):
        return early
    plan = read_outline(folder)
    last, alive = lock.last_driver(folder.lock), lock.is_run(folder.lock)
    unseen = not alive and last is not None and last.ended is None and not last.seen_from_here
    ids = dict.fromkeys(cell["trial"] for cell in plan["cells"])
    found = {id: _trial(folder.trial(id), unseen=unseen) for id in ids}
    counts = Counter(found[cell["trial"]].state for cell in plan["cells"])
    counts[WAITING] += _undrawn(plan)
    left = sum(counts[state] for state in (RUNNING, WAITING, UNKNOWN, DAMAGED))
    return {
        "study": name, "state": "running" if alive else "finished" if not left else UNKNOWN if unseen else "stopped",
        "driver": last and _driver(last, None if unseen else alive, [one.last for one in found.values()]),
        "counts": {str(key): counts[str(key)] for key in STATES},
        "jobs": _left_behind(folder, found) if left and not alive else {},
        "recovery": summed([(one.resumptions, one.rhythm) for one in found.values()]).to_json(),
        "trials": [{**cell, **found[cell["trial"]].to_json()} for cell in plan["cells"]],
    }  # fmt: skip


def all_status(runs: Path) -> list[dict[str, Any]]:
    """The status of every study under `runs`; of one whose plan is damaged its name, that state, and `why`."""
    found = []
    places = {path.parent.name for pattern in ("*/plan.json", "*/driver.lock") for path in runs.glob(pattern)}
    for folder in (StudyFolder(runs, name) for name in sorted(places)):
        if early := preparing(folder):
            found.append(early)
        elif folder.plan.exists():
            try:
                found.append(study_status(runs, folder.name))
            except Damaged as error:
                found.append({"study": folder.name, "state": DAMAGED, "why": str(error)})
    return found


def preparing(folder: StudyFolder) -> dict[str, Any] | None:
    """The status of a study whose driver has not yet written the plan: it does so once the data are prepared.

    None of any other study.
    """
    if folder.plan.exists() or not lock.is_run(folder.lock):
        return None
    last = lock.last_driver(folder.lock)
    return {
        "study": folder.name, "state": PREPARING, "driver": last and _driver(last, True, []),
        "counts": dict.fromkeys(map(str, STATES), 0), "jobs": {}, "recovery": summed([]).to_json(), "trials": [],
    }  # fmt: skip


def is_whole(status: Mapping[str, Any]) -> bool:
    """Whether every file that the status was read from could be read."""
    return status["state"] != DAMAGED and not status["counts"][DAMAGED]


# -- driver -----------------------------------------------------------------------------------------------


def _driver(last: lock.Holder, alive: bool | None, lines: Sequence[float | None]) -> dict[str, Any]:
    """The driver that ran the study last; `alive` is None where that can't be seen.

    `last_sign` is when it started or a trial last wrote a line: by what the files say, since copies have other dates.
    """
    sign = max([last.start, *(time for time in lines if time is not None and time >= last.start)])
    return {"pid": last.pid, "host": last.host, "since": last.start, "alive": alive, "ended": last.ended,
            "error": last.error, "last_sign": sign}  # fmt: skip


def _left_behind(folder: StudyFolder, trials: Mapping[str, _Trial]) -> dict[str, list[str] | None]:
    """Jobs of Slurm that may go on without a driver (None where it does not say), and trials that actors of Ray may."""
    found: dict[str, list[str] | None] = {"slurm": slurmqueue.alive(folder.slurm)}
    claimed = {path.stem for path in (folder.ray / "claims").glob("*.json")}
    found["ray"] = sorted(id for id in claimed & {*trials} if trials[id].state in (RUNNING, WAITING, UNKNOWN))
    return {name: left for name, left in found.items() if left != []}


# -- trials -----------------------------------------------------------------------------------------------


def _undrawn(plan: dict[str, Any]) -> int:
    """Cells of arms that a search has still to draw."""
    if not (search := plan.get("search")):
        return 0
    drawn = sum("sampled" in arm for arm in plan["arms"])
    return (search["trials"] - drawn) * len(plan["seeds"])


@dataclass(frozen=True)
class _Trial:
    """What a trial's stream says now; `last` is the time of its last line."""

    state: str
    step: int = 0
    why: str = ""
    diagnosis: str = ""
    findings: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 0
    last: float | None = None
    resumptions: tuple[Resumption, ...] = ()
    rhythm: Rhythm | None = None

    def to_json(self) -> dict[str, Any]:
        interval = self.rhythm and self.rhythm.interval
        return {**{key: value for key, value in asdict(self).items() if key != "rhythm"}, "interval": interval}


def _trial(folder: TrialFolder, *, unseen: bool) -> _Trial:
    """A trial without its end is running while somebody holds its stream, and waits to be taken up else."""
    alive = lock.is_held(folder.events)  # before the reading: what was written by then is read
    try:
        stream = events.read(folder.events)
    except events.CorruptStream as error:
        return _Trial(DAMAGED, why=str(error))
    state = RUNNING if alive else UNKNOWN if stream and unseen else WAITING
    attempts = sum(isinstance(event, events.Started) for event in stream)
    rhythm = _rhythm(folder) if attempts > 1 else None
    found = _Trial(state, max((event.step for event in stream), default=0), attempts=attempts,
                   last=stream[-1].time if stream else None, resumptions=resumptions(stream, rhythm),
                   rhythm=rhythm)  # fmt: skip
    ended = next((event for event in stream if isinstance(event, events.Ended)), None)
    if ended is None:
        return found
    return replace(found, state=ended.status, step=ended.step, why=ended.why, diagnosis=ended.diagnosis,
                   findings=dict(ended.findings))  # fmt: skip


def _rhythm(folder: TrialFolder) -> Rhythm | None:
    try:
        return Rhythm.of(read_spec(folder)["recipe"])
    except (Damaged, OSError):
        return None
