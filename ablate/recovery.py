"""What it cost a trial to be taken up again, as its stream proves it: updates done twice and seconds of start-up.

A stream has a line where a window of training closes (a reading of health, an evaluation), so that it proves how many
updates were done at least; more than up to the next such line there were not. A power cut may also lose the lines since
the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ablate.events import Event, Saved, Started
from trainers.recipe import Recipe


@dataclass(frozen=True)
class Rhythm:
    """Updates after which a trial writes to its stream, and after which it writes a checkpoint (0 is its start)."""

    lines: tuple[int, ...]
    checkpoints: tuple[int, ...]

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> Rhythm | None:
        """The rhythm of a specification's recipe; None where that can't be read."""
        try:
            read = Recipe.from_document(recipe)
            lines = sorted({*read.eval_steps, *read.reading_steps})
            return cls(tuple(lines), (0, *read.eval_steps))
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    @property
    def interval(self) -> int:
        """The most updates from one checkpoint to the next, or to the end."""
        return max(later - earlier for earlier, later in pairwise(self.checkpoints))

    def after(self, step: int) -> int:
        """The next line after that many updates, or the last one."""
        return next((line for line in self.lines if line > step), self.lines[-1])


@dataclass(frozen=True)
class Resumption:
    """A trial taken up again from `step` updates, after an attempt that had done more.

    `repeated` updates of that attempt are proved and were done again, `repeated_at_most` may have been (None without
    a rhythm). `away` are the seconds from its last line to this start, whatever happened in them; `start_up` those of
    the job's own start, None where the stream doesn't say.
    """

    attempt: int
    step: int
    repeated: int
    repeated_at_most: int | None
    start_up: float | None
    away: float


def resumptions(stream: Sequence[Event], rhythm: Rhythm | None) -> tuple[Resumption, ...]:
    """Every attempt of a trial but its first, in order."""
    starts = [at for at, event in enumerate(stream) if isinstance(event, Started)]
    found = []
    for before, at in pairwise(starts):
        earlier, start = stream[before:at], stream[at]
        again = max(0, _done(earlier) - start.step)
        most = max(again, _done_at_most(earlier, rhythm) - start.step) if rhythm else None
        away = max(0.0, start.time - earlier[-1].time)
        found.append(Resumption(start.attempt, start.step, again, most, start.start_up, away))
    return tuple(found)


def _done(attempt: Sequence[Event]) -> int:
    """Updates that an attempt is proved to have done, those before it included."""
    return max(event.step for event in attempt)


def _done_at_most(attempt: Sequence[Event], rhythm: Rhythm) -> int:
    """Updates that it may have done. Where a checkpoint is due, a trial trains on only when it has told of it."""
    done, due = _done(attempt), _done(attempt) in rhythm.checkpoints
    told = [event.step for event in attempt if _is_checkpoint(event)]
    if due and done not in told and attempt[0].step < done:
        return done
    # An end on request saves a checkpoint of its own, also right after one that was due.
    on_request = _is_checkpoint(attempt[-1]) and (not due or told[-2:] == [done, done])
    return done if on_request else rhythm.after(done)


def _is_checkpoint(event: Event) -> bool:
    return isinstance(event, Saved) and event.what == "checkpoint"


@dataclass(frozen=True)
class Recovery:
    """What all resumptions of a study, or of one trial, amount to; `largest` are those of one resumption at most."""

    resumptions: int = 0
    trials: int = 0
    interval: tuple[int, int] | None = None  # between checkpoints, of the trials taken up again: least and most
    repeated: int = 0
    repeated_at_most: int = 0
    largest: int = 0
    beyond: int = 0  # resumptions that are proved to have cost more than their checkpoint interval
    start_up: tuple[float, ...] = field(default=())  # seconds, of those that state it
    away: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "resumptions": self.resumptions, "trials": self.trials,
            "interval": list(self.interval) if self.interval else None,
            "repeated": self.repeated, "repeated_at_most": self.repeated_at_most, "largest": self.largest,
            "beyond": self.beyond, "start_up": round(sum(self.start_up), 3),
            "start_up_largest": max(self.start_up, default=None), "away": round(self.away, 3),
        }  # fmt: skip


def summed(trials: Sequence[tuple[Sequence[Resumption], Rhythm | None]]) -> Recovery:
    """All resumptions together."""
    taken_up = [(found, rhythm) for found, rhythm in trials if found]
    each = [(one, rhythm) for found, rhythm in taken_up for one in found]
    intervals = [rhythm.interval for _, rhythm in taken_up if rhythm]
    most = [one.repeated if one.repeated_at_most is None else one.repeated_at_most for one, _ in each]
    return Recovery(
        resumptions=len(each), trials=len(taken_up),
        interval=(min(intervals), max(intervals)) if intervals else None,
        repeated=sum(one.repeated for one, _ in each), repeated_at_most=sum(most), largest=max(most, default=0),
        beyond=sum(rhythm is not None and one.repeated > rhythm.interval for one, rhythm in each),
        start_up=tuple(one.start_up for one, _ in each if one.start_up is not None),
        away=sum(one.away for one, _ in each),
    )  # fmt: skip
