"""What a report takes from a trial's stream of events: thousands of trials have to fit into memory and seconds."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ablate.events import Event, Measured, Started, read, taken_over

HEALTH = "health/"
COURSES = ("health/probe_l1", "stage", "stage_began")  # readings of training that are needed from its whole course


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for cycles meanwhile: over millions of readings, none of which has any, it takes half of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def compact(path: Path) -> list[Event]:
    """The events with all scores; of training the courses above and the last reading of everything else on health."""
    events, known = [], set()
    for event in reversed(read(path, train=(HEALTH, *COURSES))):
        if isinstance(event, Measured) and event.split == "train":
            fresh = {key: value for key, value in event.values.items() if key in COURSES or key not in known}
            known.update(fresh)
            event = replace(event, values=fresh) if len(fresh) < len(event.values) else event
        events.append(event)
    return events[::-1]


def elapsed(events: Iterable[Event], split: str) -> dict[int, float]:
    """Step -> hours of training by the time `split` was first scored at it; pauses between attempts are left out.

    What another trial had trained counts, and has no steps here: when they were made is not known in this stream.
    """
    events = list(events)
    before = taken_over(events)
    others = next((event.step for event in events if isinstance(event, Started) and event.taken_over), 0)
    began: dict[int, float] = {}
    last: dict[int, float] = {}
    found: dict[int, float] = {}
    for event in events:
        began.setdefault(event.attempt, event.time)
        last[event.attempt] = event.time
        if isinstance(event, Measured) and event.split == split and event.step > others:
            seconds = before + sum(last[attempt] - start for attempt, start in began.items())
            found.setdefault(event.step, seconds / 3600)
    return found
