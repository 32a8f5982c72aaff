"""Shrinkage, P(best) and rank intervals by their laws."""

from __future__ import annotations

import numpy as np
import pytest

from reports.fit import fit
from reports.posterior import arm_variances, posterior


def values(k: int = 8, n: int = 5, *, effects=None, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    table = random.normal(size=(k, n)) + random.normal(size=n)
    return table if effects is None else table + np.asarray(effects, float)[:, None]


def test_probabilities_of_being_best_add_up_to_one():
    assert posterior(fit(values()), goal="max").p_best.sum() == pytest.approx(1)


def test_effects_shrink_towards_each_other_more_when_they_are_noise():
    noise, signal = fit(values()), fit(values(effects=np.linspace(0, 30, 8)))

    def kept(fitted):
        shrunken = posterior(fitted, goal="max").shrunken
        return np.std(shrunken) / np.std(fitted.effects)

    assert kept(noise) < 0.7
    assert 0.95 < kept(signal) <= 1.001


def test_the_posterior_mean_agrees_with_numerical_integration():
    """Equal variances, known up to the chi-square scale: integrate the textbook formulas directly."""
    from scipy.stats import chi2

    table = values(k=6, n=8, effects=[0, 0.5, 1, 0, 2, 0], seed=4)
    fitted = fit(table)
    means, v = fitted.effects, arm_variances(fitted) / 8
    scales = fitted.nu / chi2(fitted.nu).ppf((np.arange(200) + 0.5) / 200)
    taus = np.linspace(0, 5 * max(means.std(ddof=1), np.sqrt(v.min())), 400)
    total, weights = np.zeros(6), 0.0
    for scale in scales:
        for tau in taus:
            spread = scale * v + tau**2
            centre = (means / spread).sum() / (1 / spread).sum()
            weight = np.exp(-0.5 * np.log(spread).sum() - 0.5 * np.log((1 / spread).sum())
                            - 0.5 * ((means - centre) ** 2 / spread).sum())  # fmt: skip
            total += weight * (centre + tau**2 / spread * (means - centre))
            weights += weight
    expected = total / weights
    np.testing.assert_allclose(posterior(fitted, goal="max").shrunken, expected - expected[0], atol=0.03)


def test_flipping_the_sign_and_the_goal_tells_the_same_story():
    table = values(effects=np.linspace(0, 4, 8))
    up, down = posterior(fit(table), goal="max"), posterior(fit(-table), goal="min")
    np.testing.assert_allclose(up.p_best, down.p_best, atol=0.02)
    np.testing.assert_allclose(up.shrunken, -down.shrunken, atol=0.05)


def test_a_clear_order_gives_ranks_of_one_place():
    found = posterior(fit(values(effects=np.arange(8) * 50.0)), goal="max")
    np.testing.assert_array_equal(found.rank_low, np.arange(8, 0, -1))
    np.testing.assert_array_equal(found.rank_low, found.rank_high)
    assert found.p_beats[1:].min() > 0.99


@pytest.mark.parametrize("table", [values(k=3), values(n=2), np.ones((5, 4))], ids=["3 arms", "2 seeds", "constant"])
def test_it_is_hidden_where_the_table_is_too_small_or_does_not_vary(table):
    assert posterior(fit(table), goal="max") is None


def test_grubbs_finds_the_noisy_arm_and_is_unbiased():
    random = np.random.default_rng(1)
    sds = np.array([1.0, 1.0, 1.0, 3.0, 1.0])
    tables = random.normal(size=(400, 5, 6)) * sds[:, None] + random.normal(size=(400, 1, 6))
    estimates = np.mean([arm_variances(fit(table)) for table in tables], axis=0)
    assert np.argmax(estimates) == 3
    assert estimates[3] == pytest.approx(9, rel=0.15)
