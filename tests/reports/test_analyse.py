"""The analysis of anyone's table: verdicts, ranking, and the ladder from one seed up."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

import reports
from tests.reports.factory import table


def frame(scores: dict, metric: str = "psnr") -> pandas.DataFrame:
    """One row per run; a score that is text becomes the status."""
    rows = [
        {
            "arm": arm,
            "seed": seed,
            metric: np.nan if isinstance(score, str) else score,
            "status": score if isinstance(score, str) else "done",
        }
        for arm, row in scores.items()
        for seed, score in enumerate(row)
    ]
    return pandas.DataFrame(rows)


EFFECTS = {"base": 20.0, "good": 23.0, "same": 20.0, "bad": 17.0, "fair": 20.4}


def analyse(scores: dict, **options):
    return reports.analyse(frame(scores), **({"metric": "psnr", "goal": "max", "baseline": "base"} | options))


def test_it_finds_what_is_better_and_what_is_worse():
    found = analyse(table(EFFECTS, 5))
    verdicts = {effect.arm: effect.verdict for effect in found.effects}
    assert verdicts == {"good": "better", "bad": "worse", "same": "unresolved", "fair": "unresolved"}
    assert found.best_set == ("good",)
    assert found.ranking[0] == "good" and found.ranking[-1] == "bad"
    assert found.effect("good").low > 0 and found.effect("good").p_adjusted < 0.05
    assert 0 < found.effect("good").shrunken < found.effect("good").difference + 0.1
    assert found.detectable > 0


def test_the_goal_turns_the_words_around():
    found = analyse(table(EFFECTS, 5), goal="min")
    assert found.effect("good").verdict == "worse" and found.effect("bad").verdict == "better"
    assert found.best_set == ("bad",) and found.ranking[0] == "bad"


def test_the_order_of_rows_does_not_matter():
    rows = frame(table(EFFECTS, 4))
    one = reports.analyse(rows, metric="psnr", goal="max", baseline="base")
    other = reports.analyse(rows.sample(frac=1, random_state=3), metric="psnr", goal="max", baseline="base")
    assert one == other


def test_a_verdict_never_contradicts_its_interval():
    for draw in range(20):
        found = analyse(table({f"a{i}": i / 4 for i in range(6)} | {"base": 0.5}, 3, draw=draw))
        for effect in found.effects:
            excludes = effect.low > 0 or effect.high < 0
            assert excludes == effect.verdict.startswith(("better", "worse"))


def test_one_seed_supports_no_order_and_two_no_verdict():
    one, two = analyse(table(EFFECTS, 1)), analyse(table(EFFECTS, 2))
    for found, words in ((one, "single run, ordering not supported"), (two, "screening, estimate only")):
        assert {effect.verdict for effect in found.effects} == {words}
        assert all(effect.low is None and effect.p_adjusted is None for effect in found.effects)
        assert found.best_set == () and found.detectable is None
        assert found.ranking[0] == "good"


def test_a_metric_that_does_not_vary_is_unresolved():
    found = analyse({"base": (20.0,) * 4, "other": (20.0,) * 4, "third": (21.0,) * 4})
    assert {effect.verdict for effect in found.effects} == {"unresolved, no variation"}
    assert found.best_set == ()


def test_a_difference_within_the_smallest_effect_is_equivalent_or_said_to_be_small():
    near = {"base": (20.0, 21.0, 19.0, 20.5), "same": (20.01, 20.99, 19.0, 20.5), "tiny": (20.1, 21.11, 19.1, 20.6)}
    found = analyse(near, smallest_effect=0.5)
    assert found.effect("same").verdict == "equivalent"
    assert found.effect("tiny").verdict == "better, smaller than the smallest effect of interest"
    assert analyse(near).effect("same").verdict == "unresolved"


def test_failures_are_outcomes_and_move_an_arm_down_the_table():
    scores = {arm: list(row) for arm, row in table(EFFECTS, 5).items()}
    scores["good"][2] = "diverged"
    found = analyse(scores, penalty=5.0)
    assert found.effect("good").verdict == "better when it trains, fails more often"
    assert found.ranking.index("good") == 3  # (4 x 23 + 5) / 5 is below all but `bad`
    assert found.arms["good"].score == pytest.approx((4 * found.arms["good"].mean + 5.0) / 5)
    assert found.penalty_matters


def test_without_a_declared_penalty_a_failure_counts_as_the_worst_run():
    scores = {arm: list(row) for arm, row in table(EFFECTS, 5).items()}
    worst = min(value for row in scores.values() for value in row)
    scores["fair"][0] = "collapsed"
    found = analyse(scores)
    assert found.penalty == pytest.approx(worst)
    assert "No score was declared" in found.notes[0]


def test_an_arm_that_only_fails_stays_in_the_table():
    scores = dict(table(EFFECTS, 4)) | {"dead": ["diverged"] * 4}
    found = analyse(scores, penalty=10.0)
    assert found.ranking[-1] == "dead" and found.arms["dead"].mean is None
    assert found.effect("dead").verdict == "not comparable"


def test_a_run_lost_to_the_machine_is_missing_and_no_failure():
    scores = {arm: list(row) for arm, row in table(EFFECTS, 5).items()}
    scores["good"][1] = "failed"
    found = analyse(scores)
    assert found.arms["good"].n_failed == 0 and found.arms["good"].n_ok == 4
    assert found.effect("good").verdict == "better"


def test_one_shared_seed_is_too_few_for_a_verdict():
    scores = {arm: list(row) for arm, row in table(EFFECTS, 4).items()}
    scores["good"][1:] = ["failed"] * 3
    effect = analyse(scores).effect("good")
    assert effect.verdict == "too few shared seeds, estimate only"
    assert effect.difference is not None and effect.low is None


def test_lpips_is_compared_by_ratios():
    scores = table({"base": 1.0, "half": 0.0, "x": 1.0, "y": 1.0}, 5, spread=0.02, block=0.1)
    logs = {arm: [float(np.exp(value)) for value in row] for arm, row in scores.items()}
    found = reports.analyse(frame(logs, "lpips"), metric="lpips", goal="min", baseline="base")
    raw = analyse(scores, goal="min")
    assert found.scale == "log" and raw.scale == "raw"
    assert found.effect("half").difference == pytest.approx(raw.effect("half").difference)
    assert found.arms["base"].mean > 2


def test_two_arms_alone_are_compared_by_the_paired_interval():
    scores = table({"base": 20.0, "good": 22.0}, 6)
    found = analyse(scores)
    differences = np.array(scores["good"]) - np.array(scores["base"])
    half = 2.5706 * differences.std(ddof=1) / np.sqrt(6)  # t_.975 with 5 df
    assert found.effect("good").high - found.effect("good").low == pytest.approx(2 * half, rel=5e-3)
    assert found.arms["good"].p_best is None


def test_forty_arms_are_analysed():
    found = analyse(table({"base": 0.0} | {f"arm{i}": i / 10 for i in range(39)}, 3))
    assert len(found.effects) == 39 and len(found.ranking) == 40


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"goal": "up"}, "neither 'max' nor 'min'"),
        ({"baseline": "bass"}, "no arm 'bass'; there are bad, base"),
        ({"metric": "ssim"}, "no column ssim; there are arm, seed"),
    ],
)
def test_a_wrong_request_is_answered_with_what_there_is(change, words):
    with pytest.raises(ValueError, match=words):
        analyse(table(EFFECTS, 3), **change)


def test_a_run_listed_twice_or_an_unknown_status_is_refused():
    rows = frame(table(EFFECTS, 3))
    with pytest.raises(ValueError, match="more than once"):
        reports.analyse(pandas.concat([rows, rows[:1]]), metric="psnr", goal="max", baseline="base")
    with pytest.raises(ValueError, match="'exploded' is unknown"):
        reports.analyse(rows.assign(status="exploded"), metric="psnr", goal="max", baseline="base")


@pytest.mark.parametrize("scale", ["raw", "log"])
def test_a_printed_interval_never_reaches_zero_where_the_interval_does_not(scale):
    from reports.wording import Numbers

    numbers = Numbers(decimals=2, scale=scale, unit="")
    for low, high in ((0.00004, 0.5), (-0.5, -0.00004), (0.3, 0.5)):
        ends = [float(end.strip(" %")) for end in numbers.interval(low, high).strip("[]").split(",")]
        assert ends[0] * ends[1] > 0
    assert numbers.interval(-0.3, 0.0001).startswith("[-")
