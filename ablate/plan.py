"""The plan: which trials a study needs, each fully stated, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from ablate import design, machine, stages, startfiles
from ablate.branching import Branch, branches
from ablate.design import AA, BASE, LeftOut, TooManyArms
from ablate.patches import PatchError, differences
from ablate.problems import Problem, StudyError, counted, dotted
from ablate.properties import properties
from ablate.records import SCHEMA, Arm, Cell, TrialSpec, digest
from ablate.resolve import Resolved, ResolveError, identity_document, resolve
from ablate.resources import LOCAL, MOST_JOBS
from ablate.sources import label
from ablate.study import Metric, Study
from trainers.families import METRICS
from trainers.recipe import Recipe


@dataclass(frozen=True)
class PlannedArm:
    """An arm with its resolved recipe. `differences` maps recipe paths to (base value, its value).

    Of an arm that a search drew, `sampled` holds the parameters and `marks` what its sampler has to know of it later.
    """

    arm: Arm
    resolved: Resolved
    differences: Mapping[str, tuple[Any, Any]]
    twin_of: str = ""  # of the A/A arm: the arm whose recipe it repeats with other random numbers
    sampled: Mapping[str, Any] = field(default_factory=dict)
    marks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.arm.name

    @property
    def generator_updates(self) -> int:
        return self.resolved.recipe.steps

    @property
    def discriminator_updates(self) -> int:
        return self.resolved.recipe.discriminator_updates

    @property
    def images(self) -> int:
        return self.resolved.recipe.steps * self.resolved.recipe.batch

    @property
    def terms(self) -> list[str]:
        """Names of the loss terms that train in any stage."""
        course = self.resolved.recipe.course
        return sorted({name for stage in course for name, term in stage.terms.items() if term.weight > 0})

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "changes": dict(self.arm.changes),
            "differences": {path: list(pair) for path, pair in self.differences.items()},
            "terms": self.terms, "generator_updates": self.generator_updates, "images": self.images,
            "notes": list(self.resolved.notes), **({"twin_of": self.twin_of} if self.twin_of else {}),
            **self._drawn(),
        }  # fmt: skip

    def _drawn(self) -> dict[str, Any]:
        """What a search drew, what its sampler has to find again, and what that changes in the base."""
        drawn = {"sampled": dict(self.sampled), "marks": dict(self.marks), "patch": dict(self.arm.patch)}
        return drawn if self.sampled else {}


@dataclass(frozen=True)
class Plan:
    """Arms, cells in block order (every arm once per seed), and the trial that fills each cell."""

    study: Study
    arms: tuple[PlannedArm, ...]
    cells: tuple[Cell, ...]
    specs: Mapping[str, TrialSpec]  # in the order in which they run
    data: Mapping[str, Any]  # fingerprint -> data options to prepare
    device: str
    slots: int
    warnings: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    refused: tuple[Mapping[str, Any], ...] = ()  # combinations that a search drew and that can't run, with why

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.study.metric.name, *self.study.also)))

    @property
    def shared(self) -> int:
        """Cells filled by a trial that another cell already needs."""
        return len(self.cells) - len(self.specs)

    @cached_property
    def branches(self) -> Mapping[str, Branch]:
        """Trials that go on from what another trains: none of a search, whose arms are not known yet."""
        study = self.study
        return branches(self.specs) if study.resources.share and not study.search else {}

    def untrained(self, trial: str) -> float:
        """Share of a trial's updates that another one makes for it."""
        branch = self.branches.get(trial)
        return branch.step / self.arm(self.cells_of(trial)[0].arm).generator_updates if branch else 0.0

    @property
    def drawn(self) -> tuple[PlannedArm, ...]:
        """The arms that a search has drawn so far, in their order."""
        return tuple(arm for arm in self.arms if arm.sampled)

    @property
    def undrawn(self) -> int:
        """Cells of arms that a search has still to draw."""
        search = self.study.search
        return max(0, search.trials - len(self.drawn)) * len(self.study.seeds) if search else 0

    @property
    def num_trials(self) -> int:
        """All planned cells."""
        return len(self.cells) + self.undrawn

    @cached_property
    def _cells(self) -> dict[str, tuple[Cell, ...]]:
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.trial, []).append(cell)
        return {trial: tuple(cells) for trial, cells in found.items()}

    @cached_property
    def _arms(self) -> dict[str, PlannedArm]:
        return {arm.name: arm for arm in self.arms}

    def cells_of(self, trial: str) -> tuple[Cell, ...]:
        return self._cells[trial]

    @property
    def compared(self) -> tuple[PlannedArm, ...]:
        """Distinct recipes, the base first: arms without their aliases and without the A/A twin."""
        owners = {cell.trial: cell.arm for cell in reversed(self.cells)}
        owning = set(owners.values())
        return tuple(arm for arm in self.arms if not arm.twin_of and arm.name in owning)

    def arm(self, name: str) -> PlannedArm:
        return self._arms[name]

    def to_json(self) -> dict[str, Any]:
        """What plan.json holds. `hash` covers what is run and how it is compared; wording does not change it."""
        study, document = self.study, {}
        document |= {"schema": SCHEMA, "name": study.name, "question": study.question, "trainer": study.trainer}
        document |= {"design": study.design.name, "seeds": list(study.seeds), "family": study.metric.family}
        document["factors"] = {factor: [design.BASE, *levels] for factor, levels in study.factors.items()}
        document["full"] = dict(study.design.full) if study.design.has_full else None
        document["properties"] = properties(self)
        document["metric"] = {**metric_facts(study.metric.name), "split": study.metric.split,
                              "smallest_effect": study.metric.smallest_effect}  # fmt: skip
        document["also"] = [metric_facts(name) for name in study.also]
        document["unavailable"] = [{**metric_facts(name), "why": why} for name, why in study.unavailable.items()]
        document["failure"] = {"score": study.failure.score}
        if study.confirms.study:
            document["confirms"] = asdict(study.confirms)
        document["arms"] = [arm.to_json() for arm in self.arms]
        document["cells"] = [{"arm": cell.arm, "seed": cell.seed, "trial": cell.trial} for cell in self.cells]
        document["resources"] = {
            "ranks": study.resources.ranks,
            "threads": study.resources.threads,
            "device": self.device,
        }
        base = self.arms[0].resolved.document
        document["data"] = {"fingerprint": self.specs[self.cells[0].trial].data, "layout": base["data"]["layout"]}
        document["data_sets"] = sorted(self.data)
        document["base"] = identity_document(self.arms[0].resolved.recipe)
        if study.race:
            document["race"] = study.race.to_json()
        if study.search:
            document["search"] = {**study.search.to_json(), "seeds_per_arm": len(study.seeds)}
        document["warnings"] = [text for text in self.warnings if text not in _left_out(study)]
        return {**document, "hash": self._hash(document)}

    def _hash(self, document: Mapping[str, Any]) -> str:
        """Of what was asked: the arms that a search draws follow from that."""
        compared = ("metric", "also", "failure", "design", "seeds", "cells", "resources", "data")
        compared += () if self.study.metric.family == Metric.family else ("family",)  # plans of before know no other
        compared += tuple(key for key in ("search", "race") if key in document)
        drawn = {arm.name for arm in self.drawn}
        cells = [cell for cell in document["cells"] if cell["arm"] not in drawn]
        changes = [(arm.name, dict(arm.arm.changes)) for arm in self.arms if arm.name not in drawn]
        return digest([changes, *({**document, "cells": cells}[key] for key in compared)])


def metric_facts(name: str) -> dict[str, Any]:
    """Name, label, unit and goal of a metric, from the head of its part."""
    part = METRICS.part(name)
    return {"name": name, "label": part.LABEL, "unit": part.UNIT, "goal": part.GOAL}


def make_plan(study: Study) -> Plan:
    """The plan of a checked study. Raises StudyError for an arm that can't run, DataError for its data."""
    from trainers.prepare import fingerprint

    arms, left_out = _resolve_arms(study)
    widest = max(arm.resolved.ranks for arm in arms)
    device = device_of(study, ranks=widest)
    check_nodes(study, arms, device)
    arms = tuple(noted(arm, device) for arm in arms)
    data: dict[str, Any] = {}
    prints: dict[str, str] = {}  # canonical data options -> fingerprint
    cells, specs = [], {}
    of_arm: dict[str, TrialSpec] = {}  # with its first seed; the others differ in that alone
    for arm in arms:
        recipe = arm.resolved.recipe
        key = repr(recipe.data)
        if key not in prints:
            prints[key] = fingerprint(recipe.data)
            data[prints[key]] = recipe.data
        of_arm[arm.name] = spec_of(study, arm, study.seeds[0], device=device, data=prints[key])
    for name, seed in design.blocks([arm.name for arm in arms], study.seeds):
        spec = replace(of_arm[name], seed=seed)
        specs.setdefault(spec.id, spec)
        cells.append(Cell(name, seed, spec.id))
    warnings = (*_warnings(study, arms), *_left_out(study))
    plan = Plan(study, arms, tuple(cells), specs, data, device, 1, warnings, left_out)
    asked = study.resources
    trials = len(specs) + plan.undrawn
    if asked.executor == LOCAL:
        slots = machine.slots(asked.slots, trials=trials, ranks=widest, threads=asked.threads, device=device)
    else:
        slots = max(1, min(trials, MOST_JOBS if asked.slots == "auto" else asked.slots))
    return replace(plan, slots=slots)


def check_nodes(study: Study, arms: Sequence[PlannedArm], device: str) -> None:
    """Raises StudyError for arms whose ranks can't lie on the nodes in equal parts, or not on their GPUs."""
    nodes, gpus = study.resources.nodes, study.resources.gpus_per_node
    short = max((arm.resolved.ranks for arm in arms), default=1)
    if device == "cuda" and study.resources.executor != LOCAL and (gpus or 0) * nodes < short:
        said = f"{gpus} on {counted(nodes, 'node')} are too few for {short} ranks, one each" if gpus else \
            "is missing: device cuda needs a GPU for each rank on a node"
        raise StudyError([_problem(study, "resources.gpus_per_node", said)])
    odd = {arm.resolved.ranks: arm.name for arm in reversed(arms) if arm.resolved.ranks % nodes}
    if odd:
        said = " and ".join(f"{counted(ranks, 'rank')} (arm {name})" for ranks, name in sorted(odd.items()))
        raise StudyError([_problem(study, "resources.nodes", f"{said} can't be shared out over {nodes} nodes")])


def device_of(study: Study, *, ranks: int) -> str:
    """`cpu` or `cuda`: what the study says, what this machine has, or what a scheduler is asked for."""
    asked = study.resources
    if asked.executor != LOCAL and asked.device == "auto":
        return "cuda" if asked.gpus_per_node else "cpu"
    return machine.device(asked.device, ranks=ranks)


def trial_spec(
    study: Study, recipe: Recipe, *, seed: int, ranks: int, device: str, data: str, replica: int = 0
) -> TrialSpec:
    """The trial that trains a recipe with the study's resources."""
    computed, _ = _as_computed_here(recipe, ranks=ranks, device=device)
    return TrialSpec(recipe=computed, seed=seed, ranks=ranks, threads=study.resources.threads, device=device,
                     data=data, replica=replica, keep=study.keep)  # fmt: skip


def spec_of(study: Study, arm: PlannedArm, seed: int, *, device: str, data: str) -> TrialSpec:
    """The trial of one cell; `data` is the fingerprint of the arm's data."""
    return trial_spec(study, arm.resolved.recipe, seed=seed, ranks=arm.resolved.ranks, device=device, data=data,
                      replica=int(bool(arm.twin_of)))  # fmt: skip


def _resolve_arms(study: Study) -> tuple[tuple[PlannedArm, ...], tuple[LeftOut, ...]]:
    """Every arm resolved against the base, and what is declared away; all that can't run are named at once."""
    planned: list[PlannedArm] = []
    try:
        arms, left_out = design.arms(study.factors, study.design, study.conditions)
    except PatchError as error:
        raise StudyError([_problem(study, "design", f"{error}; {_way_out(study)}")]) from None
    except TooManyArms as error:
        raise StudyError([_problem(study, "design", str(error))]) from None
    refused: list[set] = []
    problems = [_problem(study, *said) for one in left_out if (said := _breaks(study, one))]
    for arm in arms:
        levels = set(arm.changes.items())
        try:
            resolved = resolve(study.base, arm.patch, ranks=study.resources.ranks)
        except ResolveError as error:
            if not any(smaller <= levels for smaller in refused):
                hint = "" if len(levels) < 2 else f"; {_way_out(study)}"
                problems += [
                    _problem(study, f"arm {arm.name}", f"{dotted(p)}: {text}{hint}") for p, text in error.errors
                ]
                refused.append(levels)
            continue
        base = planned[0].resolved if planned else resolved
        planned.append(PlannedArm(arm, resolved, differences(_readable(base), _readable(resolved))))
    if problems:
        raise StudyError(problems)
    if study.aa:
        planned.append(replace(planned[0], arm=Arm(AA), twin_of=BASE))
    return tuple(planned), tuple(replace(one, why=_why(study, one)) for one in left_out)


def _breaks(study: Study, one: LeftOut) -> tuple[str, str] | None:
    """Place and sentence where a cell that is declared away takes with it what the design is for."""
    if study.design.name == "list":
        return f"design.list.{one.name}", f"is declared away ({one.why})"
    if study.design.whole:
        return f"arm {one.name}", f"is declared away ({one.why}), and {_way_out(study)}"
    return None


def _way_out(study: Study) -> str:
    """What to do about a combination that can't be run, in this design."""
    name = study.design.name
    if study.design.has_full:
        return f"{name} needs all of its arms: name another level under `full`, or `base` for a factor to leave out"
    if name == "fractional":
        return "fractional needs all of its arms: leave a factor out ({fractional: {factors: [...]}}) or take factorial"
    return "take it out of the list" if name == "list" else "name the combination under `never`"


def _why(study: Study, one: LeftOut) -> str:
    """What is declared against a cell, and what would stand in the way of training it."""
    try:
        resolve(study.base, design.arm(study.factors, one.combination).patch, ranks=study.resources.ranks)
    except PatchError as error:
        return f"{one.why} ({error.message})"
    except ResolveError as error:
        path, message = error.errors[0]
        return f"{one.why} ({dotted(path)}: {message})"
    return one.why


def planned_arm(study: Study, arm: Arm, base: PlannedArm | None = None, **facts: Any) -> PlannedArm:
    """An arm resolved beside the base. Raises ResolveError where its recipe can't be trained."""
    resolved = resolve(study.base, arm.patch, ranks=study.resources.ranks)
    reference = base.resolved if base else resolved
    return PlannedArm(arm, resolved, differences(_readable(reference), _readable(resolved)), **facts)


def _readable(resolved: Resolved) -> dict[str, Any]:
    """What an arm trains and on how many ranks, as people compare it."""
    document = resolved.document
    said = {"stages": stages.in_words(document["stages"]), "start": startfiles.in_words(document["start"])}
    return {**document, **said, "resources": {"ranks": resolved.ranks}}


def _as_computed_here(recipe: Recipe, *, ranks: int, device: str) -> tuple[dict[str, Any], list[str]]:
    """The recipe's part of a trial's identity, with what the machine makes of it, and a note for each such setting.

    On one rank there is nothing to synchronise, and only CUDA knows tf32: such arms share their trials with those
    that say plainly what is computed.
    """
    document, notes = identity_document(recipe), []
    for key in ("generator", "discriminator") if ranks == 1 else ():
        if document[key].get("norm") == "sync_batch":
            document[key] = {**document[key], "norm": "batch"}
            notes.append(f"{key}.norm sync_batch is batch on one rank")
    if device == "cpu" and document["compute"]["precision"] == "tf32":
        document["compute"] = {**document["compute"], "precision": "fp32"}
        notes.append("compute.precision tf32 is fp32 on a CPU")
    return document, notes


def noted(arm: PlannedArm, device: str) -> PlannedArm:
    _, notes = _as_computed_here(arm.resolved.recipe, ranks=arm.resolved.ranks, device=device)
    return replace(arm, resolved=replace(arm.resolved, notes=(*arm.resolved.notes, *notes)))


def _problem(study: Study, path: str, message: str) -> Problem:
    """At the last `--set` that has set it, or in the study's file."""
    said = next((text for text in reversed(study.sets) if _within(path, text.partition("=")[0].strip())), None)
    return Problem(str(study.source) if said is None else label(said), 0, 0, path, message)


def _within(path: str, key: str) -> bool:
    return path == key or path.startswith(f"{key}.") or key.startswith(f"{path}.")


def _left_out(study: Study) -> list[str]:
    return [f"also: {name} is unavailable and left out: {why}" for name, why in study.unavailable.items()]


def _warnings(study: Study, arms: tuple[PlannedArm, ...]) -> tuple[str, ...]:
    """The study's own, but for levels that no arm has alone, and what only a combination brings up."""
    base, names = set(arms[0].resolved.cautions), {arm.name for arm in arms}
    levels = {f"{factor}={level}" for factor, members in study.factors.items() for level in members}
    own = [text for text in study.warnings if (start := text.partition(": ")[0]) in names or start not in levels]
    combined = [arm for arm in arms if len(arm.arm.changes) > 1]
    found = [f"{arm.name}: {text}" for arm in combined for text in arm.resolved.cautions if text not in base]
    return (*own, *found)
