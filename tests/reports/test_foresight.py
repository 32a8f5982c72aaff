"""What a plan foresees agrees with what the report's own rule finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from reports import foresight, power


@pytest.mark.parametrize(("arms", "seeds"), [(2, 3), (4, 5), (10, 3), (10, 8)])
def test_against_the_baseline_it_is_what_the_report_says_was_detectable(arms, seeds):
    found = foresight.detectable(foresight.against_baseline(arms), seeds)
    assert found.shape == (arms - 1,)
    assert found.mean() == pytest.approx(power.detectable(arms, seeds), rel=0.03)


def test_a_contrast_that_rests_on_more_arms_finds_less():
    single = np.array([[-1.0, 1, 0, 0]])
    main = np.array([[-0.5, 0.5, -0.5, 0.5]])
    ratio = foresight.detectable(main, 5)[0] / foresight.detectable(single, 5)[0]
    assert ratio == pytest.approx(1 / math.sqrt(2), rel=0.03)


def test_more_contrasts_more_seeds_and_all_pairs_order_as_they_must():
    few, many = (foresight.detectable(foresight.against_baseline(arms), 5).mean() for arms in (3, 9))
    pairs = foresight.detectable(foresight.all_pairs(9), 5).mean()
    assert few < many < pairs
    by_seeds = [foresight.detectable(foresight.against_baseline(5), seeds)[0] for seeds in range(3, 11)]
    assert by_seeds == sorted(by_seeds, reverse=True)


@pytest.mark.parametrize(("arms", "seeds"), [(1, 5), (4, 2)])
def test_without_two_arms_or_three_seeds_nothing_is_detectable(arms, seeds):
    weights = foresight.against_baseline(arms) if arms > 1 else np.zeros((1, 1))
    assert np.isinf(foresight.detectable(weights, seeds)).all()


def test_the_multiplier_of_one_contrast_is_that_of_student():
    single = np.array([[-1.0, 1.0]]) / math.sqrt(2)
    assert power._multiplier(single, 8, 0.05) == pytest.approx(stats.t.ppf(0.975, 8), rel=0.02)


def test_all_pairs_have_the_quantile_of_the_studentised_range():
    wanted = stats.studentized_range.ppf(0.95, 5, 16) / math.sqrt(2)
    assert power._multiplier(foresight.all_pairs(5) / math.sqrt(2), 16, 0.05) == pytest.approx(wanted, rel=0.02)


def test_the_residual_sd_is_that_of_blocks_that_hold_pairs():
    random = np.random.default_rng(1)
    values = random.normal(size=(30, 40)) + random.normal(size=(1, 40)) * 9 + random.normal(size=(30, 1)) * 9
    values[3:, 5] = np.nan
    values[1:, 7] = np.nan  # one arm alone: no pair
    sd, df = foresight.residual_sd(values)
    assert sd == pytest.approx(1, rel=0.05) and df == 29 * 38 - 27
    low, high = foresight.sd_interval(sd, df)
    assert low < sd < high and high / low < 1.1


@pytest.mark.parametrize("values", [np.ones((1, 5)), np.ones((4, 1)), np.ones((3, 3)), np.full((3, 3), np.nan)])
def test_without_pairs_or_variation_there_is_no_residual_sd(values):
    sd, df = foresight.residual_sd(values)
    assert math.isnan(sd) and df == 0


def test_a_prediction_interval_covers_what_comes():
    random, covered = np.random.default_rng(2), 0
    for _ in range(400):
        known, future = random.normal(10, 2, 6), random.normal(10, 2, 9).sum()
        _, low, high = foresight.prediction(known, 9)
        covered += low <= future <= high
    assert 0.92 < covered / 400 < 0.98
    assert foresight.prediction(np.array([3.0]), 4)[0] == 12 and math.isnan(foresight.prediction(np.array([3.0]), 4)[1])
