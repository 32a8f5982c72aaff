"""Laws of the designs, over all of them."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydoe import ff2n, fullfact  # loads in a second, which no example may take

from ablate.conditions import Conditions
from ablate.design import BASE, DESIGNS, MAX_ARMS, WITH_FULL, Design, TooManyArms, arms, blocks
from ablate.patches import PatchError

ALL = tuple(name for name in DESIGNS if name not in ("list", "search"))  # arms that follow from the levels alone
words = st.text("abcdef", min_size=1, max_size=3)


@st.composite
def factor_sets(draw, *, most_levels=3, least=1):
    """1 to 4 factors of 1 to 3 levels, each level patching a path of its factor."""
    names = draw(st.lists(words, min_size=least, max_size=4, unique=True))
    return {name: {f"l{i}": {f"{name}.x": i} for i in range(draw(st.integers(1, most_levels)))} for name in names}


@st.composite
def designs(draw, names=ALL):
    """A design of each kind with factors that it can take; a full recipe of any level of each."""
    name = draw(st.sampled_from(names))
    factors = draw(factor_sets(most_levels=1 if name == "fractional" else 3))
    full = {factor: draw(st.sampled_from(sorted(levels))) for factor, levels in factors.items()}
    return factors, Design(name, full=full if name in WITH_FULL else {}, resolution=draw(st.sampled_from([3, 4, 5])))


def levels_of(factors, design):
    """Combinations of the arms as sets of (factor, level)."""
    return [frozenset(arm.changes.items()) for arm in arms(factors, design)[0]]


@given(designs())
def test_the_base_comes_first_and_every_arm_once(case):
    found, left_out = arms(*case)
    assert (found[0].name, dict(found[0].changes), dict(found[0].patch)) == (BASE, {}, {}) and left_out == ()
    assert len({arm.name for arm in found}) == len(found) >= 2
    assert len({tuple(sorted(arm.changes.items())) for arm in found}) == len(found)


@given(factor_sets())
def test_one_at_a_time_arms_differ_from_the_base_in_exactly_one_factor(factors):
    found = levels_of(factors, Design("one_at_a_time"))[1:]
    assert all(len(levels) == 1 for levels in found)
    assert len(found) == sum(map(len, factors.values()))


@given(designs(["leave_one_out"]))
def test_leave_one_out_arms_lack_exactly_one_factor_of_the_full_recipe(case):
    factors, design = case
    base, full, *without = levels_of(factors, design)
    assert (base, full) == (frozenset(), frozenset(design.full.items()))
    wanted = {full - {pair} for pair in full} - {base}
    assert set(without) == wanted and len(without) == len(wanted)


@given(designs(["both"]))
def test_both_is_closed_under_complement_relative_to_the_full_recipe(case):
    factors, design = case
    found, full = set(levels_of(factors, design)), frozenset(design.full.items())
    assert {full - levels for levels in found} == found
    assert {levels for levels in found if len(levels) == 1} == {frozenset({pair}) for pair in full}
    number = len(factors)
    assert len(found) == (2 * number + 2 if number > 2 else 2**number)


@given(factor_sets(least=2), st.data())
def test_both_and_leave_one_out_of_two_factors_are_the_factorial_of_their_levels(factors, data):
    two = dict(list(factors.items())[:2])
    full = {factor: data.draw(st.sampled_from(sorted(levels))) for factor, levels in two.items()}
    single = {factor: {level: two[factor][level]} for factor, level in full.items()}
    whole = set(levels_of(single, Design("factorial")))
    assert set(levels_of(two, Design("both", full=full))) == whole
    assert set(levels_of(two, Design("leave_one_out", full=full))) == whole


@given(factor_sets())
def test_factorial_arms_are_all_combinations_and_balanced(factors):
    found = arms(factors, Design("factorial"))[0]
    assert len(found) == prod(len(levels) + 1 for levels in factors.values())
    for factor, levels in factors.items():
        per_level = [sum(arm.changes.get(factor, BASE) == level for arm in found) for level in (BASE, *levels)]
        assert len(set(per_level)) == 1
    for one, two in product(factors, factors):
        if one < two:
            pairs = {(arm.changes.get(one, BASE), arm.changes.get(two, BASE)) for arm in found}
            assert len(pairs) == (len(factors[one]) + 1) * (len(factors[two]) + 1)


@given(factor_sets())
def test_factorials_are_those_of_pydoe(factors):
    numbered = {factor: {BASE: 0, **{level: at for at, level in enumerate(levels, 1)}}
                for factor, levels in factors.items()}  # fmt: skip
    found = {tuple(numbered[factor][arm.changes.get(factor, BASE)] for factor in factors)
             for arm in arms(factors, Design("factorial"))[0]}  # fmt: skip
    assert found == {tuple(map(int, run)) for run in fullfact([len(levels) + 1 for levels in factors.values()])}
    single = {factor: {"l0": levels["l0"]} for factor, levels in factors.items()}
    signs = {tuple(1 if factor in levels else -1 for factor in factors)
             for levels in (dict(one) for one in levels_of(single, Design("factorial")))}  # fmt: skip
    assert signs == {tuple(map(int, run)) for run in ff2n(len(factors))}


@given(designs())
def test_the_patch_of_an_arm_is_what_its_levels_change(case):
    factors, design = case
    for arm in arms(factors, design)[0]:
        wanted = {}
        for factor, level in arm.changes.items():
            wanted |= factors[factor][level]
        assert arm.patch == wanted


@given(designs(), st.data())
def test_never_takes_away_exactly_what_it_covers_and_names_it(case, data):
    factors, design = case
    factor = data.draw(st.sampled_from(sorted(design.levels(factors))))
    level = data.draw(st.sampled_from(sorted(design.levels(factors)[factor])))
    kept, left_out = arms(factors, design, Conditions(never=[{factor: (level,)}]))
    everything = arms(factors, design)[0]
    assert [arm for arm in everything if arm.changes.get(factor) != level] == list(kept)
    assert [arm.name for arm in everything if arm not in kept] == [one.name for one in left_out] != []
    assert all(one.why == f"never: {factor}: {level}" for one in left_out)


@given(factor_sets(least=2), st.data())
def test_a_factor_that_exists_beside_some_levels_is_run_beside_no_other(factors, data):
    one, other = data.draw(st.permutations(sorted(factors)))[:2]
    allowed = tuple(data.draw(st.lists(st.sampled_from([BASE, *factors[other]]), min_size=1, unique=True)))
    kept, left_out = arms(factors, Design("factorial"), Conditions(when={one: {other: allowed}}))
    assert all(arm.changes.get(other, BASE) in allowed for arm in kept if one in arm.changes)
    assert all(one in cell.combination and cell.combination.get(other, BASE) not in allowed for cell in left_out)
    assert len(kept) + len(left_out) == prod(len(levels) + 1 for levels in factors.values())
    assert all(cell.why == f"when: {one} only exists where {other} is {' or '.join(allowed)}" for cell in left_out)


@given(designs(), st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True))
def test_every_seed_is_a_whole_replicate_of_the_design(case, seeds):
    names = [arm.name for arm in arms(*case)[0]]
    cells = list(blocks(names, seeds))
    for i, seed in enumerate(seeds):
        assert cells[i * len(names) : (i + 1) * len(names)] == [(name, seed) for name in names]


def test_an_arm_is_called_by_its_levels_joined_by_plus():
    factors = {"norm": {"batch": {"d.norm": "batch"}}, "lr": {"half": {"o.lr": 0.5}}}
    names = [arm.name for arm in arms(factors, Design("factorial"))[0]]
    assert names == ["base", "lr=half", "norm=batch", "norm=batch+lr=half"]


def test_arms_of_a_full_recipe_are_called_by_what_they_lack():
    factors = {name: {"x": {name: 1}} for name in "abc"}
    full = dict.fromkeys("abc", "x")
    names = [arm.name for arm in arms(factors, Design("both", full=full))[0]]
    assert names == ["base", "a=x", "b=x", "c=x", "full", "full_without_a", "full_without_b", "full_without_c"]


def test_with_a_full_recipe_its_levels_alone_are_run():
    factors = {"a": {"x": {"a": 1}, "y": {"a": 2}}, "b": {"z": {"b": 1}}, "c": {"w": {"c": 1}}}
    found = arms(factors, Design("both", full={"a": "y", "b": "z"}))[0]
    assert [arm.name for arm in found] == ["base", "a=y", "b=z", "full"]


def test_a_list_gives_its_arms_their_own_names():
    factors = {"norm": {"batch": {"d.norm": "batch"}}, "lr": {"half": {"o.lr": 0.5}}}
    found = arms(factors, Design("list", arms={"both": {"lr": "half", "norm": "batch"}}))[0]
    assert [(arm.name, dict(arm.changes)) for arm in found[1:]] == [("both", {"norm": "batch", "lr": "half"})]


def test_two_levels_that_set_one_place_differently_cannot_be_combined():
    factors = {"loss": {"ssim": {"terms": {"ssim": 1}}}, "lambda": {"ten": {"terms.l1": 10}}}
    with pytest.raises(PatchError, match="can't be combined"):
        arms(factors, Design("factorial"))


def test_only_restricts_a_design_to_some_factors():
    factors = {"a": {"x": {"a": 1}}, "b": {"y": {"b": 1}}}
    assert [arm.name for arm in arms(factors, Design("factorial", factors=("a",)))[0]] == ["base", "a=x"]


def test_a_design_that_nobody_can_run_is_refused_at_once():
    factors = {f"f{i}": {"x": {f"f{i}": 1}} for i in range(60)}
    with pytest.raises(TooManyArms, match=str(MAX_ARMS)):
        arms(factors, Design("factorial"))


@given(
    st.lists(words, min_size=1, max_size=5, unique=True),
    st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
)
def test_cells_come_in_whole_blocks_one_per_seed(names, seeds):
    cells = list(blocks(names, seeds))
    for i, seed in enumerate(seeds):
        assert cells[i * len(names) : (i + 1) * len(names)] == [(name, seed) for name in names]
