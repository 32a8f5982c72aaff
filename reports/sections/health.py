"""What each run suffered from, pathologies as counts with their exact p, and the last health readings."""

from __future__ import annotations

import math
import statistics

from reports.failures import exact_p
from reports.load import Run
from reports.page import Page
from reports.wording import NOTHING, code, count, escape, listed, p_value, table

READINGS = {
    "health/accuracy_real": "D right on real",
    "health/accuracy_fake": "D right on generated",
    "health/loss_d_normalised": "D loss (0 floor, 1 blind)",
    "health/separation": "separation (sd)",
    "health/sign_rate": "sign rate",
    "health/adversarial_share": "adversarial share",
    "health/output_variance": "output variance",
    "health/input_use": "input use",
}

# What a pathology is read from: without any of it a run shows neither its presence nor its absence.
EVIDENCE = {
    "D dominates": ("health/accuracy_real", "health/separation"),
    "D is blind": ("health/loss_d_normalised",),
    "The signal vanishes": ("health/adversarial_share", "health/output_change"),
    "The adversarial part overruns": ("health/adversarial_share",),
    "Gradients explode": ("health/gradient_g",),
    "G has collapsed": ("health/output_variance",),
    "G ignores its input": ("health/input_use",),
    "G copies its input": ("health/input_distance",),
    "G oscillates": ("health/probe_l1",),
}
DIVERGED = "Training diverged"
HEALTHY = "healthy"
UNJUDGED = "unjudged"  # too short a run, or too late a last stage, for its health to be judged
LEGEND = {
    "health/accuracy_real": "Right: share of patches that D tells correctly.",
    "health/separation": "Separation: D's outputs on real minus on generated patches, in their own sd.",
    "health/sign_rate": "Sign rate: mean sign of D's outputs on real patches; 1 where all are taken for real.",
    "health/adversarial_share": "Adversarial share: its gradient at G's output over the reconstruction's.",
    "health/output_variance": "Output variance: over fixed tiles, over the truth's.",
    "health/input_use": "Input use: G's error over that against another tile's truth; 1 where it ignores the input.",
}


def health(page: Page) -> str:
    parts = [_diagnoses(page), _counts(page), _readings(page)]
    return "\n\n".join(["## Health", *filter(None, parts)])


def _diagnoses(page: Page) -> str:
    """What each run suffered from most; arms of which the same is said on one line."""
    groups: dict[str, list[str]] = {}
    for arm in page.order:
        found: dict[str, list[str]] = {}
        for run in page.results.of(arm):
            if run.result and run.result.diagnosis:
                found.setdefault(run.result.pathology or run.result.diagnosis, []).append(str(run.seed))
        if found:
            said = "; ".join(f"{escape(name)}: {', '.join(seeds)}" for name, seeds in sorted(found.items()))
            groups.setdefault(said, []).append(arm)
    if not groups:
        return ""
    rows = [[listed(arms, most=40), said] for said, arms in groups.items()]
    note = "What each run suffered from most."
    if any(map(_unjudged, page.results.all_runs)):
        note += " `unjudged`: too short a run for a flag, which takes three windows of readings in a row."
    return f"{note}\n\n{table(['arm', 'diagnosis: seeds'], rows)}"


def _counts(page: Page) -> str:
    runs = [run for run in page.results.all_runs if run.result]
    pathologies = sorted({flag for run in runs for flag in run.flags})
    if not pathologies:
        judged = [run for run in runs if not _unjudged(run)]
        short = f"; {len(runs) - len(judged)} more were not judged to their end" if len(judged) < len(runs) else ""
        return f"No pathology was flagged in {count(len(judged), 'run')}{short}."
    head = ["pathology", "arm", "seeds with it", "first flagged at update", f"against {code(page.analysis.baseline)}"]
    rows = [row for flag in pathologies for row in _rows(page, flag)]
    note = "Counts of flagged runs. The p are exact, two-sided and not corrected for the number of arms: exploratory."
    if any(run.flags and run.result.diagnosis == HEALTHY for run in runs):
        note += " A flag may have passed: a run that is called healthy had it on the way, and no longer at its end."
    return f"{note}\n\n{table(head, rows)}"


def _rows(page: Page, flag: str) -> list[list[str]]:
    """The baseline first, then the other arms, those with equal counts on one line, most flagged first."""
    baseline = page.analysis.baseline
    groups: dict[tuple[int, int], list[str]] = {}
    for arm in page.order:
        if arm != baseline and any(run.result for run in page.results.of(arm)):
            counted = flagged(page, arm, flag)
            groups.setdefault(counted, []).append(arm)
    base = flagged(page, baseline, flag)
    rows = [_line(page, flag, [baseline], base, NOTHING)] if base[1] else []
    for counted, arms in sorted(groups.items(), key=_most_flagged):
        rows.append(_line(page, flag, arms, counted, _versus(counted, base)))
    return rows


def _most_flagged(group: tuple[tuple[int, int], list[str]]) -> tuple[float, int]:
    """Sorts by the share of flagged runs; what was not measured comes last."""
    hits, runs = group[0]
    return (-hits / runs, -runs) if runs else (1.0, 0)


def _line(page: Page, flag: str, arms: list[str], counted: tuple[int, int], versus: str) -> list[str]:
    steps = [run.flags[flag] for arm in arms for run in page.results.of(arm) if flag in run.flags]
    when = NOTHING if not steps else f"{min(steps)}" if min(steps) == max(steps) else f"{min(steps)}–{max(steps)}"
    seeds = [str(run.seed) for run in page.results.of(arms[0]) if flag in run.flags]
    each = f" in each of {len(arms)} arms" if len(arms) > 1 else f": {', '.join(seeds)}" if seeds else ""
    counts = f"{counted[0]} of {counted[1]}{each}" if counted[1] else "not measured: its reading is not defined here"
    return [escape(flag), listed(arms, most=40), counts, when, versus]


def _versus(counted: tuple[int, int], base: tuple[int, int]) -> str:
    if not base[1] or not counted[1]:
        return NOTHING
    p = exact_p(*counted, *base)
    return p_value(p) + (", not a claim" if p > 0.05 else ", uncorrected")


def flagged(page: Page, arm: str, flag: str) -> tuple[int, int]:
    """Flagged runs, and runs in which the pathology could have been seen."""
    runs = [run for run in page.results.of(arm) if run.result]
    runs = [run for run in runs if flag in run.flags or (_measured(run, flag) and not _unjudged(run))]
    return sum(flag in run.flags for run in runs), len(runs)


def _measured(run: Run, flag: str) -> bool:
    keys = EVIDENCE.get(flag, ())
    return not keys or any(run.curve("train", key) for key in keys)


def _unjudged(run: Run) -> bool:
    return run.result is not None and run.result.diagnosis == UNJUDGED


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
    legend = " ".join(["Last reading of each run, median over seeds.", *(LEGEND[key] for key in keys if key in LEGEND)])
    return f"{legend}\n\n" + table(head, rows, right=range(1, len(head)))


def _shown(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}"


def _median(page: Page, arm: str, key: str) -> float | None:
    curves = [run.curve("train", key) for run in page.results.of(arm) if run.result]
    values = [curve[-1][2] for curve in curves if curve and math.isfinite(curve[-1][2])]
    return statistics.median(values) if values else None
