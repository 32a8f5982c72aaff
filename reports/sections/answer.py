"""The answer in plain words, for a person who has five minutes."""

from __future__ import annotations

from reports import verdicts
from reports.analysis import Effect
from reports.page import Page
from reports.wording import code, count, escape, listed


def answer(page: Page) -> str:
    parts = [_question(page), _progress(page), _references(page), _finding(page), _best(page), _certainty(page)]
    return "\n\n".join(["## Answer", *filter(None, parts)])


def _question(page: Page) -> str:
    return f"*{escape(page.results.question)}*" if page.results.question else ""


def _progress(page: Page) -> str:
    runs = page.results.all_runs
    settled = sum(not run.missing for run in runs)
    if settled == len(runs):
        return ""
    return f"**Incomplete: {settled} of {len(runs)} trials have an outcome.** What follows covers these alone."


def _references(page: Page) -> str:
    """Stands before everything else where training has not paid."""
    best = page.best_reference
    scored = [arm for arm in page.analysis.arms.values() if arm.score is not None]
    if not best or not scored:
        return ""
    name, value = best
    winners = page.beaten_by(value)
    described = f"{escape(name.replace('_', ' '))} ({page.numbers.value(value)}), a predictor without training"
    label = escape(page.results.metric.label)
    if not winners:
        return f"**No arm beats {described}, on {label}.** The order below is one among arms that stay behind it."
    behind = [arm.arm for arm in scored if arm.arm not in winners]
    if behind:
        return f"By its mean, {listed(behind)} {'does' if len(behind) == 1 else 'do'} not beat {described}."
    return f"By its mean, every arm beats {described}."


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
        said.append(f"Unresolved: {count(len(open_ones), 'arm')} of {len(analysis.effects)}.")
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
    head, _, tail = verdict.partition(",")
    against = "to" if verdict == verdicts.EQUIVALENT else "than"
    first, *words = head.split(" ")
    phrase = " ".join([first.capitalize(), against, base, *words]) + (f",{tail}" if tail else "")
    return f"**{phrase}** on {label}: {'; '.join(spans)}{rest}."


def _estimate(page: Page, effect: Effect) -> str:
    numbers = page.numbers
    unit = f" {escape(numbers.unit)}" if numbers.unit and numbers.scale == "raw" else ""
    size = f"{numbers.difference(effect.difference)}{unit}"
    return f"{code(effect.arm)} by {size} {numbers.interval(effect.low, effect.high)}"


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
    if len(members) == analysis.k:
        return f"The data cannot separate any of the {analysis.k} arms as the best. {lead}".strip()
    return f"The data cannot separate {listed(members)} as the best (starred below). {lead}".strip()


def _certainty(page: Page) -> str:
    analysis = page.analysis
    if analysis.blocks < 3 or not analysis.sigma:
        return ""
    grade = ": exploratory" if analysis.blocks < 5 else ""
    said = [f"{analysis.blocks} paired seeds{grade}."]
    if analysis.detectable is not None:
        size = page.numbers.size(analysis.detectable)
        said.append(f"A true difference of {size} would have been found with 80 % probability; smaller ones may hide.")
    first = analysis.ranking[0]
    effect = analysis.effect(first)
    if effect and effect.shrunken is not None:
        said.append(
            f"Shrunken, {code(first)} is at {page.numbers.difference(effect.shrunken)}: "
            "selected and estimated on the same seeds, so expect less on fresh ones."
        )
    said.append(f"All of this holds for these scenes, this budget and the {escape(page.results.split)} split.")
    return " ".join(said)
