"""Effects of factors by brute force, by hand and against statsmodels."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np
import pandas
import pytest

from reports.analysis import analyse_scores
from reports.anova import type_two
from reports.factors import factor_contrasts, sides
from reports.findings import FactorPlan, Scores
from reports.fit import fit
from reports.posterior import posterior
from reports.power import detectable, detectable_contrasts, detectable_effects

NAMES = ("a", "b", "c", "d")


def named(some) -> str:
    return "+".join(f"{name}=on" for name in some) or "base"


def two_level(design: str, sets, names) -> FactorPlan:
    arms = {named(some): dict.fromkeys(some, "on") for some in sets}
    full = dict.fromkeys(names, "on") if design in ("both", "leave_one_out") else None
    return FactorPlan(design, {name: ("base", "on") for name in names}, arms, full)


def subsets(names):
    return [some for size in range(len(names) + 1) for some in combinations(names, size)]


def both(names) -> FactorPlan:
    without = [tuple(other for other in names if other != name) for name in names]
    return two_level("both", [(), *((name,) for name in names), tuple(names), *without], names)


def factorial(names) -> FactorPlan:
    return two_level("factorial", subsets(names), names)


def effects(plan: FactorPlan, worth, *, lost=()) -> dict[tuple[str, str], float]:
    """(kind, label) -> effect, where `worth` maps an arm's levels to its mean."""
    arms = tuple(plan.combinations)
    means = np.array([worth(frozenset(plan.combinations[arm].items())) for arm in arms])
    found, _ = factor_contrasts(plan, arms, [arm not in lost for arm in arms])
    assert all(abs(effect.weights.sum()) < 1e-12 for effect in found)
    return {(effect.kind, effect.label): float(effect.weights @ means) for effect in found}


def game(names, *, order: int, seed: int = 0):
    """A random worth of combinations with interactions up to an order."""
    random = np.random.default_rng(seed)
    parts = {frozenset(some): random.normal() for some in subsets(names) if len(some) <= order}

    def worth(items) -> float:
        on = {factor for factor, _ in items}
        return sum(value for part, value in parts.items() if part <= on)

    return worth


def shapley_by_orders(names, worth) -> dict[str, float]:
    """Mean marginal worth over all orders of arrival."""
    shares = dict.fromkeys(names, 0.0)
    orders = list(permutations(names))
    for order in orders:
        for place, name in enumerate(order):
            before = frozenset((other, "on") for other in order[:place])
            shares[name] += (worth(before | {(name, "on")}) - worth(before)) / len(orders)
    return shares


@pytest.mark.parametrize("size", [2, 3, 4])
def test_shapley_shares_are_the_means_over_all_orders_and_add_up(size):
    names = NAMES[:size]
    worth = game(names, order=size, seed=size)
    found = effects(factorial(names), worth)
    expected = shapley_by_orders(names, worth)
    shares = {name: found["shapley", f"{name}=on"] for name in names}
    assert shares == pytest.approx(expected)
    full = frozenset((name, "on") for name in names)
    assert sum(shares.values()) == pytest.approx(worth(full) - worth(frozenset()))


@pytest.mark.parametrize("seed", range(3))
def test_the_main_effect_of_both_is_the_shapley_share_when_interactions_stop_at_order_2(seed):
    worth = game(NAMES, order=2, seed=seed)
    found = effects(both(NAMES), worth)
    for name, share in shapley_by_orders(NAMES, worth).items():
        assert found["main", f"{name}=on"] == pytest.approx(share)


def test_the_main_effect_of_both_is_the_mean_of_alone_and_in_the_full_recipe():
    worth = game(NAMES, order=4)
    full = frozenset((name, "on") for name in NAMES)
    found = effects(both(NAMES), worth)
    for name in NAMES:
        alone = worth({(name, "on")}) - worth(())
        inner = worth(full) - worth(full - {(name, "on")})
        assert found["main", f"{name}=on"] == pytest.approx((alone + inner) / 2)
        assert found["interaction", f"{name}=on : the rest"] == pytest.approx(inner - alone)


def test_without_interactions_every_design_finds_the_same_main_effects():
    worth = game(NAMES, order=1)
    leave_one_out = two_level("leave_one_out", [(), NAMES, *(tuple(o for o in NAMES if o != n) for n in NAMES)], NAMES)
    one_at_a_time = two_level("one_at_a_time", [(), *((name,) for name in NAMES)], NAMES)
    half = two_level("fractional", [some for some in subsets(NAMES) if len(some) % 2 == 0], NAMES)
    expected = effects(factorial(NAMES), worth)
    for plan, kind in ((both(NAMES), "main"), (leave_one_out, "in_full"), (one_at_a_time, "alone"), (half, "main")):
        found = effects(plan, worth)
        for name in NAMES:
            assert found[kind, f"{name}=on"] == pytest.approx(expected["main", f"{name}=on"]), plan.design


def mixed() -> FactorPlan:
    levels = {"loss": ("base", "ssim", "lpips"), "norm": ("base", "spectral")}
    arms = {}
    for loss, norm in product(*levels.values()):
        chosen = {f: level for f, level in (("loss", loss), ("norm", norm)) if level != "base"}
        arms["+".join(f"{f}={level}" for f, level in chosen.items()) or "base"] = chosen
    return FactorPlan("factorial", levels, arms)


MIXED = {
    frozenset(): 10.0, frozenset({("loss", "ssim")}): 12.0, frozenset({("loss", "lpips")}): 13.0,
    frozenset({("norm", "spectral")}): 11.0, frozenset({("loss", "ssim"), ("norm", "spectral")}): 16.0,
    frozenset({("loss", "lpips"), ("norm", "spectral")}): 14.5,
}  # fmt: skip


def test_mixed_levels_are_each_compared_with_the_bases_level():
    found = effects(mixed(), MIXED.get)
    assert found["main", "loss=ssim"] == pytest.approx(((12 - 10) + (16 - 11)) / 2)
    assert found["main", "norm=spectral"] == pytest.approx(((11 - 10) + (16 - 12) + (14.5 - 13)) / 3)
    assert found["interaction", "loss=ssim : norm=spectral"] == pytest.approx((16 - 11) - (12 - 10))
    assert not [label for kind, label in found if kind == "shapley"]  # two levels could be the full recipe's


def test_a_refused_combination_leaves_what_can_be_estimated_and_is_named():
    plan = mixed()
    lost = "loss=ssim+norm=spectral"
    found = effects(plan, MIXED.get, lost=[lost])
    assert found["main", "loss=ssim"] == pytest.approx(2.0)
    assert found["main", "norm=spectral"] == pytest.approx((1.0 + 1.5) / 2)
    assert ("interaction", "loss=ssim : norm=spectral") not in found
    notes = factor_contrasts(plan, tuple(plan.combinations), [arm != lost for arm in plan.combinations])[1]
    assert any("loss=ssim : norm=spectral: not estimable" in note for note in notes)
    assert any("norm=spectral: averaged over 2 of 3" in note for note in notes)


def test_a_fraction_names_what_its_effects_cannot_be_told_from():
    names = ("a", "b", "c")
    plan = two_level("fractional", [(), ("a", "c"), ("b", "c"), ("a", "b")], names)  # c = a:b up to sign
    found, _ = factor_contrasts(plan, tuple(plan.combinations), [True] * 4)
    assert {effect.label: effect.aliased for effect in found} == {
        "a=on": ("b=on : c=on",), "b=on": ("a=on : c=on",), "c=on": ("a=on : b=on",),
    }  # fmt: skip


def test_a_fraction_of_resolution_5_tells_every_interaction_of_two():
    names = ("a", "b", "c", "d", "e")
    plan = two_level("fractional", [some for some in subsets(names) if len(some) % 2 == 0], names)
    worth = game(names, order=2, seed=4)
    found = effects(plan, worth)
    full = effects(factorial(names), worth)
    assert len(found) == 5 + 10
    for key, value in found.items():
        assert value == pytest.approx(full[key]), key


def test_a_lost_arm_of_a_fraction_costs_interactions_and_that_is_said():
    names = ("a", "b", "c", "d", "e")
    plan = two_level("fractional", [some for some in subsets(names) if len(some) % 2 == 0], names)
    arms = tuple(plan.combinations)
    found, notes = factor_contrasts(plan, arms, [arm != arms[3] for arm in arms])
    assert {effect.kind for effect in found} == {"main"}
    assert any("Too few arms" in note for note in notes)


@pytest.mark.parametrize("lost", ["base", "a=on+b=on+c=on+d=on"])
def test_both_without_one_of_its_pillars_estimates_nothing_and_says_so(lost):
    plan = both(NAMES)
    found, notes = factor_contrasts(plan, tuple(plan.combinations), [arm != lost for arm in plan.combinations])
    assert not found and len(notes) == 8


def frame_of(plan: FactorPlan, values: np.ndarray) -> pandas.DataFrame:
    rows = []
    for (arm, combination), row in zip(plan.combinations.items(), values, strict=True):
        for seed, value in enumerate(row):
            levels = {factor: combination.get(factor, names[0]) for factor, names in plan.levels.items()}
            rows.append({"arm": arm, "seed": seed, "y": value, **levels})
    return pandas.DataFrame(rows)


@pytest.mark.parametrize("holes", [0, 4])
def test_the_type_2_analysis_of_variance_is_statsmodels(holes):
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    plan = mixed()
    random = np.random.default_rng(2)
    values = random.normal(size=(6, 5)) + np.arange(6)[:, None] / 2
    values.ravel()[random.choice(30, holes, replace=False)] = np.nan
    oracle = anova_lm(smf.ols("y ~ C(loss) * C(norm) + C(seed)", frame_of(plan, values).dropna()).fit(), typ=2)
    found = {test.term: test for test in type_two(values, tuple(plan.combinations), plan)}
    for term, row in (("loss", "C(loss)"), ("norm", "C(norm)"), ("loss : norm", "C(loss):C(norm)")):
        assert found[term].f == pytest.approx(oracle.loc[row, "F"], rel=1e-6)
        assert found[term].p == pytest.approx(oracle.loc[row, "PR(>F)"], rel=1e-6)
        assert found[term].df == oracle.loc[row, "df"]
        assert found[term].df_error == oracle.loc["Residual", "df"]


def scores(plan: FactorPlan, values: np.ndarray, **options) -> Scores:
    k, n = values.shape
    return Scores("psnr", "max", tuple(plan.combinations), tuple(range(n)), values, np.zeros(k, int),
                  np.full(k, n), plan=plan, **options)  # fmt: skip


def test_effects_of_factors_are_one_family_of_the_same_fit():
    from reports.contrasts import simultaneous

    plan = factorial(("a", "b"))
    values = np.random.default_rng(0).normal(size=(4, 5)) + np.array([0.0, 3.0, 0.0, 6.0])[:, None]
    found = analyse_scores(scores(plan, values, family="factor_effects"))
    named_, _ = factor_contrasts(plan, tuple(plan.combinations), [True] * 4)
    family = simultaneous(fit(values), np.array([effect.weights for effect in named_]))
    for effect, contrast in zip(found.factor_effects, family.contrasts, strict=True):
        assert (effect.difference, effect.low, effect.p_adjusted) == (
            contrast.difference, contrast.low, contrast.p_adjusted,
        )  # fmt: skip
    verdicts = {(effect.kind, effect.label): effect.verdict for effect in found.factor_effects}
    assert verdicts["main", "a=on"] == "better"
    assert {test.term for test in found.anova} == {"a", "b", "a : b"}


def test_an_interaction_is_above_or_below_the_sum_and_never_better():
    plan = factorial(("a", "b"))
    values = np.random.default_rng(0).normal(size=(4, 6)) + np.array([0.0, 0.0, 0.0, 9.0])[:, None]
    for goal in ("max", "min"):
        found = analyse_scores(Scores("psnr", goal, tuple(plan.combinations), tuple(range(6)), values,
                                      np.zeros(4, int), np.full(4, 6), plan=plan))  # fmt: skip
        verdicts = {effect.verdict for effect in found.factor_effects if effect.kind == "interaction"}
        assert verdicts == {"together above their sum"}


def test_a_factor_that_fails_more_is_not_called_better():
    plan = factorial(("a", "b"))
    values = np.random.default_rng(0).normal(size=(4, 5)) + np.array([0.0, 9.0, 0.0, 9.0])[:, None]
    values[1, 0] = np.nan
    found = analyse_scores(Scores("psnr", "max", tuple(plan.combinations), tuple(range(5)), values,
                                  np.array([0, 1, 0, 0]), np.full(4, 5), plan=plan))  # fmt: skip
    verdicts = {(effect.kind, effect.label): effect.verdict for effect in found.factor_effects}
    assert verdicts["main", "a=on"] == "better when it trains, fails more often"


def test_a_declared_family_without_an_effect_to_estimate_is_said():
    plan = FactorPlan("list", {"a": ("base", "on")}, {"base": {}, "a=on": {"a": "on"}})
    values = np.random.default_rng(0).normal(size=(2, 5))
    found = analyse_scores(scores(plan, values, family="factor_effects"))
    assert found.factor_effects == () and "No effect of a factor can be estimated from these arms." in found.notes


def test_under_both_arms_shrink_towards_their_own_side():
    plan = both(NAMES)
    arms = tuple(plan.combinations)
    side = sides(plan, arms)
    assert side.tolist() == [0] * 5 + [1] * 5
    values = np.random.default_rng(3).normal(size=(10, 4)) + 6.0 * side[:, None]
    apart, together = posterior(fit(values), goal="max", sides=side), posterior(fit(values), goal="max")
    effects_ = fit(values).effects
    own = np.array([effects_[side == number].mean() for number in (0, 1)])[side]

    def spread(found):
        return np.abs(found.shrunken - found.shrunken.mean() - (own - own.mean())).mean()

    assert spread(apart) < 0.7 * spread(together)
    assert apart.p_best[:5].sum() < 0.01
    assert apart.p_best.sum() == pytest.approx(1)


def test_one_side_alone_is_the_posterior_without_sides():
    fitted = fit(np.random.default_rng(3).normal(size=(6, 4)))
    one, other = posterior(fitted, goal="max"), posterior(fitted, goal="max", sides=np.full(6, 7))
    np.testing.assert_array_equal(one.shrunken, other.shrunken)
    np.testing.assert_array_equal(one.p_best, other.p_best)


def test_the_detectable_contrast_of_one_baseline_is_the_detectable_difference():
    weights = np.column_stack([-np.ones(7), np.eye(7)])
    found = detectable_contrasts(weights, 4)
    assert found.mean() == pytest.approx(detectable(8, 4), rel=0.03)


def test_a_main_effect_of_a_factorial_is_detected_far_below_a_single_difference():
    sizes = detectable_effects(factorial(NAMES), 4)
    assert sizes["main a=on"] < 0.5 * detectable(16, 4)
    assert sizes["interaction a=on : b=on"] == pytest.approx(2 * sizes["main a=on"], rel=0.1)
    assert detectable_effects(factorial(NAMES), 2)["main a=on"] == float("inf")


def test_a_setting_that_is_inert_beside_others_keeps_its_effects_by_the_arm_that_it_is():
    """`full` without `d` is the same recipe as `full`: what `d` does there is 0 by construction."""
    from dataclasses import replace

    plan = both(NAMES)
    without = named(("a", "b", "c"))
    plan = replace(plan, same_as={without: named(NAMES)})
    arms = tuple(arm for arm in plan.combinations if arm != without)
    found, notes = factor_contrasts(plan, arms, [True] * len(arms))
    weights = {(effect.kind, effect.label): effect.weights for effect in found}
    alone = np.zeros(len(arms))
    alone[[arms.index(named(("d",))), arms.index("base")]] = 0.5, -0.5
    np.testing.assert_allclose(weights["main", "d=on"], alone)
    np.testing.assert_allclose(weights["interaction", "d=on : the rest"], -2 * alone)
    assert len(found) == 8 and not notes
    out = two_level("leave_one_out", [(), NAMES, ("a", "b", "c")], NAMES)
    found, notes = factor_contrasts(replace(out, same_as={without: named(NAMES)}), ("base", named(NAMES)), [True] * 2)
    assert any("d=on: 0 by construction (in full)" in note for note in notes)
    assert detectable_effects(plan, 4)["main d=on"] > 0


def test_a_lost_run_of_the_base_does_not_silence_the_factors():
    plan = factorial(NAMES)
    values = np.random.default_rng(0).normal(0, 0.3, size=(16, 3))
    values += np.array([["a" in combination] for combination in plan.combinations.values()]) * 3.0
    values[0, 1] = np.nan
    found = analyse_scores(scores(plan, values))
    assert {effect.verdict for effect in found.effects} == {"screening, estimate only"}
    assert found.factor_effects[0].label == "a=on" and found.factor_effects[0].verdict == "better"
    assert sum(effect.verdict == "unresolved" for effect in found.factor_effects) >= 9
