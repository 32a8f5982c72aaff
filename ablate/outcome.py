"""From a job's end to a verdict on its trial: an outcome, a resumption, or a failure with its cause."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ablate import events
from ablate.artifacts import remove_branches, tidy
from ablate.executor import Outcome
from ablate.failpoints import failpoint
from ablate.processes import UNSAID
from ablate.records import Status, TrialFolder, TrialResult, write_atomically

RESUMES = 5  # times in a row, without a new checkpoint, that a trial is taken up again after the machine failed it
FOLLOWING = (signal.SIGTERM, signal.SIGABRT)  # how ranks end after a peer has: by the launcher, or in gloo's own thread


class Next(StrEnum):
    """What the driver does with a trial whose job has ended."""

    settled = "settled"  # its outcome is on disk
    interrupted = "interrupted"  # stopped on request; work is left
    preempted = "preempted"  # its scheduler needed the place, or its time was up
    stop = "stop"  # stopped for good, for the reason that stands in its flag
    resume = "resume"  # the machine's failure: again, from the last checkpoint
    fail = "fail"  # the arm's own failure, or the budget of resumptions is spent
    halt = "halt"  # no trial can go on here, as on a full disk: the study ends, nothing is recorded


@dataclass(frozen=True)
class Settlement:
    next: Next
    why: str = ""
    result: TrialResult | None = None  # of one that is settled


@dataclass(frozen=True)
class Cause:
    """The last words of the rank that died first: later ones only say that a peer has gone."""

    kind: str  # arm, data or machine
    rank: int
    type: str  # of the exception
    message: str

    @property
    def words(self) -> str:
        return f"rank {self.rank}: {self.type}: {self.message}"


def settle(id: str, folder: TrialFolder, outcome: Outcome, *, attempts: int) -> Settlement:
    """Read what the job left in its folder; `attempts` counts jobs since the last new checkpoint.

    The reason of a failure begins with its kind: `arm:` (an outcome like diverged), `data:` or `machine:`.
    """
    if result := finished(id, folder):
        return Settlement(Next.settled, result=result)
    if why := stop_reason(folder):
        return Settlement(Next.stop, why)
    if outcome.clean and folder.stop.exists():
        return Settlement(Next.interrupted)
    if outcome.preempted:
        return Settlement(Next.preempted, outcome.said)
    if outcome.arms:
        return Settlement(Next.fail, f"arm: {outcome.said}")
    cause = earliest_error(folder)
    if cause and cause.kind in ("arm", "data") and not _killed(outcome):
        return Settlement(Next.fail, f"{cause.kind}: {cause.words}")
    why = _machine_failure(outcome, cause)
    if attempts <= RESUMES:
        return Settlement(Next.resume, why)
    if _disk(outcome, cause):
        return Settlement(Next.halt, why)
    return Settlement(Next.fail, f"machine: {why}; resumed {RESUMES} times")


def finished(id: str, folder: TrialFolder) -> TrialResult | None:
    """The trial's result if its end is on disk, else None.

    Without the curves of its training: whoever holds the results of thousands of trials has no room for them.
    """
    stream = events.read(folder.events, train=())
    if any(isinstance(event, events.Ended) for event in stream):
        return events.fold(id, stream)
    return None


def ask_to_stop(folder: TrialFolder, why: str) -> None:
    """Raise the flag with a reason: the trial will not be taken up again, whatever happens until it ends."""
    write_atomically(folder.stop, why)


def stop_reason(folder: TrialFolder) -> str:
    """Why the trial was stopped for good; empty where nothing but an interruption raised the flag."""
    return folder.stop.read_text() if folder.stop.exists() else ""


def earliest_error(folder: TrialFolder) -> Cause | None:
    """What the rank that died first has said; None where no rank could say anything that is whole.

    By the clock that ranks of one machine share; by the walls' where there are several machines.
    """
    found = [words for path in folder.root.glob("error.*.json") if (words := _last_words(path))]
    shared = len({words.boot for words in found}) == 1 and all(words.boot for words in found)
    return min(found, key=lambda words: words.monotonic if shared else words.time).cause if found else None


@dataclass(frozen=True)
class _Words:
    cause: Cause
    time: float
    monotonic: float
    boot: str  # of the kernel whose clock that is; empty where it is not known


def _last_words(path: Path) -> _Words | None:
    """None for a file that a full disk or a stranger has damaged."""
    try:
        words = json.loads(path.read_bytes())
        message = (str(words["message"]).splitlines() or [""])[0]
        cause = Cause(str(words["kind"]), int(words["rank"]), str(words["type"]), message)
        return _Words(cause, float(words["time"]), float(words.get("monotonic", 0.0)), str(words.get("boot", "")))
    except (OSError, ValueError, TypeError, KeyError, RecursionError, AttributeError):
        return None


def clear(folder: TrialFolder) -> None:
    """Remove the flags of an earlier attempt."""
    folder.stop.unlink(missing_ok=True)
    for path in folder.root.glob("error.*.json"):
        path.unlink()


def record_failure(id: str, folder: TrialFolder, why: str) -> TrialResult:
    """Write the end of a trial whose worker could not write it itself."""
    return _record(id, folder, Status.failed, why)


def record_stop(id: str, folder: TrialFolder, why: str) -> TrialResult:
    """Write the end of a trial that is stopped for good, started or not; an end that is there stands."""
    found = finished(id, folder) or _record(id, folder, Status.stopped, why)
    tidy(folder)
    return found


def _record(id: str, folder: TrialFolder, status: Status, why: str) -> TrialResult:
    stream = events.read(folder.events)
    so_far = events.fold(id, stream)
    # An attempt of its own, so that the time since the worker's last line is nobody's training time.
    attempt = 1 + max((event.attempt for event in stream), default=0)
    writer = events.EventWriter(folder.events, attempt=attempt)
    writer.append(events.Ended, step=so_far.steps, images=so_far.images, status=status.value, why=why)
    writer.close()
    failpoint("failure-recorded")
    tidy(folder)
    return finished(id, folder)


def put_aside(folder: TrialFolder) -> None:
    """Rename a failed trial's folder, so that its id can run again and nothing is lost."""
    remove_branches(folder.branches)  # nobody goes on from a folder of another name
    names = [path.name.rpartition("-")[2] for path in folder.root.parent.glob(f"{folder.root.name}.failed-*")]
    number = 1 + max((int(name) for name in names if name.isdecimal()), default=0)
    folder.root.rename(folder.root.with_name(f"{folder.root.name}.failed-{number}"))
    failpoint("put-aside")


def _killed(outcome: Outcome) -> bool:
    """Whether something other than the trial ended a rank. What a rank says may then be what that did to it."""
    return outcome.lost or any(code < 0 and -code not in FOLLOWING for code in outcome.failures.values())


def _disk(outcome: Outcome, cause: Cause | None) -> bool:
    return UNSAID in outcome.failures.values() or (cause is not None and cause.type == "DiskFull")


def _machine_failure(outcome: Outcome, cause: Cause | None) -> str:
    if outcome.lost:
        return outcome.said or "the launcher died"
    if cause and cause.type in ("Stalled", "DiskFull"):  # what follows is that others are ended
        return cause.words
    killed = [(rank, -code) for rank, code in outcome.failures.items() if code < 0]
    if killed:
        rank, number = killed[0]
        return f"rank {rank} was ended by {signal.Signals(number).name}"
    if cause:
        return cause.words
    unsaid = [rank for rank, code in outcome.failures.items() if code == UNSAID]
    if unsaid:
        return f"rank {unsaid[0]} could not write its last words: its disk is full or failing"
    return "the ranks ended without recording an end"
