"""The answer in plain words, for a person who has five minutes."""

from __future__ import annotations

import math

from reports import verdicts
from reports.agreement import agreement
from reports.failures import exact_p
from reports.findings import Effect
from reports.page import Page, predictor, trained_mark
from reports.scoring import mean_of
from reports.sections.certainty import advice, certainty, confirming
from reports.sections.claims import role
from reports.sections.confirmation import confirmation
from reports.sections.health import DIVERGED, flagged
from reports.sections.scenes import on_scenes
from reports.wording import among, both, code, count, escape, listed, p_value

REVERSED = -0.5  # rank correlation from which two metrics are said to disagree


def answer(page: Page) -> str:
    parts = [_question(page), confirmation(page), confirming(page), _progress(page), _references(page)]
    parts += _arms_and_factors(page)
    parts += [_stopped(page), certainty(page), _disagreement(page), _stability(page), advice(page)]
    return "\n\n".join(["## Answer", *filter(None, parts)])


def _question(page: Page) -> str:
    return f"*{escape(page.results.question)}*" if page.results.question else ""


def _progress(page: Page) -> str:
    if not page.lost:
        return ""
    due = len(page.due)
    return f"**Incomplete: {due - len(page.lost)} of {due} trials have an outcome.** What follows covers these alone."


def _references(page: Page) -> str:
    """Stands before everything else where training has not paid."""
    best = page.best_reference
    if not best or not page.scored:
        return ""
    name, value = best
    winners = page.beaten_by(value)
    described = f"{predictor(name)} ({page.numbers.value(value)}), a predictor without training"
    label = escape(page.results.metric.label)
    if not winners:
        return " ".join(filter(None, [f"**No arm beats {described}, on {label}.**", _elsewhere(page, name)]))
    behind = [arm for arm, _ in page.scored if arm not in winners]
    if behind:
        return f"By its mean {label}, {listed(behind)} {'does' if len(behind) == 1 else 'do'} not beat {described}."
    return f"By its mean {label}, every arm beats {described}."


def _elsewhere(page: Page, reference: str) -> str:
    """How many arms beat the same predictor on each other metric."""
    results = page.results
    beaten: dict[tuple[int, int], list[str]] = {}
    for metric in results.also:
        value = results.references[reference].get(metric.name)
        means = [mean for arm in page.order if (mean := mean_of(results, arm, metric.name)) is not None]
        if value is None or not math.isfinite(value) or not means:
            continue
        sign = 1 if metric.goal == "max" else -1
        count = sum(sign * (mean - value) > 0 for mean in means)
        beaten.setdefault((count, len(means)), []).append(escape(metric.label))
    said = [f"{among(*counts)} on {both(labels)}" for counts, labels in sorted(beaten.items(), reverse=True)]
    return f"By their means, it is beaten by {'; by '.join(said)}." if said else ""


def _arms_and_factors(page: Page) -> list[str]:
    """What carries the claims first; arms beside a family of factor effects are marked as exploratory."""
    arms, factors = _finding(page), _factors(page)
    if page.analysis.family != "factor_effects" or not factors:
        return [arms, _best(page), factors]
    return [factors, f"Arms, exploratory: {arms}", _best(page)]


def _stopped(page: Page) -> str:
    stopped = page.analysis.stopped
    return f"Stopped on the way, and not compared: {listed(stopped)}." if stopped else ""


def _finding(page: Page) -> str:
    analysis = page.analysis
    base, label = code(analysis.baseline), escape(page.results.metric.label)
    if not analysis.effects:
        return f"The study has one distinct arm, {base}: there is nothing to compare."
    if analysis.arms[analysis.baseline].n_ok == 0:
        return f"{base} has no finished run, so no arm can be compared with it."
    if analysis.blocks == 0:
        return f"No seed holds both {base} and another arm yet: nothing can be compared."
    if analysis.blocks < 3:
        return _screening(page)
    if analysis.sigma == 0:
        return f"{label} does not vary within arms, so no error can be estimated: unresolved, no variation."
    said = [_group(page, verdict) for verdict in (*verdicts.CLAIMS, verdicts.EQUIVALENT)]
    open_ones = [effect for effect in analysis.effects if effect.verdict == verdicts.UNRESOLVED]
    few = [effect.arm for effect in analysis.effects if effect.verdict == verdicts.TOO_FEW_PAIRS]
    none = [effect.arm for effect in analysis.effects if effect.verdict == verdicts.NO_COMPARISON]
    if not any(effect.verdict in verdicts.CLAIMS for effect in analysis.effects):
        said.insert(0, f"On {label}, no arm can be told apart from {base}.")
    if open_ones:
        said.append(f"Unresolved: {among(len(open_ones), len(analysis.effects))}.")
    if few:
        said.append(f"Too few shared seeds for a verdict: {listed(few)}.")
    if none:
        said.append(f"No finished run to compare: {listed(none)}.")
    return " ".join(filter(None, said))


def _group(page: Page, verdict: str) -> str:
    members = [page.analysis.effect(arm) for arm in page.order if arm != page.analysis.baseline]
    members = [effect for effect in members if effect.verdict == verdict]
    if not members:
        return ""
    base, label = code(page.analysis.baseline), escape(page.results.metric.label)
    spans = [_estimate(page, effect) for effect in members[:4]]
    rest = f" and {len(members) - 4} more" if len(members) > 4 else ""
    phrase = verdicts.against(verdict, base)
    return f"**{phrase[0].upper()}{phrase[1:]}** on {label}: {'; '.join(spans)}{rest}."


def _estimate(page: Page, effect: Effect) -> str:
    numbers = page.numbers
    size = f"{numbers.difference(effect.difference)}{numbers.suffix}"
    trained = "trained on it" if trained_mark(page, effect.arm, page.analysis.metric) else ""
    more = "".join(f", {said}" for said in (on_scenes(page, effect.arm), trained) if said)
    return f"{code(effect.arm)} by {size} {numbers.interval(effect.low, effect.high)}{more}"


def _factors(page: Page) -> str:
    """The factors whose effect the intervals support, where the design can say any."""
    found = page.analysis.factor_effects
    if not found or page.analysis.blocks < 3:
        return ""
    told = [effect for effect in found if effect.low is not None and not effect.low <= 0 <= effect.high]
    told = [effect for effect in told if effect.kind != "shapley"]
    if not told:
        return f"Of the {count(len(found), 'effect')} of factors not one can be told from 0."
    said = [
        f"{code(effect.label)} ({effect.kind}) {page.numbers.difference(effect.difference)}{page.numbers.suffix} "
        f"{page.numbers.interval(effect.low, effect.high)}"
        for effect in told[:4]
    ]
    rest = f" and {len(told) - 4} more" if len(told) > 4 else ""
    return f"Factors that can be told from 0 ({role(page, claims='factor_effects')}): {'; '.join(said)}{rest}."


def _screening(page: Page) -> str:
    analysis = page.analysis
    if analysis.blocks == 1:
        return "**Single run per arm: the order below is not supported by any estimate of error.**"
    return "**Two seeds: a screening.** Estimates only; two seeds support no verdict."


def _best(page: Page) -> str:
    analysis = page.analysis
    if not analysis.ranking:
        return "No trial has an outcome yet."
    if analysis.arms[analysis.ranking[0]].n_ok == 0 or len(analysis.ranking) == 1:
        return ""
    first = code(analysis.ranking[0])
    members = [arm for arm in analysis.ranking if arm in analysis.best_set]
    if not members:
        return f"{first} has the best estimate." if analysis.sigma != 0 else ""
    if members == [analysis.ranking[0]]:
        return f"{first} alone is left in the set of arms that could be the best (95 %)."
    if len(members) == 1:
        return f"{first} has the best score; among trained runs only {code(members[0])} could be the best (95 %)."
    lead = f"{first} has the best estimate." if analysis.ranking[0] in members else ""
    return f"{_inseparable(page, members)} {lead}".strip()


def _inseparable(page: Page, members: list[str]) -> str:
    """Names the smaller side: those that could be the best, or those that could not."""
    k = page.analysis.k
    if len(members) == k:
        return f"The data cannot separate any of the {k} arms as the best."
    out = [arm for arm in page.order if arm not in members]
    if len(out) < len(members) and len(members) > 4:
        many = f"{len(members)} of the {k} arms"
        return f"The data cannot separate {many} as the best (starred below): all but {listed(out)}."
    return f"The data cannot separate {listed(members)} as the best (starred below)."


def _disagreement(page: Page) -> str:
    """Metrics that order the arms rather the other way round."""
    found = agreement(page.results)
    against = [metric for metric in page.results.also if found.get(metric.name, 0.0) <= REVERSED]
    if not against:
        return ""
    said = ", ".join(f"{escape(metric.label)} {found[metric.name]:+.2f}" for metric in against)
    return (
        f"**Metrics disagree.** Arms that stand high on {escape(page.results.metric.label)} stand rather low on others "
        f"(rank correlation of the means: {said}): which arm looks best depends on the metric.{_chance(page)}"
    )


def _chance(page: Page) -> str:
    """Said where no arm stands apart: then the order of the means may be chance."""
    claimed = any(effect.verdict in verdicts.CLAIMS for effect in page.analysis.effects)
    label = escape(page.results.metric.label)
    return "" if claimed else f" On {label} no arm stands apart, so this may be chance."


def _stability(page: Page) -> str:
    """Pathologies by counts of runs: what the baseline had, and whether any arm differs from it.

    Runs that diverged are told as failures.
    """
    flags = sorted({flag for run in page.results.all_runs for flag in run.flags} - {DIVERGED})
    said = list(filter(None, (_pathology(page, flag) for flag in flags)))
    return " ".join(["Health:", *said[:3]]) if said else ""


def _pathology(page: Page, flag: str) -> str:
    marked, of = flagged(page, page.analysis.baseline, flag)
    others = [flagged(page, arm, flag) for arm in page.order if arm != page.analysis.baseline]
    others = [counted for counted in others if counted[1]]
    if not of or not others:
        return ""
    least = min(exact_p(*counted, marked, of) for counted in others)
    hits, runs = map(sum, zip(*others, strict=True))
    base = code(page.analysis.baseline)
    return (
        f"{escape(flag)} in {marked} of {count(of, 'run')} of {base} and in {hits} of {count(runs, 'run')} of the "
        f"other arms (smallest exact {p_value(least)} of an arm against {base}: "
        f"{'not a claim' if least > 0.05 else 'not corrected for the number of arms'})."
    )
