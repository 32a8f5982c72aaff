"""Faults on request at named points, to prove what a kill, a full disk or a hang there leaves (standard library only).

    ABLATE_FAILPOINTS="manifest-written=kill@2,step=stop@5#1" ablate run STUDY

A rule is `point=action`, then `@n` for the n-th time that a process gets there (else the first), `@n+` for every
time from the n-th on, and `#r` for rank r alone. With ABLATE_FAILPOINTS_ONCE=FOLDER a rule that has acted leaves its
name there and no process acts on it again, so that a run which resumes goes on. Off, a point costs a call.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT, ONCE = "ABLATE_FAILPOINTS", "ABLATE_FAILPOINTS_ONCE"

# Point -> what has happened when it is reached. A test holds that each stands in the code, and no other.
POINTS: dict[str, str] = {
    "disk-write": "the next piece of a file (1 MiB at most) is about to be written",
    "file-written": "a new version of a file lies whole beside its place",
    "file-replaced": "it is in its place; the folder is not yet synced",
    "database-made": "a whole new database lies beside its place",
    "study-written": "study.yaml is in place, plan.json is not",
    "plan-written": "plan.json is in place",
    "references-scored": "the job that scores references is over",
    "arm-drawn": "plan.json holds a search's next arm, the stores do not",
    "look-recorded": "a look of a race is on disk, what it stops goes on",
    "spec-written": "a trial's spec.json is in place",
    "trial-begun": "its job has been started, the stores do not know",
    "run-created": "its MLflow run is there, without parameters",
    "result-read": "its outcome has been read, the stores do not know",
    "told": "Optuna knows its outcome",
    "run-ended": "MLflow knows its outcome",
    "failure-recorded": "the driver has written the end of a trial that failed or was stopped",
    "put-aside": "the folder of a trial that is tried again has another name",
    "stream-opened": "the event stream is locked, a torn tail cut off",
    "event-appended": "an event is in the stream, not yet durable",
    "step": "an update has been made",
    "sample-saved": "a sample is in place, its event is not",
    "scores-saved": "final scores are in place, their event is not",
    "generator-saved": "the final generator is in place, its event is not",
    "checkpoint-written": "a new checkpoint is in place, the manifest does not name it",
    "manifest-written": "the manifest names it; the oldest generation is still there",
    "checkpoint-told": "the checkpoint's event is durable",
    "branch-saved": "a checkpoint for others to go on from is in place, its event is not",
    "branch-taken": "what another trial has trained is in the stream, its checkpoint is not",
    "stream-durable": "all a worker has to say is durable; after an end, checkpoints are still there",
    "report-half-written": "a part of the new report lies beside the old one",
    "report-written": "the new report lies whole beside the old one",
}


class Injected(RuntimeError):
    """What `raise` raises."""


def _raise(error: Callable[[], Exception]) -> None:
    raise error()


ACTIONS: dict[str, Callable[[str], None]] = {
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "warn": lambda _: os.kill(os.getpid(), signal.SIGUSR1),
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "exit": lambda _: os._exit(0),
    "raise": lambda _: _raise(lambda: Injected("raised by a failpoint")),
    "enospc": lambda _: _raise(lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    "memory": lambda _: _raise(lambda: MemoryError("refused by a failpoint")),
    "sleep": lambda seconds: time.sleep(float(seconds)),
}
RULE = re.compile(r"(?P<point>[\w-]+)=(?P<action>\w+)(:(?P<value>[\d.]+))?(@(?P<nth>\d+)(?P<on>\+)?)?(#(?P<rank>\d+))?")


@dataclass
class Rule:
    point: str
    action: str
    value: str
    nth: int
    on: bool
    rank: str
    reached: int = 0

    def reach(self) -> None:
        if self.rank and os.environ.get("RANK", "0") != self.rank:
            return
        self.reached += 1
        if (self.reached == self.nth or (self.on and self.reached > self.nth)) and self._may():
            ACTIONS[self.action](self.value)

    def _may(self) -> bool:
        folder = os.environ.get(ONCE)
        if not folder:
            return True
        name = f"{self.point}.{self.action}.{self.nth}.{self.rank}"
        try:
            os.close(os.open(Path(folder) / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def parse(text: str) -> dict[str, list[Rule]]:
    """Rules by point. Raises ValueError for what is no rule, and for a point or an action that does not exist."""
    rules: dict[str, list[Rule]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = RULE.fullmatch(part)
        if found is None:
            raise ValueError(f"{ENVIRONMENT}: {part!r} is no rule; expected point=action[:value][@n[+]][#rank]")
        for kind, known in (("point", POINTS), ("action", ACTIONS)):
            if found[kind] not in known:
                there = ", ".join(sorted(known))
                raise ValueError(f"{ENVIRONMENT}: no such {kind}: {found[kind]!r}; there are {there}")
        if (found["action"] == "sleep") != bool(found["value"]):
            raise ValueError(f"{ENVIRONMENT}: {part!r}: sleep, and it alone, takes a value: sleep:SECONDS")
        rule = Rule(found["point"], found["action"], found["value"] or "", int(found["nth"] or 1), bool(found["on"]),
                    found["rank"] or "")  # fmt: skip
        rules.setdefault(rule.point, []).append(rule)
    return rules


_armed: dict[str, list[Rule]] = {}


def arm(text: str) -> None:
    """Take the rules of `text` in place of those before; counting begins anew."""
    global _armed
    _armed = parse(text)


def failpoint(name: str) -> None:
    """Do what is asked for at this point: nothing, in normal use."""
    if _armed:
        for rule in _armed.get(name, ()):
            rule.reach()


def asked_for() -> str:
    """The faults that the environment asks for, here and in all that is started from here; empty in normal use."""
    return os.environ.get(ENVIRONMENT, "")


arm(asked_for())
