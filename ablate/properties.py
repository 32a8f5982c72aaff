"""What a design can say and what it can't, as facts: the part of a plan that the report repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablate.effects import effects
from ablate.fraction import Fraction, fraction, name

if TYPE_CHECKING:
    from ablate.plan import Plan

SAYS = {  # design -> what it says, what it can't say
    "one_at_a_time": ("what each change does alone, added to the base", "what changes do together"),
    "leave_one_out": (
        "what is lost when one change is taken out of the full recipe",
        "what changes do alone; two that do the same work hide each other",
    ),
    "both": (
        "what each change does on average of alone and on top of the others (its main effect, and its Shapley share "
        "where no three changes act together), and whether it acts otherwise beside the others",
        "which other change it acts with",
    ),
    "factorial": (
        "what each change does on average over the others, and which two act together",
        "nothing of these factors is hidden; it takes the most arms",
    ),
    "search": (
        "which of the drawn recipes came out best on these seeds",
        "what a setting does: put those that seem to matter into a small factorial, and confirm the winner",
    ),
    "list": ("how each recipe compares with the base", "which of its changes did it"),
}  # fmt: skip


def properties(plan: Plan) -> dict[str, Any]:
    """Facts of the plan's design, as plan.json holds them."""
    design, factors = plan.study.design, plan.study.factors
    found = fraction_of(plan)
    says, cannot_say = _of_fraction(found) if found else SAYS.get(design.name, ("", ""))
    run = {(factor, level) for arm in plan.arms for factor, level in arm.arm.changes.items()}
    return {
        "says": says, "cannot_say": cannot_say, **_fraction(found),
        "refused": [*({"combination": dict(one.combination), "why": one.why} for one in plan.left_out), *plan.refused],
        "not_run": [f"{factor}={level}" for factor, levels in factors.items() for level in levels
                    if (factor, level) not in run and not plan.study.search],
        "effects": [effect.to_json() for effect in effects(plan)],
    }  # fmt: skip


def _of_fraction(found: Fraction) -> tuple[str, str]:
    """What a fraction says by its resolution."""
    says = "what each change does on average over the others"
    if found.resolution is None:
        return SAYS["factorial"]
    if found.resolution >= 5:
        return SAYS["factorial"][0], "what three or more changes do together: it is taken for nothing"
    if found.resolution == 4:
        return says, "which pair acts together, of a row of the alias table"
    return f"{says}, if the pairs in its row of the alias table do nothing more together", "whether they do"


def _fraction(found: Fraction | None) -> dict[str, Any]:
    if found is None:
        return {"resolution": None, "generators": [], "aliases": []}
    return {
        "resolution": found.resolution, "generators": list(found.generators), "words": [name(w) for w in found.words],
        "aliases": [list(group) for group in found.aliases], "of": 2 ** len(found.factors),
    }  # fmt: skip


def fraction_of(plan: Plan) -> Fraction | None:
    """The fraction behind a fractional design; None of every other."""
    design = plan.study.design
    if design.name != "fractional":
        return None
    return fraction(tuple(design.levels(plan.study.factors)), design.resolution)
