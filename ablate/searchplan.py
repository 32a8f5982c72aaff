"""The plan of a search: it grows by one sampled arm at a time, and comes back from plan.json as it was.

Cells stand in the order in which they run: every arm with its seeds up to the first look of a race, one arm
after another, then the rest seed by seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ablate.conditions import BASE
from ablate.patches import PatchError, combine, segments
from ablate.plan import Plan, PlannedArm, noted, planned_arm, spec_of
from ablate.problems import Problem, StudyError, dotted
from ablate.records import Arm, Cell, StudyFolder
from ablate.resolve import ResolveError
from ablate.search import changes
from ablate.searchspace import Parameter, Values, in_words
from ablate.stored import read_drawn


class Infeasible(ValueError):
    """A sampled combination that can't run; the text says why."""


def arm_of(plan: Plan, index: int, values: Values, marks: Mapping[str, Any]) -> PlannedArm:
    """The `index`-th sampled arm (from 1). Raises Infeasible where the combination can't run."""
    study, search = plan.study, plan.study.search
    levels = {name: value for name, value in values.items() if search.space[name].factor and value != BASE}
    if why := study.conditions.against(levels):
        raise Infeasible(why)
    try:
        patch = combine(search.patch(values, study.factors))
        arm = Arm(search.name(index), changes(values), patch)
        planned = planned_arm(study, arm, plan.arms[0], sampled=dict(values), marks=dict(marks))
    except PatchError as error:
        raise Infeasible(str(error)) from None
    except ResolveError as error:
        path, message = error.errors[0]
        raise Infeasible(f"{dotted(path)}: {message}") from None
    return noted(planned, plan.device)


def base_values(space: Mapping[str, Parameter], base: Mapping[str, Any]) -> dict[str, Any]:
    """What the base recipe has of the space's parameters, where a search could have drawn that."""
    values: dict[str, Any] = {}
    for name, one in space.items():
        value = BASE if one.factor else _at(base, segments(name))
        if one.active(values) and value is not None and one.holds(value):
            values[name] = value
    return values


def _at(document: Any, path: tuple[str, ...]) -> Any:
    """The value at a path; a loss term given as a number stands for its weight."""
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document.get("weight") if isinstance(document, Mapping) and path[0] == "terms" else document


def grown(plan: Plan, arms: Iterable[PlannedArm], refused: Iterable[Mapping[str, Any]] = ()) -> Plan:
    """The plan with further arms and their cells, and with what was drawn in vain on the way to them."""
    everyone, names = (*plan.arms, *arms), {arm.name for arm in plan.arms}
    known = {(cell.arm, cell.seed): plan.specs[cell.trial] for cell in plan.cells if cell.arm in names}
    data, specs, cells = plan.specs[plan.cells[0].trial].data, {}, []
    for arm, seed in _order(plan, everyone):
        spec = known.get((arm.name, seed)) or spec_of(plan.study, arm, seed, device=plan.device, data=data)
        specs.setdefault(spec.id, spec)
        cells.append(Cell(arm.name, seed, spec.id))
    return replace(plan, arms=everyone, cells=tuple(cells), specs=specs, refused=(*plan.refused, *refused))


def _order(plan: Plan, arms: tuple[PlannedArm, ...]) -> Iterator[tuple[PlannedArm, int]]:
    seeds, race = plan.study.seeds, plan.study.race
    first = race.looks[0] if race else len(seeds)
    yield from ((arm, seed) for arm in arms for seed in seeds[:first])
    yield from ((arm, seed) for seed in seeds[first:] for arm in arms)


def foreseen(plan: Plan) -> Plan:
    """The plan with a copy of the base for every arm that is still to be drawn: what a search takes, as a whole."""
    search, base = plan.study.search, plan.arms[0]
    number = plan.undrawn // len(plan.study.seeds)
    if search is None or not number:
        return plan
    names = [search.name(len(plan.drawn) + index) for index in range(1, number + 1)]
    arms = [replace(base, arm=Arm(name)) for name in names]
    of_base = {cell.seed: plan.specs[cell.trial] for cell in plan.cells if cell.arm == base.name}
    cells = [Cell(name, seed, f"{name}/{seed}") for name in names for seed in plan.study.seeds]
    specs = {cell.trial: of_base[cell.seed] for cell in cells}
    return replace(plan, arms=(*plan.arms, *arms), cells=(*plan.cells, *cells), specs={**plan.specs, **specs})


def restored(plan: Plan, folder: StudyFolder) -> Plan:
    """The plan with the arms that a search has drawn so far, read from plan.json.

    Unchanged where there is no plan yet, or one that was drawn from another space or by another sampler. Raises
    StudyError where this version refuses an arm that has been drawn, Damaged for plan.json.
    """
    if plan.study.search is None or not folder.plan.exists():
        return plan
    before = read_drawn(folder)
    now = plan.to_json()
    if "search" not in before or not same_draws(before["search"], now["search"]):
        return plan
    documents = [document for document in before["arms"] if document.get("sampled")]
    try:
        arms = [arm_of(plan, index, one["sampled"], one["marks"]) for index, one in enumerate(documents, start=1)]
    except Infeasible as error:
        said = f"holds a drawn arm that can't run any more: {error}; give the study another name (--set name=...)"
        raise StudyError([Problem(str(folder.plan), 0, 0, "", said)]) from None
    asked = tuple(arm for arm in plan.arms if not arm.sampled)  # the plan may be one that was restored before
    return grown(replace(plan, arms=asked, refused=()), arms, before["properties"]["refused"])


def same_draws(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether one search goes on with the other's arms: all but their number and their seeds is equal."""
    return {**before, "trials": 0, "seeds_per_arm": 0} == {**now, "trials": 0, "seeds_per_arm": 0}


def only_adds(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the search now asked for is the one before with more trials or more seeds an arm."""
    more = all(now[key] >= before[key] for key in ("trials", "seeds_per_arm"))
    return more and same_draws(before, now)


def describe(plan: Plan) -> list[str]:
    """The search for people: how it draws, and from what."""
    search, seeds = plan.study.search, len(plan.study.seeds)
    if search is None:
        return []
    how = f"search by {search.sampler}: {search.trials} arms drawn one after another, {seeds} seeds each and the base"
    goal = f"for the best {' and '.join(search.objectives)}"
    widest = max(map(len, search.space))
    lines = [f"{how.replace('1 seeds', '1 seed')}, {goal}"]
    lines += [f"  {name.ljust(widest)}  {in_words(one)}" for name, one in search.space.items()]
    if search.pruner != "none":
        lines.append(f"  pruner {search.pruner} stops runs at an evaluation; the base is never stopped")
    if plan.refused:
        lines.append(f"  {len(plan.refused)} drawn combinations could not run and were drawn again")
    return lines


def describe_race(plan: Plan) -> list[str]:
    """What stops whole arms, if anything does."""
    race = plan.study.race
    if race is None:
        return []
    after = ", ".join(map(str, race.looks))
    if race.keep is not None:
        return [f"halving: after {after} seeds the best {race.keep:.0%} of the drawn arms by mean go on: a way to a"
                " winner, never a claim"]  # fmt: skip
    return [f"race: after {after} seeds, arms that leave the best set stop (level {race.alpha:.3g} a look); the base"
            " never stops, and a seed starts only once the look before it is decided"]  # fmt: skip
