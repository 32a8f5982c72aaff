"""Laws of the designs, over all of them."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.design import BASE, DESIGNS, arms, blocks, forbidden
from ablate.patches import PatchError

words = st.text("abcdef", min_size=1, max_size=3)


@st.composite
def factor_sets(draw):
    """1 to 4 factors of 1 to 3 levels, each level patching a path of its factor."""
    names = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    return {name: {f"l{i}": {f"{name}.x": i} for i in range(draw(st.integers(1, 3)))} for name in names}


@given(factor_sets(), st.sampled_from(sorted(DESIGNS)))
def test_the_base_comes_first_and_every_arm_once(factors, design):
    found = arms(factors, design)
    assert (found[0].name, dict(found[0].changes), dict(found[0].patch)) == (BASE, {}, {})
    assert len({arm.name for arm in found}) == len(found)
    assert len({tuple(sorted(arm.changes.items())) for arm in found}) == len(found)


@given(factor_sets())
def test_one_at_a_time_arms_differ_from_the_base_in_exactly_one_factor(factors):
    found = arms(factors, "one_at_a_time")[1:]
    assert all(len(arm.changes) == 1 for arm in found)
    assert len(found) == sum(map(len, factors.values()))


@given(factor_sets())
def test_factorial_arms_are_all_combinations_and_balanced(factors):
    found = arms(factors, "factorial")
    assert len(found) == prod(len(levels) + 1 for levels in factors.values())
    for factor, levels in factors.items():
        per_level = [sum(arm.changes.get(factor, BASE) == level for arm in found) for level in (BASE, *levels)]
        assert len(set(per_level)) == 1
    for one, two in product(factors, factors):
        if one < two:
            pairs = {(arm.changes.get(one, BASE), arm.changes.get(two, BASE)) for arm in found}
            assert len(pairs) == (len(factors[one]) + 1) * (len(factors[two]) + 1)


@given(factor_sets(), st.sampled_from(sorted(DESIGNS)))
def test_the_patch_of_an_arm_is_what_its_levels_change(factors, design):
    for arm in arms(factors, design):
        wanted = {}
        for factor, level in arm.changes.items():
            wanted |= factors[factor][level]
        assert arm.patch == wanted


@given(factor_sets(), st.sampled_from(sorted(DESIGNS)), st.data())
def test_never_takes_away_exactly_what_it_covers(factors, design, data):
    factor = data.draw(st.sampled_from(sorted(factors)))
    rule = {factor: (data.draw(st.sampled_from([*factors[factor]])),)}
    kept, all_arms = arms(factors, design, never=[rule]), arms(factors, design)
    assert [arm for arm in all_arms if not forbidden(arm.changes, [rule])] == list(kept)
    assert len(kept) < len(all_arms)


def test_an_arm_is_called_by_its_levels_joined_by_plus():
    factors = {"norm": {"batch": {"d.norm": "batch"}}, "lr": {"half": {"o.lr": 0.5}}}
    assert [arm.name for arm in arms(factors, "factorial")] == ["base", "lr=half", "norm=batch", "norm=batch+lr=half"]


def test_a_list_gives_its_arms_their_own_names():
    factors = {"norm": {"batch": {"d.norm": "batch"}}, "lr": {"half": {"o.lr": 0.5}}}
    found = arms(factors, "list", listed={"both": {"lr": "half", "norm": "batch"}})
    assert [(arm.name, dict(arm.changes)) for arm in found[1:]] == [("both", {"norm": "batch", "lr": "half"})]


def test_two_levels_that_set_one_place_differently_cannot_be_combined():
    factors = {"loss": {"ssim": {"terms": {"ssim": 1}}}, "lambda": {"ten": {"terms.l1": 10}}}
    with pytest.raises(PatchError, match="can't be combined"):
        arms(factors, "factorial")


def test_only_restricts_a_design_to_some_factors():
    factors = {"a": {"x": {"a": 1}}, "b": {"y": {"b": 1}}}
    assert [arm.name for arm in arms(factors, "factorial", only=["a"])] == ["base", "a=x"]


@given(
    st.lists(words, min_size=1, max_size=5, unique=True),
    st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
)
def test_cells_come_in_whole_blocks_one_per_seed(names, seeds):
    cells = list(blocks(names, seeds))
    for i, seed in enumerate(seeds):
        assert cells[i * len(names) : (i + 1) * len(names)] == [(name, seed) for name in names]
