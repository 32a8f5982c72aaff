"""Compact letter displays by their law: two arms share a letter exactly if they are not separated."""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.fit import fit
from reports.letters import letters
from reports.pairs import all_pairs


def holds(display, arms, separated) -> bool:
    apart = {frozenset(pair) for pair in separated}
    together = {pair: bool(set(display[pair[0]]) & set(display[pair[1]])) for pair in combinations(arms, 2)}
    return all(shared != (frozenset(pair) in apart) for pair, shared in together.items())


def largest_groups(arms, separated) -> set[frozenset[str]]:
    """Brute force: every set of arms without a separated pair that no arm can join."""
    apart = {frozenset(pair) for pair in separated}
    free = [
        frozenset(some)
        for size in range(1, len(arms) + 1)
        for some in combinations(arms, size)
        if not any(frozenset(pair) in apart for pair in combinations(some, 2))
    ]
    return {group for group in free if not any(group < other for other in free)}


@st.composite
def separations(draw):
    arms = [f"arm{index}" for index in range(draw(st.integers(1, 7)))]
    pairs = list(combinations(arms, 2))
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return arms, chosen


@settings(max_examples=150, deadline=None)
@given(separations())
def test_two_arms_share_a_letter_exactly_if_they_are_not_separated(case):
    arms, separated = case
    assert holds(letters(arms, separated), arms, separated)


@settings(max_examples=60, deadline=None)
@given(separations())
def test_the_letters_are_the_largest_groups_without_a_separated_pair(case):
    arms, separated = case
    display = letters(arms, separated)
    groups = {
        frozenset(arm for arm in arms if letter in display[arm]) for letter in set().union(*map(set, display.values()))
    }
    assert groups == largest_groups(arms, separated)


def test_the_best_arm_has_the_letter_a_and_letters_follow_the_order():
    display = letters(["x", "y", "z"], [("x", "z")])
    assert display == {"x": "a", "y": "ab", "z": "b"}


def test_arms_that_nothing_separates_share_one_letter():
    assert letters(["x", "y", "z"], []) == {"x": "a", "y": "a", "z": "a"}
    assert letters([], []) == {}


@pytest.mark.parametrize("unequal", [False, True])
def test_forty_five_arms_are_quick_and_hold_the_law(unequal):
    random = np.random.default_rng(1)
    sds = random.uniform(0.3, 3, 45)[:, None] if unequal else 1.0
    values = random.normal(size=(45, 4)) * sds + np.linspace(0, 12, 45)[:, None]
    pairs = all_pairs(fit(values), range(45))
    separated = [(str(one), str(other)) for one, other in pairs.separated()]
    assert 100 < len(separated) < 990
    arms = [str(arm) for arm in range(44, -1, -1)]
    began = time.process_time()
    display = letters(arms, separated)
    assert time.process_time() - began < 2
    assert holds(display, arms, separated)


def test_a_display_that_needs_more_letters_than_there_are_is_none():
    arms = [f"arm{index}" for index in range(40)]
    assert letters(arms, [(arms[2 * i], arms[2 * i + 1]) for i in range(20)]) == {}
