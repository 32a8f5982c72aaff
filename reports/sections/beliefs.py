"""Beside the verdicts: beliefs under a model, the worst seed, reliability, and how restless training ends."""

from __future__ import annotations

from reports.failures import success_interval
from reports.page import Page
from reports.sections.ranking import runs_of_all, without_blanks
from reports.wording import NOTHING, code, escape, share


def beliefs(page: Page) -> str:
    base, metric = code(page.analysis.baseline), page.results.metric
    restless = page.stability
    head = ["arm", f"shrunken difference from {base}", f"P(beats {base})", "P(best)",
            f"worst seed, {escape(metric.label)}", "success rate, exact 95 % interval",
            f"sd of the last readings, {escape(restless.reading)} ↓" if restless else ""]  # fmt: skip
    rows = [
        _row(page, name) for name in page.in_fit if page.analysis.arms[name].n_ok + page.analysis.arms[name].n_failed
    ]
    if not rows or all(cell == NOTHING for row in rows for cell in row[1:]):
        return ""
    title = "### Beliefs and reliability" if _modelled(page) else "### Reliability"
    return "\n\n".join([title, _caption(page), without_blanks(head, rows, range(1, 7))])


def _modelled(page: Page) -> bool:
    return any(arm.p_best is not None for arm in page.analysis.arms.values())


def _caption(page: Page) -> str:
    said = ["Exploratory."]
    if _modelled(page):
        said.append(
            "Shrunken differences are drawn towards the other arms: what another study of "
            "these arms would show about them. They and P are beliefs under a model, without correction for many arms."
        )
    if any(arm.n_failed for arm in page.analysis.arms.values()):
        said.append("Success rate: trained runs among those with an outcome.")
    if page.stability:
        said.append(
            f"Last readings: the sd of {escape(page.stability.reading)} over the last 20 % of its readings, mean over "
            "finished runs; less is calmer. What an arm still learns there is in it too, and it says nothing "
            "of quality."
        )
    return " ".join(said)


def _row(page: Page, name: str) -> list[str]:
    summary, effect, numbers = page.analysis.arms[name], page.analysis.effect(name), page.numbers
    restless = page.stability.arms.get(name) if page.stability else None
    return [
        code(name), numbers.difference(effect.shrunken) if effect else NOTHING, share(summary.p_beats),
        share(summary.p_best), numbers.value(summary.worst), _reliability(page, name),
        NOTHING if restless is None else f"{restless:.3g}",
    ]  # fmt: skip


def _reliability(page: Page, name: str) -> str:
    summary = page.analysis.arms[name]
    outcomes = summary.n_ok + summary.n_failed
    if runs_of_all(page) is not None or not outcomes:
        return NOTHING
    low, high = success_interval(summary.n_ok, outcomes)
    return f"{summary.n_ok} of {outcomes} [{low:.2f}, {high:.2f}]"
