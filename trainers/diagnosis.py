"""From readings to a diagnosis: windows, patience, and what was found over a whole run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trainers.pathologies import PATHOLOGIES, Pathology, Seen

GRACE = 0.1  # share of the budget in which nothing is flagged: healthy runs start extreme
WINDOW = 5  # readings
PATIENCE = 3  # windows in a row before a flag is raised
LEAST_UPDATES = 100  # of a run: below, an untrained generator and a collapsed one look alike
LEAST_READINGS = 25  # a whole run below these (about 50 are planned) is too short to be judged
MEMORY = 2 / (WINDOW + 1)  # weight of a new reading in the moving average of L1: that of a span of one window
HEALTHY, UNJUDGED = "healthy", "unjudged"

L1, GREY_L1, VARIANCE = "health/probe_l1", "health/grey_l1", "health/output_variance"
KEPT = frozenset(f"health/{name}" for pathology in PATHOLOGIES for name in pathology.reads)


@dataclass(frozen=True)
class Finding:
    """A pathology, when it was flagged. `evidence` holds means over the window that gave the flag."""

    kind: str
    message: str
    evidence: Mapping[str, float]
    progress: float  # share of the budget done


@dataclass(frozen=True)
class Diagnosis:
    """What a run suffered from most, or `healthy`, or `unjudged`; `findings` has all, most telling first."""

    kind: str
    message: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def messages(self) -> dict[str, str]:
        """Of every kind that was found, most telling first."""
        first: dict[str, str] = {}
        for finding in self.findings:
            first.setdefault(finding.kind, finding.message)
        return first


class Monitor:
    """Reads a run's health about 50 times and flags what lasts three windows of five readings.

    The first 10 % of the budget are read but not judged: they give the medians that gradient norms are compared
    with. A value that is not finite needs no patience. All that it reads is the same on every rank, hence so is
    all that it says.
    """

    def __init__(self, *, updates: int | None = None) -> None:
        """`updates` is the length of the run; below LEAST_UPDATES nothing is judged but what is not finite."""
        self.updates = updates
        self.early: list[dict[str, float]] = []  # readings of the first 10 % of the budget
        self.window: list[dict[str, float]] = []  # readings of the window that is open
        self.before: dict[str, float] = {}  # means of the window before it
        self.last: dict[str, float] = {}  # the newest reading
        self.readings = self.windows = 0
        self.average: float | None = None  # of L1
        self.best = math.inf
        self.greatest_variance = 0.0  # over windows
        self.start = 0.0  # share of the budget done when the stage began
        self.streaks = [0] * len(PATHOLOGIES)
        self.found: dict[int, Finding] = {}  # by place in PATHOLOGIES; -1: not finite

    def enter(self, start: float) -> None:
        """Begin anew with a stage that began at that share of the budget: other weights, other norms and losses.

        What was found stands; nothing is judged in the first 10 % of the budget after it.
        """
        if start == self.start:
            return
        self.start, self.early, self.window, self.before = start, [], [], {}
        self.average, self.best, self.greatest_variance = None, math.inf, 0.0
        self.streaks = [0] * len(PATHOLOGIES)

    def read(self, values: Mapping[str, float], *, progress: float) -> list[Finding]:
        """What is flagged for the first time; `progress` in (0, 1] is the share of the budget done.

        `values` has means since the last reading and the values of the probe by the names of events. Any of them
        may be missing.
        """
        known = set(self.found)
        self.readings += 1
        broken = {key: value for key, value in values.items() if not math.isfinite(value)}
        if broken and -1 not in self.found:
            message = f"Training diverged: not finite: {', '.join(sorted(broken))}"
            self.found[-1] = Finding("diverged", message, broken, progress)
        elif not broken:
            self._take({key: float(value) for key, value in values.items() if key in KEPT | {GREY_L1}}, progress)
        return [self.found[place] for place in sorted(set(self.found) - known)]

    def diagnosis(self) -> Diagnosis:
        """Of the run so far."""
        findings = tuple(self.found[place] for place in sorted(self.found))
        if findings:
            first = findings[0]
            return Diagnosis(first.kind, first.message, first.evidence, findings)
        evidence = {key: value for key, value in self.last.items() if key != GREY_L1}
        if self.windows < PATIENCE:
            return Diagnosis(UNJUDGED, f"Too short to judge: {self.readings} readings", evidence)
        return Diagnosis(HEALTHY, f"Nothing was flagged in {self.readings} readings", evidence)

    def _take(self, reading: dict[str, float], progress: float) -> None:
        self.last = reading
        self._follow_l1(reading)
        if progress - self.start <= GRACE:
            self.early.append(reading)
            self.before = _each(self.early, statistics.fmean)
            return
        self.window.append(reading)
        if len(self.window) == WINDOW:
            self._close(progress)

    def _follow_l1(self, reading: Mapping[str, float]) -> None:
        """The best starts at the L1 of mid grey, which is that of a new generator: a run that is worse from its
        first update on has diverged, too.
        """
        if L1 not in reading:
            return
        new = reading[L1]
        self.average = new if self.average is None else self.average + MEMORY * (new - self.average)
        self.best = min(self.best, self.average, reading.get(GREY_L1, math.inf))

    def _close(self, progress: float) -> None:
        means = _each(self.window, statistics.fmean)
        self.greatest_variance = max(self.greatest_variance, means.get(VARIANCE, 0.0))
        early = _each(self.early, statistics.median)
        seen = Seen(means, self.before, early, self._fluctuation(), self._excess(), self.greatest_variance)
        self.window, self.before = [], means
        if self.readings / progress < LEAST_READINGS or (self.updates or LEAST_UPDATES) < LEAST_UPDATES:
            return
        self.windows += 1
        for place, pathology in enumerate(PATHOLOGIES):
            if any(f"health/{name}" in means for name in pathology.reads):
                self._judge(place, pathology, seen, progress)

    def _judge(self, place: int, pathology: Pathology, seen: Seen, progress: float) -> None:
        self.streaks[place] = self.streaks[place] + 1 if pathology.shows(seen) else 0
        if self.streaks[place] < PATIENCE or place in self.found:
            return
        lasted = f"for {PATIENCE} windows in a row, to {progress:.0%} of the budget"
        message = f"{pathology.title}: {pathology.says(seen)}, {lasted}"
        evidence = {f"health/{name}": seen[name] for name in pathology.reads if not math.isnan(seen[name])}
        self.found[place] = Finding(pathology.kind, message, evidence, progress)

    def _fluctuation(self) -> float:
        errors = [reading[L1] for reading in self.window if L1 in reading]
        return fluctuation(errors) if len(errors) == WINDOW else math.nan

    def _excess(self) -> float:
        return math.nan if self.average is None or not self.best else self.average / self.best

    def state_dict(self) -> dict[str, Any]:
        """All of it, as JSON could hold it."""
        return {
            "early": self.early, "window": self.window, "before": self.before, "last": self.last,
            "readings": self.readings, "windows": self.windows, "average": self.average,
            "best": None if math.isinf(self.best) else self.best, "streaks": list(self.streaks),
            "greatest_variance": self.greatest_variance, "start": self.start,
            "found": [[place, asdict(finding)] for place, finding in self.found.items()],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.early, self.window = ([dict(reading) for reading in state[key]] for key in ("early", "window"))
        self.before, self.last = dict(state["before"]), dict(state["last"])
        self.readings, self.windows, self.average = state["readings"], state["windows"], state["average"]
        self.best = math.inf if state["best"] is None else state["best"]
        self.streaks, self.greatest_variance = list(state["streaks"]), state["greatest_variance"]
        self.start = state["start"]
        self.found = {place: Finding(**finding) for place, finding in state["found"]}


def fluctuation(values: list[float]) -> float:
    """Coefficient of variation about the Theil-Sen line through equally spaced values; NaN where their mean is 0.

    Sen, 1968, https://doi.org/10.1080/01621459.1968.10480934.
    """
    pairs = [(i, j) for j in range(len(values)) for i in range(j)]
    slope = statistics.median((values[j] - values[i]) / (j - i) for i, j in pairs)
    mean = statistics.fmean(values)
    return statistics.stdev(value - slope * place for place, value in enumerate(values)) / mean if mean else math.nan


def _each(readings: Iterable[Mapping[str, float]], summary: Any) -> dict[str, float]:
    """Each value's summary over the readings that have it."""
    gathered: dict[str, list[float]] = {}
    for reading in readings:
        for key, value in reading.items():
            gathered.setdefault(key, []).append(value)
    return {key: summary(values) for key, values in sorted(gathered.items())}
