"""`ablate confirm`: a study's best arms and its base again, on seeds that selected nothing and on the test split.

What was selected and estimated on the same seeds looks better than it is. A confirmation is a study of its own,
in the folder NAME-confirm: the recipe as it ran, the arms as a list, other seeds, test scenes scored once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ablate.design import BASE
from ablate.problems import Problem, StudyError, no_such
from ablate.records import SLUG, StudyFolder
from ablate.stored import read_mapping, read_plan

if TYPE_CHECKING:
    from ablate.plan import Plan
    from ablate.study import Confirms

FEWEST_SEEDS = 5  # fewer are exploratory


class Selection(Protocol):
    """What a study's report holds for the best: `arms` without the base, best first; `open` trials lack an outcome."""

    @property
    def arms(self) -> tuple[str, ...]: ...

    @property
    def planned(self) -> int: ...

    @property
    def open(self) -> int: ...


def settings(
    folder: StudyFolder, selection: Selection, *, arms: Sequence[str] = (), seeds: int | None = None
) -> list[str]:
    """What `--set` has to change in the study as it ran, to make its confirmation.

    `arms` takes the place of the selection; `seeds` is the number of fresh ones (as many as the study had, at least
    five). Raises StudyError for a study that isn't finished, an unknown arm, and where nothing was selected.
    """
    plan = json.loads(folder.plan.read_text())
    if selection.open:
        there = f"{selection.open} of {selection.planned} trials have no outcome yet"
        raise _refusal(folder, f"{there}; finish it first: ablate run {folder.name}")
    chosen = _chosen(folder, plan, tuple(arms) or selection.arms)
    fresh = _fresh(plan["seeds"], seeds or max(len(plan["seeds"]), FEWEST_SEEDS))
    confirms = {"study": plan["name"], "plan": plan["hash"], "arms": [arm["name"] for arm in chosen],
                "seeds": plan["seeds"]}  # fmt: skip
    changed: dict[str, Any] = {
        "name": folder.confirmation.name,
        "question": f"Does what {plan['name']} selected hold on fresh seeds and test scenes?",
        "design": {"list": {arm["name"]: arm["changes"] for arm in chosen}},
        "seeds": fresh, "metric.split": "test", "base.evaluate.test": True, "confirms": confirms,
        "metric.family": "vs_baseline", "aa": False,
    }  # fmt: skip
    changed |= {"race": None} if plan.get("race") else {}  # every run counts here
    changed |= _drawn(chosen) if plan.get("search") else {}
    return [f"{key}={json.dumps(value)}" for key, value in changed.items()]


def _drawn(arms: Sequence[dict]) -> dict[str, Any]:
    """The arms that a search drew, as the levels of one factor: they have no others."""
    levels = {arm["name"]: arm["patch"] for arm in arms}
    listed = {name: {"drawn": name} for name in levels}
    return {"factors": {"drawn": levels}, "never": None, "design": {"list": listed}}


def begun(folder: StudyFolder) -> Path | None:
    """The file of a confirmation of this very plan that has begun, else None."""
    beside = folder.confirmation
    if not beside.plan.exists():
        return None
    confirms = json.loads(beside.plan.read_text()).get("confirms") or {}
    return beside.study if confirms.get("plan") == json.loads(folder.plan.read_text())["hash"] else None


def unfounded(name: str, confirms: Confirms, runs: Path) -> Iterator[tuple[str, str]]:
    """What the study `name` says of the one that it confirms and that isn't so: (key of `confirms`, sentence).

    A confirmation that has begun stands, whatever has become of that study since. Raises Damaged.
    """
    own, theirs = StudyFolder(runs, name), StudyFolder(runs, confirms.study)
    if own.plan.is_file() and read_mapping(own.plan).get("confirms") == json.loads(json.dumps(asdict(confirms))):
        return
    written = "`confirms` is what `ablate confirm` writes"
    if not SLUG.fullmatch(confirms.study) or not theirs.plan.is_file():
        said = f"no study {confirms.study!r} has run under {runs}/" if confirms.study else "is missing"
        yield "study", f"{said}; {written}: leave it out"
        return
    plan = read_plan(theirs)
    if plan["hash"] != confirms.plan:
        was = f"the plan of {confirms.study} is {plan['hash']}, not {confirms.plan!r}"
        yield "plan", f"{was}; {written}: ablate confirm {confirms.study}"
        return
    known = {arm["name"] for arm in plan["arms"]}
    for arm in (arm for arm in confirms.arms if arm not in known):
        yield "arms", no_such("arm", arm, known)
    if missing := sorted(set(plan["seeds"]) - set(confirms.seeds)):
        yield "seeds", f"{confirms.study} selected on seed {missing[0]} too; expected all of {plan['seeds']}"


def _chosen(folder: StudyFolder, plan: dict, names: tuple[str, ...]) -> list[dict]:
    known = {arm["name"]: arm for arm in plan["arms"] if not arm.get("twin_of")}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise _refusal(folder, f"--arm: {no_such('arm', unknown[0], known)}")
    chosen = [known[name] for name in dict.fromkeys(names) if name != BASE]
    if not chosen:
        raise _refusal(folder, "no arm but the base is left to confirm: name some with --arm")
    return chosen


def _fresh(used: Sequence[int], number: int) -> list[int]:
    first = max(used) + 1
    return list(range(first, first + number))


def _refusal(folder: StudyFolder, message: str) -> StudyError:
    return StudyError([Problem(folder.name, 0, 0, "", message)])


def describe(plan: Plan) -> str:
    """What is about to be trained, in two lines."""
    study, names = plan.study, [arm.name for arm in plan.arms]
    seeds = f"seeds {study.seeds[0]} to {study.seeds[-1]}" if len(study.seeds) > 1 else f"seed {study.seeds[0]}"
    selected = ", ".join(map(str, study.confirms.seeds))
    return (
        f"{study.name}: {', '.join(names)} on {seeds}, {len(plan.specs)} trials, ranked by the test scenes\n"
        f"selected on seeds {selected} of {study.confirms.study}, by validation scenes"
    )
