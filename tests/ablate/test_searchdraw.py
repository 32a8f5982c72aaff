"""Laws of a search's draws, over all samplers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.search import SAMPLERS, Search
from ablate.searchdraw import State, Tried, draw
from ablate.searchspace import Parameter

NUMBERS = {
    "lr": Parameter("lr", low=1e-5, high=1e-2, log=True),
    "width": Parameter("width", low=4, high=16, step=4),
    "layers": Parameter("layers", low=1, high=100, log=True),
    "share": Parameter("share", low=0.1, high=0.7, step=0.2),
    "weight": Parameter("weight", low=-1.5, high=2.0),
    "objective": Parameter("objective", values=("vanilla", "hinge", "lsgan")),
    "betas": Parameter("betas", values=([0.0, 0.9], [0.5, 0.999])),
    "smoothing": Parameter("smoothing", low=0.0, high=0.3, when={"objective": ("vanilla",)}),
    "deeper": Parameter("deeper", values=(True, False), when={"smoothing": (), "objective": ("vanilla",)}),
}


def search_of(sampler: str, names=tuple(NUMBERS), *, seed: int = 0, trials: int = 20) -> Search:
    objectives = ("gmsd", "mae") if sampler == "nsga2" else ("gmsd",)
    return Search(sampler, trials, {name: NUMBERS[name] for name in names}, objectives, seed)


def goals(search: Search) -> list[str]:
    return ["min"] * len(search.objectives)


def play(search: Search, outcome=lambda sampled: float(sampled.get("width", 0))) -> list[Tried]:
    """A search in which every arm has ended before the next is drawn."""
    tried: list[Tried] = []
    for number in range(search.trials):
        found = draw(search, number, tried, goals=goals(search))
        values = (outcome(found.sampled),) * len(search.objectives)
        tried.append(Tried(found.sampled, found.marks, State.done, values))
    return tried


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_draw_lies_inside_of_the_space_and_holds_what_is_active(sampler):
    search = search_of(sampler)
    for one in play(search):
        assert all(search.space[name].holds(value) for name, value in one.sampled.items()), one.sampled
        assert ("smoothing" in one.sampled) == (one.sampled["objective"] == "vanilla")
        assert "deeper" not in one.sampled  # its condition on smoothing never holds


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_draw_is_a_function_of_space_seed_number_and_outcomes_alone(sampler):
    search = search_of(sampler)
    tried = play(search)
    for number in (0, 1, 7, 19):
        again = draw(search, number, tried[:number], goals=goals(search))
        assert (again.sampled, again.marks) == (tried[number].sampled, tried[number].marks)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_another_seed_draws_other_arms(sampler):
    one, other = (play(search_of(sampler, seed=seed, trials=5)) for seed in (0, 1))
    assert [arm.sampled for arm in one] != [arm.sampled for arm in other]


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_even_samplers_do_not_look_at_outcomes(sampler):
    search = search_of(sampler)
    assert play(search) == [
        Tried(one.sampled, one.marks, State.done, one.values) for one in play(search, lambda sampled: sampled["width"])
    ]
    assert draw(search, 3, (), goals=["min"]).sampled == play(search)[3].sampled


@pytest.mark.parametrize("state", [State.running, State.failed, State.pruned])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_arms_without_a_final_value_do_not_stop_a_search(sampler, state):
    search = search_of(sampler)
    if state is State.pruned and sampler == "nsga2":
        pytest.skip("several objectives are never pruned")
    tried = [Tried(one.sampled, one.marks, state, curve={5: 0.5}) for one in play(search)]
    found = draw(search, len(tried), tried, goals=goals(search))
    assert all(search.space[name].holds(value) for name, value in found.sampled.items())


def test_tpe_comes_closer_to_the_best_than_random_draws():
    def outcome(sampled):
        return abs(math.log10(sampled["lr"]) + 3.0) + abs(sampled["weight"] - 1.0)

    best = {}
    for sampler in ("tpe", "random"):
        searches = [search_of(sampler, ("lr", "weight"), seed=seed, trials=40) for seed in range(5)]
        best[sampler] = sum(sorted(one.values[0] for one in play(search, outcome))[5] for search in searches)
    assert best["tpe"] < 0.7 * best["random"], best


def test_a_sobol_sequence_leaves_no_eighth_of_a_range_empty():
    drawn = play(search_of("qmc", ("lr", "weight"), trials=16))
    eighths = {int(8 * (one.sampled["weight"] + 1.5) / 3.5000001) for one in drawn}
    assert eighths == set(range(8))


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.sampled_from([one for one in NUMBERS.values()]))
def test_every_part_of_the_unit_interval_maps_into_the_range(unit, parameter):
    assert parameter.holds(parameter.at(unit))


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-6, 1e3), st.floats(1.001, 1e4), st.floats(0, 1, exclude_max=True), st.booleans())
def test_rounding_never_leaves_the_range(low, factor, unit, log):
    parameter = Parameter("x", low=low, high=low * factor, log=log)
    value = parameter.at(unit)
    assert low <= value <= low * factor and parameter.rounded(value) == value
