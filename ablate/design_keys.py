"""What a study says of its design, checked: the keys `design`, `full`, `never` and `when`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ablate.conditions import BASE, Conditions
from ablate.design import AA, DESIGNS, Design, arm, canonical
from ablate.factors import Factors, check_slug
from ablate.fraction import MAX_FACTORS, RESOLUTIONS
from ablate.patches import PatchError
from ablate.problems import dotted, no_such, quoted, shown
from ablate.resolve import attempt
from ablate.sources import Sources
from ablate.yamlfile import scalar

BOTH_FROM = 3  # factors from which `both` is the default where a full recipe is declared


def read_design(sources: Sources, factors: Factors) -> Design:
    """The design that the study names; without one, `both` where a full recipe allows it, else `one_at_a_time`."""
    if "design" not in sources.data:
        return Design(_default(sources, factors))
    raw = sources.data["design"]
    name, options = next(iter(raw.items())) if isinstance(raw, Mapping) and len(raw) == 1 else (raw, None)
    if not isinstance(name, str):
        sources.refuse(("design",), f"expected one of {', '.join(READERS)}, found {shown(raw)}")
    elif name not in READERS:
        sources.refuse(("design",), no_such("design", name, READERS))
    else:
        return READERS[name](sources, factors, name, options)
    return Design()


def _default(sources: Sources, factors: Factors) -> str:
    declared = isinstance(sources.data.get("full"), Mapping)
    single = len(factors) >= BOTH_FROM and all(len(levels) == 1 for levels in factors.values())
    return "both" if declared and single else "one_at_a_time"


# -- one reader a design: what stands behind its name -------------------------------------------------


def _read_plain(sources: Sources, factors: Factors, name: str, options: Any) -> Design:
    """`{NAME: [factor, ...]}` restricts a design to some factors."""
    only = () if options is None else _read_only(sources, ("design", name), factors, options)
    return Design(name, factors=only)


def _read_fractional(sources: Sources, factors: Factors, name: str, options: Any) -> Design:
    """`{fractional: {resolution: 3, factors: [...]}}`; every factor that takes part has one level beside the base."""
    path, design = ("design", name), Design(name)
    options = {"factors": options} if isinstance(options, list) else {} if options is None else options
    if not isinstance(options, Mapping):
        sources.refuse(path, f"expected {{resolution: 5, factors: [...]}}, found {shown(options)}")
        return design
    for key in [key for key in options if key not in ("resolution", "factors")]:
        sources.refuse((*path, key), no_such("key", key, ("resolution", "factors")))
    resolution = options.get("resolution", design.resolution)
    if resolution not in RESOLUTIONS or isinstance(resolution, bool | float):
        allowed = "5 (effects of single factors and of pairs), 4 (of single factors) or 3"
        sources.refuse((*path, "resolution"), f"expected {allowed}, found {shown(resolution)}")
        resolution = design.resolution
    only = _read_only(sources, (*path, "factors"), factors, options["factors"]) if "factors" in options else ()
    design = replace(design, factors=only, resolution=resolution)
    many = {factor: levels for factor, levels in design.levels(factors).items() if len(levels) > 1}
    for factor, levels in many.items():
        sources.refuse(
            path,
            f"takes factors with one level beside the base, and {factor} has {len(levels)} ({', '.join(levels)}); "
            "name the factors that take part: {fractional: {factors: [...]}}, or take factorial",
        )
    if len(design.levels(factors)) > MAX_FACTORS:
        sources.refuse(path, f"takes up to {MAX_FACTORS} factors, found {len(design.levels(factors))}")
    return design


def _read_list(sources: Sources, factors: Factors, name: str, options: Any) -> Design:
    return Design(name, arms=_read_arms(sources, factors, options))


def _read_search(sources: Sources, factors: Factors, name: str, options: Any) -> Design:
    """What is drawn is read by `ablate.searchfile`, from what stands behind the name."""
    if options is None:
        sources.refuse(("design",), "expected what to search: {search: {trials: 20, space: {...}}}")
    return Design(name)


READERS: dict[str, Callable[[Sources, Factors, str, Any], Design]] = {
    **dict.fromkeys(DESIGNS, _read_plain),
    "fractional": _read_fractional,
    "list": _read_list,
    "search": _read_search,
}


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
            check_slug(sources, (*path, name), name, reserved=(BASE, AA))
        if not isinstance(levels, Mapping):
            sources.refuse((*path, name), f"expected {{factor: level}}, found {shown(levels)}")
            continue
        chosen = {factor: read_level(sources, (*path, name, factor), factors, factor, level)
                  for factor, level in levels.items()}  # fmt: skip
        changed = {factor: level for factor, level in chosen.items() if level != BASE}
        if not changed:
            sources.refuse((*path, name), "changes nothing: it is the base")
        elif changed in arms.values():
            twin = next(other for other in arms if arms[other] == changed)
            sources.refuse((*path, name), f"has the same levels as {twin}")
        arms[name] = changed
    return arms


# -- the full recipe ----------------------------------------------------------------------------------


def read_full(
    sources: Sources, factors: Factors, design: Design, base: Mapping[str, Any], *, ranks: int
) -> tuple[Design, list[str]]:
    """The design with its full recipe, and cautions. A factor with one level takes that one unless `full` says else."""
    raw = sources.data.get("full", {})
    if not isinstance(raw, Mapping):
        sources.refuse(("full",), f"expected the level of each factor: {{factor: level}}, found {shown(raw)}")
        return design, []
    said = {factor: read_level(sources, ("full", factor), factors, factor, level) for factor, level in raw.items()}
    if not design.has_full:
        return design, [f"full: the design {design.name} has no full recipe; it is not used"] if said else []
    taking_part = design.factors or tuple(factors)
    only = {factor: levels for factor, levels in factors.items() if len(levels) == 1 and factor in taking_part}
    full = {factor: next(iter(levels)) for factor, levels in only.items()} | said
    for factor in taking_part:
        if factor in factors and factor not in full:
            named = ", ".join([BASE, *factors[factor]])
            sources.refuse(("full",), f"names no level of {factor}; there are {named} ({BASE} leaves it out)")
    full = {factor: full[factor] for factor in factors
            if factor in taking_part and full.get(factor, BASE) in factors[factor]}  # fmt: skip
    if not full:
        sources.refuse(("full",), f"changes nothing, and {design.name} compares the base with a full recipe")
    refused = _refused(factors, full, base, ranks=ranks)
    if refused and "design" not in sources.data:
        return Design(), [f"full: can't be trained: {message}; the design is one_at_a_time" for message in refused]
    for message in refused:
        fix = f"name other levels, or {BASE} for a factor to leave out"
        sources.refuse(("full",), f"can't be trained: {message}; {fix}")
    return replace(design, full=full), []


def _refused(factors: Factors, full: Mapping[str, str], base: Mapping[str, Any], *, ranks: int) -> list[str]:
    """Why the full recipe can't be trained, beyond what is wrong with a level by itself."""
    try:
        draft = attempt(base, arm(factors, full).patch, ranks=ranks)
    except PatchError as error:
        return [error.message]
    alone = [attempt(base, factors[factor][level], ranks=ranks) for factor, level in full.items()]
    told = {error for one in alone for error in one.errors}
    return [f"{dotted(path)}: {message}" for path, message in draft.errors if (path, message) not in told]


# -- what is not run ----------------------------------------------------------------------------------


def read_conditions(sources: Sources, factors: Factors) -> Conditions:
    """Combinations that are declared away, by `never` and by `when`."""
    return Conditions(_read_never(sources, factors), _read_when(sources, factors))


def _read_never(sources: Sources, factors: Factors) -> tuple[dict[str, tuple[str, ...]], ...]:
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
        levels = {factor: read_levels(sources, ("never", at, factor), factors, factor, value)
                  for factor, value in rule.items()}  # fmt: skip
        if all(BASE in names for names in levels.values()):
            sources.refuse(("never", at), "excludes the base itself, and every arm is compared with the base")
        rules.append(levels)
    return tuple(rules)


def _read_when(sources: Sources, factors: Factors) -> dict[str, dict[str, tuple[str, ...]]]:
    """Factors that only exist where others have certain levels: factor -> other factor -> those levels."""
    raw = sources.data.get("when") or {}
    if not isinstance(raw, Mapping):
        sources.refuse(("when",), f"expected {{factor: {{other factor: its levels}}}}, found {shown(raw)}")
        return {}
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for factor, needed in raw.items():
        path = ("when", factor)
        if factor not in factors:
            sources.refuse(path, no_such("factor", factor, factors))
        elif not isinstance(needed, Mapping) or not needed:
            sources.refuse(path, f"expected what it needs, {{other factor: its levels}}, found {shown(needed)}")
        elif factor in needed:
            sources.refuse((*path, factor), "a factor can't depend on itself")
        else:
            found[factor] = {other: read_levels(sources, (*path, other), factors, other, levels)
                             for other, levels in needed.items()}  # fmt: skip
    return found


def read_levels(sources: Sources, path: tuple, factors: Factors, factor: str, raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list):
        return (read_level(sources, path, factors, factor, raw),)
    if not raw:
        sources.refuse(path, "expected a level or a list of levels, found an empty list")
        return (BASE,)
    return tuple(read_level(sources, (*path, at), factors, factor, value) for at, value in enumerate(raw))


def read_level(sources: Sources, path: tuple, factors: Factors, factor: str, raw: Any) -> str:
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
