"""Racing: whole arms stop after whole seeds, by a rule that sees nothing but the outcomes until then.

A look is decided once every arm that is still in the race has its outcomes for all seeds up to it, and is on
disk before anything follows from it: a killed driver reads it again and never decides twice. The base never stops.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ablate.conditions import BASE
from ablate.problems import shown
from ablate.records import StudyFolder, write_atomically
from ablate.sources import Sources

FIRST_LOOK = 3  # seeds: fewer give no error estimate that is worth a decision
ALPHA = 0.05  # of a whole race: each look gets an equal part


class Judge(Protocol):
    """Which arms leave: arm -> why.

    `scores` maps arms to their values by seed (NaN where a run did not finish), the base first; `worth` to the
    same with failed runs at their penalty.
    """

    def __call__(self, scores: Mapping[str, Sequence[float]], *, goal: str, metric: str, alpha: float) -> dict: ...


@dataclass(frozen=True)
class Race:
    """Looks after so many whole seeds. `keep` is the share of arms that goes on (halving), None for the best set."""

    looks: tuple[int, ...]
    keep: float | None = None

    @property
    def noun(self) -> str:
        return "race" if self.keep is None else "halving"

    @property
    def alpha(self) -> float | None:
        """Of one look; halving makes no claim and has none."""
        return ALPHA / len(self.looks) if self.keep is None else None

    def to_json(self) -> dict[str, Any]:
        rule = {"rule": "best_set", "alpha": ALPHA} if self.keep is None else {"rule": "halving", "keep": self.keep}
        return {"looks": list(self.looks), **rule}


@dataclass(frozen=True)
class Look:
    """What was decided after so many seeds: the arms that stop, each with its reason, and those that go on."""

    after: int
    alpha: float | None
    stopped: Mapping[str, str]
    kept: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"after": self.after, "alpha": self.alpha, "stopped": dict(self.stopped), "kept": list(self.kept)}


def looks_of(folder: StudyFolder) -> tuple[Look, ...]:
    """The looks decided so far."""
    if not folder.race.exists():
        return ()
    documents = json.loads(folder.race.read_text())["looks"]
    return tuple(Look(one["after"], one["alpha"], one["stopped"], tuple(one["kept"])) for one in documents)


def record(folder: StudyFolder, looks: Sequence[Look]) -> None:
    write_atomically(folder.race, json.dumps({"looks": [look.to_json() for look in looks]}, indent=1))


def decide(
    race: Race,
    after: int,
    scores: Mapping[str, Sequence[float]],
    worth: Mapping[str, Sequence[float]],
    *,
    goal: str,
    metric: str,
    judge: Judge,
) -> Look:
    """The look after that many seeds. `scores` and `worth` hold the arms in the race, the base first.

    `scores` has NaN where a run did not finish, `worth` the penalty there. The order of arms or events is no matter.
    """
    number = race.looks.index(after) + 1
    if race.keep is None:
        left = judge(scores, goal=goal, metric=metric, alpha=race.alpha)
    else:
        left = halved(worth, goal=goal, keep=race.keep)
    ends = f"after {after} seeds (look {number} of {len(race.looks)})"
    stopped = {arm: f"{race.noun}: {why} {ends}" for arm, why in left.items() if arm != BASE}
    return Look(after, race.alpha, stopped, tuple(arm for arm in scores if arm not in stopped))


def halved(worth: Mapping[str, Sequence[float]], *, goal: str, keep: float) -> dict[str, str]:
    """Arms below the best share `keep` by their mean, the base not counted; ties go to the arm planned first.

    An arm without any value ranks last.
    """
    sign = 1.0 if goal == "max" else -1.0
    means = {arm: _mean([sign * value for value in values]) for arm, values in worth.items() if arm != BASE}
    order = sorted(means, key=lambda arm: -means[arm])
    kept = max(1, math.ceil(keep * len(order)))
    return dict.fromkeys(order[kept:], f"not among the best {kept} of {len(order)} by mean")


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else -math.inf


# -- as a study states it ---------------------------------------------------------------------------


def read_race(sources: Sources, seeds: int) -> Race | None:
    """`race: true` or `race: {from: 3}` or `race: {looks: [3, 5]}`, for that many seeds; None without one."""
    raw = sources.data.get("race", False)
    if raw is False:
        return None
    asked = {} if raw is True else raw
    if not isinstance(asked, Mapping):
        sources.refuse(("race",), f"expected true, or a mapping such as {{from: 3}}, found {shown(raw)}")
        return None
    for key in [key for key in asked if key not in ("from", "looks")]:
        sources.refuse(("race", key), f"no such option of a race: {key}; there are from, looks")
    if "looks" in asked:
        return Race(_listed(sources, asked["looks"], seeds))
    first = asked.get("from", FIRST_LOOK)
    if not _is_count(first) or first < FIRST_LOOK:
        sources.refuse(("race", "from"), f"expected a whole number of seeds from {FIRST_LOOK} on, found {shown(first)}")
        first = FIRST_LOOK
    if first >= seeds:
        place = ("race", "from") if "from" in asked else ("race",)
        sources.refuse(place, f"the first look comes after {first} seeds, and the study ends at {seeds}: nothing is "
                              f"left to stop; take at least {first + 1} seeds, or the race away")  # fmt: skip
    return Race(tuple(range(first, max(seeds, first + 1))))


def _listed(sources: Sources, raw: Any, seeds: int) -> tuple[int, ...]:
    good = isinstance(raw, list) and raw and all(map(_is_count, raw)) and sorted(set(raw)) == raw
    if not good or not FIRST_LOOK <= raw[0] <= raw[-1] < seeds:
        allowed = f"rising numbers of seeds from {FIRST_LOOK} to {seeds - 1}"
        sources.refuse(("race", "looks"), f"expected {allowed}, such as [3, 5], found {shown(raw)}")
        return (FIRST_LOOK,)
    return tuple(raw)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
