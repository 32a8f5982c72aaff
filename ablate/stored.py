"""What a study's folder holds as JSON, checked at the door: a disk, an editor or a stranger may have changed it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablate.problems import shown
from ablate.records import SLUG, StudyFolder, TrialFolder
from ablate.yamlfile import read_yaml

MAX_BYTES = 256 * 2**20
REMEDY = "put it back from a copy, or move it away: `ablate run` with the study's file writes it anew"
REMEDY_OF_A_STREAM = "put the file back from a copy, or move the trial's folder away: `ablate run` then trains it again"
KINDS = {"name": str, "hash": str, "metric": dict, "arms": list, "seeds": list, "data": dict}
ARM = {"name": str}
SPEC = {"id": str, "recipe": dict, "seed": int, "ranks": int, "threads": int, "device": str, "data": str}
CELL = {"arm": str, "seed": int, "trial": str}


class Damaged(Exception):
    """A file of a study's folder isn't what ablate wrote there."""


def read_plan(folder: StudyFolder) -> dict[str, Any]:
    """The study's plan. Raises Damaged for it, and for what else of the folder is read beside it."""
    plan = read_outline(folder)
    _check(folder.plan, "", plan, KINDS)
    _check_each(folder.plan, "arms", plan, ARM)
    for beside in (folder.data, folder.provenance, folder.race):
        if beside.exists():
            read_mapping(beside)
    return plan


def read_outline(folder: StudyFolder) -> dict[str, Any]:
    """The plan as far as it says what is run: cells, and how many arms a search draws. Raises Damaged."""
    read_cells(folder)
    plan = read_mapping(folder.plan)
    if plan.get("search"):
        _check(folder.plan, "", plan, {"arms": list, "seeds": list, "search": dict})
        _check(folder.plan, "search", plan["search"], {"trials": int})
    return plan


def read_drawn(folder: StudyFolder) -> dict[str, Any]:
    """The plan with all that a search takes up again: its arms as they were drawn. Raises Damaged."""
    plan = read_plan(folder)
    if not plan.get("search"):
        return plan
    _check(folder.plan, "search", plan["search"], {"space": dict})
    _check(folder.plan, "properties", plan.get("properties"), {"refused": list})
    for at, arm in enumerate(plan["arms"]):
        if arm.get("sampled"):
            _check(folder.plan, f"arms[{at}]", arm, {"sampled": dict, "marks": dict})
            if unknown := arm["sampled"].keys() - plan["search"]["space"].keys():
                said = f"arms[{at}].sampled: {shown(min(unknown))} is no parameter of the search"
                raise Damaged(f"{folder.plan}: damaged: {said}; {REMEDY}")
    return plan


def read_cells(folder: StudyFolder) -> list[dict[str, Any]]:
    """The planned cells: arm, seed, and the trial whose folder is read. Raises Damaged."""
    plan = read_mapping(folder.plan)
    _check(folder.plan, "", plan, {"cells": list})
    _check_each(folder.plan, "cells", plan, CELL)
    for cell in plan["cells"]:
        if not SLUG.fullmatch(cell["trial"]) or ".." in cell["trial"]:  # it becomes a path
            raise Damaged(f"{folder.plan}: damaged: {shown(cell['trial'])} is no id of a trial; {REMEDY}")
    return plan["cells"]


def read_spec(folder: TrialFolder) -> dict[str, Any]:
    """The specification of a trial. Raises Damaged."""
    spec = read_mapping(folder.spec).get("spec")
    _check(folder.spec, "spec", spec, SPEC)
    return spec


def read_accepted_code(folder: StudyFolder) -> list[dict[str, Any]]:
    """What was accepted about changed code, each with `states`; empty where nothing was. Raises Damaged."""
    if not folder.accepted_code.exists():
        return []
    found = read_mapping(folder.accepted_code)
    _check(folder.accepted_code, "", found, {"accepted": list})
    _check_each(folder.accepted_code, "accepted", found, {"states": list})
    return found["accepted"]


def read_mapping(path: Path) -> dict[str, Any]:
    """The JSON mapping in a file. Raises Damaged."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Damaged(f"{path}: damaged: larger than {MAX_BYTES // 2**20} MiB; {REMEDY}")
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        said = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "not text"
        raise Damaged(f"{path}: damaged: not JSON ({said}); {REMEDY}") from None
    if not isinstance(found, dict):
        raise Damaged(f"{path}: damaged: expected a mapping, found {shown(found)}; {REMEDY}")
    return found


def _check(path: Path, where: str, found: Any, kinds: Mapping[str, type]) -> None:
    if not isinstance(found, dict):
        raise Damaged(f"{path}: damaged: {where}: expected a mapping, found {shown(found)}; {REMEDY}")
    for key, kind in kinds.items():
        if not isinstance(found.get(key), kind):
            place = ".".join(filter(None, (where, key)))
            raise Damaged(f"{path}: damaged: {place}: expected {_WORDS[kind]}, found {shown(found.get(key))}; {REMEDY}")


def _check_each(path: Path, key: str, document: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for at, entry in enumerate(document[key]):
        _check(path, f"{key}[{at}]", entry, kinds)


_WORDS = {str: "text", int: "a whole number", dict: "a mapping", list: "a list"}


def stated(folder: StudyFolder) -> tuple[str | None, str]:
    """Where the study's stores are, as its study.yaml says it: MLflow's `auto`, a URI, or None for no tracking;
    Optuna's `auto` or a URL."""
    document = read_yaml(folder.study.read_bytes(), name=str(folder.study)).data
    said = document.get("tracking") or {}
    uri = said.get("mlflow", "auto")
    return None if uri in ("off", "none", "") else uri, said.get("optuna") or "auto"
