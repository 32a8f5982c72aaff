"""Exact intervals and p of counts, against other libraries."""

from __future__ import annotations

import pytest

from reports.failures import exact_p, penalised, success_interval


@pytest.mark.parametrize("trials", [1, 3, 5, 20])
def test_the_success_interval_is_clopper_and_pearsons(trials):
    from statsmodels.stats.proportion import proportion_confint

    for successes in range(trials + 1):
        oracle = proportion_confint(successes, trials, method="beta")
        assert success_interval(successes, trials) == pytest.approx(oracle, abs=1e-9)


def test_without_trials_every_rate_is_possible():
    assert success_interval(0, 0) == (0.0, 1.0)


def test_the_exact_p_is_fishers():
    from scipy.stats import fisher_exact

    for a in range(4):
        for b in range(6):
            assert exact_p(a, 3, b, 5) == pytest.approx(fisher_exact([[a, 3 - a], [b, 5 - b]]).pvalue, abs=1e-12)


def test_three_of_three_against_none_of_three_is_no_claim():
    assert exact_p(0, 3, 3, 3) == pytest.approx(0.10)


def test_failed_runs_count_at_their_penalty():
    assert penalised(20.0, 2, 1, 14.0) == pytest.approx(18.0)
    assert penalised(None, 0, 3, 14.0) == 14.0
    assert penalised(20.0, 3, 0, 14.0) == 20.0
