"""Importances beside decoys: what matters stands above them, and what does not can't be told from them."""

from __future__ import annotations

import random

import pytest

from ablate.importances import FEWEST, importances
from ablate.search import Search
from ablate.searchdraw import State, Tried, draw
from tests.ablate.test_searchdraw import NUMBERS

SPACE = {name: NUMBERS[name] for name in ("weight", "width", "objective")}


def search_of(sampler: str) -> Search:
    return Search(sampler, 24, SPACE, ("gmsd",))


def arms(search: Search, number: int = 24, *, noise: float = 0.1) -> list[Tried]:
    """Arms whose value is their weight, and noise."""
    source, found = random.Random(0), []
    for place in range(number):
        one = draw(search, place, (), goals=["min"])
        found.append(Tried(one.sampled, {}, State.done, (one.sampled["weight"] + source.gauss(0, noise),)))
    return found


@pytest.fixture(scope="module", params=["random", "qmc"])
def facts(request):
    search = search_of(request.param)
    return importances(search, arms(search), goal="min")


def test_the_parameter_that_matters_stands_above_every_decoy(facts):
    assert facts["values"]["weight"] > 0.6 > facts["highest"]
    assert set(facts["decoys"]) == set(facts["values"]) == set(SPACE) and facts["arms"] == 24


def test_values_are_shares_that_parameters_and_decoys_have_between_them(facts):
    assert all(0 <= value <= 1 for value in (*facts["values"].values(), *facts["decoys"].values()))


def test_the_same_arms_in_any_order_give_the_same_numbers():
    search = search_of("random")
    found = arms(search)
    assert importances(search, found, goal="min") == importances(search, found[::-1], goal="min")


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_samplers_that_look_at_outcomes_give_none_and_say_why(sampler):
    assert "not spread evenly" in importances(search_of(sampler), arms(search_of("random")), goal="min")["why"]


def test_too_few_arms_or_equal_values_give_none_and_say_why():
    search = search_of("random")
    assert importances(search, arms(search, FEWEST - 1), goal="min")["why"].startswith(f"{FEWEST - 1} arms have")
    flat = [Tried(one.sampled, {}, State.done, (1.0,)) for one in arms(search)]
    assert importances(search, flat, goal="min")["why"] == "all arms have the same value"


def test_failed_arms_and_parameters_that_are_not_always_there_are_left_out():
    names = ("weight", "objective", "smoothing")
    search = Search("random", 24, {name: NUMBERS[name] for name in names}, ("gmsd",))
    found = [*arms(search), Tried(arms(search)[0].sampled, {}, State.failed)]
    facts = importances(search, found, goal="min")
    assert facts["left_out"] == ["smoothing"] and facts["arms"] == 24
