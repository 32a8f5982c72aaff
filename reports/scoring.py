"""From the records of a study to the table that the analysis takes."""

from __future__ import annotations

import math

import numpy as np

from reports.analysis import analyse_scores
from reports.findings import Analysis, Scores
from reports.load import Metric, Results


def analyse_results(results: Results) -> Analysis:
    """The analysis of the study's primary metric."""
    return analyse_scores(scores_of(results, results.metric))


def scores_of(results: Results, metric: Metric) -> Scores:
    """Final values of `metric`: one row per distinct arm, one column per seed."""
    values = np.full((len(results.arms), len(results.seeds)), np.nan)
    failed = np.zeros(len(results.arms), int)
    planned = np.zeros(len(results.arms), int)
    for row, arm in enumerate(results.arms):
        for run in results.of(arm.name):
            values[row, results.seeds.index(run.seed)] = run.score(metric.name)
            failed[row] += run.failed_by_itself
            planned[row] += 1
    return Scores(
        metric=metric.name,
        goal=metric.goal,
        arms=tuple(arm.name for arm in results.arms),
        seeds=results.seeds,
        values=values,
        failed=failed,
        planned=planned,
        penalty=_penalty(results, metric),
        smallest_effect=results.smallest_effect if metric == results.metric else None,
    )


def _penalty(results: Results, metric: Metric) -> float | None:
    """The declared worth of a failed run: a number, or a reference predictor's value; None if unknown."""
    if isinstance(results.failure, str):
        value = results.references.get(results.failure, {}).get(metric.name)
        return value if value is not None and math.isfinite(value) else None
    return float(results.failure)


def mean_of(results: Results, arm: str, metric: str) -> float | None:
    """Mean final value over the arm's finished runs that have one."""
    values = [value for run in results.of(arm) if math.isfinite(value := run.score(metric))]
    return float(np.mean(values)) if values else None
