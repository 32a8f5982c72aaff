"""The ranked table, with the predictors without training in it, and the exploratory metrics beside it."""

from __future__ import annotations

import math

from reports.agreement import agreement
from reports.page import Page, change, trained_on
from reports.scoring import mean_of
from reports.wording import NOTHING, among, arrow, code, escape, share, table, unbroken


def ranking(page: Page) -> str:
    metric = page.results.metric
    unit = f" ({escape(metric.unit)})" if metric.unit else ""
    direction = "higher" if metric.goal == "max" else "lower"
    interval = ", 95 % interval" if any(effect.low is not None for effect in page.analysis.effects) else ""
    head = [
        "rank", "arm", "runs ok", f"{escape(metric.label)}{unit} {arrow(metric)}", "sd over seeds",
        f"difference from {code(page.analysis.baseline)}{interval}", "verdict", "shrunken", "P(beats)", "P(best)",
        "change",
    ]  # fmt: skip
    rows = [_row(page, arm) for arm in page.order]
    rows += [_reference(page, name) for name in page.results.references if metric.name in page.results.references[name]]
    right = [0, 2, 3, 4, 5, 7, 8, 9]
    parts = ["## Ranking", _caption(page, direction), _without_blanks(head, rows, right), _exploratory(page)]
    return "\n\n".join(filter(None, parts))


def _caption(page: Page, direction: str) -> str:
    analysis = page.analysis
    modelled = any(arm.p_best is not None for arm in analysis.arms.values())
    key = "shrunken means" if modelled else "means"
    said = [f"Means of finished runs; {direction} is better. In the order of the {key}."]
    if (runs := _all_ok(page)) is not None:
        said.append(f"All {runs} runs of every arm finished." if runs > 1 else "The one run of every arm finished.")
    if any(effect.low is not None for effect in analysis.effects):
        said.append("Intervals are simultaneous over all arms, and the verdict is read from them alone.")
    if analysis.best_set:
        said.append("★: could be the best, 95 %.")
    if modelled:
        said.append(
            "Shrunken (the difference drawn towards the other arms), P and the rank's 95 % interval in brackets are "
            "beliefs under a model, without correction for many arms."
        )
    if any(arm.n_failed for arm in analysis.arms.values()):
        said.append("The order counts failed runs at their penalty; all other numbers are of trained runs.")
    if analysis.scale == "log":
        said.append("Differences are ratios, shown as percentages.")
    return " ".join(said)


def _all_ok(page: Page) -> int | None:
    """Runs of every arm, where all finished and each arm has as many; else None."""
    arms = page.analysis.arms.values()
    counts = {(arm.n_ok, arm.n_planned) for arm in arms}
    return next(iter(counts))[0] if len(counts) == 1 and all(ok == planned for ok, planned in counts) else None


def _without_blanks(head: list[str], rows: list[list[str]], right: list[int]) -> str:
    """The table less the columns in which no row has anything."""
    kept = [column for column in range(len(head)) if any(row[column] != NOTHING for row in rows)]
    trimmed = [[row[column] for column in kept] for row in [head, *rows]]
    return table(trimmed[0], trimmed[1:], right=[place for place, column in enumerate(kept) if column in right])


def _row(page: Page, name: str) -> list[str]:
    summary, effect, numbers = page.analysis.arms[name], page.analysis.effect(name), page.numbers
    star = " ★" if name in page.analysis.best_set else ""
    names = " = ".join(code(alias) for alias in page.arm(name).names)
    ranks = f" ({summary.ranks[0]} to {summary.ranks[1]})" if summary.ranks else ""
    place = page.place(name)
    rank = NOTHING if place is None else unbroken(f"{place}{ranks}")
    runs = NOTHING if _all_ok(page) is not None else f"{summary.n_ok} / {summary.n_planned}"
    own = [rank, names + star, runs, numbers.value(summary.mean), numbers.value(summary.sd)]
    changed = change(page.arm(name), page.results.arms)
    if effect is None:
        return [*own, NOTHING, "baseline", NOTHING, NOTHING, share(summary.p_best), changed]
    interval = "" if effect.low is None else f" {unbroken(numbers.interval(effect.low, effect.high))}"
    return [
        *own, f"{numbers.difference(effect.difference)}{interval}", effect.verdict,
        numbers.difference(effect.shrunken), share(summary.p_beats), share(summary.p_best),
        changed,
    ]  # fmt: skip


def _reference(page: Page, name: str) -> list[str]:
    value = page.results.references[name][page.results.metric.name]
    scored = [arm for arm in page.analysis.arms.values() if arm.score is not None]
    verdict = f"beaten by {among(len(page.beaten_by(value)), len(scored))}"
    own = [NOTHING, f"*{escape(name.replace('_', ' '))}*", NOTHING, page.numbers.value(value), NOTHING, NOTHING]
    return [*own, verdict, NOTHING, NOTHING, NOTHING, "reference, no training"]


def _exploratory(page: Page) -> str:
    """Means of the other metrics, and the worst seed of the primary one: no claims."""
    also, primary = page.results.also, page.results.metric
    head = ["arm", f"worst seed, {escape(primary.label)}"]
    head += [f"{escape(metric.label)} {arrow(metric)}" for metric in also]
    columns = [_column(page, metric.name) for metric in also]
    rows = []
    for name in page.order:
        cells = [column[name] + _mark(page, name, m.name) for column, m in zip(columns, also, strict=True)]
        rows.append([code(name), page.numbers.value(page.analysis.arms[name].worst), *cells])
    for name in page.results.references:
        rows.append([f"*{escape(name.replace('_', ' '))}*", NOTHING, *(column[name] for column in columns)])
    text = "Exploratory: means over finished runs, no intervals and no verdicts. ↑ higher, ↓ lower is better."
    if any(_mark(page, name, metric.name) for name in page.order for metric in also):
        text += " †: trained on this metric or its like, which not every arm was."
    missing = [f"{escape(metric.label)}: unavailable: {escape(why)}" for metric, why in page.results.unavailable]
    parts = ["### Other metrics", text, table(head, rows, right=range(1, len(head))), *missing, _agreement(page)]
    return "\n\n".join(filter(None, parts))


def _agreement(page: Page) -> str:
    found = agreement(page.results)
    said = [f"{escape(m.label)} {found[m.name]:+.2f}" for m in page.results.also if m.name in found]
    if not said:
        return ""
    label = escape(page.results.metric.label)
    return (
        f"Order of the arms by these means against their order by {label}, as Spearman's rank correlation "
        f"(+1 the same, -1 the reverse): {', '.join(said)}. Noise in the means is in it."
    )


def _mark(page: Page, arm: str, metric: str) -> str:
    """A dagger where this arm was trained on the metric and not every arm was."""
    marked = [metric in trained_on(other) for other in page.results.arms]
    return " †" if not all(marked) and metric in trained_on(page.arm(arm)) else ""


def _column(page: Page, metric: str) -> dict[str, str]:
    """One metric of all arms and references, printed with equal decimals: four digits of the largest."""
    values = {name: mean_of(page.results, name, metric) for name in page.order}
    values |= {name: row.get(metric) for name, row in page.results.references.items()}
    known = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    largest = max((abs(value) for value in known.values()), default=0.0)
    decimals = min(max(3 - math.floor(math.log10(largest)), 0), 6) if largest else 4
    return {name: f"{known[name]:.{decimals}f}" if name in known else NOTHING for name in values}
