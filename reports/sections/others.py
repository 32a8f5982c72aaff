"""The other metrics: means without claims, and whether they order the arms as the primary one does."""

from __future__ import annotations

import math

from reports.agreement import agreement
from reports.load import Metric
from reports.page import Page, trained_mark
from reports.scoring import mean_of
from reports.wording import NOTHING, arrow, code, escape, table

WIDEST = 6  # metrics in one table


def others(page: Page) -> str:
    also = page.results.also
    missing = [f"{escape(metric.label)}: unavailable: {escape(why)}" for metric, why in page.results.unavailable]
    known = any(mean_of(page.results, arm, metric.name) is not None for metric in also for arm in page.in_fit)
    if not known and not missing:
        return ""
    text = "Exploratory: means over finished runs, no intervals and no verdicts. ↑ higher, ↓ lower is better."
    if any(trained_mark(page, name, metric.name) for name in page.in_fit for metric in also):
        text += " †: trained on this metric or its like, which not every arm was."
    tables = [_table(page, also[start : start + WIDEST]) for start in range(0, len(also) if known else 0, WIDEST)]
    return "\n\n".join(filter(None, ["### Other metrics", text if known else "", *tables, *missing, _agreement(page)]))


def _table(page: Page, metrics: tuple[Metric, ...]) -> str:
    columns = [_column(page, metric.name) for metric in metrics]
    rows = []
    for name in page.in_fit:
        cells = [column[name] + trained_mark(page, name, m.name) for column, m in zip(columns, metrics, strict=True)]
        rows.append([code(name), *cells])
    for name in page.results.references:
        rows.append([f"*{escape(name.replace('_', ' '))}*", *(column[name] for column in columns)])
    head = ["arm", *(f"{escape(metric.label)} {arrow(metric)}" for metric in metrics)]
    return table(head, rows, right=range(1, len(head)))


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


def _column(page: Page, metric: str) -> dict[str, str]:
    """One metric of all arms and references, printed with equal decimals: four digits of the largest."""
    values = {name: mean_of(page.results, name, metric) for name in page.in_fit}
    values |= {name: row.get(metric) for name, row in page.results.references.items()}
    known = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    largest = max((abs(value) for value in known.values()), default=0.0)
    decimals = min(max(3 - math.floor(math.log10(largest)), 0), 6) if largest else 4
    return {name: f"{known[name]:.{decimals}f}" if name in known else NOTHING for name in values}
