"""`ablate status` for people."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ablate.problems import counted
from ablate.status import DAMAGED, PREPARING, RUNNING, UNKNOWN, WAITING
from ablate.stored import REMEDY_OF_A_STREAM


def describe(status: Mapping[str, Any], *, every: bool = False, resume: str = "") -> str:
    """The status in a few lines; trials that need a look are named, or `every` one. `resume` is what goes on."""
    if status["state"] == DAMAGED:
        return f"{status['study']}: {status['why']}"
    if status["state"] == PREPARING:
        return f"{status['study']}: preparing its data" + (f": {_who(status['driver'])}" if status["driver"] else "")
    counts = ", ".join(f"{number} {name}" for name, number in status["counts"].items() if number)
    total = sum(status["counts"].values())
    lines = [f"{status['study']}: {status['state']}; {total} trials: {counts}", *_health(status)]
    lines += [f"  {line}" for line in (*_driver(status), *_jobs(status["jobs"]), *_recovery(status["recovery"]))]
    lines += [f"  {line}" for trial in status["trials"] for line in _trial(trial, every=every)]
    if status["state"] in ("stopped", UNKNOWN) and not status["counts"][DAMAGED]:
        lines.append(f"  go on with: {resume or 'ablate run ' + status['study']}")
    return "\n".join(lines)


def _health(status: Mapping[str, Any]) -> list[str]:
    """What the trials that have ended suffered from most, in one line."""
    said = Counter(_said(trial) for trial in status["trials"] if trial["diagnosis"])
    return [f"  health: {', '.join(f'{number} {name}' for name, number in said.most_common())}"] if said else []


def _said(trial: Mapping[str, Any]) -> str:
    """The diagnosis as reports count it, or `healthy`, or `unjudged`."""
    return trial["findings"].get(trial["diagnosis"], trial["diagnosis"]).partition(":")[0]


# -- driver -----------------------------------------------------------------------------------------------


def _driver(status: Mapping[str, Any]) -> list[str]:
    """Who runs the study, or how the last one to do so ended; nothing where a driver left a finished study."""
    driver, state = status["driver"], status["state"]
    if driver is None:
        return ["no driver is alive, and none has said who it was"] if state == "stopped" else []
    who = _who(driver)
    if driver["alive"]:
        return [f"driver: {who}"]
    if state == "finished" and not driver["error"] and driver["ended"] is not None:
        return []
    unwritten = ["all trials have ended; `ablate run` writes its report and brings the stores up to date"]
    return [f"the driver ({who}) {_end(driver)}", *_orphans(status), *(unwritten if state == "finished" else [])]


def _who(driver: Mapping[str, Any]) -> str:
    return f"pid {driver['pid']} on {driver['host']}, since {_at(driver['since'])}"


def _end(driver: Mapping[str, Any]) -> str:
    sign = f"{_at(driver['last_sign'])}, its last sign of life"
    if driver["ended"] is None and driver["alive"] is None:
        return f"has not said that it ended, and a lock of its can't be seen from this machine; it lived at {sign}"
    if driver["ended"] is None:
        return f"died after {sign}: it was killed, or its machine went down"
    when = _at(driver["ended"])
    if not driver["error"]:
        return f"stopped cleanly at {when}"
    if driver["error"] == "KeyboardInterrupt":
        return f"was ended at once by a signal at {when}; trials go on from their last checkpoints"
    return f"ended with an error at {when} ({driver['error']}); driver.log may say more"


def _jobs(left: Mapping[str, list[str] | None]) -> list[str]:
    """What goes on elsewhere without a driver."""
    said = []
    if left.get("slurm"):
        said.append(f"{counted(len(left['slurm']), 'job')} of Slurm: {', '.join(left['slurm'])}")
    elif "slurm" in left:
        said.append("Slurm does not say whether jobs of the study wait or run")
    if left.get("ray"):
        said.append(f"actors of Ray may train {', '.join(left['ray'])}")
    return [f"{line}; the next driver finds them" if "jobs of the" not in line else line for line in said]


def _orphans(status: Mapping[str, Any]) -> list[str]:
    if not status["counts"][RUNNING] or status["driver"]["alive"] is not False:
        return []
    return ["a rank without its driver still holds a stream: it ends within seconds, and a new run ends it first"]


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


# -- trials -----------------------------------------------------------------------------------------------


def _trial(trial: Mapping[str, Any], *, every: bool) -> Iterable[str]:
    name, state = f"{trial['arm']} · seed {trial['seed']} ({trial['trial']})", trial["state"]
    again = f"; {_taken_up(trial)}" if trial["resumptions"] and every else ""
    if state == RUNNING:
        yield f"{name} running, {trial['step']} generator updates done{again}"
    elif state == UNKNOWN:
        yield f"{name} without an end, {trial['step']} generator updates done; whether it runs can't be seen{again}"
    elif state == DAMAGED:
        yield f"{name} damaged: {trial['why']}"
        yield f"  {REMEDY_OF_A_STREAM}"
    elif state not in ("done", WAITING):
        yield f"{name} {state}: {trial['why']}{again}"
    elif every and state == WAITING:
        begun = f" to be taken up again, {trial['step']} generator updates done" if trial["step"] else ""
        yield f"{name} waiting{begun}{again}"
    elif every:
        yield f"{name} {state}" + (f", {_said(trial)}" if trial["diagnosis"] else "") + again


def _taken_up(trial: Mapping[str, Any]) -> str:
    """How often a trial was taken up again and what that cost."""
    found = trial["resumptions"]
    most = [one["repeated"] if one["repeated_at_most"] is None else one["repeated_at_most"] for one in found]
    start_up = [one["start_up"] for one in found if one["start_up"] is not None]
    said = f"attempt {trial['attempts']}, {_range(sum(one['repeated'] for one in found), sum(most))} done twice"
    return said + (f", {sum(start_up):.1f} s of start-up" if start_up else "")


def _range(least: int, most: int) -> str:
    return f"{least} to {_count(most, 'update')}" if least != most else _count(most, "update")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _recovery(recovery: Mapping[str, Any]) -> list[str]:
    """What being taken up again cost over all trials, beside what it may cost: a checkpoint interval and a start-up."""
    several = recovery["resumptions"] > 1
    if not recovery["resumptions"]:
        return []
    said = [f"recovery: {_count(recovery['resumptions'], 'resumption')} of {_count(recovery['trials'], 'trial')}"]
    repeated = f"at most {_range(recovery['largest'], recovery['largest'])} repeated"
    if several:
        repeated += f" by one, {_range(recovery['repeated'], recovery['repeated_at_most'])} by all"
    if recovery["interval"]:
        least, longest = recovery["interval"]
        repeated += f" (checkpoint interval {least if least == longest else f'{least} to {longest}'})"
    said.append(repeated)
    if recovery["start_up_largest"] is not None:
        each = f"start-up {recovery['start_up_largest']:.1f} s"
        said.append(each + (f" at most, {recovery['start_up']:.1f} s in all" if several else ""))
    if recovery["beyond"]:
        said.append(f"{recovery['beyond']} cost more than an interval, a damaged checkpoint being passed over")
    return ["; ".join(said)]
