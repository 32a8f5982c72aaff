"""From readings to a diagnosis: windows, patience, and what was found over a whole run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from trainers.pathologies import DIVERGED, PATHOLOGIES, Pathology, Seen

GRACE = 0.1  # share of the budget in which nothing is flagged: healthy runs start extreme
WINDOW = 5  # readings
PATIENCE = 3  # windows in a row before a flag is raised
LEAST_UPDATES = 100  # of a run: below, an untrained generator and a collapsed one look alike
LEAST_READINGS = 25  # a whole run below these (about 50 are planned) is too short to be judged
MEMORY = 2 / (WINDOW + 1)  # weight of a new reading in the moving average of L1: that of a span of one window
HEALTHY, UNJUDGED = "healthy", "unjudged"
FINAL = "diverged"  # the one kind that ends training, and so can't pass
LAST_STAGE = "Its last stage was not judged"

L1, GREY_L1, VARIANCE = "health/probe_l1", "health/grey_l1", "health/output_variance"
ALONE = "health/adversarial_alone"
PAST = (L1, VARIANCE)  # whose windows are all remembered
READ = frozenset(f"health/{name}" for pathology in PATHOLOGIES for name in pathology.reads) | {GREY_L1, ALONE}


@dataclass(frozen=True)
class Finding:
    """A pathology, when it was flagged. `evidence` holds means over the window that gave the flag."""

    kind: str
    message: str
    evidence: Mapping[str, float]
    progress: float  # share of the budget done
    passed: float | None = None  # the same, when it was no longer seen; divergence never passes


@dataclass(frozen=True)
class Diagnosis:
    """What a run suffers from most at its end, or `healthy`, or `unjudged`; `findings` has all, most telling first."""

    kind: str
    message: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def messages(self) -> dict[str, str]:
        """Of every kind that was found, what holds before what has passed, most telling first; and why the last stage
        was not judged.
        """
        said = {UNJUDGED: self.message} if self.message.startswith(LAST_STAGE) else {}
        for found in self.findings:
            passed = "" if found.passed is None else f"; passed by {found.passed:.0%}"
            said.setdefault(found.kind, found.message + passed)
        return said


class Monitor:
    """Reads a run's health about 50 times, flags what lasts three windows of five readings, and takes note when it
    is no longer seen in most of the last three.

    The first 10 % of the budget are read but not judged. A value that is not finite needs no patience. All that it
    reads is the same on every rank, hence so is all that it says.
    """

    def __init__(self, *, updates: int | None = None) -> None:
        """`updates` is the length of the run; below LEAST_UPDATES nothing is judged but what is not finite."""
        self.updates = updates
        self.start = 0.0  # share of the budget done when the stage began
        self.early: list[dict[str, float]] = []  # readings of the first 10 % of the stage
        self.window: list[dict[str, float]] = []  # readings of the window that is open
        self.past: list[dict[str, float]] = []  # means of the first 10 % of the budget, and of each window since
        self.last: dict[str, float] = {}  # the newest reading
        self.readings = 0
        self.windows = 0  # judged in this stage
        self.average: float | None = None  # of L1
        self.best = math.inf
        self.shown: list[list[bool]] = [[] for _ in PATHOLOGIES]  # in the last windows that could show it
        self.found: dict[int, Finding] = {}  # by place in PATHOLOGIES; -1: not finite

    def enter(self, start: float) -> None:
        """Begin a stage at that share of the budget: windows hold readings of one stage, and gradient norms are
        compared with those of its first 10 %. What is said of the output or of D goes on, and what was found stands.
        """
        if start == self.start:
            return
        self.start, self.early, self.window, self.windows = start, [], [], 0
        for place, pathology in enumerate(PATHOLOGIES):
            if pathology.of_weights:
                self.shown[place] = []

    def read(self, values: Mapping[str, float], *, progress: float) -> list[Finding]:
        """What is flagged at this reading; `progress` in (0, 1] is the share of the budget done.

        `values` has means since the last reading and the values of the probe by the names of events. Any of them
        may be missing.
        """
        self.readings += 1
        broken = {key: value for key, value in values.items() if not math.isfinite(value)}
        if not broken:
            return self._take({key: float(values[key]) for key in values if key in READ}, progress)
        if -1 in self.found:
            return []
        message = f"Training diverged: not finite: {', '.join(sorted(broken))}"
        self.found[-1] = Finding("diverged", message, broken, progress)
        return [self.found[-1]]

    def diagnosis(self) -> Diagnosis:
        """Of the run so far, by what still holds."""
        order = sorted(self.found, key=lambda place: (self.found[place].passed is not None, place))
        findings = tuple(self.found[place] for place in order)
        if findings and findings[0].passed is None:
            return Diagnosis(findings[0].kind, findings[0].message, findings[0].evidence, findings)
        evidence = {key: value for key, value in self.last.items() if key not in (GREY_L1, ALONE)}
        kind, message = (UNJUDGED, self._why_unjudged()) if self.windows < PATIENCE else (HEALTHY, self._in_short())
        return Diagnosis(kind, message, evidence, findings)

    def _in_short(self) -> str:
        return f"Nothing {'of what was flagged holds' if self.found else 'was flagged'} after {self.readings} readings"

    def _why_unjudged(self) -> str:
        if not self.start:
            return f"Too short to judge: {self.readings} readings"
        short = f"{LAST_STAGE}: it began at {self.start:.0%} of the budget, too late for {PATIENCE} windows"
        titles = {p.title for p, shown in zip(PATHOLOGIES, self.shown, strict=True) if shown[-1:] == [True]}
        seen = [f"seen last: {', '.join(sorted(titles))}"] if titles else []
        excess = self._excess()
        worse = [f"L1 on the probe, smoothed, is {excess:.1f} times its best"] if excess > DIVERGED else []
        return "; ".join([short, *seen, *worse])

    def _take(self, reading: dict[str, float], progress: float) -> list[Finding]:
        self.last = reading
        self._follow_l1(reading)
        if progress <= self.start + GRACE * (1 - self.start):
            self.early.append(reading)
        if progress <= GRACE:
            self.past = [_kept(_each(self.early, statistics.fmean))]
            return []
        self.window.append(reading)
        return self._close(progress) if len(self.window) == WINDOW else []

    def _follow_l1(self, reading: Mapping[str, float]) -> None:
        """The best starts at the L1 of mid grey, which is that of a new generator: a run that is worse from its
        first update on has diverged, too.
        """
        if L1 not in reading:
            return
        new = reading[L1]
        self.average = new if self.average is None else self.average + MEMORY * (new - self.average)
        self.best = min(self.best, self.average, reading.get(GREY_L1, math.inf))

    def _close(self, progress: float) -> list[Finding]:
        means, early = _each(self.window, statistics.fmean), _each(self.early, statistics.median)
        seen = Seen(means, tuple(self.past), early, self._fluctuation(), self._excess())
        self.window, self.past = [], [*self.past, _kept(means)]
        if self.readings / progress < LEAST_READINGS or (self.updates or LEAST_UPDATES) < LEAST_UPDATES:
            return []
        self.windows += 1
        flagged = []
        for place, pathology in enumerate(PATHOLOGIES):
            if any(f"health/{name}" in means for name in pathology.reads):
                flagged += self._judge(place, pathology, seen, progress)
        return flagged

    def _judge(self, place: int, pathology: Pathology, seen: Seen, progress: float) -> list[Finding]:
        """Raise a flag, or take note that its pathology has passed."""
        self.shown[place] = shown = [*self.shown[place], pathology.shows(seen)][-PATIENCE:]
        found = self.found.get(place)
        holds = found is not None and found.passed is None
        if holds and 2 * shown.count(False) > PATIENCE and pathology.kind != FINAL:
            self.found[place] = replace(found, passed=progress)
        if holds or shown != [True] * PATIENCE:
            return []
        lasted = f"for {PATIENCE} windows in a row, to {progress:.0%} of the budget"
        message = f"{pathology.title}: {pathology.says(seen)}, {lasted}"
        evidence = {f"health/{name}": seen[name] for name in pathology.reads if not math.isnan(seen[name])}
        self.found[place] = Finding(pathology.kind, message, evidence, progress)
        return [self.found[place]]

    def _fluctuation(self) -> float:
        errors = [reading[L1] for reading in self.window if L1 in reading]
        return fluctuation(errors) if len(errors) == WINDOW else math.nan

    def _excess(self) -> float:
        return math.nan if self.average is None or not self.best else self.average / self.best

    def state_dict(self) -> dict[str, Any]:
        """All of it, as JSON could hold it."""
        return {
            "start": self.start, "early": self.early, "window": self.window, "past": self.past, "last": self.last,
            "readings": self.readings, "windows": self.windows, "average": self.average,
            "best": None if math.isinf(self.best) else self.best,
            "shown": [list(shown) for shown in self.shown],
            "found": [[place, asdict(finding)] for place, finding in self.found.items()],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.early, self.window, self.past = (list(map(dict, state[key])) for key in ("early", "window", "past"))
        self.start, self.last, self.average = state["start"], dict(state["last"]), state["average"]
        self.readings, self.windows = state["readings"], state["windows"]
        self.best = math.inf if state["best"] is None else state["best"]
        self.shown = [list(shown) for shown in state["shown"]]
        self.found = {place: Finding(**finding) for place, finding in state["found"]}


def _kept(means: Mapping[str, float]) -> dict[str, float]:
    return {key: means[key] for key in PAST if key in means}


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
