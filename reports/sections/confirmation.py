"""What became of this study's best arms on fresh seeds and test scenes: the headline, where there is one."""

from __future__ import annotations

from reports import verdicts
from reports.findings import Analysis, Effect
from reports.load import Results
from reports.page import Page
from reports.scoring import analyse_results
from reports.wording import NOTHING, Numbers, code, count, escape, listed, table


def confirmation(page: Page) -> str:
    """The headline of a confirmed study and the arms side by side; empty where nothing has been confirmed."""
    found = page.results.confirmation
    if found is None:
        return ""
    analysis = analyse_results(found)
    lines = [f"**{_headline(found, analysis)}** {_scope(found)}", _table(page, found, analysis)]
    return "\n\n".join(lines)


def _headline(found: Results, analysis: Analysis) -> str:
    base, label = code(analysis.baseline), escape(found.metric.label)
    opening = f"On fresh seeds and test scenes, by {label}:"
    if analysis.blocks < 3:
        return f"{opening} {count(analysis.blocks, 'paired seed')}, too few for a verdict."
    said = []
    for verdict in (*verdicts.CLAIMS, verdicts.EQUIVALENT):
        members = [effect.arm for effect in analysis.effects if effect.verdict == verdict]
        if members:
            said.append(f"{listed(members)} {'is' if len(members) == 1 else 'are'} {verdicts.against(verdict, base)}")
    open_ones = [effect.arm for effect in analysis.effects if effect.verdict == verdicts.UNRESOLVED]
    if open_ones:
        said.append(f"{listed(open_ones)} cannot be told apart from {base}")
    return f"{opening} {'; '.join(said)}." if said else f"{opening} nothing can be compared."


def _scope(found: Results) -> str:
    reads = found.test_reads
    look = f"; look {reads} at these test scenes" if reads else ""
    again = "" if reads <= 1 else ", so they have been used before"
    return (
        f"{code(found.name)} trained the arms that this study selected once more, on {count(len(found.seeds), 'seed')} "
        f"that selected nothing{look}{again}. What follows below is of the selection."
    )


def _table(page: Page, found: Results, analysis: Analysis) -> str:
    numbers = Numbers.of(found.metric, analysis)
    rows = []
    for effect in sorted(analysis.effects, key=lambda effect: analysis.ranking.index(effect.arm)
                         if effect.arm in analysis.ranking else len(analysis.ranking)):  # fmt: skip
        here = page.analysis.effect(effect.arm)
        selected = _estimate(page.numbers, here) if here else NOTHING
        rows.append([code(effect.arm), selected, _estimate(numbers, effect), effect.verdict])
    head = ["arm", "selected: difference, validation", "confirmed: difference, test scenes", "verdict there"]
    return table(head, rows, right=[1, 2])


def _estimate(numbers: Numbers, effect: Effect) -> str:
    interval = "" if effect.low is None else f" {numbers.interval(effect.low, effect.high)}"
    return f"{numbers.difference(effect.difference)}{interval}"
