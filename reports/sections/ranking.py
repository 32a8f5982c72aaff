"""The ranked table, with the predictors without training in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.failures import success_interval
from reports.page import Page, change, trained_mark
from reports.sections.claims import claims
from reports.wording import NOTHING, among, arrow, code, count, escape, table, unbroken


def ranking(page: Page) -> str:
    metric = page.results.metric
    unit = f" ({escape(metric.unit)})" if metric.unit else ""
    interval = ", 95 % interval" if any(effect.low is not None for effect in page.analysis.effects) else ""
    head = [
        "rank", "arm", "ties", "runs ok", f"{escape(metric.label)}{unit} {arrow(metric)}", "sd over seeds",
        f"difference from {code(page.analysis.baseline)}{interval}", "verdict", "change",
    ]  # fmt: skip
    rows = [_row(page, arm) for arm in page.in_fit]
    rows += [_reference(page, name) for name in page.results.references if metric.name in page.results.references[name]]
    parts = ["## Ranking", _caption(page), without_blanks(head, rows, (0, 3, 4, 5, 6)), folded(page), _stopped(page)]
    return "\n\n".join(filter(None, parts))


def _caption(page: Page) -> str:
    analysis = page.analysis
    modelled = any(arm.p_best is not None for arm in analysis.arms.values())
    direction = "higher" if analysis.goal == "max" else "lower"
    judged = any(effect.low is not None for effect in analysis.effects)
    said = []
    said.append(f"Means of finished runs; {direction} is better. In the order of the "
                f"{'shrunken means' if modelled else 'means'}.")  # fmt: skip
    said.append(all_finished(page))
    if judged:
        said.append("Intervals are simultaneous over all arms, and the verdict is read from them alone.")
    if analysis.best_set:
        said.append("★: could be the best, 95 %.")
    if analysis.letters:
        said.append(
            "Ties: arms that share a letter are not separated from each other (all pairs, two-sided), which does not "
            "make them equal; ★ comes from a sharper one-sided test against the best."
        )
    if modelled:
        said.append("In brackets: the rank's 95 % interval, a belief under a model.")
    if any(arm.n_failed for arm in analysis.arms.values()):
        said.append("The order counts failed runs at their penalty; all other numbers are of trained runs.")
    if any(trained_mark(page, name, analysis.metric) for name in page.rows):
        said.append("†: trained on this metric or its like, which not every arm was: it favours them.")
    if analysis.scale == "log":
        said.append("Differences are ratios, shown as percentages.")
    return "\n\n".join(filter(None, [claims(page) if judged else "", " ".join(filter(None, said))]))


def all_finished(page: Page) -> str:
    """Said once where every run of every arm finished, in place of a column that says it of each."""
    runs = runs_of_all(page)
    if runs is None:
        return ""
    low, high = success_interval(runs, runs)
    many = f"All {runs} runs" if runs > 1 else "The one run"
    return f"{many} of every arm finished (success rate, exact 95 % interval: [{low:.2f}, {high:.2f}])."


def runs_of_all(page: Page) -> int | None:
    """Runs of every arm, where all finished and each arm has as many; else None."""
    counts = {(arm.n_ok, arm.n_planned) for arm in page.analysis.arms.values()}
    return next(iter(counts))[0] if len(counts) == 1 and all(ok == planned > 0 for ok, planned in counts) else None


def without_blanks(head: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int]) -> str:
    """The table less the columns in which no row has anything."""
    kept = [column for column in range(len(head)) if any(row[column] != NOTHING for row in rows)]
    trimmed = [[row[column] for column in kept] for row in [head, *rows]]
    return table(trimmed[0], trimmed[1:], right=[place for place, column in enumerate(kept) if column in set(right)])


def folded(page: Page) -> str:
    """What a table of very many arms leaves out."""
    left = len(page.order) - len(page.rows)
    return f"{left} arms of the middle ranks are left out here; table.csv holds all {len(page.order)}." if left else ""


def _row(page: Page, name: str) -> list[str]:
    summary, effect, numbers = page.analysis.arms[name], page.analysis.effect(name), page.numbers
    star = " ★" if name in page.analysis.best_set else ""
    names = " = ".join(code(alias) for alias in page.arm(name).names)
    ranks = f" ({summary.ranks[0]} to {summary.ranks[1]})" if summary.ranks else ""
    place = page.place(name)
    rank = NOTHING if place is None else unbroken(f"{place}{ranks}")
    runs = NOTHING if runs_of_all(page) is not None else f"{summary.n_ok} / {summary.n_planned}"
    own = [rank, names + star, page.analysis.letters.get(name) or NOTHING, runs]
    own.append(numbers.value(summary.mean) + trained_mark(page, name, page.results.metric.name))
    own.append(numbers.value(summary.sd))
    changed = change(page.arm(name), page.results.arms)
    if effect is None:
        return [*own, NOTHING, "baseline", changed]
    interval = "" if effect.low is None else f" {unbroken(numbers.interval(effect.low, effect.high))}"
    return [*own, f"{numbers.difference(effect.difference)}{interval}", effect.verdict, changed]


def _reference(page: Page, name: str) -> list[str]:
    value = page.results.references[name][page.results.metric.name]
    verdict = f"beaten by {among(len(page.beaten_by(value)), len(page.scored))}"
    own = [NOTHING, f"*{escape(name.replace('_', ' '))}*", NOTHING, NOTHING, page.numbers.value(value)]
    return [*own, NOTHING, NOTHING, verdict, "reference, no training"]


def _stopped(page: Page) -> str:
    """Arms that were ended on the way: a tier of its own, as their means are of seeds on which they lost."""
    stopped = page.analysis.stopped
    if not stopped:
        return ""
    side = "low" if page.analysis.goal == "max" else "high"
    rows = [
        [code(name), f"stopped after n={one.after}, biased {side}" if one.after else "stopped before any run ended",
         page.numbers.value(one.mean),
         escape(one.why) or NOTHING, change(page.arm(name), page.results.arms)]
        for name, one in stopped.items()
    ]  # fmt: skip
    text = (
        f"{count(len(rows), 'arm')} ended before all seeds had been run to their end. They stand outside the fit, the "
        "ranks and the pooled variance; nothing is imputed for what they did not run."
    )
    head = ["arm", "tier", f"mean until then, biased {side}", "why", "change"]
    return f"### Stopped on the way\n\n{text}\n\n{without_blanks(head, rows, (2,))}"
