"""Failed runs as outcomes: exact intervals for counts and scores with a declared penalty."""

from __future__ import annotations

from math import comb


def success_interval(successes: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a success rate, in [0, 1].

    Clopper and Pearson, 1934, https://doi.org/10.1093/biomet/26.4.404.
    """
    from scipy.special import betaincinv

    if trials == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return low, high


def exact_p(hits: int, trials: int, other_hits: int, other_trials: int) -> float:
    """Two-sided Fisher p of `hits` of `trials` against `other_hits` of `other_trials`."""
    total, marked = trials + other_trials, hits + other_hits

    def ways(count: int) -> int:
        return comb(trials, count) * comb(other_trials, marked - count)

    counts = range(max(0, marked - other_trials), min(trials, marked) + 1)
    extreme = sum(ways(count) for count in counts if ways(count) <= ways(hits))
    return extreme / comb(total, marked)


def penalised(mean: float | None, n_ok: int, n_failed: int, penalty: float | None) -> float | None:
    """Mean over all outcomes with every failed run worth `penalty`; None where nothing is known."""
    if n_failed == 0 or penalty is None:
        return mean
    return ((mean or 0.0) * n_ok + penalty * n_failed) / (n_ok + n_failed)
