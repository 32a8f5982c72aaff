"""How sure the answer is, what it holds for, and what would make it surer."""

from __future__ import annotations

import math

from reports.page import Page
from reports.power import detectable
from reports.wording import code, count, escape, listed

MOST_SEEDS, MOST_CONFIRMED = 30, 6  # that a reader is advised to run
MOST_ARMS = 60  # that the power is computed for


def confirming(page: Page) -> str:
    """What this study is, where it repeats the arms that another one selected."""
    source = page.results.confirms
    if not source:
        return ""
    arms = [arm for arm in source.get("arms") or () if arm != page.analysis.baseline]
    what = listed(arms) if arms else "the baseline alone"
    return (
        f"**Confirmation** on fresh seeds ({numbered(page.results.seeds)}) and the {escape(page.results.split)} split: "
        f"{what}, selected by {code(source.get('study', '?'))} on seeds {numbered(source.get('seeds') or ())}, against "
        f"{code(page.analysis.baseline)}.{_looked(page)}"
    )


def _looked(page: Page) -> str:
    """Test scenes that other plans have looked at select by and by."""
    reads = page.results.test_reads
    return f" Look {reads} at these test scenes: they have been used before." if reads > 1 else ""


def certainty(page: Page) -> str:
    analysis = page.analysis
    if analysis.blocks < 3 or not analysis.sigma:
        return scope(page) if analysis.ranking else ""
    grade = ": exploratory" if analysis.blocks < 5 else ""
    said = [f"{count(analysis.blocks, 'paired seed')}{grade}.", _power(page), _selection(page), scope(page)]
    return " ".join(filter(None, said))


def scope(page: Page) -> str:
    """What the answer holds for: never more than was run."""
    split = page.results.split
    if not split:
        return "All of this holds for the runs that were given, and for the data that they were scored on."
    reused = " That split was read to rank the arms: it is no longer unseen." if _ranked_on_test(page) else ""
    return f"All of this holds for these scenes, this budget and the {escape(split)} split.{reused}"


def _ranked_on_test(page: Page) -> bool:
    return page.results.split == "test" and not page.results.confirms


def _selection(page: Page) -> str:
    """The winner's curse: a first rank is partly luck, unless fresh seeds have shown it."""
    first = page.analysis.ranking[0]
    effect = page.analysis.effect(first)
    if page.results.confirms:
        return "The arms were selected on other seeds, so these differences are free of that selection."
    if not effect or effect.shrunken is None:
        return ""
    shrunken = f"{page.numbers.difference(effect.shrunken)}{page.numbers.suffix}"
    return (
        f"Shrunken towards the other arms, {code(first)} differs from {code(page.analysis.baseline)} by {shrunken}: "
        "selected and estimated on the same seeds."
    )


def _power(page: Page) -> str:
    """What the study could have found, in the unit of the metric and in the unit of `ablate plan`."""
    analysis, numbers = page.analysis, page.numbers
    if analysis.detectable is None:
        return ""
    text = (
        f"A true difference of {numbers.size(analysis.detectable)} from {code(analysis.baseline)} "
        f"({analysis.detectable / analysis.sigma:.1f} residual standard deviations) would have been found with 80 % "
        "probability; smaller ones may hide"
    )
    smallest = analysis.smallest_effect
    if smallest is not None and smallest < analysis.detectable:
        return f"{text}, even above the smallest effect of interest ({_declared(page, smallest)})."
    return f"{text}."


def _declared(page: Page, smallest: float) -> str:
    return f"{smallest:g}" + (f" {escape(page.numbers.unit)}" if page.numbers.unit else "")


def advice(page: Page) -> str:
    """What a reader can do next."""
    analysis = page.analysis
    if page.results.confirms or not analysis.effects or analysis.blocks == 0:
        return ""
    said = [_more_seeds(page), _factorial(page), _confirm(page)]
    return "\n".join(["Next:", "", *(f"- {step}" for step in said if step)]) if any(said) else ""


def _more_seeds(page: Page) -> str:
    """Seeds that the smallest effect of interest takes, from the error that was found."""
    analysis = page.analysis
    if analysis.blocks < 3:
        return "Run at least 3 seeds of every arm, better 5, for verdicts."
    smallest, sigma = analysis.smallest_effect, analysis.sigma
    if not smallest or not sigma or analysis.detectable is None or analysis.detectable <= smallest:
        return ""
    arms = sum(arm.n_ok > 0 for arm in analysis.arms.values())
    takes = math.ceil(10 * (detectable(min(arms, MOST_ARMS), 10) * sigma / smallest) ** 2)  # errors fall as 1 / sqrt n
    number = f"about {max(takes, analysis.blocks + 1)}" if takes <= MOST_SEEDS else f"more than {MOST_SEEDS}"
    return (
        f"To find a difference of {_declared(page, smallest)} with 80 % probability takes {number} "
        f"seeds of every arm (or fewer arms); this study has {analysis.blocks}."
    )


def _factorial(page: Page) -> str:
    """A search samples where it likes: it cannot say what a parameter does."""
    if not page.results.search:
        return ""
    return "What a parameter does is not a question that a search answers: test those that matter in a small factorial."


def _confirm(page: Page) -> str:
    """Only a study that was run here can be repeated; worth it where few arms are left and one is ahead of the base."""
    members = [arm for arm in page.analysis.ranking if arm in page.analysis.best_set and arm != page.analysis.baseline]
    if not page.results.hash or page.results.confirmation or page.analysis.ranking[0] == page.analysis.baseline:
        return ""
    if not 0 < len(members) <= MOST_CONFIRMED:
        return ""
    return f"`ablate confirm` repeats {listed(members)} on fresh seeds and the test split."


def numbered(seeds: tuple[int, ...] | list[int]) -> str:
    """`1, 2 and 3`; many in short."""
    if len(seeds) > 12:
        return f"{min(seeds)} to {max(seeds)} ({len(seeds)} of them)"
    return ", ".join(map(str, seeds)) or "unknown"
