"""`ablate status`: the truth now, read from the folders, also about a driver that is dead."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ablate import events
from ablate.lock import is_held
from ablate.records import Status, StudyFolder, TrialFolder
from ablate.stored import read_outline


def study_status(runs: Path, name: str) -> dict[str, Any]:
    """Study, state (running, finished or stopped), counts of cells, and each trial."""
    folder = StudyFolder(runs, name)
    plan = read_outline(folder)
    cells = plan["cells"]
    alive = is_held(folder.lock)
    trials = {cell["trial"]: _trial(folder.trial(cell["trial"]), alive) for cell in cells}
    counts = Counter(trials[cell["trial"]]["state"] for cell in cells)
    counts["waiting"] += _undrawn(plan)
    waiting = counts["running"] + counts["waiting"]
    state = "running" if alive else "stopped" if waiting else "finished"
    names = [*Status, "running", "waiting"]
    return {
        "study": name, "state": state, "counts": {str(key): counts[str(key)] for key in names},
        "trials": [{**cell, **trials[cell["trial"]]} for cell in cells],
    }  # fmt: skip


def _undrawn(plan: dict[str, Any]) -> int:
    """Cells of arms that a search has still to draw."""
    if not (search := plan.get("search")):
        return 0
    drawn = sum("sampled" in arm for arm in plan["arms"])
    return (search["trials"] - drawn) * len(plan["seeds"])


def _trial(folder: TrialFolder, driver_alive: bool) -> dict[str, Any]:
    """A trial without its end is running under a living driver, and waits to be taken up under a dead one."""
    stream = events.read(folder.events)
    ended = next((event for event in stream if isinstance(event, events.Ended)), None)
    step = max((event.step for event in stream if isinstance(event, events.Measured)), default=0)
    if ended:
        said = {"diagnosis": ended.diagnosis, "findings": dict(ended.findings)}
        return {"state": ended.status, "step": ended.step, "why": ended.why, **said}
    state = "running" if stream and driver_alive else "waiting"
    return {"state": state, "step": step, "why": "", "diagnosis": "", "findings": {}}


def _health(status: dict[str, Any]) -> list[str]:
    """What the trials that have ended suffered from most, in one line."""
    said = Counter(_said(trial) for trial in status["trials"] if trial["diagnosis"])
    return [f"  health: {', '.join(f'{number} {name}' for name, number in said.most_common())}"] if said else []


def _said(trial: dict[str, Any]) -> str:
    """The diagnosis as reports count it, or `healthy`, or `unjudged`."""
    return trial["findings"].get(trial["diagnosis"], trial["diagnosis"]).partition(":")[0]


def describe(status: dict[str, Any], *, every: bool = False) -> str:
    """The status in a few lines; trials that need a look are named, or `every` one."""
    counts = ", ".join(f"{number} {name}" for name, number in status["counts"].items() if number)
    total = sum(status["counts"].values())
    lines = [f"{status['study']}: {status['state']}; {total} trials: {counts}", *_health(status)]
    for trial in status["trials"]:
        name = f"  {trial['arm']} · seed {trial['seed']} ({trial['trial']})"
        if trial["state"] == "running":
            lines.append(f"{name} running, {trial['step']} generator updates done")
        elif trial["state"] not in ("done", "waiting"):
            lines.append(f"{name} {trial['state']}: {trial['why']}")
        elif every:
            lines.append(f"{name} {trial['state']}" + (f", {_said(trial)}" if trial["diagnosis"] else ""))
    if status["state"] == "stopped":
        lines.append(f"  no driver is alive; go on with: ablate run {status['study']}")
    return "\n".join(lines)
