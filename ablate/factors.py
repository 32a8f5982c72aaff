"""Factors of a study, checked level by level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablate.conditions import BASE, Conditions
from ablate.design import arm
from ablate.patches import PatchError, clashes, segments
from ablate.problems import dotted, quoted, shown
from ablate.records import SLUG
from ablate.resolve import Draft, attempt, document
from ablate.sources import Sources

MAX_LEVELS = 500
Factors = dict[str, dict[str, dict[str, Any]]]


def check_slug(sources: Sources, path: tuple[str | int, ...], name: str, *, reserved: tuple[str, ...] = ()) -> None:
    """Names become folders, table cells and runs: letters, digits, `_`, `-` and `.` alone."""
    if not SLUG.fullmatch(name) or ".." in name:
        found = f"{quoted(name)} is not a name"
        sources.refuse(path, f"{found}; expected up to 64 letters, digits, _, - and ., without '..', not first - or .")
    elif name in reserved:
        sources.refuse(path, f"{quoted(name)} is taken; choose another name")


def read_factors(sources: Sources) -> Factors:
    """The factors with their levels' patches."""
    raw = sources.data.get("factors")
    if raw is None and is_search(sources):
        raw = {}  # its space may be recipe paths alone
    elif not isinstance(raw, Mapping) or not raw:
        sources.refuse(("factors",), f"expected factors, each with its levels, found {shown(raw)}: nothing to compare")
        return {}
    if sum(len(levels) for levels in raw.values() if isinstance(levels, Mapping)) > MAX_LEVELS:
        sources.refuse(("factors",), f"more than {MAX_LEVELS} levels")
        return {}
    return {factor: _read_levels(sources, factor, levels) for factor, levels in raw.items()}


def check_base(sources: Sources, base: Mapping[str, Any], *, ranks: int) -> Draft:
    """The base as a draft, its mistakes told."""
    reference = attempt(base, {}, ranks=ranks)
    for path, message in reference.errors:
        sources.refuse(("resources", *path[1:]) if path[0] == "resources" else ("base", *path), message)
    return reference


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


def check_levels(
    sources: Sources, factors: Factors, base: Mapping[str, Any], reference: Draft, conditions: Conditions
) -> list[str]:
    """Refuse levels that are wrong or change nothing; warnings for the rest.

    A level is judged on the base, and where its factor only exists beside others' levels, on those.
    """
    warnings = [f"{BASE}: {text}" for text in reference.warnings()]
    seen: dict[str, str] = {}
    for factor, levels in factors.items():
        context = _context(factors, base, reference, conditions.context(factor))
        if context is None:
            continue  # what it exists beside is wrong, and that is told there
        patches, before = context
        for level, patch in levels.items():
            draft = attempt(base, {**patches, **patch}, ranks=reference.ranks)
            errors = [error for error in draft.errors if error not in before.errors]
            for path, message in errors:
                inside = _in_patch(patch, path)
                said = (
                    message if ".".join(map(str, inside)) == ".".join(map(str, path)) else f"{dotted(path)}: {message}"
                )
                sources.refuse(("factors", factor, level, *inside), said)
            if not errors and _judged(patch, before) and _same(draft, before):
                inert = [note for note in draft.notes if note not in before.notes]
                why = "; ".join(inert) or "the base is like that already"
                sources.refuse(("factors", factor, level), f"changes nothing: {why}")
            name = f"{factor}={level}"
            warnings += [f"{name}: {text}" for text in draft.warnings() if text not in before.warnings()]
            twin = seen.setdefault(repr((draft.recipe, draft.ranks)), name)
            if twin != name and not errors and before is reference:
                warnings.append(f"{name} is the same recipe as {twin}: they share their trials")
    return warnings


def _context(
    factors: Factors, base: Mapping[str, Any], reference: Draft, beside: Mapping[str, str]
) -> tuple[dict[str, Any], Draft] | None:
    """What a factor's levels are patched on and the draft of that: the base, or levels that it needs beside it."""
    if not beside:
        return {}, reference
    if any(level not in factors.get(factor, ()) for factor, level in beside.items()):
        return None
    try:
        patch = dict(arm(factors, beside).patch)
    except PatchError:
        return None
    draft = attempt(base, patch, ranks=reference.ranks)
    return None if len(draft.errors) > len(reference.errors) else (patch, draft)


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


def is_search(sources: Sources) -> bool:
    """Whether the study's arms are sampled."""
    raw = sources.data.get("design")
    return isinstance(raw, Mapping) and list(raw) == ["search"]
