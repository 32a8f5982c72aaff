"""The model and the comparison with the baseline, against other libraries and by their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.contrasts import estimates, pair_weights
from reports.dunnett import against_baseline
from reports.fit import fit, removed_by_pairing
from reports.maxt import max_t, student_quantile


def draw(k: int, n: int, *, seed: int = 0, holes: int = 0, shift: float = 0.8) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.normal(size=(k, n)) + random.normal(size=n) + shift * np.arange(k)[:, None] / k
    values.ravel()[random.choice(k * n, holes, replace=False)] = np.nan
    return values


@pytest.mark.parametrize("holes", [0, 4])
def test_the_fit_agrees_with_statsmodels(holes):
    import pandas
    import statsmodels.formula.api as smf

    values = draw(5, 6, holes=holes)
    arm, seed = np.nonzero(np.isfinite(values))
    frame = pandas.DataFrame({"y": values[arm, seed], "arm": arm, "seed": seed})
    oracle = smf.ols("y ~ C(arm) + C(seed)", frame).fit()
    ours = fit(values)
    assert ours.nu == oracle.df_resid
    assert ours.sigma == pytest.approx(np.sqrt(oracle.scale), rel=1e-9)
    for index in range(1, 5):
        assert ours.difference(index, 0) == pytest.approx(oracle.params[f"C(arm)[T.{index}]"], rel=1e-8, abs=1e-10)
        model_se = estimates(ours, pair_weights([(index, 0)], 5)).model[0]
        assert model_se == pytest.approx(oracle.bse[f"C(arm)[T.{index}]"], rel=1e-8)


@pytest.mark.parametrize("holes", [0, 5])
def test_without_guard_and_blocks_it_is_scipys_dunnett(holes):
    from scipy.stats import dunnett

    values = draw(5, 7, seed=3, holes=holes, shift=2.0)
    ours = against_baseline(fit(values, block=False), guarded=False)
    groups = [row[np.isfinite(row)] for row in values]
    oracle = dunnett(*groups[1:], control=groups[0], random_state=np.random.default_rng(0))
    np.testing.assert_allclose([c.p_adjusted for c in ours.contrasts], oracle.pvalue, atol=1e-3)
    interval = oracle.confidence_interval()
    np.testing.assert_allclose([c.low for c in ours.contrasts], interval.low, atol=1e-2)
    np.testing.assert_allclose([c.high for c in ours.contrasts], interval.high, atol=1e-2)


def test_one_contrast_has_the_quantile_of_student():
    assert max_t(np.eye(1), 7, sides=2).quantile(0.95) == pytest.approx(student_quantile(0.975, 7), abs=1e-3)


def test_the_quantile_agrees_with_scipys_multivariate_t():
    from scipy.stats import multivariate_t

    correlation = np.array([[1, 0.5, 0.3], [0.5, 1, 0.6], [0.3, 0.6, 1]])
    c = max_t(correlation, 8, sides=2).quantile(0.95)
    inside = multivariate_t(shape=correlation, df=8, seed=1).cdf([c] * 3, lower_limit=[-c] * 3)
    assert inside == pytest.approx(0.95, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 6), n=st.integers(3, 6), scale=st.sampled_from([1e-3, 1.0, 50.0]))
def test_interval_and_p_never_disagree_and_the_guard_never_narrows(seed, k, n, scale):
    values = draw(k, n, seed=seed, shift=3.0) * scale
    fitted = fit(values)
    guarded, plain = against_baseline(fitted), against_baseline(fitted, guarded=False)
    for ours, bare in zip(guarded.contrasts, plain.contrasts, strict=True):
        assert (ours.p_adjusted <= 0.05) == (ours.low > 0 or ours.high < 0)
        assert ours.high - ours.low >= bare.high - bare.low - 1e-12
        assert ours.low < ours.difference < ours.high


def test_adding_to_a_whole_seed_changes_nothing():
    values = draw(4, 5, holes=2)
    moved = values + np.array([0.0, 5.0, -3.0, 1.0, 10.0])
    for ours, other in zip(
        against_baseline(fit(values)).contrasts, against_baseline(fit(moved)).contrasts, strict=True
    ):
        assert (ours.low, ours.high) == pytest.approx((other.low, other.high), abs=1e-9)


def test_a_noisy_baseline_widens_every_interval():
    values = draw(6, 5, shift=0.0)
    values[0] += np.array([4.0, -4.0, 3.0, -3.0, 0.0])
    fitted = fit(values)
    guarded, plain = against_baseline(fitted), against_baseline(fitted, guarded=False)
    assert guarded.guard > 1.5
    for ours, bare in zip(guarded.contrasts, plain.contrasts, strict=True):
        assert ours.high - ours.low > 1.2 * (bare.high - bare.low)


def test_identical_values_leave_no_error_to_work_with():
    values = np.repeat([[0.1], [0.3]], 4, axis=1) + np.array([0.0, 0.7, 0.2, 0.4])
    fitted = fit(values)
    assert fitted.sigma == 0
    (contrast,) = against_baseline(fitted).contrasts
    assert contrast.se == 0 and np.isnan(contrast.low) and contrast.difference == pytest.approx(0.2)


def test_arms_without_a_chain_of_shared_seeds_are_not_compared():
    nan = np.nan
    values = np.array([[1.0, 2.0, nan, nan], [1.5, 2.4, nan, nan], [nan, nan, 1.0, 1.2], [nan] * 4])
    fitted = fit(values)
    assert fitted.estimable(1, 0) and not fitted.estimable(2, 0) and not fitted.estimable(3, 0)
    assert against_baseline(fitted).arms == (1,)


def test_pairing_removes_what_the_seeds_explain():
    random = np.random.default_rng(0)
    noise = random.normal(size=(20, 30))
    blocks = random.normal(size=30)
    assert removed_by_pairing(fit(noise + 3 * (blocks - blocks.mean()) / blocks.std())) == pytest.approx(0.9, abs=0.02)
    assert removed_by_pairing(fit(noise)) < 0.05
