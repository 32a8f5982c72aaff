"""Two studies compared: differences of differences, in pairs where seeds are shared, and no claim without a ground."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reports.changes import DIFFERS, ESTIMATE, NO_VARIATION, NOT_TOLD_APART, changes
from reports.findings import Scores

SEEDS = (1, 2, 3, 4, 5)


def scores(values, *, seeds=SEEDS, arms=None) -> Scores:
    values = np.asarray(values, float)
    arms = arms or ("base", *(f"a{place}" for place in range(1, len(values))))
    counts = np.zeros(len(values), int)
    return Scores("psnr", "max", tuple(arms), tuple(seeds), values, counts, counts)


def drawn(random, k=2, n=5, *, effects=0.0, block=1.0, sd=1.0):
    return random.normal(0, block, n) + random.normal(0, sd, (k, n)) + np.resize(effects, (k, 1))


def test_one_arm_unpaired_is_welchs_test_of_the_paired_differences():
    random = np.random.default_rng(3)
    one, other = drawn(random), drawn(random, n=6, effects=[[0.0], [3.0]], sd=2.0)
    found = changes(scores(one), scores(other, seeds=range(11, 17)), scale="raw", same_data=True)
    welch = stats.ttest_ind(other[1] - other[0], one[1] - one[0], equal_var=False)
    low, high = welch.confidence_interval()
    (change,) = found.changes
    assert not found.paired and change.change == pytest.approx((low + high) / 2)
    # The degrees of freedom are rounded down, so that the interval is a little wider.
    t = [stats.t.ppf(0.975, nu) for nu in (int(welch.df), welch.df)]
    assert change.high - change.low == pytest.approx((high - low) * t[0] / t[1], rel=5e-3)


def test_one_arm_with_shared_seeds_is_the_paired_t_of_the_changes():
    random = np.random.default_rng(4)
    one, other = drawn(random), drawn(random, effects=[[0.0], [2.0]])
    found = changes(scores(one), scores(other), scale="raw", same_data=True)
    moved = (other[1] - other[0]) - (one[1] - one[0])
    low, high = stats.ttest_1samp(moved, 0).confidence_interval()
    (change,) = found.changes
    assert found.paired and found.seeds == SEEDS
    assert (change.low, change.high) == (pytest.approx(low, rel=2e-2), pytest.approx(high, rel=2e-2))


def test_what_moves_every_arm_of_a_seed_alike_cancels_out_of_pairs():
    random = np.random.default_rng(5)
    one = drawn(random, k=4, sd=0.01)
    other = one + 7.0 + random.normal(0, 5, 5) + random.normal(0, 0.01, (4, 5)) + np.array([[0], [1], [0], [0]])
    found = changes(scores(one), scores(other), scale="raw", same_data=True)
    assert found.claimed == ("a1",)
    assert found.changes[0].change == pytest.approx(1.0, abs=0.05)


def test_the_sign_is_that_of_second_minus_first_and_turns_with_the_studies():
    random = np.random.default_rng(6)
    one, other = scores(drawn(random, k=3)), scores(drawn(random, k=3), seeds=range(7, 12))
    there, back = (changes(*pair, scale="raw", same_data=False).changes for pair in ((one, other), (other, one)))
    for forth, reverse in zip(there, back, strict=True):
        assert (forth.change, forth.low, forth.high) == pytest.approx((-reverse.change, -reverse.high, -reverse.low))


def test_only_arms_of_both_are_compared_and_by_name():
    random = np.random.default_rng(7)
    one = scores(drawn(random, k=3), arms=("base", "x", "y"))
    other = scores(drawn(random, k=4), arms=("ours", "z", "y", "x"))
    found = changes(one, other, scale="raw", same_data=True)
    assert [change.arm for change in found.changes] == ["x", "y"]
    expected = (other.values[3] - other.values[0] - one.values[1] + one.values[0]).mean()
    assert found.changes[0].change == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 2])
def test_below_three_seeds_nothing_is_claimed(n):
    random = np.random.default_rng(8)
    one, other = (scores(drawn(random, k=3, n=n) + shift, seeds=range(n)) for shift in (0, 9))
    for same in (True, False):
        for change in changes(one, other, scale="raw", same_data=same).changes:
            assert change.verdict == ESTIMATE and change.low is None and change.p_adjusted is None


def test_two_shared_seeds_of_many_are_not_compared_in_pairs():
    random = np.random.default_rng(9)
    one, other = scores(drawn(random)), scores(drawn(random), seeds=(4, 5, 6, 7, 8))
    assert not changes(one, other, scale="raw", same_data=True).paired


def test_other_data_are_never_compared_in_pairs():
    random = np.random.default_rng(10)
    assert not changes(scores(drawn(random)), scores(drawn(random)), scale="raw", same_data=False).paired


def test_the_same_values_twice_have_no_variation_and_no_claim():
    values = drawn(np.random.default_rng(11), k=3)
    found = changes(scores(values), scores(values), scale="raw", same_data=True)
    assert {(change.change, change.verdict) for change in found.changes} == {(0.0, NO_VARIATION)}


def test_a_log_scale_compares_ratios():
    random = np.random.default_rng(12)
    logs = [drawn(random, k=3), drawn(random, k=3)]
    raw = changes(*(scores(value) for value in logs), scale="raw", same_data=True)
    log = changes(*(scores(np.exp(value)) for value in logs), scale="log", same_data=True)
    for one, other in zip(raw.changes, log.changes, strict=True):
        assert (one.change, one.low, one.high) == pytest.approx((other.change, other.low, other.high))


def test_missing_cells_and_an_arm_without_any_run_are_borne():
    random = np.random.default_rng(13)
    one, other = drawn(random, k=4), drawn(random, k=4)
    one[1, 0], other[2, 3], other[3] = np.nan, np.nan, np.nan
    for same in (True, False):
        found = {c.arm: c for c in changes(scores(one), scores(other), scale="raw", same_data=same).changes}
        assert found["a3"].change is None and found["a3"].verdict == ESTIMATE
        assert found["a1"].low < found["a1"].change < found["a1"].high


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("sds", [(1.0, 1.0), (3.0, 1.0)])
def test_studies_that_do_not_differ_are_told_apart_in_few_of_many(paired, sds):
    """Five common arms, five seeds; the second case has a baseline three times noisier. Nominal: 0.05."""
    random, false, studies = np.random.default_rng(14), 0, 300
    noise = np.array([[sds[0]], *([[sds[1]]] * 5)])
    for _ in range(studies):
        one, other = (drawn(random, k=6, sd=0.0) + noise * random.standard_normal((6, 5)) for _ in range(2))
        false += bool(changes(scores(one), scores(other), scale="raw", same_data=paired).claimed)
    assert false / studies <= 0.08


def test_a_large_change_is_found_and_its_interval_excludes_zero():
    random = np.random.default_rng(15)
    one, other = drawn(random, k=4), drawn(random, k=4, effects=[[0], [6], [0], [0]])
    found = changes(scores(one), scores(other), scale="raw", same_data=False)
    verdicts = {change.arm: change.verdict for change in found.changes}
    assert verdicts["a1"] == DIFFERS and found.changes[0].p_adjusted < 0.05
    for change in found.changes:
        assert (change.verdict == NOT_TOLD_APART) == (change.low <= 0 <= change.high)


def test_the_baselines_own_mean_is_compared_by_student_or_welch():
    random = np.random.default_rng(16)
    one, other = drawn(random), drawn(random, sd=2.0) + 1.0
    pairs = changes(scores(one), scores(other), scale="raw", same_data=True).baseline
    apart = changes(scores(one), scores(other), scale="raw", same_data=False).baseline
    student = stats.ttest_1samp(other[0] - one[0], 0)
    welch = stats.ttest_ind(other[0], one[0], equal_var=False)
    for found, oracle in ((pairs, student), (apart, welch)):
        assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval()))
        assert found.p_adjusted == pytest.approx(oracle.pvalue) and found.arm == "base"
