"""Schedules in numbers: learning rates, and what weighs when in a run of stages."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.trainers import tiny
from trainers.families import TERMS
from trainers.optimisers import adam, forget_moments
from trainers.recipe import Budget, Optimizer, Plateau, Recipe, Timing
from trainers.stages import Course, rate_factor
from trainers.step import built_terms

L1, SSIM = "l1", "ssim"


def rates(total: int, **options) -> list[float]:
    return [rate_factor(done, total, Optimizer(**options)) for done in range(total)]


def test_pix2pix_holds_its_rate_for_half_the_budget_then_falls_linearly_to_zero():
    found = rates(200)
    assert found[:101] == [1.0] * 101  # epochs 1 to 100, and the first of the decay, as the published code counts
    assert found[0] == 1.0 and found[150] == 0.5
    assert found[199] == pytest.approx(0.01)
    assert found[101:] == pytest.approx([(200 - done) / 100 for done in range(101, 200)])


@pytest.mark.parametrize("decay", ["linear", "cosine", "none"])
@pytest.mark.parametrize("constant", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("warm_up", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("total", [1, 2, 3, 7, 100])
def test_a_rate_is_above_zero_and_rises_before_it_falls(total, warm_up, constant, decay):
    if warm_up > constant and decay != "none":
        return  # refused
    found = rates(total, warm_up=warm_up, constant=constant, decay=decay)
    assert all(0 < rate <= 1 for rate in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1]) and found[top:] == sorted(found[top:], reverse=True)
    assert decay != "none" or found[top:] == [1.0] * (total - top)


def test_warm_up_rises_in_equal_steps_that_begin_above_zero():
    assert rates(20, warm_up=0.2, constant=1.0)[:6] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rates(20, warm_up=0.2, decay="none", constant=0.0)[3:] == [1.0] * 17


def test_cosine_is_torchs_annealing():
    wanted = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(wanted, T_max=40)
    theirs = []
    for _ in range(40):
        theirs.append(wanted.param_groups[0]["lr"])
        wanted.step()
        annealing.step()
    assert rates(40, constant=0.0, decay="cosine") == pytest.approx(theirs, abs=1e-12)
    assert rates(80, constant=0.5, decay="cosine")[40:] == pytest.approx(theirs, abs=1e-12)
    assert rates(40, constant=0.0, decay="cosine")[20] == pytest.approx(0.5)


def staged(*stages: tuple, steps: int = 100, terms=(L1,)) -> Recipe:
    """A recipe of stages: (timing, weights of terms, other changes)."""
    base = tiny.recipe(steps=steps, every=steps, terms=terms)
    made = tuple(tiny.stage(base, timing, terms=weights, **more) for timing, weights, *rest in stages
                 for more in (rest[0] if rest else {},))  # fmt: skip
    return replace(base, stages=made)


def walked(course: Course, until: int, readings=lambda done: None) -> list[int]:
    """The stage of every update; `readings` gives the probe's L1 after an update, or None where it is not read."""
    found = []
    for done in range(until):
        while course.enter(done):
            pass
        found.append(course.index)
        if (l1 := readings(done + 1)) is not None:
            course.read(l1)
    return found


def test_a_run_without_stages_is_one_stage_of_the_recipes_own():
    recipe = tiny.recipe(terms=(L1, SSIM))
    course = Course(recipe)
    assert walked(course, 6) == [0] * 6
    assert course.weights(3).terms == {L1: 10.0, SSIM: 10.0} and course.weights(3).adversarial == 1.0


@pytest.mark.parametrize(("share", "steps", "first"), [(0.5, 100, 50), (0.6, 100, 60), (0.5, 7, 4), (1 / 3, 10, 4)])
def test_a_stage_ends_where_its_share_of_the_budget_is_done(share, steps, first):
    course = Course(staged((Timing(until=share), {L1: 100}), (Timing(), {L1: 30, SSIM: 10}), steps=steps))
    assert walked(course, steps) == [0] * first + [1] * (steps - first)
    assert first == math.ceil(share * steps)


def test_a_switch_changes_all_weights_at_once():
    course = Course(staged(
        (Timing(until=0.5), {L1: 100}), (Timing(), {L1: 30, SSIM: 10}, {"adv_weight": 0.5}), steps=10
    ))  # fmt: skip
    tables = []
    for done in range(10):
        course.enter(done)
        weights = course.weights(done)
        tables.append((weights.adversarial, dict(weights.terms)))
    assert tables == [(1.0, {L1: 100})] * 5 + [(0.5, {L1: 30, SSIM: 10})] * 5


def test_a_ramp_moves_all_weights_linearly_over_its_share_of_the_budget():
    course = Course(staged(
        (Timing(until=0.5), {L1: 100}), (Timing(ramp=0.2), {SSIM: 10, L1: 20}, {"adv_weight": 2.0}), steps=20
    ))  # fmt: skip
    tables = {}
    for done in range(20):
        course.enter(done)
        tables[done] = course.weights(done)
    assert [tables[done].terms.get(SSIM, 0) for done in range(8, 20)] == [0, 0, 0, 2.5, 5, 7.5, *[10] * 6]
    assert [tables[done].terms[L1] for done in range(8, 20)] == [100, 100, 100, 80, 60, 40, *[20] * 6]
    assert [tables[done].adversarial for done in range(8, 20)] == [1, 1, 1, 1.25, 1.5, 1.75, *[2] * 6]


def test_a_term_on_its_way_out_is_computed_until_the_ramp_ends_and_not_after_it():
    recipe = staged((Timing(until=0.5), {L1: 8}), (Timing(ramp=0.2), {SSIM: 10}), steps=20)
    course = Course(recipe)
    named = []
    for done in range(20):
        course.enter(done)
        named.append(sorted(course.weights(done).terms))
    assert named == [[L1]] * 10 + [[L1, SSIM]] * 4 + [[SSIM]] * 6


def test_terms_that_differ_in_weight_alone_are_built_once():
    recipe = staged((Timing(until=0.5), {"gradient": 8, L1: 1}), (Timing(), {"gradient": 3, SSIM: 1}))
    one, two = built_terms(recipe.course)
    assert one["gradient"] is two["gradient"] and set(one) == {"gradient", L1}
    laplacian = TERMS.options("gradient")(operator="laplacian")
    other = replace(recipe, stages=(recipe.stages[0], replace(recipe.stages[1], terms={"gradient": laplacian})))
    one, two = built_terms(other.course)
    assert one["gradient"] is not two["gradient"]


FALLING = [1.0, 0.9, 0.8, 0.79, 0.785, 0.784, 0.7, 0.6, 0.5, 0.4]


def plateau(readings: list[float], *, every: int = 2, steps: int = 100, **until) -> int:
    """The first update of the second stage, health being read after every so many."""
    course = Course(staged((Timing(until=Plateau(**until)), {L1: 10}), (Timing(), {SSIM: 10}), steps=steps))
    read = dict(zip(range(every, steps, every), readings, strict=False))
    found = walked(course, steps, read.get)
    return found.index(1)


@pytest.mark.parametrize(
    ("until", "first"),
    [
        ({"plateau": 1, "at_most": 0.9}, 10),  # 0.785 is not 1 % below 0.79: the fifth reading, after ten updates
        ({"plateau": 2, "at_most": 0.9}, 12),
        ({"plateau": 1, "at_most": 0.9, "improvement": 0.1}, 4),  # nor is 0.9 more than 10 % below 1.0
        ({"plateau": 1, "at_most": 0.9, "improvement": 0.001}, 90),
        ({"plateau": 3, "at_most": 0.9}, 90),  # the third after 0.79 is 0.7
        ({"plateau": 2, "at_most": 0.05}, 5),  # a maximum ends it in any case
    ],
)
def test_a_plateau_is_so_many_readings_without_an_improvement_or_the_maximum(until, first):
    assert plateau(FALLING + [0.4 * 0.9**i for i in range(1, 60)], **until) == first


def test_a_course_goes_on_where_it_was_saved():
    recipe = staged(
        (Timing(until=Plateau(plateau=2, at_most=0.9)), {L1: 10}),
        (Timing(until=0.95, ramp=0.02), {SSIM: 3}),
        (Timing(), {L1: 3}),
    )
    for cut in range(0, 100, 7):
        whole, first, second = Course(recipe), Course(recipe), Course(recipe)
        readings = {done: FALLING[min(done // 5, 9)] for done in range(5, 100, 5)}.get
        expected = walked(whole, 100, readings)
        found = walked(first, cut, readings)
        second.load_state_dict(first.state_dict())
        for done in range(cut, 100):
            while second.enter(done):
                pass
            found.append(second.index)
            if readings(done + 1) is not None:
                second.read(readings(done + 1))
        assert found == expected and second.state_dict() == whole.state_dict()


def test_the_schedule_is_kept_or_begins_again_over_the_stages_own_span():
    falling = Optimizer(lr=1e-3, constant=0.0)
    courses = {}
    for schedule in ("keep", "reset"):
        recipe = staged((Timing(until=0.5), {L1: 1}, {"optimizer": falling}),
                        (Timing(schedule=schedule), {L1: 2}, {"optimizer": falling}), steps=10)  # fmt: skip
        course = Course(recipe)
        found = []
        for done in range(10):
            course.enter(done)
            found.append(course.rates(done)[0] / 1e-3)
        courses[schedule] = found
    assert courses["keep"] == pytest.approx([(10 - done) / 10 for done in range(10)])
    assert courses["reset"] == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 1, 0.8, 0.6, 0.4, 0.2])


def test_a_schedule_that_begins_again_after_a_plateau_spans_what_is_left():
    falling = Optimizer(lr=1e-3, constant=0.0)
    recipe = staged((Timing(until=Plateau(plateau=1, at_most=0.9)), {L1: 1}, {"optimizer": falling}),
                    (Timing(schedule="reset"), {L1: 2}, {"optimizer": falling}), steps=20)  # fmt: skip
    course = Course(recipe)
    course.read(1.0), course.read(1.0)
    assert course.enter(4) is recipe.stages[1]
    assert [course.rates(done)[0] / 1e-3 for done in (4, 12, 19)] == pytest.approx([1, 0.5, 1 / 16])


def test_the_discriminators_rate_is_the_ratio_of_the_generators_at_any_time():
    recipe = tiny.recipe(steps=40, optimizer=Optimizer(lr=1e-3, lr_ratio=0.25, warm_up=0.1))
    course = Course(recipe)
    for done in range(40):
        generator, discriminator = course.rates(done)
        assert discriminator == 0.25 * generator == 0.25 * 1e-3 * rate_factor(done, 40, recipe.optimizer)


def test_forgotten_moments_are_those_of_a_new_optimiser():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    used = adam(layer, 1e-2, (0.5, 0.999))
    for _ in range(3):
        layer(torch.ones(1, 3)).sum().backward()
        used.step()
    twin = torch.nn.Linear(3, 2)
    twin.load_state_dict(layer.state_dict())
    fresh = adam(twin, 1e-2, (0.5, 0.999))
    forget_moments(used)
    for network, optimiser in ((layer, used), (twin, fresh)):
        optimiser.zero_grad()
        network(torch.ones(1, 3)).square().sum().backward()
        optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), twin.parameters(), strict=True))


def test_stages_of_equal_weights_train_as_one(tmp_path):
    """Nothing happens at the border but what is asked for there."""
    data = tiny.prepared(tmp_path / "data")
    plain = tiny.recipe(steps=6, terms=(L1, SSIM), budget=Budget(generator_updates=6))
    same = {L1: 10.0, SSIM: 10.0}
    cut = replace(plain, stages=(tiny.stage(plain, Timing(until=0.3), terms=same),
                                 tiny.stage(plain, Timing(until=0.7, ramp=0.2), terms=same),
                                 tiny.stage(plain, Timing(), terms=same)))  # fmt: skip
    found = []
    for of in (plain, cut):
        training = tiny.training(of, data)
        for _ in range(6):
            training.advance()
        found.append(tiny.tensors([training.generator.state_dict(), training.adam_d.state_dict()]))
    assert tiny.equal(*found)


def test_a_plateau_ends_no_stage_whose_weights_are_still_on_their_way():
    last = Timing(until=Plateau(plateau=1, at_most=0.9), ramp=0.3)
    course = Course(staged((Timing(until=0.1), {L1: 10}), (last, {SSIM: 10}), (Timing(), {L1: 5}), steps=100))
    found = walked(course, 100, dict.fromkeys(range(2, 100, 2), 1.0).get)
    assert (found.index(1), found.index(2)) == (10, 40)
