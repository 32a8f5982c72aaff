"""How much the metric varies between seeds: from the nearest source there is, and which one it was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ablate.earlier import Earlier, like, of_study, of_this_study
from ablate.plan import Plan
from ablate.problems import Problem, StudyError
from ablate.records import StudyFolder
from trainers.families import METRICS


@dataclass(frozen=True)
class Spread:
    """Residual sd of the metric once arms and seeds are accounted for; `sd` in the metric's unit, or of its logarithm.

    `df` are the degrees of freedom behind it, 0 where it is stated and not computed.
    """

    sd: float
    scale: str  # raw or log
    source: str
    df: int = 0
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        found = {"sd": self.sd, "scale": self.scale, "source": self.source, "df": self.df}
        return {**found, "low": self.interval[0], "high": self.interval[1]} if self.interval else found


def spread(plan: Plan, runs: Path, statistics: ModuleType, *, pilot: str | None = None) -> Spread | None:
    """From a pilot if one is named, else this study's own trials, else a study like it, else the metric's default.

    `statistics` is `reports.foresight`. None where none of them knows. Raises StudyError for a pilot that says nothing.
    """
    if pilot is not None:
        return _of_pilot(plan, runs, statistics, pilot)
    found = _of(plan, of_this_study(plan, runs), statistics, "finished trials of this study")
    for name, _, how in [] if found else like(plan, runs)[:3]:
        found = found or _of(plan, of_study(runs, name, how), statistics, f"the study {name} ({how})")
    return found or _default(plan, statistics)


def _of(plan: Plan, earlier: Earlier, statistics: ModuleType, source: str) -> Spread | None:
    metric = plan.study.metric.name
    values = np.array(earlier.values(metric), dtype=float)
    if values.ndim != 2:
        return None
    scale = statistics.scale(metric)
    if scale == "log":
        values = np.log(np.where(values > 0, values, np.nan))
    sd, df = statistics.residual_sd(values)
    return Spread(sd, scale, source, df, statistics.sd_interval(sd, df)) if df else None


def _of_pilot(plan: Plan, runs: Path, statistics: ModuleType, pilot: str) -> Spread:
    metric, scale = plan.study.metric.name, statistics.scale(plan.study.metric.name)
    try:
        stated = float(pilot)
    except ValueError:
        stated = None
    if stated is not None:
        if not (math.isfinite(stated) and stated > 0):
            raise _refused(pilot, "a residual sd is a number above 0, in the metric's unit")
        return Spread(stated, scale, "the number given by --pilot")
    if "/" in pilot or not StudyFolder(runs, pilot).plan.is_file():
        raise _refused(pilot, f"neither a number above 0 nor a study that has run under {runs}/")
    found = _of(plan, of_study(runs, pilot, "pilot"), statistics, f"the pilot study {pilot}")
    if found is None:
        raise _refused(pilot, f"holds no two arms with {metric} on two seeds in common: its spread is unknown")
    return found


def _default(plan: Plan, statistics: ModuleType) -> Spread | None:
    """What the head of the metric's part states, with where it comes from."""
    metric = plan.study.metric.name
    stated = getattr(METRICS.part(metric), "RESIDUAL_SD", None)
    return Spread(stated[0], statistics.scale(metric), f"a default: {stated[1]}") if stated else None


def _refused(pilot: str, message: str) -> StudyError:
    return StudyError([Problem(f"--pilot {pilot}", 0, 0, "", message)])
