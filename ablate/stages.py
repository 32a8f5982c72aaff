"""The stages of a recipe, read from a study: each is a patch of what the stage before it trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ablate.patches import PatchError, apply, clashes
from ablate.problems import no_such, shown
from ablate.validate import MAX_ERRORS, Error, stand_in, validate
from trainers.options import NonNegative, options
from trainers.recipe import Optimizer, Stage, Timing

TIMING = tuple(field.name for field in fields(Timing))
# What a stage may change of the recipe; below `objective` only the weight of the adversarial part.
CHANGES = ("terms", "optimizer", "objective.adv_weight")
ReadTerms = Callable[[Any], tuple[dict[str, Any], list[Error]]]


@options
class _Adversarial:
    adv_weight: NonNegative


def read_stages(raw: Any, *, start: Mapping[str, Any], read_terms: ReadTerms) -> tuple[tuple[Stage, ...], list[Error]]:
    """The stages and what is wrong with them; `start` holds the recipe's raw terms, optimizer and adv_weight."""
    if raw is None or raw == []:
        return (), []
    if not isinstance(raw, list):
        return (), [((), f"expected a list of stages such as [{{until: 0.6}}, {{terms.l1: 30}}], found {shown(raw)}")]
    if len(raw) > MAX_ERRORS:
        return (), [((), f"{len(raw)} stages; at most {MAX_ERRORS}")]
    stages, errors, document = [], [], dict(start)
    for index, item in enumerate(raw):
        stage, document, wrong = _read(item, document, read_terms)
        errors += [((index, *path), message) for path, message in wrong]
        stages += [stage] if stage else []
    return (() if errors else tuple(stages)), errors


def _read(item: Any, before: dict[str, Any], read_terms: ReadTerms) -> tuple[Stage | None, dict[str, Any], list[Error]]:
    """A stage, what it trains with as plain data, and what is wrong."""
    if not isinstance(item, Mapping):
        return None, before, [((), f"expected a mapping such as {{until: 0.6}}, found {shown(item)}")]
    timing = {key: value for key, value in item.items() if key in TIMING}
    patch = {key: value for key, value in item.items() if key not in TIMING}
    errors = [((key,), _unknown(key)) for key in patch if not _may_change(key)][:MAX_ERRORS]
    if errors:
        return None, before, errors
    try:
        errors = [((clash.key,), clash.message) for clash in clashes(patch)]
        document = apply(before, patch)
    except PatchError as error:
        return None, before, [*errors, ((error.key,), error.message)]
    found, wrong = validate(Timing, timing)
    errors += wrong
    terms, wrong = read_terms(document["terms"])
    errors += _located(item, "terms", wrong)
    optimizer, wrong = validate(Optimizer, document["optimizer"])
    errors += _located(item, "optimizer", wrong)
    adversarial, wrong = validate(_Adversarial, {"adv_weight": document["objective"].get("adv_weight")})
    errors += _located(item, "objective", wrong)
    stage = Stage(
        found or Timing(), terms, optimizer or stand_in(Optimizer, document["optimizer"], errors),
        adversarial.adv_weight if adversarial else 1.0,
    )  # fmt: skip
    return stage, document, errors


def _may_change(key: str) -> bool:
    return any(key == change or key.startswith(f"{change}.") for change in CHANGES)


def _unknown(key: str) -> str:
    if key.split(".")[0] in ("objective", *CHANGES):
        return f"a stage may change {', '.join(CHANGES)}, not {key}"
    return no_such("option of a stage", key, [*TIMING, *CHANGES])


def _located(item: Mapping[str, Any], section: str, errors: list[Error]) -> list[Error]:
    """Errors of a section, at the stage's own key if it has one for them; those of the stage before say nothing new."""
    found = []
    for path, message in errors:
        full = (section, *path)
        key = next((key for key in item if full[: key.count(".") + 1] == tuple(key.split("."))), None)
        if key is not None:
            found.append(((key, *full[key.count(".") + 1 :]), message))
        elif any(key.startswith(f"{section}.") or key == section for key in item):
            found.append(((), f"{'.'.join(map(str, full))}: {message}"))
    return found


def in_words(stages: list[dict[str, Any]]) -> str:
    """The stages of a recipe's document in a line: `to 0.6: l1 100; then, ramp 0.1: l1 30, ssim 10, lr 0.0001`.

    Of the optimizer and the adversarial weight it has what is not the same in all stages.
    """
    varying = [name for name in (stages[0]["optimizer"] if stages else ())
               if any(stage["optimizer"][name] != stages[0]["optimizer"][name] for stage in stages)]  # fmt: skip
    weights = {stage["adv_weight"] for stage in stages}
    return "; ".join(_stage_in_words(stage, varying, adversarial=len(weights) > 1) for stage in stages) or "one stage"


def _stage_in_words(stage: Mapping[str, Any], varying: list[str], *, adversarial: bool) -> str:
    until = stage["until"]
    end = f"to a plateau, at most {until['at_most']:g}" if isinstance(until, dict) else f"to {until}"
    how = [f"ramp {stage['ramp']:g}"] if stage["ramp"] else []
    how += [f"{name} reset" for name in ("moments", "schedule") if stage[name] == "reset"]
    what = [f"{name} {term['weight']:g}" for name, term in stage["terms"].items()] or ["no terms"]
    what += [f"adversarial {stage['adv_weight']:g}"] if adversarial else []
    what += [f"{name} {stage['optimizer'][name]}" for name in varying]
    return f"{', '.join(['then' if until is None else end, *how])}: {', '.join(what)}"
