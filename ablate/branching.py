"""Which trials of a plan have a first part in common, so that it is trained once: the others go on from a checkpoint.

The first such trial in the order of the plan is the trunk: it leaves a checkpoint where another branches off, for as
long as one of those is to come. Whatever is not there when a trial begins, it trains itself: the numbers are the same.
On a GPU nothing is shared, as two runs of one trial are not equal to the bit there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ablate import events
from ablate.artifacts import remove_branches
from ablate.records import StudyFolder, TrialFolder, TrialSpec, canonical
from trainers.prefix import branch_point
from trainers.recipe import Recipe


@dataclass(frozen=True)
class Branch:
    """Where a trial goes on from: what `trunk` had trained after `step` generator updates."""

    trunk: str
    step: int


def branches(specs: Mapping[str, TrialSpec]) -> dict[str, Branch]:
    """Trial -> its branch, for those that can share a first part with an earlier one of `specs`."""
    if not any(spec.recipe["stages"] for spec in specs.values()):
        return {}
    point, found = _points(), {}
    alike: dict[str, list[tuple[str, str]]] = {}  # what has to be equal -> (trial, its recipe) in their order
    for id, spec in specs.items():
        if spec.device != "cpu":
            continue
        recipe = canonical(spec.recipe)
        earlier = alike.setdefault(_besides_stages(spec), [])
        step, trunk = max(((point(other, recipe), -at) for at, (_, other) in enumerate(earlier)), default=(0, 0))
        if step:
            found[id] = Branch(earlier[-trunk][0], step)
        earlier.append((id, recipe))
    return found


def _besides_stages(spec: TrialSpec) -> str:
    recipe = {key: value for key, value in spec.recipe.items() if key != "stages"}
    document = {key: value for key, value in spec.to_json().items() if key not in ("id", "keep")}
    return canonical({**document, "recipe": recipe})


def _points() -> Callable[[str, str], int]:
    """Where two recipes branch off, each recipe read and each pair compared once: seeds repeat them."""
    read = cache(lambda text: Recipe.from_document(json.loads(text)))
    return cache(lambda one, two: branch_point(read(one), read(two)))


def for_worker(id: str, found: Mapping[str, Branch]) -> dict[str, Any]:
    """What a trial's spec.json says of sharing: the branches that it leaves, for whom, and the one that it takes."""
    leaves: dict[int, list[str]] = {}
    for other, branch in found.items():
        if branch.trunk == id:
            leaves.setdefault(branch.step, []).append(other)
    said: dict[str, Any] = {}
    if leaves:
        said["branches"] = [{"step": step, "for": leaves[step]} for step in sorted(leaves)]
    if id in found:
        said["trunk"] = {"trial": found[id].trunk, "step": found[id].step}
    return said


def left_for(folder: TrialFolder) -> dict[int, list[str]]:
    """Update -> trials that branch off there, as a trial's spec.json says; empty where it says nothing."""
    try:
        document = json.loads(folder.spec.read_bytes())
        return {one["step"]: one["for"] for one in document.get("branches", ())}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


@dataclass
class Branching:
    """What a driver knows of its plan's branches: which are there, and who waits for one."""

    folder: StudyFolder
    found: Mapping[str, Branch]
    _left: set[Branch] = field(default_factory=set)
    _promised: dict[str, Collection[int]] = field(default_factory=dict)  # trunk -> updates that its spec.json names

    def look(self, unfinished: Collection[str]) -> None:
        """Take note of the branches that trunks with work left have left before."""
        for trunk in {branch.trunk for branch in self.found.values()} & {*unfinished}:
            for event in events.read(self.folder.trial(trunk).events):
                self.follow(trunk, event)

    def follow(self, id: str, event: events.Event) -> None:
        if isinstance(event, events.Saved) and event.what == "branch":
            self._left.add(Branch(id, event.step))

    def awaited(self, id: str, unfinished: Collection[str]) -> bool:
        """Whether a trial should wait: its trunk runs, or is to run, and has yet to come to the branch."""
        branch = self.found.get(id)
        if branch is None or branch in self._left or branch.trunk not in unfinished:
            return False
        folder = self.folder.trial(branch.trunk)
        if branch.trunk not in self._promised and folder.spec.exists():
            self._promised[branch.trunk] = left_for(folder)  # nothing, where it began when nobody was to share
        return branch.step in self._promised.get(branch.trunk, (branch.step,))

    def ended(self, id: str, results: Collection[str]) -> None:
        """Remove the branches of this trial and of its trunk, once nobody is to come who could take them."""
        for trunk in self._touched(id):
            if all(other in results for other, branch in self.found.items() if branch.trunk == trunk):
                remove_branches(self.folder.trial(trunk).branches)

    def _touched(self, id: str) -> Iterator[str]:
        yield id
        if id in self.found:
            yield self.found[id].trunk
