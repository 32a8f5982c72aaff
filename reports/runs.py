"""Rows of anyone's table as runs, and runs as the scores that the analysis takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.findings import SceneScores, Scores, Stopped

if TYPE_CHECKING:
    import pandas

OUTCOMES = ("done", "diverged", "collapsed", "stopped", "failed")
FAILURES = ("diverged", "collapsed")
_FEW = 8  # names that a message lists
_SENTINEL = 1e100
Seed = int | float | str


@dataclass
class Run:
    """One arm with one seed: its outcome and its value per scene (one scene without a name where there are none)."""

    status: str
    values: dict[str | None, float] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return self.status == "done"


Runs = Mapping[tuple[str, Seed], Run]


@dataclass(frozen=True)
class Table:
    """Scores of the arms, the value of every run, and what is to be said of runs that have none."""

    scores: Scores
    values: Mapping[tuple[str, Seed], float]
    notes: tuple[str, ...]

    def row(self, arm: str) -> np.ndarray:
        """Values (n,) of an arm over the seeds of the scores; NaN where it has no finished run."""
        return np.array([self.values.get((arm, seed), math.nan) for seed in self.scores.seeds])


def read_runs(frame: pandas.DataFrame, metric: str) -> Runs:
    """The runs of a table with columns arm, seed, `metric`, perhaps status and scene.

    Raises ValueError, with the row counted from 1, for what is missing, listed twice or no number.
    """
    missing = [name for name in ("arm", "seed", metric) if name not in frame.columns]
    if missing:
        raise ValueError(f"no column {listed(missing)}; there are {listed(frame.columns) or 'none'}")
    if not len(frame):
        raise ValueError("the table has no rows")
    for name in ("arm", "seed", "status", "scene", metric):
        if name in frame.columns and frame[name].ndim > 1:
            raise ValueError(f"there is more than one column {name}")
    runs: dict[tuple[str, Seed], Run] = {}
    columns = [_column(frame, name) for name in ("arm", "seed", "status", "scene", metric)]
    for number, (arm, seed, status, scene, value) in enumerate(zip(*columns, strict=True), start=1):
        place = f"row {number}"
        arm, seed = str(_given(arm, "arm", place)), _given(seed, "seed", place)
        status = "done" if "status" not in frame.columns else str(_given(status, "status", place))
        if status not in OUTCOMES:
            raise ValueError(f"{place}: status {status!r} is unknown; there are {', '.join(OUTCOMES)}")
        run = runs.setdefault((arm, seed), Run(status))
        scene = str(_given(scene, "scene", place)) if "scene" in frame.columns else None
        if run.status != status:
            raise ValueError(f"{place}: arm {arm!r} with seed {seed!r} is {status} here and {run.status} before")
        if scene in run.values:
            where = "" if scene is None else f" and scene {scene!r}"
            raise ValueError(f"{place}: arm {arm!r} with seed {seed!r}{where} is listed more than once")
        run.values[scene] = _number(value, metric, place)
    return runs


def _column(frame: pandas.DataFrame, name: str) -> Iterable[Any]:
    return frame[name].tolist() if name in frame.columns else [None] * len(frame)


def plain(value: Any) -> Seed:
    """A name or number as people write it: 1.0, numpy's 1 and 1 are one seed."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else str(value)


def _given(value: Any, name: str, place: str) -> Seed:
    if blank(value):
        raise ValueError(f"{place} has no {name}")
    return plain(value)


def blank(value: Any) -> bool:
    """Whether a cell of a table is empty: None, NaN, NaT, NA or no text."""
    return value is None or str(value) in ("", "<NA>", "NaT") or value != value


def _number(value: Any, metric: str, place: str) -> float:
    """A value of the metric; NaN where it is missing, not finite or so large that it stands for that."""
    try:
        number = math.nan if blank(value) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{place}: {metric}: {value!r} is not a number") from None
    return number if abs(number) < _SENTINEL else math.nan


def tabulate(runs: Runs, arms: Sequence[str], *, metric: str, goal: str) -> Table:
    """Scores of `arms`, the baseline first: means over scenes where there are any.

    A run that lacks one of the scenes has no value, since its mean would be over other places.
    """
    seeds = tuple(sorted({seed for _, seed in runs}, key=lambda seed: (isinstance(seed, str), seed)))
    scenes = _scenes(runs)
    values = {cell: _mean(run, scenes) for cell, run in runs.items()}
    table = np.array([[values.get((arm, seed), math.nan) for seed in seeds] for arm in arms])
    outcomes = [[runs[arm, seed].status for seed in seeds if (arm, seed) in runs] for arm in arms]
    scores = Scores(
        metric=metric,
        goal=goal,
        arms=tuple(arms),
        seeds=seeds,
        values=table,
        failed=np.array([sum(status in FAILURES for status in row) for row in outcomes]),
        planned=np.array([len(row) for row in outcomes]),
        stopped=_stopped(arms, outcomes, table),
        scenes=_scene_scores(runs, arms, seeds, scenes),
    )
    return Table(scores, values, _left_out(runs, values, metric, scenes))


def _scenes(runs: Runs) -> tuple[str | None, ...]:
    """Scenes for which any finished run has a value."""
    there = {scene for run in runs.values() if run.done for scene, value in run.values.items() if value == value}
    return tuple(sorted(there, key=str))


def _mean(run: Run, scenes: Sequence[str | None]) -> float:
    values = [run.values.get(scene, math.nan) for scene in scenes]
    return sum(values) / len(values) if run.done and values else math.nan


def _scene_scores(
    runs: Runs, arms: Sequence[str], seeds: Sequence[Seed], scenes: tuple[str | None, ...]
) -> SceneScores | None:
    names = tuple(scene for scene in scenes if scene is not None)
    if len(names) < 2:
        return None
    values = np.full((len(arms), len(seeds), len(names)), np.nan)
    for row, arm in enumerate(arms):
        for column, seed in enumerate(seeds):
            if (arm, seed) in runs and runs[arm, seed].done:
                values[row, column] = [runs[arm, seed].values.get(scene, math.nan) for scene in names]
    return SceneScores(names, values)


def _stopped(arms: Sequence[str], outcomes: Sequence[Sequence[str]], values: np.ndarray) -> dict[str, Stopped]:
    """Arms with a stopped run; never the baseline, whose stopped runs are missing."""
    found = {}
    for arm, row, statuses in list(zip(arms, values, outcomes, strict=True))[1:]:
        if "stopped" in statuses:
            done = row[np.isfinite(row)]
            found[arm] = Stopped(arm, len(done), float(done.mean()) if len(done) else None, "")
    return found


def _left_out(runs: Runs, values: Mapping[tuple[str, Seed], float], metric: str, scenes: Sequence) -> tuple[str, ...]:
    lost = [
        f"{arm} seed {seed}" for (arm, seed), run in runs.items() if run.done and values[arm, seed] != values[arm, seed]
    ]
    where = f" in every one of the {len(scenes)} scenes" if len(scenes) > 1 else ""
    return (f"Finished without a finite {metric}{where}, left out: {listed(sorted(lost))}.",) if lost else ()


def listed(names: Iterable[Any]) -> str:
    """Names with commas; beyond eight only their number."""
    names = [str(name) for name in names]
    return ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")
