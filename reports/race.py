"""Which arms of a race leave it: guarded elimination by the best set, as whole arms after whole seeds.

An arm leaves when some other arm's lead over it is beyond doubt at the level of this look. With the level of a
study split evenly over its planned looks (Bonferroni), the chance that the truly best arm is stopped anywhere stays
below that level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reports.analysis import LOG_METRICS
from reports.bestset import best_set
from reports.fit import fit

LEFT, NO_RUN = "left the best set", "none of its runs finished"


def leaving(scores: Mapping[str, Sequence[float]], *, goal: str, metric: str = "", alpha: float) -> dict[str, str]:
    """Arms that leave, each with why; never the baseline, which is the first.

    `scores` maps every arm still in the race to its values by seed, NaN where a run did not finish. Nothing leaves
    without an error estimate. An arm none of whose runs finished leaves if one of another arm did.
    """
    arms = list(scores)
    table = np.array([list(scores[arm]) for arm in arms], float)
    table = np.where(np.isfinite(table), table, np.nan)
    if metric in LOG_METRICS and (table[np.isfinite(table)] > 0).all():
        table = np.log(table)
    found = np.isfinite(table).any(axis=1)
    members = best_set(fit(table), goal=goal, alpha=alpha)
    left = {arm: LEFT for row, arm in enumerate(arms) if members and found[row] and row not in members}
    left |= {arm: NO_RUN for row, arm in enumerate(arms) if found.any() and not found[row]}
    return {arm: left[arm] for arm in arms[1:] if arm in left}
