"""Training that would go on under other code than it began with: refused, unless somebody accepts it.

Arms would then differ by code as well as by recipe. What was accepted lies in the study's folder; what a report says of
it, it reads from the trials' own streams.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ablate import code, events
from ablate.plan import Plan
from ablate.records import Status, StudyFolder, write_atomically
from ablate.stored import read_accepted_code

UNSTATED = f"{code.UNKNOWN}, "  # how the state of a run begins that did not write down its code


class CodeChanged(Exception):
    """Trials ran under other code than is installed, and more are to be trained; the text says how many."""


@dataclass(frozen=True)
class Counted:
    """Trials that ran under one state of the code: with an end, and to be taken up again."""

    finished: int = 0
    unfinished: int = 0

    def __str__(self) -> str:
        total = self.finished + self.unfinished
        parts = {"finished": self.finished, "to be taken up again": self.unfinished}
        said = ", ".join(f"{number} {what}" for what, number in parts.items() if number)
        return f"{total} trial{'s' * (total != 1)} ({said})"


def check(
    plan: Plan, folder: StudyFolder, *, accept: bool = False, retry_failed: bool = False,
    installed: Callable[[], str] = code.installed,
) -> str:  # fmt: skip
    """Raises CodeChanged where something is left to train and other code than now has trained, if not accepted.

    Of a study that has nothing left to train: a sentence, if all of its trials ran under other code; else empty.
    `retry_failed` says that failed trials are trained anew. Raises CorruptStream, and Damaged for what was accepted.
    """
    ran, left = _ran(plan, folder, retry_failed=retry_failed)
    if not ran:
        return ""
    now = installed()
    others = {state: counted for state, counted in ran.items() if state != now}
    if not left:
        return _remark(others, now) if others and now not in ran else ""
    known = {*others, now}
    if not others or any(known <= accepted for accepted in _accepted(folder)):
        return ""
    if not accept:
        raise CodeChanged(_refusal(folder, others, now, left))
    _record(folder, known, now)
    return ""


def _ran(plan: Plan, folder: StudyFolder, *, retry_failed: bool) -> tuple[dict[str, Counted], int]:
    """Trials by the state of the code that they ran under, one or several; and how many are left to train."""
    found: dict[str, Counted] = {}
    left = plan.undrawn
    for id in plan.specs:
        stream = events.read(folder.trial(id).events)
        ended = next((event for event in stream if isinstance(event, events.Ended)), None)
        if ended and ended.status == Status.failed and retry_failed:
            left += 1  # what it left is put aside
            continue
        left += ended is None
        for state in _stated(stream):
            before = found.get(state, Counted())
            found[state] = Counted(before.finished + (ended is not None), before.unfinished + (ended is None))
    return found, left


def _stated(stream: list[events.Event]) -> Iterator[str]:
    return (state for state in code.states(stream) if not state.startswith(UNSTATED))


def _refusal(folder: StudyFolder, others: Mapping[str, Counted], now: str, left: int) -> str:
    return "\n".join((
        f"{folder.root}: {_what(others, now)} changed since trials of this study ran:",
        *(f"  {counted} ran under code {state}" for state, counted in others.items()),
        f"  now it would be code {now}",
        f"{left} trial{'s' * (left != 1)} left to train: arms would differ by code as well as by recipe.",
        "Go back to the code of before, give the study another name (--set name=...), or go on with "
        "--accept-code-change: the report then says how many trials ran under which code",
    ))  # fmt: skip


def _what(others: Mapping[str, Counted], now: str) -> str:
    """Training code, torch, or both: that which differs."""
    pairs = [state.split(", ") for state in others]
    own = now.split(", ")
    parts = enumerate(("the training code", "torch"))
    names = [name for at, name in parts if any(pair[at] != own[at] for pair in pairs)]
    return " and ".join(names) + (" has" if len(names) == 1 else " have")


def _remark(others: Mapping[str, Counted], now: str) -> str:
    ran = "; ".join(f"{counted} under code {state}" for state, counted in others.items())
    return f"nothing is left to train; all trials ran under other code than is installed now ({now}): {ran}"


def _accepted(folder: StudyFolder) -> list[set[str]]:
    """Sets of states whose trials somebody has said may be compared."""
    return [set(entry["states"]) for entry in read_accepted_code(folder)]


def _record(folder: StudyFolder, states: set[str], now: str) -> None:
    entry = {"time": time.time(), "now": now, "states": sorted(states)}
    entries = [*read_accepted_code(folder), entry]
    write_atomically(folder.accepted_code, json.dumps({"accepted": entries}, indent=1))
