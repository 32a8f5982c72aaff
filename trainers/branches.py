"""A first part of training that two trials have in common: left in one's folder as a checkpoint, found by the other.

Everything is checked before anything is taken: what is missing or damaged, or was made by other code or on another
kind of processor, is as if it were not there, and the trial trains that part itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate import events
from ablate.events import Event, EventWriter, Measured, Saved, Started, Warned
from ablate.records import TrialFolder, write_atomically
from trainers import checkpoint
from trainers.ranks import Ranks
from trainers.recipe import Recipe

STAMPED = ("time", "attempt")  # what a writer adds to an event
RESUMED = "checkpoint: "  # begins a warning that tells of a resumption, not of training


@dataclass(frozen=True)
class Sharing:
    """What a trial shares: after which updates it leaves a checkpoint, and what it goes on from."""

    leaves: frozenset[int] = frozenset()
    trunk: TrialFolder | None = None
    step: int = 0  # updates that the trunk is to have made

    @classmethod
    def of(cls, document: Mapping[str, Any], folder: Path) -> Sharing:
        """As the spec.json in a trial's folder states it."""
        leaves = frozenset(one["step"] for one in document.get("branches", ()))
        if "trunk" not in document:
            return cls(leaves)
        return cls(leaves, TrialFolder(folder / ".." / document["trunk"]["trial"]), document["trunk"]["step"])


@dataclass(frozen=True)
class Branch:
    """The trunk's state, and on the first rank what it had measured by then, with the files that belong to that.

    `seconds` is what the trunk had spent on it.
    """

    state: Mapping[str, Any]
    seconds: float = 0.0
    events: tuple[Event, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, folder: TrialFolder, writer: EventWriter) -> None:
        """Make what was measured a trial's own, at the present time, so that its seconds are those that it spends."""
        for path, data in self.files.items():
            write_atomically(folder.inside(path), data)
        for event in self.events:
            writer.append(type(event), **{key: value for key, value in vars(event).items() if key not in STAMPED})


def path_of(folder: TrialFolder, step: int) -> Path:
    return folder.branches / f"step-{step:08d}.pt"


def left(stream: Iterable[Event], folder: TrialFolder) -> set[int]:
    """Updates whose branches a trial has left already, and which are as its stream says."""
    saved = {event.step: event for event in stream if isinstance(event, Saved) and event.what == "branch"}
    return {step for step, event in saved.items() if _read(folder, event) is not None}


def find_on_all(sharing: Sharing, ranks: Ranks, **mine: Any) -> Branch | None:
    """The branch to go on from, if every rank can read it; the first one finds it (see `find`)."""
    found = find(sharing, **mine) if ranks.first else None
    place = ranks.gather(found and found[:2])[0]
    state = checkpoint.read(*place) if place else None
    if not all(ranks.gather(state is not None)):
        return None
    return Branch(state, *(found[2:] if found else ()))


def find(
    sharing: Sharing, *, device: str, versions: Mapping[str, str], recipe: Recipe
) -> tuple[Path, str, float, tuple[Event, ...], Mapping[str, bytes]] | None:
    """Path and digest of the branch's checkpoint, and the rest of the `Branch`, whose events are those that the trial
    itself would have written.

    `device` and `versions` are what the trial's `Started` states. None where it is not there, whole and alike.
    """
    if sharing.trunk is None:
        return None
    try:
        stream = events.read(sharing.trunk.events)
    except events.CorruptStream:
        return None
    told = [at for at, event in enumerate(stream)
            if isinstance(event, Saved) and event.what == "branch" and event.step == sharing.step]  # fmt: skip
    if not told:
        return None
    saved, before = stream[told[-1]], stream[: told[-1]]
    starts = (event for event in before if isinstance(event, Started))
    if any((start.device, dict(start.versions)) != (device, dict(versions)) for start in starts):
        return None
    common = tuple(_in_common(before, saved.step, staged=bool(recipe.stages)))
    files = {event.path: _read(sharing.trunk, event) for event in common if isinstance(event, Saved)}
    if None in files.values():
        return None
    seconds = events.spent(before) + events.taken_over(before)
    return sharing.trunk.inside(saved.path), saved.sha256, seconds, common, files


def _read(folder: TrialFolder, saved: Saved) -> bytes | None:
    """The file that an event tells of; None where it is not there as it was saved."""
    try:
        data = folder.inside(saved.path).read_bytes()
    except (OSError, ValueError):
        return None
    return data if hashlib.sha256(data).hexdigest() == saved.sha256 else None


def _in_common(stream: list[Event], step: int, *, staged: bool) -> Iterable[Event]:
    """What was measured, found and pictured up to an update, once each, with the stage as this trial tells it."""
    seen: set[object] = set()
    for event in stream:
        if not isinstance(event, Measured | Saved | Warned) or event.step > step:
            continue
        if isinstance(event, Saved) and event.what != "sample":
            continue
        if isinstance(event, Warned) and event.message.startswith(RESUMED):
            continue
        told = (event.kind, event.step, getattr(event, "split", ""), getattr(event, "message", ""))
        if told not in seen:
            seen.add(told)
            yield _staged(event, staged) if isinstance(event, Measured) and event.split == "train" else event


def _staged(event: Measured, staged: bool) -> Measured:
    """Only a trial of several stages tells its stage; what it shares with one that has a single stage is its first."""
    if staged == ("stage" in event.values):
        return event
    values = {key: value for key, value in event.values.items() if key not in ("stage", "stage_began")}
    if staged:
        cut, pairs = list(values).index("lr_d") + 1, list(values.items())
        values = dict([*pairs[:cut], ("stage", 1.0), ("stage_began", 0.0), *pairs[cut:]])
    return replace(event, values=values)
