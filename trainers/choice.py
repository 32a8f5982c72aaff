"""Which of two ways of doing an update is the faster, found out by updates that count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

UPDATES = 20  # of each way under the clock, or the next multiple of `period`
SKIPPED = 3  # before: libraries choose their algorithms in the first ones


@dataclass
class Choice:
    """Does updates the plain way, then the fast one, then whichever took less time.

    Both ways do the same to the networks (but for rounding where a device's sums come in another order), so that
    nothing has to be put back. `fast` says whether its time is to count: not while it prepares itself. Raising
    `Refused` ends it for good; the plain way does that update. `wait` returns when the device has done its work.
    `period` is after how many updates their cost repeats.
    """

    plain: Callable[[], None]
    fast: Callable[[], bool]
    wait: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    period: int = 1
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"plain": [], "fast": []})
    skipped: int = 0
    decided: str = ""  # plain or fast
    why: str = ""

    @property
    def updates(self) -> int:
        """Under the clock, of each way."""
        return -(-UPDATES // self.period) * self.period

    def __call__(self) -> None:
        if self.decided:
            self._do(self.decided)
        elif self.skipped < SKIPPED:
            self.skipped += 1
            self.plain()
        else:
            way = "plain" if len(self.seconds["plain"]) < self.updates else "fast"
            self._timed(way)

    def _do(self, way: str) -> bool:
        """Whether the update's time may count."""
        if way == "plain":
            self.plain()
            return True
        try:
            return self.fast()
        except Refused as error:
            self.decided, self.why = "plain", str(error)
            self.plain()
            return False

    def _timed(self, way: str) -> None:
        self.wait()
        began = self.clock()
        counts = self._do(way)
        self.wait()
        if counts:
            self.seconds[way].append(self.clock() - began)
        if not self.decided and len(self.seconds["fast"]) == self.updates:
            ratio = sum(self.seconds["plain"]) / sum(self.seconds["fast"])
            self.decided = "fast" if ratio >= 1 else "plain"
            self.why = f"measured over {self.updates} updates, {ratio:.2f} times as fast as the plain way"


class Refused(Exception):
    """The fast way can't be gone; the text says why. The update has not been done."""
