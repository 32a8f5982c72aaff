"""What each run suffered from, pathologies as counts with their exact p, and the last health readings."""

from __future__ import annotations

import math
import statistics

from reports.failures import exact_p
from reports.load import Run
from reports.page import Page
from reports.sections.ranking import folded
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
    """Nothing where no run was watched: results of another trainer."""
    if not any(map(_watched, page.results.all_runs)):
        return ""
    parts = [_diagnoses(page), _counts(page), _readings(page)]
    return "\n\n".join(["## Health", *filter(None, parts)])


def _watched(run: Run) -> bool:
    if run.result is None:
        return False
    return bool(run.flags or run.result.diagnosis) or any(key.startswith("health/") for _, key in run.result.curves)


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
    usual = max(groups, key=lambda said: len(groups[said]))
    rows = [[_members(arms, most=said == usual), said] for said, arms in groups.items()]
    note = "What each run suffered from most."
    if any(map(_unjudged, page.results.all_runs)):
        note += " `unjudged`: too short a run for a flag, which takes three windows of readings in a row."
    return f"{note}\n\n{table(['arm', 'diagnosis: seeds'], rows)}"


def _members(arms: list[str], *, most: bool) -> str:
    """The largest group is everything that the other lines do not name."""
    return f"the other {len(arms)} arms" if most and len(arms) > 8 else listed(arms, most=40)


def _counts(page: Page) -> str:
    runs = [run for run in page.due if run.result]
    pathologies = sorted({flag for run in runs for flag in run.flags})
    if not pathologies:
        judged = [run for run in runs if not _unjudged(run)]
        if not judged:
            return "No run was judged to its end, so that none could be flagged."
        short = f"; {len(runs) - len(judged)} more were not judged to their end" if len(judged) < len(runs) else ""
        return f"No pathology was flagged in {count(len(judged), 'run')}{short}."
    base = code(page.analysis.baseline)
    note = (
        f"Seeds in which a pathology was flagged. Each p is exact, two-sided, against {base}, and not corrected for "
        "the number of arms: exploratory."
    )
    if any(run.flags and run.result.diagnosis == HEALTHY for run in runs):
        note += " A flag may have passed: a run that is called healthy had it on the way, and no longer at its end."
    return f"{note}\n\n" + "\n".join(f"- {_sentence(page, flag)}" for flag in pathologies)


def _sentence(page: Page, flag: str) -> str:
    """`D dominates: base 3 of 3 seeds; spectral 0 of 3 (p = 0.10: not a claim)`; arms with equal counts together."""
    baseline = page.analysis.baseline
    base = flagged(page, baseline, flag)
    groups: dict[tuple[int, int], list[str]] = {}
    for arm in page.order:
        if arm != baseline and any(run.result for run in page.results.of(arm)):
            groups.setdefault(flagged(page, arm, flag), []).append(arm)
    said = [_counted(page, flag, [baseline], base)] if any(page.results.of(baseline)) else []
    for counted, arms in sorted(groups.items(), key=_most_flagged):
        said.append(_counted(page, flag, arms, counted, _versus(counted, base)))
    return f"**{escape(flag)}**: {'; '.join(said)}. {_when(page, flag)}"


def _most_flagged(group: tuple[tuple[int, int], list[str]]) -> tuple[float, int]:
    """Sorts by the share of flagged runs; what was not measured comes last."""
    hits, runs = group[0]
    return (-hits / runs, -runs) if runs else (1.0, 0)


def _counted(page: Page, flag: str, arms: list[str], counted: tuple[int, int], versus: str = "") -> str:
    named = _members(arms, most=len(arms) > len(page.analysis.arms) / 2)
    if not counted[1]:
        return f"{named} not measured (its reading is not defined there)"
    seeds = [str(run.seed) for arm in arms for run in page.results.of(arm) if flag in run.flags]
    which = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" if len(arms) == 1 and 0 < len(seeds) < counted[1] else ""
    each = "each " if len(arms) > 1 else ""
    inside = "; ".join(filter(None, [which, versus]))
    return f"{named} {each}{counted[0]} of {counted[1]}{'' if versus else ' seeds'}" + f" ({inside})" * bool(inside)


def _versus(counted: tuple[int, int], base: tuple[int, int]) -> str:
    if not base[1] or not counted[1]:
        return ""
    p = exact_p(*counted, *base)
    return f"{p_value(p)}: {'not a claim' if p > 0.05 else 'not corrected'}"


def _when(page: Page, flag: str) -> str:
    steps = [run.flags[flag] for run in page.results.all_runs if flag in run.flags]
    span = f"update {min(steps)}" if min(steps) == max(steps) else f"updates {min(steps)} to {max(steps)}"
    return f"First flagged at {span}."


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
        for arm in page.rows
        if any(run.result for run in page.results.of(arm))
    }
    keys = [key for key in READINGS if any(row[key] is not None for row in last.values())]
    if not keys:
        return ""
    rows = [[code(arm), *(_shown(row[key]) for key in keys)] for arm, row in last.items()]
    head = ["arm", *(READINGS[key] for key in keys)]
    legend = " ".join(["Last reading of each run, median over seeds.", *(LEGEND[key] for key in keys if key in LEGEND)])
    return "\n\n".join(filter(None, [legend, table(head, rows, right=range(1, len(head))), folded(page)]))


def _shown(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}"


def _median(page: Page, arm: str, key: str) -> float | None:
    curves = [run.curve("train", key) for run in page.results.of(arm) if run.result]
    values = [curve[-1][2] for curve in curves if curve and math.isfinite(curve[-1][2])]
    return statistics.median(values) if values else None
