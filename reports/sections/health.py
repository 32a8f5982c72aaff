"""Pathologies as counts with their exact p, and the last health readings."""

from __future__ import annotations

import math
import statistics

from reports.failures import exact_p
from reports.page import Page
from reports.wording import NOTHING, code, count, escape, listed, p_value, table

READINGS = {
    "health/accuracy_real": "D right on real",
    "health/accuracy_fake": "D right on generated",
    "health/loss_d_normalised": "D loss (0 floor, 1 blind)",
    "health/separation": "separation (sd)",
    "health/sign_rate": "sign rate",
}


def health(page: Page) -> str:
    parts = [_counts(page), _readings(page)]
    return "\n\n".join(["## Health", *filter(None, parts)])


def _counts(page: Page) -> str:
    runs = [run for run in page.results.all_runs if run.result]
    pathologies = sorted({flag for run in runs for flag in run.flags})
    if not pathologies:
        return f"No pathology was flagged in {count(len(runs), 'run')}."
    head = ["pathology", "arm", "seeds with it", "first flagged at update", f"against {code(page.analysis.baseline)}"]
    rows = [row for flag in pathologies for row in _rows(page, flag)]
    note = "Counts of flagged runs. The p are exact, two-sided and not corrected for the number of arms: exploratory."
    return f"{note}\n\n{table(head, rows)}"


def _rows(page: Page, flag: str) -> list[list[str]]:
    """The baseline first, then the other arms, those with equal counts on one line, most flagged first."""
    baseline = page.analysis.baseline
    groups: dict[tuple[int, int], list[str]] = {}
    for arm in page.order:
        if arm != baseline and (counted := _count(page, arm, flag))[1]:
            groups.setdefault(counted, []).append(arm)
    base = _count(page, baseline, flag)
    rows = [_line(page, flag, [baseline], base, NOTHING)] if base[1] else []
    for counted, arms in sorted(groups.items(), key=lambda group: (-group[0][0] / group[0][1], group[0])):
        rows.append(_line(page, flag, arms, counted, _versus(counted, base)))
    return rows


def _line(page: Page, flag: str, arms: list[str], counted: tuple[int, int], versus: str) -> list[str]:
    steps = [run.flags[flag] for arm in arms for run in page.results.of(arm) if flag in run.flags]
    when = NOTHING if not steps else f"{min(steps)}" if min(steps) == max(steps) else f"{min(steps)}–{max(steps)}"
    each = f" in each of {len(arms)} arms" if len(arms) > 1 else ""
    return [escape(flag), listed(arms, most=6), f"{counted[0]} of {counted[1]}{each}", when, versus]


def _versus(counted: tuple[int, int], base: tuple[int, int]) -> str:
    if not base[1]:
        return NOTHING
    p = exact_p(*counted, *base)
    return p_value(p) + (", not a claim" if p > 0.05 else ", uncorrected")


def _count(page: Page, arm: str, flag: str) -> tuple[int, int]:
    """Flagged runs and runs with any events."""
    runs = [run for run in page.results.of(arm) if run.result]
    return sum(flag in run.flags for run in runs), len(runs)


def _readings(page: Page) -> str:
    last = {
        arm: {key: _median(page, arm, key) for key in READINGS}
        for arm in page.order
        if any(run.result for run in page.results.of(arm))
    }
    keys = [key for key in READINGS if any(row[key] is not None for row in last.values())]
    if not keys:
        return ""
    rows = [[code(arm), *(_shown(row[key]) for key in keys)] for arm, row in last.items()]
    head = ["arm", *(READINGS[key] for key in keys)]
    return "Last reading of each run, median over seeds:\n\n" + table(head, rows, right=range(1, len(head)))


def _shown(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}"


def _median(page: Page, arm: str, key: str) -> float | None:
    curves = [run.curve("train", key) for run in page.results.of(arm) if run.result]
    values = [curve[-1][2] for curve in curves if curve and math.isfinite(curve[-1][2])]
    return statistics.median(values) if values else None
