"""How restless the end of training is: a second measure beside the primary metric."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.load import Results, Run

PROBE = "health/probe_l1"  # mean absolute error of fixed validation tiles, in [0, 2]
SHARE, FEWEST = 0.2, 3  # of the readings, and how many that has to be


@dataclass(frozen=True)
class Stability:
    """`arms` maps an arm to the mean over its finished runs of the sd of `reading` over its last readings."""

    reading: str
    unit: str
    arms: Mapping[str, float]


def stability(results: Results) -> Stability | None:
    """The sd of the probe's L1 over the last fifth of its readings; of the primary metric where no run has a probe.

    None where no finished run has at least three readings in that fifth.
    """
    metric = results.metric
    for split, key, reading, unit in (
        ("train", PROBE, "probe L1", ""),
        (results.split, metric.name, metric.label, metric.unit),
    ):
        found = {arm.name: _mean(_restlessness(run, split, key) for run in results.of(arm.name) if run.done)
                 for arm in results.arms}  # fmt: skip
        known = {arm: value for arm, value in found.items() if value is not None}
        if known:
            return Stability(reading, unit, known)
    return None


def _restlessness(run: Run, split: str, key: str) -> float | None:
    readings = [value for *_, value in run.curve(split, key) if math.isfinite(value)]
    last = readings[len(readings) - math.ceil(SHARE * len(readings)) :]
    return statistics.stdev(last) if len(last) >= FEWEST else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
