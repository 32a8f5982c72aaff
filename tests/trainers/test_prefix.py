"""How far two recipes train alike: what is computed from their stages is what a walk through both finds."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers import tiny
from trainers.prefix import branch_point, shared_updates
from trainers.recipe import Budget, Evaluate, Optimizer, Plateau, Recipe, Stage, Timing
from trainers.stage_rules import stage_refusals
from trainers.stages import Course

SHARES = [0.1, 0.25, 0.3, 0.5, 0.52, 0.55, 0.8]
RATES = [Optimizer(lr=1e-3), Optimizer(lr=1e-3, warm_up=0.3, constant=0.4), Optimizer(lr=5e-4, decay="cosine")]
WEIGHTS = [{"l1": 10.0}, {"l1": 5.0, "ssim": 2.0}, {"ssim": 3.0}]


def base(steps: int, every: int) -> Recipe:
    return tiny.recipe(steps=steps, every=every, optimizer=RATES[0])


@st.composite
def courses(draw, of: Recipe) -> Recipe:
    """A recipe of one stage or more that can be trained; few choices, so that many have parts in common."""
    count = draw(st.integers(1, 3))
    ends = sorted(draw(st.lists(st.sampled_from(SHARES), min_size=count - 1, max_size=count - 1, unique=True)))
    stages: list[Stage] = []
    for until in (*ends, None):
        later = bool(stages)
        timing = Timing(
            until=until, ramp=draw(st.sampled_from([0.0, 0.1])) if later else 0.0,
            moments=draw(st.sampled_from(["keep", "keep", "reset"])) if later else "keep",
            schedule=draw(st.sampled_from(["keep", "keep", "reset"])) if later else "keep",
        )  # fmt: skip
        if until is not None and draw(st.integers(0, 7)) == 0:
            timing = replace(timing, until=Plateau(plateau=2, at_most=until))
        kind = draw(st.integers(0, 2)) if later or draw(st.booleans()) else 0
        stages.append(tiny.stage(of, timing, terms=WEIGHTS[kind], optimizer=RATES[draw(st.sampled_from([0, 0, 1, 2]))]))
    first = stages[0]
    objective = replace(of.objective, adv_weight=first.adv_weight)
    own = replace(of, terms=first.terms, optimizer=first.optimizer, objective=objective)  # as inert.py settles it
    return replace(own, stages=tuple(stages) if len(stages) > 1 or first.timing.until else ())


@st.composite
def sets_of_recipes(draw, count: int) -> tuple[Recipe, ...]:
    of = base(draw(st.sampled_from([7, 20, 60, 130])), draw(st.sampled_from([3, 7])))
    found = [draw(courses(of)) for _ in range(count)]
    return tuple(recipe if not recipe.stages or not list(stage_refusals(recipe)) else of for recipe in found)


def walk(recipe: Recipe, readings: list[float]) -> list[str]:
    """All that the course of a run tells its updates, one by one."""
    course, told = Course(recipe), []
    marks = set(recipe.reading_steps)
    for done in range(recipe.steps):
        entered = []
        while stage := course.enter(done):
            entered.append(stage.timing.moments)
        forgets = "reset" in entered
        weights, stage = course.weights(done), course.stage
        options = {name: repr(replace(term, weight=0.0)) for name, term in stage.terms.items()}
        told.append(repr((forgets, dict(weights.terms), weights.adversarial, course.rates(done),
                          stage.optimizer.betas, options, course.index if recipe.stages else 0,
                          course.began)))  # fmt: skip
        if done + 1 in marks:
            course.read(readings[(done + 1) % len(readings)])
    return told


def first_difference(one: Recipe, two: Recipe, readings: list[float]) -> int:
    walks = [walk(recipe, readings) for recipe in (one, two)]
    pairs = enumerate(zip(*walks, strict=True))
    return next((done for done, (mine, theirs) in pairs if mine != theirs), one.steps)


def has_plateau(recipe: Recipe) -> bool:
    return any(isinstance(stage.timing.until, Plateau) for stage in recipe.course)


@settings(max_examples=400, deadline=None)
@given(sets_of_recipes(2), st.lists(st.sampled_from([1.0, 0.9, 0.5]), min_size=1, max_size=5))
def test_what_is_shared_is_never_more_than_a_walk_through_both_finds(pair, readings):
    one, two = pair
    found, first = shared_updates(one, two), first_difference(one, two, readings)
    assert found <= first
    assert found == shared_updates(two, one)
    if one == two and not has_plateau(one):
        assert found == one.steps


@settings(max_examples=400, deadline=None)
@given(sets_of_recipes(2))
def test_without_plateaus_nothing_is_given_away_but_what_shows_later(pair):
    """Where sharing ends before the walks differ, stages begin that differ: in a warm-up, or in a span of rates."""
    one, two = pair
    if has_plateau(one) or has_plateau(two) or replace(one, stages=()) != replace(two, stages=()):
        return
    found, first = shared_updates(one, two), first_difference(one, two, [1.0])
    if found < first:
        (mine, began), (theirs, also) = (begun_by(recipe, found) for recipe in pair)
        assert mine != theirs and began == also == found


def begun_by(recipe: Recipe, update: int) -> tuple[Stage, int]:
    """The stage of an update, and when it began."""
    course = Course(recipe)
    for done in range(update + 1):
        while course.enter(done):
            pass
    return course.stage, course.began


@settings(max_examples=300, deadline=None)
@given(sets_of_recipes(3))
def test_of_three_recipes_the_two_that_share_least_share_it_with_the_third(trio):
    """What makes a tree of them: a trial goes on from the earliest that has all of what it shares with any."""
    a, b, c = trio
    for point in (shared_updates, branch_point):
        least, middle, _ = sorted((point(a, b), point(b, c), point(a, c)))
        assert least == middle


@settings(max_examples=200, deadline=None)
@given(sets_of_recipes(2))
def test_a_branch_is_where_a_window_closes_before_the_end(pair):
    one, two = pair
    point = branch_point(one, two)
    assert point in {0, *one.reading_steps, *one.eval_steps} and point < one.steps
    assert point <= shared_updates(one, two)
    read_back = [Recipe.from_document(json.loads(json.dumps(recipe.to_document()))) for recipe in pair]
    assert branch_point(*read_back) == point


def staged(*stages: tuple, steps: int = 100) -> Recipe:
    of = base(steps, steps)
    return replace(of, stages=tuple(tiny.stage(of, timing, terms=weights) for timing, weights in stages))


L1, LESS, SSIM = WEIGHTS


def test_one_stage_shares_with_two_what_the_first_of_them_lasts():
    assert shared_updates(base(100, 100), staged((Timing(until=0.6), L1), (Timing(), LESS))) == 60
    assert shared_updates(base(100, 100), staged((Timing(until=0.6), SSIM), (Timing(), LESS))) == 0


def test_two_that_leave_a_stage_at_other_times_share_the_shorter():
    one, two = (staged((Timing(until=share), L1), (Timing(), LESS)) for share in (0.3, 0.5))
    assert shared_updates(one, two) == 30


def test_ways_into_the_second_stage_share_the_first():
    ways = [Timing(), Timing(ramp=0.2), Timing(moments="reset"), Timing(schedule="reset")]
    recipes = [staged((Timing(until=0.6), L1), (way, LESS)) for way in ways]
    assert {shared_updates(a, b) for a in recipes for b in recipes if a != b} == {60}


def test_a_third_stage_is_shared_up_to_where_it_begins():
    one, two = (staged((Timing(until=0.2), L1), (Timing(until=0.6), LESS), (Timing(), last)) for last in (SSIM, L1))
    assert shared_updates(one, two) == 60


def test_a_stage_whose_rates_begin_again_is_not_shared_where_it_ends_otherwise():
    reset = Timing(schedule="reset")
    one, two = (staged((Timing(until=0.2), L1), (replace(reset, until=share), LESS), (Timing(), SSIM))
                for share in (0.5, 0.8))  # fmt: skip
    assert shared_updates(one, two) == 20


def test_a_plateau_shares_nothing_of_its_stage():
    plateau = Timing(until=Plateau(plateau=3, at_most=0.6))
    one, two = (staged((plateau, L1), (Timing(), last)) for last in (LESS, SSIM))
    assert shared_updates(one, two) == shared_updates(base(100, 100), one) == 0


def test_recipes_that_differ_in_anything_else_share_nothing():
    one = staged((Timing(until=0.6), L1), (Timing(), LESS))
    others = [
        replace(base(100, 100), batch=2), replace(base(100, 100), optimizer=Optimizer(lr=2e-3)),
        replace(base(100, 100), budget=Budget(generator_updates=101)),
        replace(base(100, 100), evaluate=Evaluate(every=50)),
        tiny.recipe(steps=100, every=100, dropout=0.5, tile=64), tiny.recipe(steps=100, every=100, objective="lsgan"),
    ]  # fmt: skip
    assert [shared_updates(one, other) for other in others] == [0] * len(others)
    assert shared_updates(one, base(100, 100)) == 60
