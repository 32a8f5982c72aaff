"""`ablate compare`: what changed from one study to another, in recipe, data, code, machine, plan and numbers.

One document, which `--json` prints and `ablate.compare_words` puts in words. A change is a pair of values, that of A
first; `known` is false where one of the two does not say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ablate.patches import differences

if TYPE_CHECKING:
    from reports.changes import Changes
    from reports.recorded import Recorded

SCHEMA = 1
PLANNED = ("question", "trainer", "design", "family", "full", "seeds", "metric", "also", "failure", "confirms")
DATA = ("fingerprint", "layout", "tiles", "scenes")
MACHINE = ("host", "platform", "device", "gpus", "cores", "slots", "python")
COST = ("trial_seconds", "core_hours")


def document(a: Recorded, b: Recorded, changes: Changes | None, why_not: str = "") -> dict[str, Any]:
    """All that changed; `changes` are the numbers' own, None with a reason where they can't be compared."""
    found = {
        "schema": SCHEMA, "a": _names(a), "b": _names(b), "recipe": recipe(a.plan, b.plan), "data": data(a, b),
        "code": code(a, b), "machine": machine(a, b), "plan": plan(a, b), "numbers": numbers(a, b, changes, why_not),
        "reproduced": reproduced(a, b),
    }  # fmt: skip
    return _json(found)


def _names(side: Recorded) -> dict[str, Any]:
    return {"name": side.name, "baseline": side.baseline, "arms": list(side.scores.arms), "plan": side.plan.get("hash")}


# -- recipe, data, code, machine, plan ---------------------------------------------------------------


def recipe(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Paths of the base that differ, and arms that came, went, were renamed or changed."""
    if not ("base" in a and "base" in b):
        return {"known": False, "same": None}
    base = differences(_without_data(a["base"]), _without_data(b["base"]))
    one, other = ({arm["name"]: arm for arm in plan["arms"]} for plan in (a, b))
    renamed = _renamed(a, b, one, other)
    changed = {name: _changed_arm(one[name], other[name]) for name in one if name in other}
    arms = {
        "added": [name for name in other if name not in one and name not in renamed.values()],
        "removed": [name for name in one if name not in other and name not in renamed],
        "renamed": renamed,
        "changed": {name: paths for name, paths in changed.items() if paths},
    }
    return {"known": True, "same": not base and not arms["changed"], "base": base, "arms": arms}


def _without_data(base: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in base.items() if key != "data"}


def _changed_arm(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Paths that the arm sets to different values; None where it leaves the base's."""
    sets = [{path: pair[1] for path, pair in (arm.get("differences") or {}).items()} for arm in (one, other)]
    paths = dict.fromkeys([*sets[0], *sets[1]])
    absent = object()
    return {
        path: (sets[0].get(path), sets[1].get(path))
        for path in paths
        if sets[0].get(path, absent) != sets[1].get(path, absent)
    }


def _renamed(a: Mapping, b: Mapping, one: Mapping, other: Mapping) -> dict[str, str]:
    """Arms of A that run the very same trials in B under another name."""
    trials = [{}, {}]
    for found, plan in zip(trials, (a, b), strict=True):
        for cell in plan["cells"]:
            found.setdefault(cell["arm"], set()).add(cell["trial"])
    return {
        name: new
        for name in one
        if name not in other
        for new in other
        if new not in one and trials[0].get(name) and trials[0].get(name) == trials[1].get(new)
    }


def data(a: Recorded, b: Recorded) -> dict[str, Any]:
    """Fingerprint, counts, options and scenes of the data that differ, and what was said of only one of the two."""
    prints = [side.data.get("fingerprint") for side in (a, b)]
    known = all(prints)
    options = differences(*({"data": (side.plan.get("base") or {}).get("data") or {}} for side in (a, b)))
    cautions = [set(side.data.get("cautions") or ()) for side in (a, b)]
    return {
        "known": known, "same": prints[0] == prints[1] if known else None,
        "changed": _pairs(a.data, b.data, DATA) if known else {}, "options": options if known else {},
        "scenes_moved": _moved(a.data.get("splits"), b.data.get("splits")),
        "cautions": {"a": sorted(cautions[0] - cautions[1]), "b": sorted(cautions[1] - cautions[0])},
    }  # fmt: skip


def _moved(a: Any, b: Any) -> dict[str, list[str]]:
    """Split -> scenes that are in it in one study and not in the other."""
    if not (isinstance(a, Mapping) and isinstance(b, Mapping)):
        return {}
    found = {split: sorted(set(map(str, a.get(split) or ())) ^ set(map(str, b.get(split) or ()))) for split in [*a, *b]}
    return {split: scenes for split, scenes in found.items() if scenes}


def code(a: Recorded, b: Recorded) -> dict[str, Any]:
    """States of the training code and torch that the runs were made with, and versions of packages."""
    known = bool(a.code and b.code)
    versions = [side.provenance.get("versions") or {} for side in (a, b)]
    return {
        "known": known, "same": a.code == b.code if known else None, "training": [list(a.code), list(b.code)],
        "versions": differences(*versions) if all(versions) else {},
    }  # fmt: skip


def machine(a: Recorded, b: Recorded) -> dict[str, Any]:
    """Hardware and ranks that differ, and what each study cost."""
    known = bool(a.provenance and b.provenance)
    resources = differences(*({"resources": side.plan.get("resources") or {}} for side in (a, b)))
    changed = _pairs(a.provenance, b.provenance, MACHINE) if known else {}
    cost = {key: (a.provenance.get(key), b.provenance.get(key)) for key in COST}
    cost["trial_seconds"] = tuple(
        value if side.seconds is None else side.seconds
        for value, side in zip(cost["trial_seconds"], (a, b), strict=True)
    )
    return {"known": known, "changed": {**changed, **(resources if a.plan and b.plan else {})}, "cost": cost}


def plan(a: Recorded, b: Recorded) -> dict[str, Any]:
    """What was asked and how, where it differs; below the metric by its keys."""
    if not (a.plan and b.plan):
        return {"known": False, "changed": differences({"metric": asdict(a.metric)}, {"metric": asdict(b.metric)})}
    sides = [{key: side.plan.get(key) for key in PLANNED} for side in (a, b)]
    for side in sides:
        side["also"] = [one["name"] if isinstance(one, Mapping) else one for one in side["also"] or ()]
        side["family"] = side["family"] or "vs_baseline"
    return {"known": True, "changed": differences(*sides)}


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any], keys: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


# -- numbers -----------------------------------------------------------------------------------------


def numbers(a: Recorded, b: Recorded, changes: Changes | None, why_not: str) -> dict[str, Any]:
    """Per common arm its difference from its own baseline in either study, and how far the two are apart."""
    metric = {**asdict(a.metric), "scale": a.scale}
    if changes is None:
        return {"compared": False, "why": why_not, "metric": metric, "arms": [], "verdicts_changed": []}
    arms = [
        {"arm": one.arm, "a": _effect(a, one.arm), "b": _effect(b, one.arm), "change": one.change, "low": one.low,
         "high": one.high, "p_adjusted": one.p_adjusted, "verdict": one.verdict}
        for one in changes.changes
    ]  # fmt: skip
    return {
        "compared": True, "metric": metric, "paired": changes.paired, "seeds": list(changes.seeds),
        "alpha": changes.alpha, "seeds_of": [list(a.scores.seeds), list(b.scores.seeds)],
        "baseline_means": [_mean(a), _mean(b)], "baseline": asdict(changes.baseline), "arms": arms,
        "verdicts_changed": [row["arm"] for row in arms if row["a"]["verdict"] != row["b"]["verdict"]],
    }  # fmt: skip


def _effect(side: Recorded, arm: str) -> dict[str, Any]:
    effect = side.effects[arm]
    return {key: getattr(effect, key) for key in ("difference", "low", "high", "verdict")}


def _mean(side: Recorded) -> float | None:
    values = [value for value in side.scores.values[0].tolist() if math.isfinite(value)]
    return math.fsum(values) / len(values) if values else None


def reproduced(a: Recorded, b: Recorded) -> dict[str, Any]:
    """Trials with one id, hence one recipe, seed, data and layout of ranks: how many ended with the same value."""
    if a.metric.name != b.metric.name:
        return {"trials": 0, "identical": 0, "largest_difference": None}
    values = [{cell.trial: cell.score for cell in side.cells.values() if cell.trial} for side in (a, b)]
    shared = [(values[0][trial], values[1][trial]) for trial in values[0] if trial in values[1]]
    finished = [(one, other) for one, other in shared if math.isfinite(one) and math.isfinite(other)]
    apart = [abs(one - other) for one, other in finished]
    return {"trials": len(apart), "identical": apart.count(0.0), "largest_difference": max(apart, default=None)}


def _json(value: Any) -> Any:
    """The document as JSON holds it: pairs as lists, no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
