"""From a job's end to a verdict on its trial: an outcome, a resumption, or a failure with its cause."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ablate import events
from ablate.executor import Outcome
from ablate.records import Status, TrialFolder, TrialResult, write_atomically

RESUMES = 5  # times that a trial is taken up again after the machine failed it


class Next(StrEnum):
    """What the driver does with a trial whose job has ended."""

    settled = "settled"  # its outcome is on disk
    interrupted = "interrupted"  # stopped on request; work is left
    stop = "stop"  # stopped for good, for the reason that stands in its flag
    resume = "resume"  # the machine's failure: again, from the last checkpoint
    fail = "fail"  # the arm's own failure, or the budget of resumptions is spent


@dataclass(frozen=True)
class Settlement:
    next: Next
    why: str = ""


def settle(id: str, folder: TrialFolder, outcome: Outcome, *, attempts: int) -> Settlement:
    """Read what the job left in its folder; `attempts` counts the jobs started for it, this one included.

    The reason of a failure begins with its kind: `arm:` (an outcome like diverged), `data:` or `machine:`.
    """
    if finished(id, folder) is not None:
        return Settlement(Next.settled)
    if why := stop_reason(folder):
        return Settlement(Next.stop, why)
    if outcome.clean and folder.stop.exists():
        return Settlement(Next.interrupted)
    kind, cause = earliest_error(folder)
    if kind in ("arm", "data") and not _killed(outcome):
        return Settlement(Next.fail, f"{kind}: {cause}")
    why = _machine_failure(outcome, cause)
    if attempts > RESUMES:
        return Settlement(Next.fail, f"machine: {why}; resumed {RESUMES} times")
    return Settlement(Next.resume, why)


def finished(id: str, folder: TrialFolder) -> TrialResult | None:
    """The trial's result if its end is on disk, else None."""
    stream = events.read(folder.events)
    if any(isinstance(event, events.Ended) for event in stream):
        return events.fold(id, stream)
    return None


def ask_to_stop(folder: TrialFolder, why: str) -> None:
    """Raise the flag with a reason: the trial will not be taken up again, whatever happens until it ends."""
    write_atomically(folder.stop, why)


def stop_reason(folder: TrialFolder) -> str:
    """Why the trial was stopped for good; empty where nothing but an interruption raised the flag."""
    return folder.stop.read_text() if folder.stop.exists() else ""


def earliest_error(folder: TrialFolder) -> tuple[str, str] | tuple[None, None]:
    """Kind and last words of the rank that died first: later ones only say that a peer has gone."""
    documents = [json.loads(path.read_text()) for path in folder.root.glob("error.*.json")]
    if not documents:
        return None, None
    first = min(documents, key=lambda document: document["time"])
    message = (first["message"].splitlines() or [""])[0]
    return first["kind"], f"rank {first['rank']}: {first['type']}: {message}"


def clear(folder: TrialFolder) -> None:
    """Remove the flags of an earlier attempt."""
    folder.stop.unlink(missing_ok=True)
    for path in folder.root.glob("error.*.json"):
        path.unlink()


def evict(folder: TrialFolder) -> None:
    """Kill what is left of an earlier attempt: a rank that was stopped can't see that its launcher has died.

    Only a rank of this trial has the trial's log as its standard output.
    """
    log = str(folder.log.resolve())
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "fd" / "1") == log:
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue  # it has ended, or is somebody else's


def record_failure(id: str, folder: TrialFolder, why: str) -> TrialResult:
    """Write the end of a trial whose worker could not write it itself."""
    return _record(id, folder, Status.failed, why)


def record_stop(id: str, folder: TrialFolder, why: str) -> TrialResult:
    """Write the end of a trial that is stopped for good, started or not; an end that is there stands."""
    found = finished(id, folder) or _record(id, folder, Status.stopped, why)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)  # it is never taken up again
    return found


def _record(id: str, folder: TrialFolder, status: Status, why: str) -> TrialResult:
    stream = events.read(folder.events)
    so_far = events.fold(id, stream)
    # An attempt of its own, so that the time since the worker's last line is nobody's training time.
    attempt = 1 + max((event.attempt for event in stream), default=0)
    writer = events.EventWriter(folder.events, attempt=attempt)
    writer.append(events.Ended, step=so_far.steps, images=so_far.images, status=status.value, why=why)
    writer.close()
    return events.fold(id, events.read(folder.events))


def put_aside(folder: TrialFolder) -> None:
    """Rename a failed trial's folder, so that its id can run again and nothing is lost."""
    taken = len(list(folder.root.parent.glob(f"{folder.root.name}.failed-*")))
    folder.root.rename(folder.root.with_name(f"{folder.root.name}.failed-{taken + 1}"))


def _killed(outcome: Outcome) -> bool:
    return outcome.lost or any(code < 0 for code in outcome.failures.values())


def _machine_failure(outcome: Outcome, cause: str | None) -> str:
    if outcome.lost:
        return "the launcher died"
    killed = [(rank, -code) for rank, code in outcome.failures.items() if code < 0]
    if killed:
        rank, number = killed[0]
        return f"rank {rank} was ended by {signal.Signals(number).name}"
    return cause or "the ranks ended without recording an end"
