"""A search as a study file states it (`design: {search: ...}`), checked place by place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from ablate.conditions import BASE, Conditions
from ablate.design_keys import read_level, read_levels
from ablate.factors import Factors
from ablate.patches import PatchError, clashes, segments
from ablate.problems import dotted, no_such, quoted, shown
from ablate.resolve import RANKS, Draft, attempt
from ablate.search import Search
from ablate.searchspace import Parameter
from ablate.sources import Sources
from ablate.validate import Error, validate
from trainers.options import Bounds, Count, options

MAX_TRIALS, MAX_PARAMETERS, MAX_VALUES = 1000, 50, 100
PATH = ("design", "search")
FIXED = {"data": "every arm must see the same tiles", "start": "every arm starts alike"}  # sections, and why
Number = int | float


@options
class Halving:
    """After so many whole `seeds` the best share `keep` of the sampled arms goes on; the last number is their end."""

    seeds: list[Count] = field(default_factory=lambda: [2, 4, 8])
    keep: Annotated[float, Bounds(above=0, below=1)] = 0.5


@options
class SearchOptions:
    """A sampler proposes `trials` arms from `space`, each run on `seeds_per_arm` seeds like the base."""

    sampler: Literal["tpe", "random", "qmc", "nsga2"] = "tpe"
    trials: Annotated[int, Bounds(low=1, high=MAX_TRIALS)]
    seeds_per_arm: Count | None = None
    seed: Annotated[int, Bounds(low=0, high=2**31 - 1)] = 0
    space: dict[str, Any]
    objectives: list[str] = field(default_factory=list)
    pruner: Literal["none", "median", "hyperband", "asha"] = "none"
    halving: Halving | None = None


@options
class Range:
    """Numbers from `low` to `high`, both included; whole ones where both ends are."""

    low: Number
    high: Number
    log: bool = False
    step: Number | None = None
    when: dict[str, Any] = field(default_factory=dict)


@options
class Listed:
    """One of `values`."""

    values: list[Any]
    when: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A search with what else its block says; `seeds` is how many an arm gets, None where it does not say."""

    search: Search
    seeds: int | None
    halving: Halving | None


def read_search(
    sources: Sources,
    factors: Factors,
    base: Mapping[str, Any],
    conditions: Conditions,
    *,
    ranks: int,
    metrics: tuple[str, ...],
) -> Asked | None:
    """The search of a study whose design says so, else None; the first of `metrics` is the study's own.

    What is wrong is refused at its place, and stood in for.
    """
    design = sources.data.get("design")
    if not (isinstance(design, Mapping) and list(design) == ["search"]):
        return None
    raw = design["search"]
    found, errors = validate(SearchOptions, raw)
    for path, message in errors:
        sources.refuse((*PATH, *path), message)
    asked = found or _stand_in(_mapping(raw), errors)
    space = _read_space(sources, factors, base, conditions, asked.space, ranks)
    objectives = _read_objectives(sources, asked, metrics)
    search = Search(asked.sampler, asked.trials, space, objectives, asked.seed, asked.pruner)
    seeds = _read_seeds(sources, asked)
    _check_pruner(sources, asked, objectives, seeds)
    return Asked(search, seeds, asked.halving)


def _stand_in(raw: Mapping[str, Any], errors: list[Error]) -> SearchOptions:
    """What is right of a search, so that a person learns of all mistakes at once."""
    wrong = {path[0] for path, _ in errors if path}
    kept = {key: value for key, value in raw.items() if key not in wrong}
    return validate(SearchOptions, {"trials": 1, "space": {}, **kept})[0] or SearchOptions(trials=1, space={})


def _mapping(raw: Any) -> Mapping[str, Any]:
    return raw if isinstance(raw, Mapping) else {}


def _read_objectives(sources: Sources, asked: SearchOptions, metrics: tuple[str, ...]) -> tuple[str, ...]:
    path = (*PATH, "objectives")
    for at, name in enumerate(asked.objectives):
        if name not in metrics:
            sources.refuse((*path, at), f"{no_such('metric of this study', name, metrics)}; write it under also")
        elif name in asked.objectives[:at]:
            sources.refuse((*path, at), f"{name} stands twice")
    objectives = tuple(asked.objectives) or metrics[:1]
    if asked.sampler == "nsga2" and len(objectives) < 2:
        sources.refuse(path, "expected two or more metrics for sampler nsga2, such as [gmsd, mae]; tpe takes one")
    elif asked.sampler != "nsga2" and objectives != metrics[:1]:
        why = f"sampler {asked.sampler} looks for the best {metrics[0]} alone"
        sources.refuse(path, f"{why}; take objectives away, or write sampler: nsga2")
    return objectives


def _read_seeds(sources: Sources, asked: SearchOptions) -> int | None:
    rungs = asked.halving.seeds if asked.halving else []
    if not asked.halving:
        return asked.seeds_per_arm
    if len(rungs) < 2 or sorted(set(rungs)) != rungs:
        found = f"expected rising numbers of seeds, such as [2, 4, 8], found {rungs}"
        sources.refuse((*PATH, "halving", "seeds"), found)
    elif asked.seeds_per_arm not in (None, rungs[-1]):
        sources.refuse((*PATH, "seeds_per_arm"), f"{asked.seeds_per_arm}, but halving ends at {rungs[-1]} seeds")
    return rungs[-1] if rungs else None


def _check_pruner(sources: Sources, asked: SearchOptions, objectives: tuple[str, ...], seeds: int | None) -> None:
    """A pruner stops a single run in its course; what that can't go along with is refused."""
    if asked.pruner == "none":
        return
    path = (*PATH, "pruner")
    if len(objectives) > 1:
        sources.refuse(path, "a pruner judges runs by one metric, this search has several objectives; write none")
    if asked.halving:
        sources.refuse(path, "a pruner stops single runs, halving whole arms at whole seeds; take one of them away")
    elif (seeds or 1) > 1:
        sources.refuse(path, f"a pruner stops single runs and would leave arms with some of their {seeds} seeds; "
                             "write seeds_per_arm: 1, or none with halving or race")  # fmt: skip


# -- the space ------------------------------------------------------------------------------------


def _read_space(
    sources: Sources,
    factors: Factors,
    base: Mapping[str, Any],
    conditions: Conditions,
    raw: Mapping[str, Any],
    ranks: int,
) -> dict[str, Parameter]:
    path = (*PATH, "space")
    if not raw or len(raw) > MAX_PARAMETERS:
        found = f"{len(raw)} of them" if raw else "none"
        sources.refuse(path, f"expected 1 to {MAX_PARAMETERS} parameters, such as "
                             f"optimizer.lr: {{low: 1e-5, high: 1e-3, log: true}}; found {found}")  # fmt: skip
        return {}
    read = {name: _read_parameter(sources, factors, name, entry) for name, entry in raw.items()}
    space = {name: one for name, one in read.items() if one is not None}
    for error in _clashes(space):
        sources.refuse((*path, error.key), error.message)
    told = {name: _with_conditions(sources, one, space, raw) for name, one in space.items()}
    space = _in_order(sources, {name: _with_declared(sources, one, space, conditions) for name, one in told.items()})
    _check_ends(sources, factors, base, space, ranks)
    return space


def _clashes(space: Mapping[str, Parameter]) -> list[PatchError]:
    return clashes({name: None for name, one in space.items() if not one.factor})


def _read_parameter(sources: Sources, factors: Factors, name: str, entry: Any) -> Parameter | None:
    path = (*PATH, "space", name)
    if name not in factors and not _is_path(sources, path, name):
        return None
    if isinstance(entry, list):
        return _read_values(sources, factors, name, entry, path)
    if not isinstance(entry, Mapping):
        sources.refuse(path, f"expected {{low: ..., high: ...}} or a list of values, found {shown(entry)}")
        return None
    kind = Listed if "values" in entry else Range
    found, errors = validate(kind, entry)
    for inside, message in errors:
        sources.refuse((*path, *inside), message)
    if found is None:
        return None
    if kind is Listed:
        return _read_values(sources, factors, name, found.values, (*path, "values"))
    if name in factors:
        sources.refuse(path, f"{name} is a factor: expected a list of its levels, such as [base, ...]")
        return None
    return Parameter(name, low=found.low, high=found.high, log=found.log, step=found.step) \
        if _is_range(sources, path, found) else None  # fmt: skip


def _is_path(sources: Sources, path: tuple, name: str) -> bool:
    try:
        section = segments(name)[0]
    except PatchError as error:
        sources.refuse(path, error.message)
        return False
    if section in FIXED:
        sources.refuse(path, f"a search can't vary {section}: {FIXED[section]}")
    return section not in FIXED


def _read_values(sources: Sources, factors: Factors, name: str, raw: list, path: tuple) -> Parameter | None:
    if not 2 <= len(raw) <= MAX_VALUES:
        sources.refuse(path, f"expected 2 to {MAX_VALUES} values, found {len(raw)}")
        return None
    if name in factors:
        raw = list(read_levels(sources, path, factors, name, raw))
    twice = [at for at, value in enumerate(raw) if value in raw[:at]]
    for at in twice:
        sources.refuse((*path, at), f"{shown(raw[at])} stands twice")
    return None if twice else Parameter(name, values=tuple(raw), factor=name in factors)


def _is_range(sources: Sources, path: tuple, found: Range) -> bool:
    wrong: dict[str, str] = {}
    if found.low >= found.high:
        said = "is above" if found.low > found.high else "equals"
        wrong["low"] = f"{found.low} {said} high, {found.high}; expected low below high"
    if found.log and found.low <= 0:
        wrong["low"] = f"{found.low} has no logarithm; expected low above 0, or log: false"
    if found.step is not None and not 0 < found.step <= found.high - found.low:
        wrong["step"] = f"expected a number above 0 and at most high - low, found {found.step}"
    if found.step is not None and found.log:
        wrong["step"] = "steps are equal, a log scale is not; take step or log away"
    if isinstance(found.step, float) and isinstance(found.low, int) and isinstance(found.high, int):
        wrong["step"] = f"{found.step} between whole numbers; write low and high with a point, such as {found.low}.0"
    for key, message in wrong.items():
        sources.refuse((*path, key), message)
    return not wrong


def _with_conditions(
    sources: Sources, one: Parameter, space: Mapping[str, Parameter], raw: Mapping[str, Any]
) -> Parameter:
    entry = raw[one.name]
    conditions = entry.get("when", {}) if isinstance(entry, Mapping) else {}
    when: dict[str, tuple[Any, ...]] = {}
    for name, allowed in conditions.items():
        path = (*PATH, "space", one.name, "when", name)
        if name not in space or name == one.name:
            sources.refuse(path, no_such("other parameter of the space", name, set(space) - {one.name}))
            continue
        allowed = allowed if isinstance(allowed, list) else [allowed]
        if space[name].factor:
            allowed = [read_level(sources, path, sources.data["factors"], name, value) for value in allowed]
        for value in allowed:
            if not space[name].holds(value):
                sources.refuse(path, f"{shown(value)} is no value that {name} can have in this search")
        when[name] = tuple(allowed)
    return replace(one, when=when)


def _with_declared(
    sources: Sources, one: Parameter, space: Mapping[str, Parameter], conditions: Conditions
) -> Parameter:
    """What the study's `when` says of a factor holds in its search as well."""
    when = dict(one.when)
    for other, levels in conditions.when.get(one.name, {}).items() if one.factor else ():
        if other in space:
            when.setdefault(other, tuple(level for level in space[other].values if level in levels))
        elif BASE not in levels:
            only = f"only exists where {other} is {' or '.join(levels)}"
            sources.refuse((*PATH, "space", one.name), f"{one.name} {only}, and the search does not vary {other}")
    return replace(one, when=when)


def _in_order(sources: Sources, space: dict[str, Parameter]) -> dict[str, Parameter]:
    """Every parameter after those that it depends on; else in the order of the file."""
    sorter = TopologicalSorter({name: sorted(one.when) for name, one in space.items()})
    try:
        order = list(sorter.static_order())
    except CycleError as error:
        around = " -> ".join(map(quoted, error.args[1]))
        sources.refuse((*PATH, "space"), f"conditions go round in a circle: {around}")
        return {name: replace(one, when={}) for name, one in space.items()}
    depth: dict[str, int] = {}
    for name in order:
        depth[name] = 1 + max((depth[other] for other in space[name].when), default=0)
    return {name: space[name] for name in sorted(space, key=lambda name: depth[name])}


def _check_ends(
    sources: Sources, factors: Factors, base: Mapping[str, Any], space: Mapping[str, Parameter], ranks: int
) -> None:
    """Refuse ends and values that give no recipe by themselves; combinations are judged when they are drawn."""
    reference = attempt(base, {}, ranks=ranks)
    for one in space.values():
        if one.factor:
            _check_levels(sources, factors, one)
            continue
        beside = _condition_of(one, space, factors)
        before = attempt(base, beside, ranks=ranks)
        for key, value in _ends(one, sources.data["design"]["search"]["space"][one.name]):
            draft = attempt(base, {**beside, one.name: value}, ranks=ranks)
            _refuse_new(sources, (*PATH, "space", one.name, *key), one, draft, (*reference.errors, *before.errors))


def _ends(one: Parameter, entry: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if not one.values:
        yield from ((("low",), one.low), (("high",), one.high))
    else:
        inside = ("values",) if isinstance(entry, Mapping) else ()
        yield from (((*inside, at), value) for at, value in enumerate(one.values))


def _condition_of(one: Parameter, space: Mapping[str, Parameter], factors: Factors) -> dict[str, Any]:
    """A patch under which the parameter is there: the first value of each of its conditions, and of theirs."""
    patch: dict[str, Any] = {}
    for name, allowed in one.when.items():
        if not allowed:
            continue
        patch |= _condition_of(space[name], space, factors)
        patch |= factors[name].get(allowed[0], {}) if space[name].factor else {name: allowed[0]}
    return patch


def _refuse_new(sources: Sources, at: tuple, one: Parameter, draft: Draft, known: tuple) -> None:
    for path, message in draft.errors:
        if (path, message) not in known:
            said = message if dotted(path) == one.name else f"{dotted(path)}: {message}"
            sources.refuse(at, said)
            return  # one sentence an end: the rest follows from it


def _check_levels(sources: Sources, factors: Factors, one: Parameter) -> None:
    for level in one.values:
        fixed = {segments(key)[0] for key in factors[one.name].get(level, {})} & (set(FIXED) | {RANKS.split(".")[0]})
        for section in sorted(fixed):
            why = FIXED.get(section, "every arm runs alike")
            sources.refuse((*PATH, "space", one.name), f"level {level} varies {section}, which a search can't: {why}")
