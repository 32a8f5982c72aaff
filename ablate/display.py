"""What a person sees while a study runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from ablate.events import Measured
from ablate.problems import printable
from ablate.records import Cell, Status, TrialResult

if TYPE_CHECKING:
    from rich.console import RenderableType

COLOURS = {Status.done: "green", Status.failed: "red", Status.stopped: "cyan"}  # other outcomes: yellow


@dataclass
class _Running:
    cell: Cell
    steps: int
    since: float  # on the display's clock
    waits: bool = False  # for a node, in the queue of a scheduler
    step: int = 0
    values: dict[str, float] = field(default_factory=dict)


class Display:
    """Progress of `total` trials, of which `slots` run at once. Used as a context manager.

    `metric` is the study's primary one. An end without a start is an outcome of an earlier run: it
    counts, and is not told again. `clock` gives seconds; `live` is chosen by the stream if None.
    """

    def __init__(
        self,
        total: int,
        *,
        metric: str,
        split: str = "validation",
        slots: int = 1,
        clock: Callable[[], float] = time.monotonic,
        stream: TextIO | None = None,
        live: bool | None = None,
    ):
        self._total, self._metric, self._slots, self._clock = total, metric, max(1, slots), clock
        self._split = split
        self._stream = stream or sys.stdout
        self._live_wanted = self._stream.isatty() if live is None else live
        self._live: Any = None
        self._gone = False
        self._running: dict[Cell, _Running] = {}
        self._counts: Counter[Status] = Counter()
        self._seconds: list[float] = []  # of the trials that ended, in order: their median is asked for often
        self._earlier = 0

    def __enter__(self) -> Display:
        if self._live_wanted:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._stream)
            self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()
            self._live = None

    def started(self, cell: Cell, steps: int) -> None:
        """A trial starts (or is taken up again); `steps` is its number of generator updates."""
        self._enter(_Running(cell, steps, since=self._clock()), "started")

    def submitted(self, cell: Cell, steps: int) -> None:
        """A trial is in the hands of a scheduler; it has started when that has found a node for it."""
        self._enter(_Running(cell, steps, since=self._clock(), waits=True), "submitted")

    def _enter(self, running: _Running, said: str) -> None:
        if self._earlier and not self._running:
            self._say(f"{self._earlier} of {self._total} trials ended in an earlier run")
            self._earlier = 0
        self._running[running.cell] = running
        if self._live is None:
            self._say(f"{self._count()} {_name(running.cell)}  {said}, {running.steps} steps")

    def measured(self, cell: Cell, event: Measured) -> None:
        """The latest values of a running trial; other trials' are left aside."""
        if cell in self._running:
            running = self._running[cell]
            running.step = max(running.step, event.step)
            running.values.update(self._key_values(event))

    def ended(self, cell: Cell, result: TrialResult) -> None:
        """A trial has its outcome."""
        self._counts[result.status] += 1
        if result.seconds > 0:
            insort(self._seconds, result.seconds)
        if self._running.pop(cell, None) is None:
            self._earlier += 1
            return
        self._say(self._line(cell, result), COLOURS.get(result.status, "yellow"))

    def skipped(self, result: TrialResult) -> None:
        """A trial has its outcome without a start: it was stopped before."""
        self._counts[result.status] += 1

    def note(self, text: str) -> None:
        """A line for something that a person would do something about."""
        self._say(text, "yellow")

    def seconds_left(self) -> float | None:
        """Time until the last trial ends, from the median of those that ended; None before the first one."""
        if not self._seconds:
            return None
        middle = len(self._seconds) // 2
        median = (self._seconds[middle] + self._seconds[~middle]) / 2
        started = sum(min(self._clock() - one.since, median) for one in self._running.values() if not one.waits)
        return max(0.0, (self._total - self._ended()) * median - started) / self._slots

    def _ended(self) -> int:
        return self._counts.total()

    def _count(self) -> str:
        return f"[{self._ended():>{len(str(self._total))}}/{self._total}]"

    def _line(self, cell: Cell, result: TrialResult) -> str:
        parts = [f"{self._count()} {_name(cell)}", result.status.value]
        if not math.isnan(score := result.final(self._metric, self._split)):
            parts.append(f"{self._metric} {score:.4g}")
        parts.append(f"{result.seconds:.1f} s")
        if result.status is not Status.done and result.why:
            parts.append(result.why)
        elif result.pathology:
            parts.append(f"({result.pathology})")
        left = self.seconds_left()
        if left:
            parts.append(f"(about {_duration(left)} left)")
        return "  ".join(parts)

    def _key_values(self, event: Measured) -> Iterator[tuple[str, float]]:
        for key, value in event.values.items():
            if event.split == "train" and (key in ("loss_d", "loss_g_adv") or key.startswith("term/")):
                yield key, value
            elif event.split == "validation" and key == self._metric:
                yield key, value

    def _say(self, text: str, colour: str = "") -> None:
        """A terminal that has gone (EIO, a closed pipe) silences the display, never the study."""
        if self._gone:
            return
        try:
            if self._live is not None:
                from rich.text import Text

                self._live.console.print(Text(printable(text), style=colour))
            else:
                print(printable(text), file=self._stream, flush=True)
        except OSError:
            self._gone = True

    def _table(self) -> RenderableType:
        """Called from rich's refresh thread, hence on copies."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("trial", "step", "losses", self._metric, "elapsed"):
            table.add_column(heading, no_wrap=heading in ("step", "elapsed"))
        for running in [one for one in list(self._running.values()) if not one.waits]:
            table.add_row(*map(Text, self._row(running)))
        return Group(Text(self.headline(), style="bold"), table)

    def _row(self, running: _Running) -> tuple[str, ...]:
        values = dict(running.values)
        score = values.pop(self._metric, None)
        losses = "  ".join(f"{_short(key)} {value:.3g}" for key, value in values.items())
        elapsed = _duration(self._clock() - running.since)
        return _name(running.cell), f"{running.step}/{running.steps}", losses, _number(score), elapsed

    def headline(self) -> str:
        """`12/66 trials · done 10 · diverged 1 · failed 1 · running 2 · waiting 52 · about 5 min left`."""
        counts = [f"{status.value} {self._counts[status]}" for status in Status if self._counts[status]]
        running = sum(not one.waits for one in list(self._running.values()))
        parts = [
            f"{self._ended()}/{self._total} trials",
            *counts,
            f"running {running}",
            f"waiting {self._total - self._ended() - running}",
        ]
        left = self.seconds_left()
        return " · ".join(parts + ([f"about {_duration(left)} left"] if left else []))


def _name(cell: Cell) -> str:
    return f"{cell.arm} · seed {cell.seed}"


def _short(key: str) -> str:
    return key.removeprefix("loss_").removeprefix("term/")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    """Rounded as people say it: `40 s`, `5 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
