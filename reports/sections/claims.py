"""What carries the claims of a study, and what is exploratory beside it."""

from __future__ import annotations

from reports.page import Page
from reports.wording import both, code, escape


def family(page: Page) -> str:
    """The declared family as a phrase."""
    base = code(page.analysis.baseline)
    return {
        "vs_baseline": f"each arm against {base}",
        "all_pairs": "every pair of arms",
        "factor_effects": "the effects of the factors",
    }[page.analysis.family]


def role(page: Page, *, claims: str) -> str:
    """`the claims of this study` for a part that the declared family is about; else `exploratory`."""
    return "the claims of this study" if page.analysis.family == claims else "exploratory"


def claims(page: Page) -> str:
    """One family on one metric; all else on the page is a hint for the next study."""
    analysis, results = page.analysis, page.results
    rest = {
        "vs_baseline": f"arms against {code(analysis.baseline)}" if analysis.family == "factor_effects" else "",
        "all_pairs": "pairs of arms (letters)" if analysis.letters else "",
        "factor_effects": "factor effects" if analysis.factor_effects else "",
    }
    others = [said for kind, said in rest.items() if said and kind != analysis.family]
    others += ["the best set"] if analysis.best_set else []
    others += ["P and shrunken values"] if any(arm.p_best is not None for arm in analysis.arms.values()) else []
    others += ["scenes"] if analysis.scenes else []
    others += ["every other metric"] if results.also else []
    others += ["health"]
    verdicts = f"{family(page)} on {escape(results.metric.label)}, alpha {analysis.alpha:g} over all of them"
    return f"Claims: {verdicts}. Exploratory: {both(others)}."
