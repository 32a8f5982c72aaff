"""Re-simulated promises: how often a report claims what is not there, and finds what is.

A few hundred seeded studies; bounds leave two standard errors of such a simulation.
"""

from __future__ import annotations

import numpy as np
import pytest

from reports.bestset import best_set
from reports.contrasts import estimates, pair_weights
from reports.dunnett import against_baseline
from reports.fit import fit
from reports.power import detectable

K = 10


def claims(sds: np.ndarray, seeds: int, studies: int, *, effect: float = 0.0, draw: int = 0):
    """(share of studies with any false claim, share that find `effect` in the last arm)."""
    random = np.random.default_rng(draw)
    false = found = 0
    for _ in range(studies):
        values = random.normal(size=(K, seeds)) * sds[:, None] + random.normal(size=seeds)
        values[-1] += effect
        contrasts = against_baseline(fit(values)).contrasts
        claimed = [contrast.low > 0 or contrast.high < 0 for contrast in contrasts]
        false += any(claimed[:-1] if effect else claimed)
        found += contrasts[-1].low > 0
    return false / studies, found / studies


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("name", "sds", "promise"),
    [
        ("equal", np.ones(K), 0.05),
        ("unequal", np.linspace(0.5, 2, K), 0.08),
        ("noisy baseline", np.array([3.0] + [1.0] * (K - 1)), 0.09),
    ],
)
def test_false_claims_under_the_null_stay_below_the_promise(name, sds, promise, seeds):
    studies = 300
    rate, _ = claims(sds, seeds, studies, draw=seeds)
    assert rate <= promise + 2 * np.sqrt(promise * (1 - promise) / studies), name


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_detectable_difference_is_found_in_four_studies_of_five(seeds):
    _, found = claims(np.ones(K), seeds, 300, effect=detectable(K, seeds), draw=9)
    assert found == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize(("seeds", "published"), [(3, 3.9), (4, 3.0), (5, 2.6), (8, 2.0), (10, 1.75)])
def test_the_detectable_difference_agrees_with_the_published_table(seeds, published):
    assert detectable(10, seeds) == pytest.approx(published, rel=0.05)


def test_the_detectable_difference_shrinks_with_seeds_and_grows_with_arms_and_power():
    assert detectable(6, 3) > detectable(6, 4) > detectable(6, 8)
    assert detectable(20, 5) > detectable(5, 5) > 0
    assert detectable(6, 5, power=0.95) > detectable(6, 5) > detectable(6, 5, power=0.5)


@pytest.mark.parametrize(("arms", "seeds"), [(1, 5), (10, 2), (10, 1)])
def test_nothing_is_detectable_where_no_claim_is_made(arms, seeds):
    assert detectable(arms, seeds) == float("inf")


def test_tied_arms_stay_in_the_best_set():
    random = np.random.default_rng(2)
    kept = [len(best_set(fit(random.normal(size=(K, 4))), goal="max")) / K for _ in range(150)]
    assert np.mean(kept) >= 0.93


def test_a_far_better_arm_is_the_whole_best_set_for_either_goal():
    values = np.random.default_rng(0).normal(size=(6, 5))
    values[2] += 30
    values[4] -= 30
    assert best_set(fit(values), goal="max") == (2,)
    assert best_set(fit(values), goal="min") == (4,)


def test_an_arm_that_varies_more_than_the_others_leaves_the_best_set_only_on_its_own_error():
    """Behind by far more than the pooled error, but not than its own."""
    values = np.random.default_rng(0).normal(0, 0.1, size=(30, 4))
    values[5] += np.array([-9.0, 1.0, -9.0, 3.0])
    fitted = fit(values)
    lead = max(fitted.difference(other, 5) for other in range(30))
    assert lead > 4 * estimates(fitted, pair_weights([(0, 5)], 30)).model[0]
    assert 5 in best_set(fitted, goal="max")


@pytest.mark.parametrize("holes", [0, 3])
def test_the_best_set_never_depends_on_the_short_cut(holes, monkeypatch):
    """Student's and Bonferroni's quantiles only save time: without them the set is the same."""
    from reports import bestset

    tables = []
    for draw in range(12):
        random = np.random.default_rng(draw)
        values = random.normal(size=(6, 4)) + np.linspace(0, 3, 6)[:, None]
        values.ravel()[random.choice(values.size, holes, replace=False)] = np.nan
        tables.append(values)
    quick = [best_set(fit(values), goal="max") for values in tables]
    monkeypatch.setattr(bestset, "student_quantile", lambda level, nu: -np.inf if level == 0.95 else np.inf)
    assert quick == [best_set(fit(values), goal="max") for values in tables]
    assert any(1 < len(members) < 6 for members in quick)
