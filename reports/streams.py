"""What a report takes from a trial's stream of events: thousands of trials have to fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from sys import intern

from ablate.events import Event, Measured

_STAGES = ("stage", "stage_began")


def compact(events: Iterable[Event]) -> list[Event]:
    """The events without the losses of training: readings of health and stages stay, and all scores."""
    return [replace(event, values=_read(event.values)) if _training(event) else event for event in events]


def _training(event: Event) -> bool:
    return isinstance(event, Measured) and event.split == "train"


def _read(values: Mapping[str, float]) -> dict[str, float]:
    return {intern(key): value for key, value in values.items() if key.startswith("health/") or key in _STAGES}


def elapsed(events: Iterable[Event], split: str) -> dict[int, float]:
    """Step -> hours of training by the time `split` was first scored at it; pauses between attempts are left out."""
    began: dict[int, float] = {}
    last: dict[int, float] = {}
    found: dict[int, float] = {}
    for event in events:
        began.setdefault(event.attempt, event.time)
        last[event.attempt] = event.time
        if isinstance(event, Measured) and event.split == split:
            seconds = sum(last[attempt] - start for attempt, start in began.items())
            found.setdefault(event.step, seconds / 3600)
    return found
