"""Runs that did not finish: outcomes of their arm, never holes in the table."""

from __future__ import annotations

from collections import Counter

from ablate.records import Status
from reports.failures import success_interval
from reports.load import Run
from reports.page import ROWS, Page
from reports.wording import code, count, escape, table

_LOST = {Status.failed.value: "failed without an outcome"}


def failures(page: Page) -> str:
    parts = [_own(page), _penalty(page), _stopped(page), _missing(page)]
    return "\n\n".join(["## Failures", *filter(None, parts)])


def _own(page: Page) -> str:
    rows = []
    for name in page.order:
        runs = page.results.of(name)
        failed = [run for run in runs if run.failed_by_itself]
        outcomes = sum(run.done for run in runs) + len(failed)
        if failed:
            low, high = success_interval(outcomes - len(failed), outcomes)
            what = "; ".join(_reason(run) for run in failed[:5])
            what += f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
            rows.append([code(name), f"{outcomes - len(failed)} / {outcomes}", f"[{low:.2f}, {high:.2f}]", what])
    if not rows:
        return "No run ended as diverged or collapsed."
    rest = f"\n\n{len(rows) - ROWS} more arms with failed runs: see table.csv." if len(rows) > ROWS else ""
    return table(["arm", "trained", "success rate, exact 95 % interval", "what happened"], rows[:ROWS]) + rest


def _reason(run: Run) -> str:
    why = f": {escape(run.result.why)}" if run.result and run.result.why else ""
    return f"seed {run.seed} {run.outcome}{why}"


def _penalty(page: Page) -> str:
    analysis = page.analysis
    if analysis.penalty is None or not any(arm.n_failed for arm in analysis.arms.values()):
        return ""
    source = page.results.failure
    known = isinstance(source, str) and page.results.metric.name in page.results.references.get(source, {})
    name = f" ({escape(source.replace('_', ' '))})" if known else ""
    text = f"In the order of the table a failed run counts as {page.numbers.value(analysis.penalty)}{name}."
    if analysis.penalty_matters is None:
        return text
    effect = "would change that order" if analysis.penalty_matters else "would leave that order as it is"
    if analysis.penalty_matters and analysis.leader_matters is not None:
        effect += ", its first place included" if analysis.leader_matters else ", but not its first place"
    return (
        f"{text} Half or double that penalty, measured from the baseline's mean, {effect}. "
        "Intervals, verdicts and the best set are of trained runs and do not depend on it."
    )


def _stopped(page: Page) -> str:
    """Runs that were stopped one by one; whole arms that a race ended stand under the ranking."""
    stopped = [run for run in page.results.all_runs if run.outcome == Status.stopped]
    per_arm = Counter(run.arm for run in stopped if run.arm not in page.analysis.stopped)
    if not per_arm:
        return ""
    named = [f"{code(arm)} ({per_arm[arm]})" for arm in page.order if arm in per_arm]
    rest = f" and {len(named) - ROWS} more arms" if len(named) > ROWS else ""
    side = "low" if page.analysis.goal == "max" else "high"
    return f"Stopped early, left out of all means, and biased {side} if read anyway: {', '.join(named[:ROWS])}{rest}."


def _missing(page: Page) -> str:
    lost = page.lost
    if not lost:
        return ""
    per_outcome = Counter(run.outcome for run in lost)
    counts = ", ".join(f"{number} {_LOST.get(outcome, outcome)}" for outcome, number in sorted(per_outcome.items()))
    named = ", ".join(f"{code(run.arm)} seed {run.seed}" for run in lost[:12])
    rest = f" and {len(lost) - 12} more" if len(lost) > 12 else ""
    known = "; the last section says what is known of them" if any(run.result for run in lost) else ""
    return (
        f"Without an outcome: {count(len(lost), 'trial')} of {len(page.due)} ({counts}): {named}{rest}. "
        f"They are missing, not counted as failures of their arm{known}."
    )
