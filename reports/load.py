"""A study folder as typed records: the plan, and what every planned cell came to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.code import states
from ablate.events import Ended, Warned, fold, read
from ablate.records import Status, StudyFolder, TrialFolder, TrialResult
from reports.streams import compact, elapsed, uncollected

WAITING, UNFINISHED = "waiting", "unfinished"
ARMS_OWN = "arm"  # a failure whose reason starts so is the arm's outcome, not the machine's


@dataclass(frozen=True)
class Metric:
    name: str
    label: str
    unit: str
    goal: str  # max or min

    @classmethod
    def of(cls, document: Mapping[str, Any] | str) -> Metric:
        if isinstance(document, str):
            return cls(document, document, "", "max")
        name = document["name"]
        return cls(name, document.get("label") or name, document.get("unit") or "", document.get("goal", "max"))


@dataclass(frozen=True)
class Run:
    """One cell of the plan. `outcome` is a Status, `unfinished` (no end recorded) or `waiting`.

    `flags` maps a pathology that was warned of to the first generator update at which it was.
    """

    arm: str
    seed: int
    trial: str
    outcome: str
    result: TrialResult | None = None
    flags: Mapping[str, int] = field(default_factory=dict)
    samples: Path | None = None
    code: tuple[str, ...] = ()  # states of training code and torch, in the order of its attempts, each once
    split: str = "validation"  # that final values are read from
    scores: Path | None = None  # per tile of that split: tile, scene, a column per metric
    elapsed: Mapping[int, float] = field(default_factory=dict)  # step scored on that split -> hours of training

    @property
    def done(self) -> bool:
        return self.outcome == Status.done

    @property
    def failed_by_itself(self) -> bool:
        """An outcome of the arm: diverged, collapsed, or a failure that its recipe caused."""
        if self.outcome == Status.failed:
            return self.result is not None and self.result.why.split(":")[0].strip() == ARMS_OWN
        return self.outcome in (Status.diverged, Status.collapsed)

    @property
    def missing(self) -> bool:
        """No outcome yet: still to be run, or lost to the machine."""
        return self.outcome in (WAITING, UNFINISHED) or (self.outcome == Status.failed and not self.failed_by_itself)

    @property
    def spared(self) -> bool:
        """A race stopped the arm before this run began."""
        return self.outcome == Status.stopped and (self.result is None or not self.result.curves)

    def score(self, metric: str) -> float:
        """Final value on the split that the study is read on; NaN unless the run is done and has it."""
        return self.result.final(metric, self.split) if self.done and self.result else float("nan")

    def curve(self, split: str, key: str) -> tuple[tuple[int, int, float], ...]:
        return self.result.curves.get((split, key), ()) if self.result else ()


@dataclass(frozen=True)
class PlannedArm:
    """A distinct recipe; `aliases` are further names of the plan for the same trials."""

    name: str
    changes: Mapping[str, str]
    differences: Mapping[str, tuple[Any, Any]]
    generator_updates: int | None
    images: int | None
    notes: tuple[str, ...]
    terms: tuple[str, ...] = ()  # that the arm trains on
    aliases: tuple[str, ...] = ()
    alias_changes: tuple[Mapping[str, str], ...] = ()  # factor -> level of each alias
    sampled: Mapping[str, Any] = field(default_factory=dict)  # parameters that a search drew for it

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class Results:
    """Everything a report is made of. The first arm is the baseline."""

    name: str
    question: str
    trainer: str
    design: str
    metric: Metric
    split: str
    smallest_effect: float | None
    also: tuple[Metric, ...]
    failure: str | float
    seeds: tuple[int, ...]
    arms: tuple[PlannedArm, ...]
    runs: Mapping[tuple[str, int], Run]  # (arm, seed); an alias has no runs of its own
    cells: int  # planned, aliases included
    references: Mapping[str, Mapping[str, float]]  # predictor -> metric -> value
    resources: Mapping[str, Any]
    warnings: tuple[str, ...]
    data: Mapping[str, Any]
    hash: str
    provenance: Mapping[str, Any]
    unavailable: tuple[tuple[Metric, str], ...] = ()  # metrics that were asked for and could not be computed, and why
    family: str = "vs_baseline"  # what the claims are about: vs_baseline, all_pairs, factor_effects
    factors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # factor -> levels, the base's first
    full: Mapping[str, str] | None = None  # factor -> level of the full recipe, where the design has one
    properties: Mapping[str, Any] = field(default_factory=dict)  # of the design: resolution, generators, aliases, ...
    twin: tuple[Run, ...] = ()  # the baseline again (A/A); never in a table of arms
    search: Mapping[str, Any] = field(default_factory=dict)  # sampler, trials, space, importances; empty elsewhere
    looks: tuple[Mapping[str, Any], ...] = ()  # of a race: what was stopped, when and why
    confirms: Mapping[str, Any] = field(default_factory=dict)  # study, plan, arms and seeds that this one confirms
    confirmation: Results | None = None  # of this study's best arms, on fresh seeds and the test split

    @property
    def baseline(self) -> str:
        return self.arms[0].name

    @property
    def test_reads(self) -> int:
        """How many plans had scored this data's test scenes when this one did, itself included; 0 if it didn't."""
        return int(self.data.get("test_reads", 0))

    def of(self, arm: str) -> tuple[Run, ...]:
        """The runs of one arm in the order of the seeds."""
        return tuple(self.runs[arm, seed] for seed in self.seeds if (arm, seed) in self.runs)

    @property
    def all_runs(self) -> tuple[Run, ...]:
        return tuple(run for arm in self.arms for run in self.of(arm.name))


def load(study_folder: Path) -> Results:
    """Read the plan and all trials of a study. Raises FileNotFoundError without a plan."""
    with uncollected():
        return _load(study_folder)


def _load(study_folder: Path) -> Results:
    folder = StudyFolder(study_folder.parent, study_folder.name)
    if not folder.plan.exists():
        raise FileNotFoundError(f"{folder.plan}: no plan here; a study's folder holds plan.json once it has been run")
    plan = json.loads(folder.plan.read_text())
    twins = {document["name"] for document in plan["arms"] if document.get("twin_of")}
    cells = {(cell["arm"], cell["seed"]): cell["trial"] for cell in plan["cells"]}
    arms, own = _distinct(
        [document for document in plan["arms"] if document["name"] not in twins],
        {cell: trial for cell, trial in cells.items() if cell[0] not in twins},
    )
    metric = plan["metric"]
    split = metric.get("split", "validation")
    return Results(
        name=plan["name"],
        question=plan.get("question") or "",
        trainer=plan.get("trainer") or "",
        design=plan.get("design") or "list",
        metric=Metric.of(metric),
        split=split,
        smallest_effect=metric.get("smallest_effect"),
        also=tuple(Metric.of(entry) for entry in plan.get("also") or ()),
        failure=(plan.get("failure") or {}).get("score", "mean_colour"),
        seeds=tuple(plan["seeds"]),
        arms=arms,
        runs={cell: _run(folder.trial(trial), *cell, trial, split) for cell, trial in sorted(own.items())},
        cells=len(plan["cells"]),
        references=_references(folder.references, split),
        resources=plan.get("resources") or {},
        warnings=tuple(plan.get("warnings") or ()),
        data={**(plan.get("data") or {}), **(json.loads(folder.data.read_text()) if folder.data.exists() else {})},
        hash=plan.get("hash") or "",
        provenance=json.loads(folder.provenance.read_text()) if folder.provenance.exists() else {},
        unavailable=tuple((Metric.of(entry), str(entry["why"])) for entry in plan.get("unavailable") or ()),
        family=plan.get("family") or "vs_baseline",
        factors={factor: tuple(levels) for factor, levels in (plan.get("factors") or {}).items()},
        full=plan.get("full"),
        properties=plan.get("properties") or {},
        twin=tuple(
            _run(folder.trial(trial), *cell, trial, split) for cell, trial in sorted(cells.items()) if cell[0] in twins
        ),
        search=_search(plan, folder),
        looks=_looks(folder),
        confirms=plan.get("confirms") or {},
        confirmation=_confirmation(folder, plan),
    )


def _confirmation(folder: StudyFolder, plan: Mapping[str, Any]) -> Results | None:
    """The study that `ablate confirm` made of this plan, once every trial of it has an outcome."""
    beside = folder.confirmation
    if not beside.plan.exists():
        return None
    confirms = json.loads(beside.plan.read_text()).get("confirms") or {}
    if (confirms.get("study"), confirms.get("plan")) != (plan["name"], plan.get("hash")):
        return None
    found = load(beside.root)
    return None if any(run.missing for run in found.all_runs) else found


def _search(plan: Mapping[str, Any], folder: StudyFolder) -> Mapping[str, Any]:
    """What was searched and how, with the importances once the search has ended."""
    found = json.loads(folder.search.read_text()) if folder.search.exists() else {}
    return {**plan["search"], **found} if plan.get("search") else {}


def _looks(folder: StudyFolder) -> tuple[Mapping[str, Any], ...]:
    return tuple(json.loads(folder.race.read_text())["looks"]) if folder.race.exists() else ()


def _distinct(
    documents: Sequence[Mapping[str, Any]], cells: Mapping[tuple[str, int], str]
) -> tuple[tuple[PlannedArm, ...], dict[tuple[str, int], str]]:
    """Arms that own their trials, with those that share them as aliases; and the cells that count."""
    owner: dict[str, str] = {}  # trial -> first arm with it
    alias: dict[str, list[str]] = {}
    kept, own = [], {}
    for document in documents:
        name = document["name"]
        mine = {cell: trial for cell, trial in cells.items() if cell[0] == name}
        sharing = sorted({owner[trial] for trial in mine.values() if trial in owner})
        if sharing:
            alias.setdefault(sharing[0], []).append(name)
            continue
        owner.update((trial, name) for trial in mine.values())
        own.update(mine)
        kept.append(document)
    changes = {document["name"]: document.get("changes") or {} for document in documents}
    planned = (_planned(document, tuple(alias.get(document["name"], ())), changes) for document in kept)
    return tuple(planned), own


def _planned(
    document: Mapping[str, Any], aliases: tuple[str, ...], changes: Mapping[str, Mapping[str, str]]
) -> PlannedArm:
    return PlannedArm(
        name=document["name"],
        changes=document.get("changes") or {},
        differences={path: (pair[0], pair[1]) for path, pair in (document.get("differences") or {}).items()},
        generator_updates=document.get("generator_updates"),
        images=document.get("images"),
        notes=tuple(document.get("notes") or ()),
        terms=tuple(document.get("terms") or ()),
        aliases=aliases,
        alias_changes=tuple(changes[name] for name in aliases),
        sampled=document.get("sampled") or {},
    )


def _run(folder: TrialFolder, arm: str, seed: int, trial: str, split: str) -> Run:
    if not folder.root.exists():
        return Run(arm, seed, trial, WAITING, split=split)
    events = compact(folder.events)
    result = fold(trial, events)
    ended = any(isinstance(event, Ended) for event in events)
    flags: dict[str, int] = {}
    for event in events:
        if isinstance(event, Warned):
            flags.setdefault(event.message.split(":")[0].strip(), event.step)
    samples = sorted(folder.samples.glob("*.npz"))
    return Run(
        arm,
        seed,
        trial,
        outcome=_outcome(folder, result, ended),
        result=result,
        flags=flags,
        samples=samples[-1] if samples else None,
        code=states(events),
        split=split,
        scores=scores if (scores := folder.scores_of(split)).exists() else None,
        elapsed=elapsed(events, split),
    )


def _outcome(folder: TrialFolder, result: TrialResult, ended: bool) -> str:
    if ended:
        return result.status.value
    return Status.failed.value if any(folder.root.glob("error.*.json")) else UNFINISHED


def _references(folder: TrialFolder, split: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    result = fold("references", read(folder.events))
    for key in (key for where, key in result.curves if where == split):
        predictor, _, metric = key.partition("/")
        if metric:
            found.setdefault(predictor, {})[metric] = result.final(key, split)
    return {name: found[name] for name in sorted(found)}
