"""What single factors do, where the design can say: main effects, interactions and fair shares of the full recipe."""

from __future__ import annotations

from reports import verdicts
from reports.findings import FactorEffect
from reports.page import Page
from reports.wording import NOTHING, code, escape, listed, p_value, table, unbroken

KINDS = {
    "main": ("Main effects", "the factor's change of the mean, on average over the settings of the others"),
    "interaction": ("Interactions", "how much one change adds to or takes from the other; 0 where they add up"),
    "in_full": ("In the full recipe", "full minus full without the factor"),
    "alone": ("Alone", "the factor added to the base"),
    "shapley": ("Shapley values", "each factor's share of the full recipe minus the base; the shares add up to it"),
}


def effects(page: Page) -> str:
    found = page.analysis.factor_effects
    if not found:
        return ""
    return "\n\n".join(filter(None, ["## Factor effects", _caption(page), _table(page), *_limits(page), _anova(page)]))


def _caption(page: Page) -> str:
    kinds = dict.fromkeys(effect.kind for effect in page.analysis.factor_effects)
    legend = " ".join(f"{KINDS[kind][0]}: {KINDS[kind][1]}." for kind in kinds)
    claims = page.analysis.family == "factor_effects"
    level = f"{100 * (1 - page.analysis.alpha):.0f} %"
    role = "these are the claims of the study" if claims else "exploratory: the claims of this study are about arms"
    return (
        f"Linear contrasts of the arms' means on {escape(page.results.metric.label)}; {role}. Intervals are "
        f"simultaneous ({level}) over all {len(page.analysis.factor_effects)} effects of the table. {legend}"
    )


def _table(page: Page) -> str:
    head = ["effect", "kind", "size, 95 % interval", "p, adjusted", "verdict", "cannot be told from"]
    rows = [_row(page, effect) for kind in KINDS for effect in page.analysis.factor_effects if effect.kind == kind]
    kept = [column for column in range(len(head)) if any(row[column] != NOTHING for row in rows)]
    lines = [[row[column] for column in kept] for row in [head, *rows]]
    return table(lines[0], lines[1:], right=[kept.index(column) for column in (2, 3) if column in kept])


def _row(page: Page, effect: FactorEffect) -> list[str]:
    numbers = page.numbers
    interval = "" if effect.low is None else f" {unbroken(numbers.interval(effect.low, effect.high))}"
    kind = "Shapley" if effect.kind == "shapley" else effect.kind.replace("_", " ")
    return [
        code(effect.label), kind, f"{numbers.difference(effect.difference)}{interval}",
        NOTHING if effect.p_adjusted is None else _bare(effect.p_adjusted),
        effect.verdict, listed(effect.aliased) if effect.aliased else NOTHING,
    ]  # fmt: skip


def _anova(page: Page) -> str:
    """Whole factors at once: exploratory, and without a direction."""
    tests = page.analysis.anova
    if not tests:
        return ""
    head = ["factor", "F", "degrees of freedom", "p"]
    rows = [[code(one.term), f"{one.f:.2f}", f"{one.df}, {one.df_error}", _bare(one.p)] for one in tests]
    note = "Analysis of variance by whole factors (type II), exploratory: each p by itself, without a direction."
    return f"{note}\n\n{table(head, rows, right=range(1, 4))}"


def _bare(p: float) -> str:
    """A p in a column that is headed so."""
    return p_value(p).removeprefix("p = ").removeprefix("p ")


def _limits(page: Page) -> list[str]:
    """What this design can't say about these effects."""
    said = []
    design = page.results.design
    if design == "both":
        said.append(
            "The design holds each change alone on the base and alone taken from the full recipe. An interaction here "
            "says that a change is worth more or less in company; which partner it is of cannot be said. A main effect "
            "is the mean of both values and equals the Shapley value where no three changes interact."
        )
    if any(effect.aliased for effect in page.analysis.factor_effects):
        said.append("Where an effect cannot be told from others, its size is the sum of all of them.")
    unresolved = [effect for effect in page.analysis.factor_effects if effect.verdict == verdicts.UNRESOLVED]
    if unresolved and any(effect.kind == "interaction" for effect in unresolved):
        said.append("An unresolved interaction is not evidence that changes add up.")
    return [" ".join(said)] if said else []
