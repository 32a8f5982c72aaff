"""Factors, designs and excluded combinations of a study, checked level by level."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ablate.design import BASE, DESIGNS, canonical
from ablate.patches import PatchError, clashes, segments
from ablate.problems import dotted, no_such, quoted, shown
from ablate.resolve import Draft, attempt, document
from ablate.sources import Sources
from ablate.yamlfile import scalar

MAX_LEVELS = 500
SLUG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
Factors = dict[str, dict[str, dict[str, Any]]]


def check_slug(sources: Sources, path: tuple[str | int, ...], name: str, *, reserved: tuple[str, ...] = ()) -> None:
    """Names become folders, table cells and runs: letters, digits, `_`, `-` and `.` alone."""
    if not SLUG.fullmatch(name) or ".." in name:
        found = f"{quoted(name)} is not a name"
        sources.refuse(path, f"{found}; expected up to 64 letters, digits, _, - and ., without '..', not first - or .")
    elif name in reserved:
        sources.refuse(path, f"{quoted(name)} is taken; choose another name")


def read_factors(sources: Sources, base: Mapping[str, Any], *, ranks: int) -> tuple[Factors, list[str]]:
    """The factors with their levels' patches, and warnings. Every level is resolved on the base."""
    raw = sources.data.get("factors")
    if not isinstance(raw, Mapping) or not raw:
        sources.refuse(("factors",), f"expected factors, each with its levels, found {shown(raw)}: nothing to compare")
        return {}, []
    if sum(len(levels) for levels in raw.values() if isinstance(levels, Mapping)) > MAX_LEVELS:
        sources.refuse(("factors",), f"more than {MAX_LEVELS} levels")
        return {}, []
    reference = attempt(base, {}, ranks=ranks)
    for path, message in reference.errors:
        sources.refuse(("resources", *path[1:]) if path[0] == "resources" else ("base", *path), message)
    factors: Factors = {}
    for factor, levels in raw.items():
        factors[factor] = _read_levels(sources, factor, levels)
    return factors, _check_levels(sources, factors, base, reference, ranks)


def _read_levels(sources: Sources, factor: str, levels: Any) -> dict[str, dict[str, Any]]:
    check_slug(sources, ("factors", factor), factor, reserved=("seed",))
    if not isinstance(levels, Mapping) or not levels:
        sources.refuse(("factors", factor), f"expected at least one level, found {shown(levels)}")
        return {}
    good = {}
    for level, patch in levels.items():
        path = ("factors", factor, level)
        check_slug(sources, path, level, reserved=(BASE,))
        if not isinstance(patch, Mapping):
            sources.refuse(path, f"expected what it changes, such as {{optimizer.lr: 1e-4}}, found {shown(patch)}")
        elif _check_paths(sources, path, patch):
            good[level] = dict(patch)
    return good


def _check_paths(sources: Sources, level: tuple[str, ...], patch: Mapping[str, Any]) -> bool:
    try:
        wrong = clashes(patch)
    except PatchError as error:
        wrong = [error]
    for error in wrong:
        sources.refuse((*level, error.key), error.message)
    return not wrong


def _check_levels(
    sources: Sources, factors: Factors, base: Mapping[str, Any], reference: Draft, ranks: int
) -> list[str]:
    """Refuse levels that are wrong or change nothing; warnings for the rest."""
    warnings = [f"{BASE}: {text}" for text in reference.warnings()]
    seen: dict[str, str] = {}
    for factor, levels in factors.items():
        for level, patch in levels.items():
            draft = attempt(base, patch, ranks=ranks)
            errors = [error for error in draft.errors if error not in reference.errors]
            for path, message in errors:
                inside = _in_patch(patch, path)
                said = (
                    message if ".".join(map(str, inside)) == ".".join(map(str, path)) else f"{dotted(path)}: {message}"
                )
                sources.refuse(("factors", factor, level, *inside), said)
            if not errors and _judged(patch, reference) and _same(draft, reference):
                inert = [note for note in draft.notes if note not in reference.notes]
                why = "; ".join(inert) or "the base is like that already"
                sources.refuse(("factors", factor, level), f"changes nothing: {why}")
            arm = f"{factor}={level}"
            warnings += [f"{arm}: {text}" for text in draft.warnings() if text not in reference.warnings()]
            twin = seen.setdefault(repr((draft.recipe, draft.ranks)), arm)
            if twin != arm and not errors:
                warnings.append(f"{arm} is the same recipe as {twin}: they share their trials")
    return warnings


def _judged(patch: Mapping[str, Any], reference: Draft) -> bool:
    """Whether the sections that a patch changes are right in the base, so that the two can be compared."""
    return not {segments(key)[0] for key in patch} & reference.stood_in


def _same(draft: Draft, reference: Draft) -> bool:
    if draft.recipe is None or reference.recipe is None:
        return False
    return draft.ranks == reference.ranks and document(draft.recipe) == document(reference.recipe)


def _in_patch(patch: Mapping[str, Any], path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The place within a level that a recipe path comes from: the patch's key and what lies below it."""
    for key in patch:
        parts = segments(key)
        if path[: len(parts)] == parts:
            return (key, *path[len(parts) :])
    inside = [key for key in patch if segments(key)[: len(path)] == path]
    return (inside[0],) if len(inside) == 1 else ()


def read_design(sources: Sources, factors: Factors) -> tuple[str, tuple[str, ...], dict[str, dict[str, str]]]:
    """Name of the design, the factors that it is restricted to (empty: all), and the arms of a list."""
    raw = sources.data.get("design", "one_at_a_time")
    names = [*DESIGNS, "list"]
    name, options = next(iter(raw.items())) if isinstance(raw, Mapping) and len(raw) == 1 else (raw, None)
    if not isinstance(name, str):
        sources.refuse(("design",), f"expected one of {', '.join(names)}, found {shown(raw)}")
    elif name not in names:
        sources.refuse(("design",), no_such("design", name, names))
    elif name == "list":
        return name, (), _read_arms(sources, factors, options)
    elif options is not None:
        return name, _read_only(sources, ("design", name), factors, options), {}
    return str(name), (), {}


def _read_only(sources: Sources, path: tuple[str, ...], factors: Factors, raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw:
        sources.refuse(path, f"expected a list of factors, found {shown(raw)}")
        return ()
    for at, factor in enumerate(raw):
        if factor not in factors:
            sources.refuse((*path, at), no_such("factor", factor, factors))
        elif factor in raw[:at]:
            sources.refuse((*path, at), f"{quoted(factor)} stands twice")
    return tuple(str(factor) for factor in raw)


def _read_arms(sources: Sources, factors: Factors, raw: Any) -> dict[str, dict[str, str]]:
    path = ("design", "list")
    if not isinstance(raw, Mapping) or not raw:
        sources.refuse(path[: 1 if raw is None else 2], "expected arms: {list: {my_arm: {factor: level}}}")
        return {}
    arms: dict[str, dict[str, str]] = {}
    for name, levels in raw.items():
        if not (isinstance(levels, Mapping) and name == canonical(factors, levels)):
            check_slug(sources, (*path, name), name, reserved=(BASE,))
        if not isinstance(levels, Mapping):
            sources.refuse((*path, name), f"expected {{factor: level}}, found {shown(levels)}")
            continue
        chosen = {factor: _level(sources, (*path, name, factor), factors, factor, level)
                  for factor, level in levels.items()}  # fmt: skip
        changed = {factor: level for factor, level in chosen.items() if level != BASE}
        if not changed:
            sources.refuse((*path, name), "changes nothing: it is the base")
        elif changed in arms.values():
            twin = next(other for other in arms if arms[other] == changed)
            sources.refuse((*path, name), f"has the same levels as {twin}")
        arms[name] = changed
    return arms


def read_never(sources: Sources, factors: Factors) -> tuple[dict[str, tuple[str, ...]], ...]:
    """Combinations that are not to be run: factor -> levels, `base` among them."""
    raw = sources.data.get("never") or []
    if not isinstance(raw, list):
        sources.refuse(("never",), f"expected a list of {{factor: level, factor: level}}, found {shown(raw)}")
        return ()
    rules = []
    for at, rule in enumerate(raw):
        if not isinstance(rule, Mapping) or not rule:
            sources.refuse(("never", at), f"expected {{factor: level, factor: level}}, found {shown(rule)}")
            continue
        levels = {factor: _levels(sources, ("never", at, factor), factors, factor, value)
                  for factor, value in rule.items()}  # fmt: skip
        if all(BASE in names for names in levels.values()):
            sources.refuse(("never", at), "excludes the base itself, and every arm is compared with the base")
        rules.append(levels)
    return tuple(rules)


def _levels(sources: Sources, path: tuple, factors: Factors, factor: str, raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list):
        return (_level(sources, path, factors, factor, raw),)
    if not raw:
        sources.refuse(path, "expected a level or a list of levels, found an empty list")
    return tuple(_level(sources, (*path, at), factors, factor, value) for at, value in enumerate(raw))


def _level(sources: Sources, path: tuple, factors: Factors, factor: str, raw: Any) -> str:
    """The level's name; a number or a boolean in YAML means the level that is written like it."""
    if factor not in factors:
        sources.refuse(path, no_such("factor", factor, factors))
        return str(raw)
    names = [BASE, *(sources.data["factors"].get(factor) or ())]
    if raw in names:
        return raw
    if not isinstance(raw, str):
        alike = [name for name in names if _reads_as(name, raw)]
        if len(alike) == 1:
            return alike[0]
    sources.refuse(path, no_such(f"level of {factor}", raw, names))
    return str(raw)


def _reads_as(name: str, value: Any) -> bool:
    try:
        return type(scalar(name)) is type(value) and scalar(name) == value
    except ValueError:
        return False
