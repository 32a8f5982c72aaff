"""How often, and when, a trial that the machine failed is taken up again (standard library only)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

PREEMPTIONS = 20  # in a row without a new checkpoint, until a trial gets nowhere that way
FIRST_REST, LONGEST_REST = 1.0, 60.0  # seconds before a trial is taken up again; doubles from failure to failure


@dataclass
class Attempts:
    """Jobs of each trial since its last new checkpoint, and the trials that rest before their next one.

    A trial that gets on has its whole budget again: over days a node may be lost more often than a few times.
    """

    _jobs: Counter[str] = field(default_factory=Counter)
    _saved: dict[str, int] = field(default_factory=dict)  # update of its newest checkpoint
    _resting: list[tuple[float, str]] = field(default_factory=list)  # until when
    _preempted: Counter[str] = field(default_factory=Counter)  # since its last new checkpoint

    def begin(self, id: str) -> None:
        self._jobs[id] += 1

    def of(self, id: str) -> int:
        """Jobs since the last new checkpoint, the present one included."""
        return self._jobs[id]

    def saved(self, id: str, step: int) -> None:
        """A checkpoint is on disk. A stream that is read again from its start brings no new one."""
        if step > self._saved.get(id, 0):
            self._saved[id], self._jobs[id] = step, 1
            del self._preempted[id]

    def rest(self, id: str, now: float) -> float:
        """The machine failed it: seconds until its next job."""
        seconds = min(FIRST_REST * 2 ** (self._jobs[id] - 1), LONGEST_REST)
        self._resting.append((now + seconds, id))
        return seconds

    def uncounted(self, id: str, now: float) -> None:
        """Nothing has failed (a pre-emption): it goes on at once."""
        self._jobs[id] = 0
        self._resting.append((now, id))

    def preempted(self, id: str, now: float) -> bool:
        """Its scheduler took its place away: it goes on, unless that has gone on for too long without progress."""
        self._preempted[id] += 1
        if self._preempted[id] > PREEMPTIONS:
            return False
        self.uncounted(id, now)
        return True

    def rested(self, now: float) -> list[str]:
        """Those whose rest is over, and no longer among the resting."""
        over = [id for until, id in self._resting if until <= now]
        self._resting = [(until, id) for until, id in self._resting if until > now]
        return over

    @property
    def resting(self) -> Collection[str]:
        return {id for _, id in self._resting}
