"""Fractions of two-level factorials: what is said of them is computed again here, by brute force."""

from __future__ import annotations

from itertools import combinations
from math import prod

import numpy as np
import pytest

from ablate.fraction import fraction, name

FACTORS = tuple("abcdefghi")
# Runs of the smallest regular design, by number of factors: Montgomery, Design and Analysis of Experiments, table 8.14
SMALLEST = {
    3: {3: 4, 4: 8, 5: 8, 6: 8, 7: 8, 8: 16, 9: 16},
    4: {4: 8, 5: 16, 6: 16, 7: 16, 8: 16, 9: 32},
    5: {5: 16, 6: 32, 7: 64, 8: 64, 9: 128},
}
CASES = [(number, resolution) for resolution in SMALLEST for number in SMALLEST[resolution]]


def signs(found) -> np.ndarray:
    """(runs, factors) of -1 (the base) and +1."""
    return 2 * np.array(found.runs) - 1


@pytest.mark.parametrize(("number", "resolution"), CASES)
def test_a_fraction_is_orthogonal_holds_the_base_and_is_the_smallest(number, resolution):
    found = fraction(FACTORS[:number], resolution)
    runs = signs(found)
    assert len(runs) == SMALLEST[resolution][number]
    assert (runs[0] == -1).all() and len(np.unique(runs, axis=0)) == len(runs)
    assert (runs.T @ runs == len(runs) * np.eye(number)).all() and (runs.sum(axis=0) == 0).all()


@pytest.mark.parametrize(("number", "resolution"), CASES)
def test_words_and_resolution_are_those_of_all_products_that_are_constant(number, resolution):
    found = fraction(FACTORS[:number], resolution)
    runs = signs(found)
    constant = {word for size in range(1, number + 1) for word in combinations(range(number), size)
                if abs(np.prod(runs[:, word], axis=1).sum()) == len(runs)}  # fmt: skip
    assert {tuple(FACTORS[at] for at in word) for word in constant} == set(found.words)
    assert found.resolution == min(map(len, constant)) >= resolution


@pytest.mark.parametrize(("number", "resolution"), CASES)
def test_the_alias_table_is_that_of_columns_that_are_equal_but_for_their_sign(number, resolution):
    found = fraction(FACTORS[:number], resolution)
    runs = signs(found)
    column = {name(tuple(FACTORS[at] for at in effect)): np.prod(runs[:, effect], axis=1)
              for size in (1, 2) for effect in combinations(range(number), size)}  # fmt: skip
    together = {frozenset(pair) for pair in combinations(column, 2)
                if abs(column[pair[0]] @ column[pair[1]]) == len(runs)}  # fmt: skip
    told = {frozenset(pair) for group in found.aliases for pair in combinations(group, 2)}
    assert told == together
    if resolution == 5:
        assert found.aliases == ()


@pytest.mark.parametrize(("number", "resolution"), CASES)
def test_generators_give_the_runs_back(number, resolution):
    found = fraction(FACTORS[:number], resolution)
    runs = dict(zip(FACTORS, signs(found).T, strict=False))
    for said in found.generators:
        factor, made_of = said.split(" = ")
        sign = -1 if made_of.startswith("-") else 1
        assert (runs[factor] == sign * prod(runs[one] for one in made_of.removeprefix("-").split(":"))).all()
    assert len(runs["a"]) * 2 ** len(found.generators) == 2**number


@pytest.mark.parametrize(("number", "resolution"), [(1, 3), (2, 3), (2, 5), (3, 4), (3, 5), (4, 5)])
def test_where_no_fraction_is_fine_enough_it_is_the_full_factorial(number, resolution):
    found = fraction(FACTORS[:number], resolution)
    assert len(found.runs) == 2**number and found.resolution is None and not found.words and not found.generators
    assert found.aliases == ()


def test_a_fraction_of_sixteen_factors_is_found_quickly():
    found = fraction(tuple("abcdefghijklmnop"), 3)
    assert len(found.runs) == 32 and found.resolution >= 3
