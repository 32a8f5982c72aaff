"""The monitor on made-up series: what healthy runs show is never flagged, each pathology after three windows."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.diagnosis import GRACE, LEAST_READINGS, LEAST_UPDATES, PATIENCE, WINDOW, Monitor, fluctuation
from trainers.pathologies import PATHOLOGIES

READINGS = 50
FIRST = round(GRACE * READINGS) + PATIENCE * WINDOW  # the earliest reading at which anything can be flagged

# What a healthy run shows once it is under way (synthetic scenes, 64 px).
STEADY = {
    "accuracy_real": 0.8, "accuracy_fake": 0.85, "loss_d_normalised": 0.55, "separation": 2.0, "sign_rate": 0.6,
    "adversarial_share": 1.2, "gradient_g": 45.0, "gradient_d": 10.0, "probe_l1": 0.25, "output_change": 0.05,
    "output_variance": 0.5, "input_use": 0.6, "output_contrast": 0.6, "identity": 1.2, "input_distance": 1.0,
    "input_variation": 0.3, "grey_l1": 0.42, "auc": 0.85,
}  # fmt: skip

SICK = {
    "diverged": {"probe_l1": 0.8},
    "vanishing": {"adversarial_share": 0.004},
    "collapsed": {"output_variance": 0.02, "probe_l1": 0.4},
    "input_ignored": {"input_use": 0.99, "output_contrast": 0.05, "output_variance": 0.11, "probe_l1": 0.4},
    "identity": {"identity": 0.4, "input_distance": 0.3},
    "d_dominant": {"accuracy_real": 0.97, "accuracy_fake": 0.99},
    "exploding": {"gradient_g": 2000.0},
    "overrun": {"adversarial_share": 20.0},
    "d_blind": {"loss_d_normalised": 0.99, "auc": 0.52},
}
OTHERWISE = {  # further ways to the same kind
    "vanishing: G's gradient": ("vanishing", {"gradient_g": 0.3}),
    "vanishing: stands still": ("vanishing", {"output_change": 0.0, "output_variance": 0.03}),
    "d_dominant: its loss": ("d_dominant", {"loss_d_normalised": 0.02}),
    "exploding: D": ("exploding", {"gradient_d": 1500.0}),
    "input_ignored: constant input": (
        "input_ignored",
        {"input_variation": 0.0, "input_use": 1.0, "output_contrast": 0.0, "output_variance": 0.0},
    ),
}
WAYS = {**{kind: (kind, change) for kind, change in SICK.items()}, **OTHERWISE}


def reading(**changes: float) -> dict[str, float]:
    values = {**STEADY, **changes}
    return {f"health/{name}": value for name, value in values.items() if value is not None}


def early() -> dict[str, float]:
    """As a healthy run starts: the output hardly varies and does not depend on the input."""
    return reading(
        gradient_g=140.0, gradient_d=1.5, output_variance=0.05, input_use=0.97, output_contrast=0.11, probe_l1=0.4,
        accuracy_real=0.5, accuracy_fake=0.5, loss_d_normalised=1.0, separation=0.1, identity=0.82, input_distance=1.1,
    )  # fmt: skip


def series(*changes: dict[str, float]) -> list[dict[str, float]]:
    """A whole run: five healthy readings at the start, then the readings given, the last of them to the end."""
    later = [reading(**change) for change in changes]
    later += later[-1:] * (READINGS - FIRST + PATIENCE * WINDOW - len(later))
    return [early()] * (FIRST - PATIENCE * WINDOW) + later


def follow(readings, monitor: Monitor | None = None, *, start: int = 0, total: int = READINGS) -> list[list[str]]:
    """Kinds flagged at each reading."""
    monitor = monitor or Monitor()
    return [
        [found.kind for found in monitor.read(values, progress=(start + i + 1) / total)]
        for i, values in enumerate(readings)
    ]


def first_flag(flags: list[list[str]], kind: str) -> int | None:
    return next((i + 1 for i, kinds in enumerate(flags) if kind in kinds), None)


@pytest.mark.parametrize("way", WAYS)
def test_each_pathology_is_flagged_once_after_three_windows_and_not_before(way):
    kind, change = WAYS[way]
    flags = follow(series(change))
    assert first_flag(flags, kind) == FIRST
    assert sum(kinds.count(kind) for kinds in flags) == 1


@pytest.mark.parametrize("way", WAYS)
def test_two_windows_are_not_enough(way):
    kind, change = WAYS[way]
    flags = follow(series(*[change] * (2 * WINDOW), {}))
    assert kind not in sum(flags, [])


@pytest.mark.parametrize("way", WAYS)
def test_a_healthy_window_in_between_begins_the_count_again(way):
    kind, change = WAYS[way]
    if kind == "diverged":
        pytest.skip("a moving average remembers: one good window is not enough to be below 1.5 times the best")
    better = {"probe_l1": change["probe_l1"]} if "probe_l1" in change else {}  # not a run that learns in between
    flags = follow(series(*[change] * (2 * WINDOW), *[better] * WINDOW, *[change] * (3 * WINDOW), {}))
    assert first_flag(flags, kind) == FIRST + 3 * WINDOW


@pytest.mark.parametrize("kind", SICK)
def test_alone_it_is_the_diagnosis_with_its_evidence(kind):
    monitor = Monitor()
    follow(series(SICK[kind]), monitor)
    found = monitor.diagnosis()
    assert found.kind == kind and kind in found.messages
    changed = [f"health/{name}" for name in SICK[kind] if f"health/{name}" in found.evidence]
    assert changed and all(found.evidence[key] == pytest.approx(SICK[kind][key[7:]]) for key in changed)
    assert f"{PATIENCE} windows in a row" in found.message and next(iter(found.messages.values())) == found.message


@pytest.mark.parametrize("updates, judged", [(LEAST_UPDATES - 1, False), (LEAST_UPDATES, True), (None, True)])
def test_a_run_of_few_updates_is_judged_only_by_what_is_not_finite(updates, judged):
    monitor = Monitor(updates=updates)
    assert any(follow(series(SICK["collapsed"]), monitor)) is judged
    assert monitor.diagnosis().kind == ("collapsed" if judged else "unjudged")
    broken = monitor.read({"loss_g": math.nan}, progress=1.0)
    assert [found.kind for found in broken] == ["diverged"]


def test_the_first_tenth_of_the_budget_is_never_judged():
    sick = reading(**{name: value for change in SICK.values() for name, value in change.items()})
    assert not sum(follow([sick] * (FIRST - PATIENCE * WINDOW) + [reading()] * (READINGS - 5)), [])


def test_oscillation_is_fluctuation_about_the_trend():
    swinging = [{"probe_l1": 0.4 if i % 2 else 0.15} for i in range(READINGS - 5)]
    assert first_flag(follow(series(*swinging)), "oscillating") == FIRST
    falling = [{"probe_l1": 0.4 * 0.93**i} for i in range(READINGS - 5)]
    assert "oscillating" not in sum(follow(series(*falling)), [])


def healthy(until: int, seed: int) -> list[dict[str, float]]:
    """Early values fade into steady ones until that reading, all with up to 15 % of noise."""
    start, end, noise = early(), reading(), random.Random(seed)
    shares = [min(1.0, i / until) for i in range(READINGS)]
    levels = [{key: start[key] * (end[key] / start[key]) ** share for key in end} for share in shares]
    return [{key: value * noise.uniform(0.85, 1.15) for key, value in level.items()} for level in levels]


@settings(max_examples=100, deadline=None)
@given(st.integers(5, 15), st.integers(0, 2**32))
def test_a_healthy_run_is_never_flagged(until, seed):
    readings, monitor = healthy(until, seed), Monitor()
    assert not sum(follow(readings, monitor), [])
    assert monitor.diagnosis().kind == "healthy"


anything = st.fixed_dictionaries(
    {}, optional={f"health/{name}": st.floats(0, 1e3, allow_subnormal=False) for name in STEADY}
)


@settings(max_examples=40, deadline=None)
@given(st.lists(anything, min_size=1, max_size=LEAST_READINGS - 1))
def test_a_run_too_short_for_windows_is_not_judged(readings):
    monitor = Monitor()
    assert not sum(follow(readings, monitor, total=len(readings)), [])
    assert monitor.diagnosis().kind == "unjudged"


@settings(max_examples=60, deadline=None)
@given(st.lists(anything, min_size=2, max_size=2), st.integers(0, READINGS), st.data())
def test_resumed_at_any_reading_the_future_is_the_same(kinds, at, data):
    readings = [kinds[i] for i in data.draw(st.lists(st.integers(0, 1), min_size=READINGS, max_size=READINGS))]
    whole, first, resumed = Monitor(), Monitor(), Monitor()
    flags = follow(readings, whole)
    follow(readings[:at], first)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert follow(readings[at:], resumed, start=at) == flags[at:]
    assert resumed.state_dict() == whole.state_dict() and resumed.diagnosis() == whole.diagnosis()


@pytest.mark.parametrize("way", WAYS)
def test_resumed_in_the_middle_of_a_window_a_pathology_is_flagged_at_the_same_reading(way):
    kind, change = WAYS[way]
    readings, monitor, resumed = series(change), Monitor(), Monitor()
    follow(readings[:13], monitor)
    resumed.load_state_dict(json.loads(json.dumps(monitor.state_dict())))
    assert first_flag(follow(readings[13:], resumed, start=13), kind) == FIRST - 13


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_needs_no_patience(value):
    monitor = Monitor()
    (found,) = monitor.read({**early(), "loss_g": value}, progress=0.02)
    assert found.kind == monitor.diagnosis().kind == "diverged" and "loss_g" in found.message
    assert monitor.read({**early(), "loss_g": value}, progress=0.04) == []


def test_windows_without_a_discriminator_update_neither_flag_nor_absolve():
    absent = dict.fromkeys(("accuracy_real", "accuracy_fake", "loss_d_normalised", "separation", "sign_rate", "auc"))
    change = SICK["d_dominant"]
    flags = follow(series(*[change] * WINDOW, *[absent] * WINDOW, *[change] * (2 * WINDOW), {}))
    assert first_flag(flags, "d_dominant") == FIRST + WINDOW
    sometimes = [change if i % 3 == 0 else absent for i in range(READINGS - 5)]
    assert first_flag(follow(series(*sometimes)), "d_dominant") == FIRST


def test_without_a_decision_point_separation_decides():
    none = dict.fromkeys(("accuracy_real", "accuracy_fake", "loss_d_normalised", "sign_rate"))
    assert first_flag(follow(series({**none, "separation": 6.0})), "d_dominant") == FIRST
    assert "d_dominant" not in sum(follow(series({**none, "separation": 3.0})), [])
    assert "d_dominant" not in sum(follow(series({"separation": 6.0})), [])


def collapses(variances: list[float], *, first: float = 0.01, errors: float = 1.0) -> bool:
    """Whether a collapse is flagged; L1 is multiplied by `errors` at each reading."""
    start = {**early(), "health/output_variance": first}
    later = [reading(output_variance=value, probe_l1=0.4 * errors**i) for i, value in enumerate(variances)]
    return "collapsed" in sum(follow([start] * (READINGS - len(later)) + later), [])


def test_a_generator_that_gains_variety_however_slowly_has_not_collapsed():
    later = range(READINGS - 5)
    assert not collapses([0.003 * 1.09**i for i in later])
    assert not collapses([0.05 * (1 - 0.8 * 0.95**i) for i in later])  # levels off far below the truth's
    assert collapses([0.01 * 1.01**i for i in later])


def test_a_generator_whose_error_falls_learns_and_has_not_collapsed():
    """By less than 1 % over three windows is what the colour of one image for all gains, still."""
    assert not collapses([0.005] * 45, errors=0.999)
    assert collapses([0.005] * 45, errors=0.9998)
    assert collapses([0.0005] * 45, errors=0.99), "one image for all, however its colour gets better"


def test_a_generator_that_learns_does_not_ignore_its_input_yet():
    for error, ignored in ((0.999, False), (1.0, True)):
        change = [{**SICK["input_ignored"], "probe_l1": 0.4 * error**i} for i in range(READINGS - 5)]
        assert ("input_ignored" in sum(follow(series(*change)), [])) is ignored


def test_a_generator_that_loses_the_variety_it_had_has_collapsed():
    rise_and_fall = [0.5] * 20 + [0.04] * 25
    assert collapses(rise_and_fall, first=0.01) and collapses(rise_and_fall, first=0.1)
    assert collapses(rise_and_fall, errors=0.99), "though the error falls"
    assert not collapses([0.09] * 20 + [0.04] * 25, errors=0.999), "it had none yet"
    assert not collapses([0.5] * 20 + [0.2] * 25)


def test_an_untrained_generator_that_stands_still_has_no_signal_and_one_image_for_all_is_a_collapse():
    still, dominated = {"output_change": 0.0, "output_variance": 0.012}, SICK["d_dominant"]
    for change, kind in ((still, "vanishing"), ({**still, "output_variance": 0.0}, "collapsed")):
        monitor = Monitor()
        follow(series({**change, **dominated, "input_use": 1.0, "output_contrast": 0.05}), monitor)
        assert monitor.diagnosis().kind == kind
        assert set(monitor.diagnosis().messages) == {kind, "input_ignored", "d_dominant"}


def test_one_image_for_inputs_that_are_all_alike_is_not_called_a_collapse():
    monitor = Monitor()
    follow(series(OTHERWISE["input_ignored: constant input"][1]), monitor)
    assert list(monitor.diagnosis().messages) == ["input_ignored"]


def test_a_blurred_or_uniform_output_near_the_input_is_no_copy():
    assert "identity" not in sum(follow(series({"identity": 0.8, "input_distance": 1.05})), [])


def test_a_run_that_is_worse_than_grey_from_its_first_reading_on_has_diverged():
    bad = reading(probe_l1=0.9)
    flags = follow([bad] * READINGS)
    assert first_flag(flags, "diverged") == FIRST
    assert "diverged" not in sum(follow([reading(probe_l1=0.9, grey_l1=0.7)] * READINGS), [])


@pytest.mark.parametrize(("worse", "better"), [(a, b) for a in SICK for b in SICK if a < b])
def test_of_two_pathologies_the_one_that_stands_first_is_the_diagnosis(worse, better):
    both = SICK[worse] | SICK[better]
    if any(SICK[worse].get(name, both[name]) != SICK[better].get(name, both[name]) for name in both):
        pytest.skip("they exclude each other")
    monitor = Monitor()
    follow(series(both), monitor)
    order = list(dict.fromkeys(p.kind for p in reversed(PATHOLOGIES)))[::-1]
    found = monitor.diagnosis()
    assert {worse, better} <= set(found.messages) and found.kind == min(found.messages, key=order.index)


def test_titles_tell_kinds_apart_and_messages_begin_with_them():
    titles = {p.title: p.kind for p in PATHOLOGIES}
    assert len(titles) == len({p.kind for p in PATHOLOGIES}) and not any(":" in title for title in titles)
    for way, (kind, change) in WAYS.items():
        monitor = Monitor()
        follow(series(change), monitor)
        assert titles[monitor.diagnosis().message.split(":")[0]] == kind, way


@settings(deadline=None)  # the first example imports scipy
@given(st.lists(st.floats(0.01, 2), min_size=5, max_size=5), st.floats(-0.5, 0.5))
def test_a_trend_adds_no_fluctuation(values, slope):
    from scipy.stats import theilslopes

    tilted = [value + 5 + slope * place for place, value in enumerate(values)]
    fitted = theilslopes(tilted).slope
    rest = [value - fitted * place for place, value in enumerate(tilted)]
    mean = sum(tilted) / 5
    spread = math.sqrt(sum((value - sum(rest) / 5) ** 2 for value in rest) / 4)
    assert fluctuation(tilted) == pytest.approx(spread / mean, abs=1e-9)
    assert fluctuation([1 + slope / 5 * place for place in range(5)]) == pytest.approx(0, abs=1e-9)


def test_a_stage_with_other_weights_is_judged_by_itself():
    """Gradient norms many times those of the first stage are no explosion; what was found before stands."""
    values = [early()] * 5 + [reading()] * 15 + [reading(gradient_g=2000.0)] * 30
    assert staged(values, start=None)[0] == ["exploding"]
    assert staged(values, start=0.4)[0] == []


def staged(values: list[dict[str, float]], *, start: float | None) -> tuple[list[str], Monitor]:
    """Kinds flagged in a run whose second stage begins at that share of the budget."""
    monitor, kinds = Monitor(), []
    for count, value in enumerate(values, start=1):
        if start is not None and count / len(values) > start:
            monitor.enter(start)
        kinds += [found.kind for found in monitor.read(value, progress=count / len(values))]
    return kinds, monitor


STARTS = (0.5, 0.6, 0.7, 0.8, 0.9)
JUDGED_FROM = 1 - PATIENCE * WINDOW / READINGS  # the last start of a stage that has three windows of its own


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_late_stage_is_judged_as_far_as_three_windows_fit_and_is_never_called_healthy_where_they_do_not(way, start):
    """By what it suffers from alone: it follows a healthy stage."""
    kind, change = WAYS[way]
    before = round(start * READINGS)
    now = {"probe_l1": 0.4} if kind in ("collapsed", "input_ignored") else {}
    values = [early()] * 5 + [reading(**now)] * (before - 5)
    first = [reading(**now)] * 2 if "stage" in way or kind == "exploding" or "gradient" in way else []
    kinds, monitor = staged([*values, *first, *[reading(**change)] * (READINGS - before - len(first))], start=start)
    if start > JUDGED_FROM:
        assert not kinds and monitor.diagnosis().kind == "unjudged"
        assert f"began at {start:.0%} of the budget" in monitor.diagnosis().messages["unjudged"]
    elif start < JUDGED_FROM or not first:
        assert kind in kinds and monitor.diagnosis().kind == kind


@pytest.mark.parametrize("start", STARTS)
def test_a_late_stage_that_is_well_is_healthy_where_it_could_be_judged(start):
    kinds, monitor = staged([early()] * 5 + [reading()] * 45, start=start)
    assert not kinds and monitor.diagnosis().kind == ("unjudged" if start > JUDGED_FROM else "healthy")


def test_the_best_error_of_all_stages_counts():
    """A stage that begins worse than one before it ended has not begun anew."""
    values = [early()] * 5 + [reading()] * 20 + [reading(probe_l1=0.39)] * 25
    assert "diverged" in staged(values, start=0.5)[0]
    (late,) = staged(values[:45] + [reading(probe_l1=0.6)] * 5, start=0.9)[1].diagnosis().messages.values()
    assert "L1 on the probe, smoothed, is" in late


@pytest.mark.parametrize("way", WAYS)
def test_what_holds_at_a_change_of_stages_needs_no_new_start(way):
    """But for what is said of weights: that is read anew."""
    kind, change = WAYS[way]
    sick = [{**reading(**change), "health/grey_l1": 0.42}] * (READINGS - 5)
    kinds, monitor = staged([early()] * 5 + sick, start=0.3)
    of_weights = all(p.of_weights for p in PATHOLOGIES if p.kind == kind and (p.reads[0] != "output_change"))
    assert kind in kinds or (of_weights and "gradient" in str(change)), kinds


def test_what_was_flagged_and_is_no_longer_seen_has_passed_and_is_not_the_diagnosis():
    blind, monitor = SICK["d_blind"], Monitor()
    flags = follow(series(*[blind] * (4 * WINDOW), {}), monitor)
    found = monitor.diagnosis()
    (said,) = found.messages.values()
    assert sum(flags, []) == ["d_blind"] and found.kind == "healthy"
    assert said.startswith("D is blind: ") and said.endswith("; passed by 70%")
    assert "holds" in found.message


def test_one_better_window_is_not_the_end_of_it():
    sick, better = [SICK["d_dominant"]] * WINDOW, [{}] * WINDOW
    for last, kind in (([*better], "d_dominant"), ([*better, *sick], "d_dominant"), ([*better, *better], "healthy")):
        monitor = Monitor()
        length = READINGS - 5 - len(last)
        follow(series(*(sick * 9)[:length], *last), monitor)
        assert monitor.diagnosis().kind == kind


def test_what_comes_back_is_flagged_again():
    sick, monitor = [SICK["d_dominant"]] * (3 * WINDOW), Monitor()
    flags = follow(series(*sick, *[{}] * (3 * WINDOW), *sick), monitor)
    assert sum(flags, []) == ["d_dominant"] * 2 and monitor.diagnosis().kind == "d_dominant"
    assert "to 100% of the budget" in monitor.diagnosis().message


def test_what_holds_stands_before_what_has_passed():
    monitor = Monitor()
    follow(series(*[SICK["identity"]] * (3 * WINDOW), *[SICK["overrun"]] * (6 * WINDOW)), monitor)
    assert list(monitor.diagnosis().messages) == ["overrun", "identity"]


def test_divergence_does_not_pass():
    monitor = Monitor()
    follow(series(*[SICK["diverged"]] * (4 * WINDOW), {}), monitor)
    assert monitor.diagnosis().kind == "diverged" and "passed" not in monitor.diagnosis().messages["diverged"]


def test_feature_matching_is_no_overrun_of_the_adversarial_part():
    assert "overrun" not in sum(follow(series({"adversarial_share": 20.0, "adversarial_alone": 2.0})), [])
    assert "overrun" in sum(follow(series({"adversarial_share": 20.0, "adversarial_alone": 15.0})), [])


def test_a_discriminator_that_ranks_real_above_generated_is_not_blind_whatever_its_loss():
    """lsgan's loss stands above a blind one's while D still learns to scale its outputs."""
    assert "d_blind" not in sum(follow(series({"loss_d_normalised": 1.1, "auc": 0.65})), [])


def test_the_greatest_variety_it_had_is_remembered_over_a_resumption():
    whole, cut = Monitor(), Monitor()
    values = [early()] * 5 + [reading()] * 10 + [reading(output_variance=0.06)] * 35
    found: dict[int, list[str]] = {0: [], 1: []}
    for count, value in enumerate(values, start=1):
        if count == 20:
            state = json.loads(json.dumps(cut.state_dict()))
            cut = Monitor()
            cut.load_state_dict(state)
        for place, monitor in enumerate((whole, cut)):
            found[place] += [finding.kind for finding in monitor.read(value, progress=count / READINGS)]
    assert found[0] == found[1] and "collapsed" in found[0]
    assert cut.past == whole.past and max(means["health/output_variance"] for means in whole.past) == 0.5
