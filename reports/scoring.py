"""From the records of a study to the table that the analysis takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ablate.records import Status
from reports.analysis import analyse_scores
from reports.findings import Analysis, FactorPlan, SceneScores, Scores, Stopped
from reports.load import Metric, Results


def analyse_results(results: Results) -> Analysis:
    """The analysis of the study's primary metric."""
    scores = scores_of(results, results.metric)
    return analyse_scores(replace(scores, scenes=scene_scores(results, results.metric.name)))


def scores_of(results: Results, metric: Metric) -> Scores:
    """Final values of `metric`: one row per distinct arm, one column per seed; scenes are left out."""
    values = np.full((len(results.arms), len(results.seeds)), np.nan)
    failed = np.zeros(len(results.arms), int)
    planned = np.zeros(len(results.arms), int)
    column = {seed: place for place, seed in enumerate(results.seeds)}
    for row, arm in enumerate(results.arms):
        for run in results.of(arm.name):
            values[row, column[run.seed]] = run.score(metric.name)
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
        family=results.family,
        plan=factor_plan(results),
        stopped=_stopped(results, metric),
        twin=_twin(results, metric),
    )


def factor_plan(results: Results) -> FactorPlan | None:
    """How the arms come from factors; None for a list, a search or a study without factors.

    Factors and levels that no arm has, of a design that takes some of them, are left out.
    """
    if not results.factors or results.search or results.design == "list":
        return None
    combinations = {arm.name: dict(arm.changes) for arm in results.arms}
    same_as = {}
    for arm in results.arms:
        for name, changes in zip(arm.aliases, arm.alias_changes, strict=True):
            combinations[name], same_as[name] = dict(changes), arm.name
    used = {item for combination in combinations.values() for item in combination.items()}
    levels = {
        factor: (names[0], *(level for level in names[1:] if (factor, level) in used))
        for factor, names in results.factors.items()
    }
    return FactorPlan(
        design=results.design,
        levels={factor: names for factor, names in levels.items() if len(names) > 1},
        combinations=combinations,
        full=results.full,
        resolution=results.properties.get("resolution"),
        aliases=tuple(tuple(group) for group in results.properties.get("aliases") or ()),
        same_as=same_as,
    )


def _stopped(results: Results, metric: Metric) -> dict[str, Stopped]:
    """Arms that a race ended, or with a run that was stopped on the way; never the baseline."""
    looks = {arm: (look["after"], why) for look in results.looks for arm, why in look["stopped"].items()}
    found = {}
    for arm in results.arms[1:]:
        runs = results.of(arm.name)
        ended = [run for run in runs if run.outcome == Status.stopped]
        if arm.name not in looks and not ended:
            continue
        done = [value for run in runs if math.isfinite(value := run.score(metric.name))]
        why = next((run.result.why for run in ended if run.result and run.result.why), "")
        after, why = looks.get(arm.name, (len(done), why))
        found[arm.name] = Stopped(arm.name, after, float(np.mean(done)) if done else None, why)
    return found


def _twin(results: Results, metric: Metric) -> np.ndarray | None:
    if not results.twin:
        return None
    values = {run.seed: run.score(metric.name) for run in results.twin}
    return np.array([values.get(seed, math.nan) for seed in results.seeds])


def scene_scores(results: Results, metric: str) -> SceneScores | None:
    """Means per scene of every finished run, from its scores of single tiles; None where there are none."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    for row, arm in enumerate(results.arms):
        for run in results.of(arm.name):
            means = scene_means(run.scores, metric) if run.done and run.scores else {}
            if means:
                found[row, results.seeds.index(run.seed)] = means
    names = tuple(sorted({scene for means in found.values() for scene in means}))
    if len(names) < 2:
        return None
    values = np.full((len(results.arms), len(results.seeds), len(names)), np.nan)
    for cell, means in found.items():
        values[cell] = [means.get(scene, math.nan) for scene in names]
    return SceneScores(names, values)


def scene_means(path: Path, metric: str) -> Mapping[str, float]:
    """Mean of `metric` over the tiles of each scene in a scores.csv (tile, scene, metrics...).

    A scene with a tile whose value is not finite has no mean. Empty without that column.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    head = lines[0].split(",") if lines else []
    if metric not in head or "scene" not in head:
        return {}
    from_end = head.index(metric) - len(head)  # names of tiles may hold commas, numbers do not
    scene_from_end = head.index("scene") - len(head)
    sums: dict[str, list[float]] = {}
    for line in lines[1:]:
        cells = line.rsplit(",", -scene_from_end)
        total = sums.setdefault(cells[scene_from_end], [0.0, 0])
        total[0] += float(cells[from_end])
        total[1] += 1
    return {scene: total / count for scene, (total, count) in sums.items() if math.isfinite(total)}


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
