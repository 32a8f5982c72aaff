"""Draws of a search, as pure functions: the same space, sampler, seed, number and outcomes give the same values.

Optuna's samplers are asked in a study in memory, made anew from the outcomes each time: nothing that a kill
could lose is kept anywhere but in the trial folders and in plan.json.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ablate.ledger import DIRECTIONS, suggest
from ablate.records import digest
from ablate.search import Search
from ablate.searchspace import Values, choice

if TYPE_CHECKING:
    import optuna

GENERATIONS, SMALLEST_POPULATION, LARGEST_POPULATION = 5, 4, 50  # nsga2; 50 is Optuna's own
FEWEST_RANDOM, MOST_RANDOM = 4, 10  # draws before TPE looks at outcomes; 10 is Optuna's own, much of a small search


class State(StrEnum):
    """What a sampler has to know about an arm."""

    running = "running"  # waits or runs: TPE keeps away from it
    done = "done"
    pruned = "pruned"
    failed = "failed"  # without any value


@dataclass(frozen=True)
class Tried:
    """An arm that was drawn before, and what came of it. `values` are the objectives', `curve` is of a pruned run."""

    sampled: Values
    marks: Mapping[str, Any] = field(default_factory=dict)
    state: State = State.running
    values: tuple[float, ...] = ()
    curve: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Draw:
    """Sampled values, and the sampler's own marks on them, which it has to find again later."""

    sampled: dict[str, Any]
    marks: dict[str, Any] = field(default_factory=dict)


def draw(search: Search, number: int, tried: Sequence[Tried], *, goals: Sequence[str]) -> Draw:
    """The `number`-th draw (from 0), those that were refused counted; `goals` are max or min per objective."""
    if search.sampler == "qmc":
        return Draw(_sobol(search, number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls parts of its samplers experimental
        study = _study_of(search, number, tried, goals)
        trial = study.ask()
        sampled: dict[str, Any] = {}
        for name, one in search.space.items():
            if one.active(sampled):
                sampled[name] = one.value_of(suggest(trial, name, one.distribution()))
    marks = study.get_trials(deepcopy=False)[-1].system_attrs
    return Draw(sampled, {key: value for key, value in marks.items() if "generation" in key})


def _study_of(search: Search, number: int, tried: Sequence[Tried], goals: Sequence[str]) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = _sampler(search, int(digest([search.seed, number], 8), 16))
    study = optuna.create_study(directions=[DIRECTIONS[goal] for goal in goals], sampler=sampler)
    for one in tried:
        study.add_trial(frozen(search, one))
    return study


def _sampler(search: Search, seed: int) -> optuna.samplers.BaseSampler:
    from optuna import samplers

    if search.sampler == "random":
        return samplers.RandomSampler(seed)
    if search.sampler == "nsga2":
        population = min(max(search.trials // GENERATIONS, SMALLEST_POPULATION), LARGEST_POPULATION)
        return samplers.NSGAIISampler(seed=seed, population_size=population)
    startup = min(max(search.trials // 3, FEWEST_RANDOM), MOST_RANDOM)
    return samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)


def frozen(search: Search, tried: Tried) -> optuna.trial.FrozenTrial:
    """The arm as a record of Optuna's."""
    from optuna.trial import TrialState, create_trial

    states = {State.running: TrialState.RUNNING, State.done: TrialState.COMPLETE, State.pruned: TrialState.PRUNED,
              State.failed: TrialState.FAIL}  # fmt: skip
    spaces = {name: search.space[name] for name in tried.sampled}
    return create_trial(
        state=states[tried.state], values=list(tried.values) if tried.state is State.done else None,
        params={name: choice(value) if spaces[name].values else value for name, value in tried.sampled.items()},
        distributions={name: one.distribution() for name, one in spaces.items()},
        intermediate_values=dict(tried.curve), system_attrs=dict(tried.marks),
    )  # fmt: skip


def _sobol(search: Search, number: int) -> dict[str, Any]:
    """Point `number` of the sequence. Optuna's own sampler takes its place in the sequence from a storage and knows
    no conditions; here every parameter keeps its coordinate, used or not."""
    from scipy.stats import qmc

    engine = qmc.Sobol(len(search.space), seed=search.seed)
    if number:
        engine.fast_forward(number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one point is no power of two
        point = engine.random(1)[0]
    sampled: dict[str, Any] = {}
    for unit, (name, one) in zip(point, search.space.items(), strict=True):
        if one.active(sampled):
            sampled[name] = one.at(min(float(unit), 1 - 1e-12))
    return sampled
