"""`reports.analyse`: the whole protocol on anyone's table of results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reports.analysis import analyse_scores
from reports.contrasts import ALPHA
from reports.findings import FAMILIES, Analysis
from reports.inferred import factor_plan
from reports.runs import Runs, listed, plain, read_runs, tabulate

if TYPE_CHECKING:
    import pandas


def analyse(
    frame: pandas.DataFrame,
    *,
    metric: str,
    goal: str,
    baseline: str,
    smallest_effect: float | None = None,
    penalty: float | None = None,
    family: str = "vs_baseline",
    alpha: float = ALPHA,
    factors: Sequence[str] = (),
    twin: str | None = None,
) -> Analysis:
    """Analyse anyone's results: one row per run with columns `arm`, `seed`, the metric, perhaps `status` and `scene`.

    - `goal` is max or min. `baseline` is the arm that all others are compared with.
    - `status` is done, diverged, collapsed, stopped or failed (done where the column is missing). Diverged and
      collapsed runs are outcomes: counted, and worth `penalty` in the ranking (the worst finished run if not given).
      An arm with a stopped run was ended early and is set apart. A failed run, lost to the machine, is missing.
    - `scene`: several rows per run, one for each scene; the mean over the scenes enters the fit, and the scenes give
      an interval of their own.
    - `factors` names columns that hold each arm's level of a factor; the baseline's levels are the base.
    - `family` says what the claims are about: vs_baseline, all_pairs or factor_effects; the rest is exploratory.
    - `smallest_effect` is the smallest difference of interest (a log ratio for lpips, fid and times), within which
      an interval says equivalent. `twin` names the arm that repeats the baseline (A/A).

    Seeds are blocks: arms are compared over the seeds that they share.

    >>> import pandas, reports
    >>> runs = pandas.DataFrame(
    ...     {
    ...         "arm": ["base"] * 4 + ["hinge"] * 4 + ["spectral"] * 4,
    ...         "seed": [1, 2, 3, 4] * 3,
    ...         "psnr": [20.1, 20.9, 19.8, 20.4, 22.0, 22.9, 21.9, 22.2, 20.3, 20.8, 19.9, 20.6],
    ...     }
    ... )
    >>> found = reports.analyse(runs, metric="psnr", goal="max", baseline="base")
    >>> [(effect.arm, round(effect.difference, 2), effect.verdict) for effect in found.effects]
    [('hinge', 1.95, 'better'), ('spectral', 0.1, 'unresolved')]
    >>> found.best_set
    ('hinge',)

    Raises ValueError, in a sentence, for whatever the table does not have or the analysis does not take.
    """
    _check_request(goal, family, alpha, smallest_effect=smallest_effect, penalty=penalty)
    runs = read_runs(frame, metric)
    arms = _arms(runs, str(plain(baseline)), None if twin is None else str(plain(twin)))
    table = tabulate(runs, arms, metric=metric, goal=goal)
    plan, said = factor_plan(frame, factors, arms)
    scores = replace(
        table.scores, penalty=penalty, smallest_effect=smallest_effect, family=family, plan=plan,
        twin=None if twin is None else table.row(str(plain(twin))),
    )  # fmt: skip
    found = analyse_scores(scores, alpha=alpha)
    return replace(found, notes=(*table.notes, *said, *found.notes))


def _check_request(goal: str, family: str, alpha: float, **numbers: float | None) -> None:
    if goal not in ("max", "min"):
        raise ValueError(f"goal: {goal!r} is neither 'max' nor 'min'")
    if family not in FAMILIES:
        raise ValueError(f"family: no such family {family!r}; there are {', '.join(FAMILIES)}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha: {alpha!r} is no level; expected a number between 0 and 0.5, such as 0.05")
    for name, value in numbers.items():
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name}: {value!r} is not a finite number")
    if (smallest := numbers["smallest_effect"]) is not None and smallest <= 0:
        raise ValueError(f"smallest_effect: {smallest!r} is not above 0; it is the size of a difference")


def _arms(runs: Runs, baseline: str, twin: str | None) -> tuple[str, ...]:
    """The arms to compare, the baseline first; its twin is none of them."""
    there = sorted({arm for arm, _ in runs})
    for role, name in (("baseline", baseline), ("twin", twin)):
        if name is not None and name not in there:
            raise ValueError(f"{role}: no arm {name!r}; there are {listed(there)}")
    if twin == baseline:
        raise ValueError(f"twin: {twin!r} is the baseline itself; the twin is a second arm with the same recipe")
    return (baseline, *(arm for arm in there if arm not in (baseline, twin)))
