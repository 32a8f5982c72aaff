"""The order of the table: shrunken means of trained runs, failed runs at their penalty."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from reports.failures import penalised
from reports.findings import Scores
from reports.posterior import Posterior


@dataclass(frozen=True)
class Order:
    """Arms from best to worst; whether half or double the penalty would change that, or only its first place.

    Both are None where no penalty is in it.
    """

    ranking: tuple[int, ...]
    penalty_matters: bool | None = None
    leader_matters: bool | None = None


def with_penalty(scores: Scores) -> tuple[Scores, tuple[str, ...]]:
    """Where no worth of a failed run is declared, it is worth as little as the worst finished run."""
    values = scores.values
    if scores.penalty is not None or not scores.failed.any() or not np.isfinite(values).any():
        return scores, ()
    worst = float(np.nanmin(values) if scores.goal == "max" else np.nanmax(values))
    note = "No score was declared for failed runs, or it is unknown: each counts as the worst finished run."
    return replace(scores, penalty=worst), (note,)


def order(scores: Scores, belief: Posterior | None, scale: str) -> Order:
    """Arms without any outcome are left out; those that a race stopped stand last, by their plain means.

    The trained part of an arm's score is its shrunken mean where there is a posterior (an arm
    that cannot be compared keeps its plain mean); failed runs enter unshrunken, at the penalty.
    Penalties are halved and doubled as distances from the baseline's mean.
    """
    plain = [float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else None for row in scores.values]
    trained = _shrunken(plain, belief, scale)
    declared = _ranked(scores, trained, scores.penalty)
    if scores.penalty is None or not scores.failed.any() or plain[0] is None:
        return Order(declared)
    others = [_ranked(scores, trained, plain[0] + share * (scores.penalty - plain[0])) for share in (0.5, 2.0)]
    matters = any(other != declared for other in others)
    return Order(declared, matters, any(other[:1] != declared[:1] for other in others))


def _shrunken(plain: list[float | None], belief: Posterior | None, scale: str) -> list[float | None]:
    base = plain[0]
    if belief is None or base is None:
        return plain
    moved = [(base * math.exp(shift) if scale == "log" else base + shift) for shift in belief.shrunken.tolist()]
    return [shrunken if math.isfinite(shrunken) else mean for shrunken, mean in zip(moved, plain, strict=True)]


def _ranked(scores: Scores, trained: list[float | None], penalty: float | None) -> tuple[int, ...]:
    sign = 1.0 if scores.goal == "max" else -1.0
    worth: dict[int, tuple[bool, float]] = {}
    for index, (arm, mean) in enumerate(zip(scores.arms, trained, strict=True)):
        n_ok, failed = int(np.isfinite(scores.values[index]).sum()), int(scores.failed[index])
        score = penalised(mean, n_ok, failed, penalty)
        if score is not None or failed:
            worth[index] = arm in scores.stopped, math.inf if score is None else -sign * score
    return tuple(sorted(worth, key=lambda index: (*worth[index], index)))
