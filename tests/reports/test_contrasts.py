"""Linear contrasts of arms as one family, against other libraries and by their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.contrasts import estimates, pair_weights, simultaneous
from reports.dunnett import against_baseline
from reports.fit import arm_variances, fit
from reports.maxt import Bonferroni, max_t, max_t_bound, max_t_of
from reports.pairs import all_pairs
from tests.reports.test_dunnett import draw


@pytest.mark.parametrize("holes", [0, 5])
def test_all_pairs_without_guard_and_blocks_are_tukeys(holes):
    from scipy.stats import tukey_hsd

    values = draw(5, 7, seed=3, holes=holes, shift=2.0)
    ours = all_pairs(fit(values, block=False), range(5), guarded=False)
    oracle = tukey_hsd(*[row[np.isfinite(row)] for row in values])
    interval = oracle.confidence_interval()
    for (one, other), contrast in zip(ours.pairs, ours.family.contrasts, strict=True):
        assert contrast.difference == pytest.approx(oracle.statistic[other, one])
        slack = 1e-3 if holes == 0 else 5e-3  # Tukey and Kramer's p is an upper bound where counts differ
        assert contrast.p_adjusted == pytest.approx(oracle.pvalue[other, one], abs=slack)
        assert contrast.low == pytest.approx(interval.low[other, one], abs=2e-2)
        assert contrast.high == pytest.approx(interval.high[other, one], abs=2e-2)


@pytest.mark.parametrize("holes", [0, 4])
def test_any_contrast_has_the_estimate_and_error_of_statsmodels(holes):
    import pandas
    import statsmodels.formula.api as smf

    values = draw(5, 6, holes=holes)
    arm, seed = np.nonzero(np.isfinite(values))
    frame = pandas.DataFrame({"y": values[arm, seed], "arm": arm, "seed": seed})
    oracle = smf.ols("y ~ C(arm) + C(seed)", frame).fit()
    weights = np.array([[0.5, -0.5, 0.5, -0.5, 0.0], [1.0, 0.0, -0.25, -0.75, 0.0], [0.2, 0.2, 0.2, 0.2, -0.8]])
    found = estimates(fit(values), weights)
    for index, row in enumerate(weights):
        test = oracle.t_test(np.r_[0.0, row[1:], np.zeros(5)])
        assert found.values[index] == pytest.approx(test.effect.item(), abs=1e-9)
        assert found.model[index] == pytest.approx(test.sd.item(), rel=1e-8)


def test_the_comparison_with_the_baseline_is_the_family_of_its_contrasts():
    fitted = fit(draw(6, 5, holes=3))
    weights = pair_weights([(arm, 0) for arm in range(1, 6)], 6)
    assert simultaneous(fitted, weights).contrasts == against_baseline(fitted).contrasts


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(3, 6), n=st.integers(3, 6), holes=st.integers(0, 3))
def test_interval_and_p_of_any_family_never_disagree(seed, k, n, holes):
    values = draw(k, n, seed=seed, shift=3.0, holes=holes)
    weights = np.random.default_rng(seed).normal(size=(4, k))
    weights -= weights.mean(axis=1, keepdims=True)
    fitted = fit(values)
    if len(set(fitted.island)) > 1 or not fitted.sigma > 0:
        return
    families = simultaneous(fitted, weights), all_pairs(fitted, range(k)).family
    for contrast in [contrast for family in families for contrast in family.contrasts]:
        assert (contrast.p_adjusted <= 0.05) == (contrast.low > 0 or contrast.high < 0)
        assert contrast.low < contrast.difference < contrast.high


def test_the_size_of_a_contrast_does_not_change_its_p():
    fitted = fit(draw(5, 5))
    weights = np.array([[1.0, -0.5, -0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, -1.0]])
    one, ten = simultaneous(fitted, weights), simultaneous(fitted, 10 * weights)
    for small, large in zip(one.contrasts, ten.contrasts, strict=True):
        assert small.p_adjusted == pytest.approx(large.p_adjusted, abs=1e-4)
        assert large.high == pytest.approx(10 * small.high, rel=1e-3)


def test_a_pair_against_the_baseline_is_turned_to_be_a_difference_from_it():
    fitted = fit(draw(5, 5))
    against = all_pairs(fitted, range(5)).against(2)
    assert against.arms == (0, 1, 3, 4)
    for arm, contrast in against.of_arm.items():
        assert contrast.difference == pytest.approx(fitted.difference(arm, 2))
        assert contrast.low < contrast.difference < contrast.high


def test_one_noisy_arm_widens_its_own_pairs_and_no_others():
    values = draw(8, 5, shift=0.0)
    values[0] += np.array([6.0, -6.0, 4.0, -5.0, 1.0])
    fitted = fit(values)
    guarded, plain = (all_pairs(fitted, range(8), guarded=on) for on in (True, False))
    growth = {
        pair: (ours.high - ours.low) / (bare.high - bare.low)
        for pair, ours, bare in zip(guarded.pairs, guarded.family.contrasts, plain.family.contrasts, strict=True)
    }
    assert min(size for pair, size in growth.items() if 0 in pair) > 1.3
    assert np.median([size for pair, size in growth.items() if 0 not in pair]) == pytest.approx(1.0, abs=1e-9)


def test_a_contrast_of_many_arms_without_whole_blocks_takes_its_error_from_the_arms():
    values = draw(4, 4)
    values[0, 0] = values[1, 1] = values[2, 2] = np.nan
    fitted = fit(values)
    weights = np.array([[0.5, 0.5, -0.5, -0.5]])
    found = estimates(fitted, weights)
    expected = np.sqrt(0.25 * (arm_variances(fitted) / [3, 3, 3, 4]).sum())
    assert found.own[0] == pytest.approx(expected)
    assert found.blocks[0] == 3  # of 3.25 runs an arm


def test_a_singular_family_is_no_obstacle():
    fitted = fit(draw(3, 6))
    weights = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [1.0, 0.0, -1.0], [0.5, 0.5, -1.0]])
    found = simultaneous(fitted, weights).contrasts
    assert found[0].p_adjusted == pytest.approx(found[1].p_adjusted)
    assert found[0].low == pytest.approx(-found[1].high)


def test_both_ways_to_the_distribution_of_the_maximum_agree():
    fitted = fit(draw(5, 5, holes=3))
    weights = pair_weights([(1, 0), (2, 0), (3, 0), (4, 0)], 5)
    covariance = weights @ fitted.inverse @ weights.T
    scale = np.sqrt(np.diag(covariance))
    one = max_t(covariance / np.outer(scale, scale), 9, sides=2)
    assert one.quantile(0.95) == pytest.approx(max_t_of(weights, fitted.inverse, 9, sides=2).quantile(0.95), abs=1.5e-2)


@pytest.mark.parametrize("sides", [1, 2])
def test_bonferroni_bounds_the_maximum(sides):
    exact, bound = max_t(np.eye(6) * 0.5 + 0.5, 12, sides=sides), Bonferroni(6, 12, sides)
    t = np.array([1.0, 2.0, 3.0, 4.0])
    assert bound.quantile(0.95) > exact.quantile(0.95)
    assert (bound.p(t) >= exact.p(t) - 2e-4).all()
    assert bound.p(np.array([bound.quantile(0.95)]))[0] == pytest.approx(0.05)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.5])
def test_the_bound_for_many_arms_is_exact_where_all_correlations_are_equal(correlation):
    equal = np.full((12, 12), correlation) + (1 - correlation) * np.eye(12)
    exact = max_t(equal, 20, sides=1).quantile(0.95)
    assert max_t_bound(12, correlation, 20).quantile(0.95) == pytest.approx(exact, abs=1.5e-2)


def test_the_bound_for_many_arms_falls_with_correlation():
    bounds = [max_t_bound(100, rho, 30).quantile(0.95) for rho in (0.2, 0.4, 0.6)]
    assert bounds == sorted(bounds, reverse=True)
