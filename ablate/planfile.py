"""The plan that a study's folder holds: what is there must be this study, or be added to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ablate import startfiles
from ablate.failpoints import failpoint
from ablate.patches import differences
from ablate.plan import Plan
from ablate.race import looks_of
from ablate.records import StudyFolder, write_atomically
from ablate.searchplan import only_adds
from ablate.stored import read_plan
from ablate.yamlfile import write_yaml

SHOWN_DIFFERENCES = 12


class StudyChanged(Exception):
    """The runs folder holds another study under this name; the text shows what differs."""


def check_plan(plan: Plan, folder: StudyFolder, *, extend: bool) -> None:
    """Raises StudyChanged where the folder holds results of another plan, unless this one only adds to it."""
    folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not folder.plan.exists() or not any(folder.root.glob("trials/*/events.jsonl")):
        return  # without a result there is nothing to protect
    before, now = read_plan(folder), plan.to_json()
    if before["hash"] == now["hash"]:
        return
    if extend and _only_adds(before, now):
        if looks_of(folder):
            raise StudyChanged(f"{folder.root}: its race was decided on what it was; nothing can be added any more")
        return
    raise StudyChanged(_what_changed(folder, before, now))


def _only_adds(before: dict, now: dict) -> bool:
    """Whether every cell of the plan before is in the new one with the same trial, and the question is the same."""
    cells = [{(cell["arm"], cell["seed"], cell["trial"]) for cell in plan["cells"]} for plan in (before, now)]
    if before.get("race") != now.get("race") or ("search" in before) != ("search" in now):
        return False
    if "search" in before and not only_adds(before["search"], now["search"]):
        return False
    return cells[0] <= cells[1] and all(before[key] == now[key] for key in ("metric", "also", "failure", "data"))


def write_plan(plan: Plan, folder: StudyFolder) -> None:
    """Write study.yaml and plan.json; a plan with the same hash stays as it was written.

    What is no part of the plan, as where its stores and its data are, is read in study.yaml by others: it follows.
    """
    document = plan.to_json()
    recipes = [arm.resolved.recipe for arm in plan.arms]
    text = write_yaml(startfiles.in_own_copies(plan.study.text, recipes, folder.cache, beside=folder.root))
    if not folder.study.exists() or folder.study.read_text() != text:
        write_atomically(folder.study, text)
        failpoint("study-written")
    if _hash(folder) != document["hash"]:
        write_atomically(folder.plan, json.dumps(document, indent=1))
        failpoint("plan-written")


def _hash(folder: StudyFolder) -> str:
    """Of the plan that is there; empty where it is none, or damaged, which without results is no loss."""
    try:
        return str(json.loads(folder.plan.read_text())["hash"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _what_changed(folder: StudyFolder, before: dict, now: dict) -> str:
    """Arms by name rather than by place, so that one more arm does not shift all others."""
    for document in (before, now):
        document["arms"] = {arm["name"]: arm for arm in document["arms"]}
    derived = ("hash", "cells", "data_sets")
    changed = differences(_without(before, *derived), _without(now, *derived))
    lines = [f"  {path}: {_shown(old)} -> {_shown(new)}" for path, (old, new) in changed.items()]
    more = [f"  ... and {len(lines) - SHOWN_DIFFERENCES} more"] if len(lines) > SHOWN_DIFFERENCES else []
    return "\n".join((
        f"{folder.root} holds another study under the name {folder.name!r}; what differs:",
        *lines[:SHOWN_DIFFERENCES], *more,
        "give this one another name (--set name=...) or another runs folder (--runs);",
        "--extend accepts a study that only adds arms, seeds or trials of a search",
    ))  # fmt: skip


def _shown(value: Any) -> str:
    """Seeds and the like without brackets, shortened where nobody would count them."""
    if not isinstance(value, list) or not all(isinstance(one, int) for one in value):
        return repr(value)
    few = value if len(value) <= SHOWN_DIFFERENCES else [*value[:3], "...", value[-1]]
    return ", ".join(map(str, few)) or "none"


def _without(document: Mapping, *keys: str) -> dict:
    return {key: value for key, value in document.items() if key not in keys}
