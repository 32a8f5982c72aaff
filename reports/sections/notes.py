"""What a reader has to know about the plan: shared trials, inert settings, warnings."""

from __future__ import annotations

import math
import statistics
from collections import Counter

import numpy as np

from reports.fit import fit
from reports.page import Page, trained_on
from reports.scoring import scores_of
from reports.sections.method import refused
from reports.wording import code, count, escape, listed


def notes(page: Page) -> str:
    lines = [
        *_mixed_code(page),
        *_unfair(page),
        *_uneven(page),
        *filter(None, [refused(page)]),
        *_shared(page),
        *_inert(page),
        *_stages(page),
        *_warnings(page),
        *map(escape, page.results.data.get("cautions") or ()),
        *_valueless(page),
        *map(escape, page.analysis.notes),
    ]
    return "\n".join(["## Notes", "", *(f"- {line}" for line in lines)]) if lines else ""


def _mixed_code(page: Page) -> list[str]:
    """How many trials each state of the code has trained, where there were several: a difference may be the code's."""
    runs = [run for run in (*page.results.all_runs, *page.results.twin) if run.code]
    counted = Counter(" and then ".join(run.code) for run in runs)
    if len(counted) < 2 and not any(len(run.code) > 1 for run in runs):
        return []
    said = "; ".join(f"{count(number, 'trial')} under {escape(state)}" for state, number in sorted(counted.items()))
    return [
        f"Different states of the training code or of torch trained these runs ({said}): differences between them "
        "may be the code's."
    ]


def _stages(page: Page) -> list[str]:
    """When the later stages of training began: a plateau decides it run by run."""
    said = []
    for name in page.order:
        began = {run.seed: run.result.stages_began for run in page.results.of(name) if run.result}
        for stage in sorted(set().union(*began.values())):
            at = {seed: stages[stage] for seed, stages in sorted(began.items()) if stage in stages}
            alike = len(set(at.values())) == 1 and len(at) == len(began)
            each = (f"{updates} (seed {seed})" for seed, updates in at.items())
            when = str(*set(at.values())) if alike else ", ".join(each)
            said.append(f"{code(name)}: stage {stage} began after this many generator updates: {when}.")
    return said


def _unfair(page: Page) -> list[str]:
    """The primary metric as a loss term of some arms only."""
    metric = page.results.metric
    arms = [arm.name for arm in page.results.arms if metric.name in trained_on(arm)]
    if not arms or len(arms) == len(page.results.arms):
        return []
    return [
        f"{escape(metric.label)} or its like is a loss term of {listed(arms)} and not of the others: it favours them."
    ]


def _uneven(page: Page) -> list[str]:
    """One arm that holds most of the error that all intervals share."""
    analysis = page.analysis
    if analysis.blocks < 3 or not analysis.sigma or analysis.k < 5:
        return []
    scores = scores_of(page.results, page.results.metric)
    squares = np.nansum(fit(np.log(scores.values) if analysis.scale == "log" else scores.values).residuals ** 2, axis=1)
    most = int(squares.argmax())
    held, sds = squares[most] / squares.sum(), [arm.sd for arm in analysis.arms.values() if arm.sd is not None]
    name = scores.arms[most]
    if held < max(0.4, 3 / analysis.k) or analysis.arms[name].sd is None:
        return []
    own, median = page.numbers.value(analysis.arms[name].sd), page.numbers.value(statistics.median(sds))
    return [
        f"{code(name)} holds {100 * held:.0f} % of the residual variance of all {analysis.k} arms (sd over seeds "
        f"{own}; median of all arms {median}). The common error contains it: the intervals of the other arms are wider "
        "than their own runs suggest."
    ]


def _shared(page: Page) -> list[str]:
    return [
        f"{listed(arm.names)} have identical recipes: one arm with {len(arm.names)} names, counted once."
        for arm in page.results.arms
        if arm.aliases
    ]


def _inert(page: Page) -> list[str]:
    return [f"{code(arm.name)}: {escape(note)}" for arm in page.results.arms for note in arm.notes]


def _warnings(page: Page) -> list[str]:
    return [escape(warning) for warning in page.results.warnings]


def _valueless(page: Page) -> list[str]:
    metric = page.results.metric
    runs = [run for run in page.results.all_runs if run.done and math.isnan(run.score(metric.name))]
    named = ", ".join(f"{code(run.arm)} seed {run.seed}" for run in runs)
    return [f"Finished without a finite {escape(metric.label)}, left out: {named}."] if runs else []
