"""Scenes as the units: does a difference hold across places, beside holding across seeds?

Tiles of one scene are no independent samples; the mean over a scene is one. Intervals over seeds
hold for the scenes at hold alone, an interval over scenes asks about scenes of their kind.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reports.contrasts import own_errors
from reports.findings import SceneEffect, Scores
from reports.maxt import student_quantile


def scene_effects(scores: Scores, *, scale: str, alpha: float) -> Mapping[str, SceneEffect]:
    """Each arm minus the baseline per scene, averaged over the seeds that hold both; t interval with scenes - 1 df.

    Empty for an arm that shares fewer than two scenes with the baseline.
    """
    if scores.scenes is None:
        return {}
    values = np.where(np.isfinite(scores.values)[:, :, None], scores.scenes.values, np.nan)
    if scale == "log":
        values = np.log(np.where(values > 0, values, np.nan))
    found = {}
    for index, arm in enumerate(scores.arms[1:], start=1):
        per_scene = _over_seeds(values[index] - values[0])
        if len(per_scene) > 1 and arm not in scores.stopped:
            found[arm] = _effect(arm, per_scene, goal=scores.goal, alpha=alpha)
    return found


def _over_seeds(differences: np.ndarray) -> np.ndarray:
    """Means (S,) of (n, S) differences over the seeds that have every scene which any seed has."""
    held = np.isfinite(differences)
    scenes = held.any(axis=0)
    whole = held[:, scenes].all(axis=1) & scenes.any()
    if not whole.any():
        return np.empty(0)
    return differences[whole][:, scenes].mean(axis=0)


def _effect(arm: str, per_scene: np.ndarray, *, goal: str, alpha: float) -> SceneEffect:
    better = int((per_scene > 0).sum() if goal == "max" else (per_scene < 0).sum())
    count, difference = len(per_scene), float(per_scene.mean())
    reach = student_quantile(1 - alpha / 2, count - 1) * float(own_errors(per_scene[None])[0][0])
    return SceneEffect(arm, better, count, difference, difference - reach, difference + reach)
