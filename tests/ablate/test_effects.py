"""Effects that a plan promises: weights on arms, checked on outcomes whose effects are known."""

from __future__ import annotations

import math
from itertools import combinations, permutations
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.conditions import ALWAYS, Conditions
from ablate.design import Design, arms
from ablate.effects import effects

DESIGNS = ("both", "factorial", "fractional")
numbers = st.integers(-9, 9).map(float)


def planned(factors, design, conditions=ALWAYS):
    """As much of a plan as effects are read from."""
    found = [SimpleNamespace(name=arm.name, arm=arm, twin_of="") for arm in arms(factors, design, conditions)[0]]
    twin = SimpleNamespace(name="aa", arm=found[0].arm, twin_of="base")
    return SimpleNamespace(study=SimpleNamespace(design=design, factors=factors), arms=(*found, twin))


@st.composite
def games(draw, names=DESIGNS):
    """A design of single levels, and an outcome of any combination: effects of factors and of pairs."""
    factors = {name: {"x": {name: 1}} for name in "abcdef"[: draw(st.integers(2, 6))]}
    name = draw(st.sampled_from(names))
    full = dict.fromkeys(factors, "x") if name == "both" else {}
    design = Design(name, full=full, resolution=draw(st.sampled_from([3, 4, 5])))
    single = {factor: draw(numbers) for factor in factors}
    pairs = {pair: draw(numbers) for pair in combinations(factors, 2)}

    def outcome(chosen) -> float:
        return 3.0 + sum(single[f] for f in chosen) + sum(v for pair, v in pairs.items() if set(pair) <= set(chosen))

    return planned(factors, design), outcome, single, pairs


def value(effect, plan, outcome) -> float:
    means = {arm.name: outcome(arm.arm.changes) for arm in plan.arms if not arm.twin_of}
    return sum(weight * means[arm] for arm, weight in effect.weights.items())


@given(games())
def test_weights_sum_to_zero_and_name_arms_of_the_plan_but_never_the_twin(game):
    plan, *_ = game
    names = {arm.name for arm in plan.arms} - {"aa"}
    for effect in effects(plan):
        assert sum(effect.weights.values()) == pytest.approx(0) and set(effect.weights) <= names
        assert any(effect.weights.values())


@given(games())
def test_every_factor_has_a_main_effect_and_it_comes_before_interactions(game):
    plan, *_ = game
    kinds = [effect.kind for effect in effects(plan)]
    assert kinds == sorted(kinds, reverse=True) and kinds.count("main") == len(plan.study.factors)


@settings(deadline=None)
@given(games(["both", "factorial"]))
def test_a_main_effect_is_the_shapley_share_where_interactions_stop_at_pairs(game):
    plan, outcome, *_ = game
    for effect in effects(plan)[: len(plan.study.factors)]:
        factor = effect.label.partition("=")[0]
        orders = list(permutations(plan.study.factors))
        shares = [outcome([*order[: order.index(factor)], factor]) - outcome(order[: order.index(factor)])
                  for order in orders]  # fmt: skip
        assert value(effect, plan, outcome) == pytest.approx(math.fsum(shares) / len(orders), abs=1e-9)


@given(games(["factorial"]))
def test_interactions_of_a_factorial_are_those_of_the_pairs(game):
    plan, outcome, _, pairs = game
    found = {effect.label: value(effect, plan, outcome) for effect in effects(plan) if effect.kind == "interaction"}
    assert found == pytest.approx({f"{a}=x : {b}=x": truth for (a, b), truth in pairs.items()}, abs=1e-9)


@given(games(["both"]))
def test_the_interaction_of_both_is_with_all_other_factors_at_once(game):
    plan, outcome, _, pairs = game
    if len(plan.study.factors) > 2:
        found = [value(effect, plan, outcome) for effect in effects(plan) if effect.kind == "interaction"]
        wanted = [sum(v for pair, v in pairs.items() if factor in pair) for factor in plan.study.factors]
        assert found == pytest.approx(wanted, abs=1e-9)


@given(games(["fractional"]))
def test_a_fraction_finds_what_its_alias_table_leaves_apart(game):
    plan, outcome, single, pairs = game
    if plan.study.design.resolution == 5:
        found = {effect.label: value(effect, plan, outcome) for effect in effects(plan)}
        wanted = {f"{a}=x": v + sum(w for pair, w in pairs.items() if a in pair) / 2 for a, v in single.items()}
        wanted |= {f"{a}=x : {b}=x": v for (a, b), v in pairs.items()}
        assert found == pytest.approx(wanted, abs=1e-9)


@given(games(["fractional"]))
def test_a_fraction_of_any_resolution_finds_effects_that_add_up(game):
    plan, _, single, _ = game
    for effect in effects(plan):
        if effect.kind == "main":
            factor = effect.label.partition("=")[0]
            found = value(effect, plan, lambda chosen: sum(single[one] for one in chosen))
            assert found == pytest.approx(single[factor], abs=1e-9)


def test_a_mixed_factorial_averages_each_level_over_the_others_and_skips_what_is_left_out():
    factors = {"a": {"x": {"a": 1}, "y": {"a": 2}}, "b": {"z": {"b": 1}}}
    plan = planned(factors, Design("factorial"), Conditions(never=[{"a": ["y"], "b": ["z"]}]))
    found = {effect.label: dict(effect.weights) for effect in effects(plan)}
    assert found["a=x"] == {"base": -0.5, "a=x": 0.5, "b=z": -0.5, "a=x+b=z": 0.5}
    assert found["a=y"] == {"base": -1, "a=y": 1}
    assert "a=x : b=z" in found and "a=y : b=z" not in found


def test_the_relative_error_is_that_of_independent_arms():
    plan = planned({name: {"x": {name: 1}} for name in "abc"}, Design("factorial"))
    main = effects(plan)[0]
    draws = np.random.default_rng(0).normal(size=(20000, len(plan.arms)))
    names = [arm.name for arm in plan.arms]
    error = (draws @ [main.weights.get(name, 0) for name in names]).std()
    assert main.relative_error == pytest.approx(error / (draws[:, 1] - draws[:, 0]).std(), rel=0.03)


@pytest.mark.parametrize("design", ["one_at_a_time", "leave_one_out", "list"])
def test_designs_that_are_not_made_for_it_promise_no_effect_of_factors(design):
    factors = {name: {"x": {name: 1}} for name in "abc"}
    full = dict.fromkeys("abc", "x") if design == "leave_one_out" else {}
    assert effects(planned(factors, Design(design, full=full, arms={"m": {"a": "x"}}))) == ()
