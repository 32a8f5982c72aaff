"""How the numbers were made, and to what they apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablate.records import Status
from reports.page import Page
from reports.wording import code, count, escape


def method(page: Page) -> str:
    parts = ["## Method and scope", _paragraph(page), "\n".join(f"- {line}" for line in _facts(page))]
    return "\n\n".join(parts)


def _paragraph(page: Page) -> str:
    analysis = page.analysis
    measure = ("the logarithm of " if analysis.scale == "log" else "") + escape(page.results.metric.label)
    return (
        f"Ordinary least squares of {measure} on arm and seed (seeds are blocks), finished runs only. "
        f"Arms are compared with {code(analysis.baseline)} by a block Dunnett procedure with simultaneous "
        f"{100 * (1 - analysis.alpha):.0f} % intervals; no standard error is below that of an arm's own per-seed "
        "differences, nor below the family's. Arms that could be the best: multiple comparisons with the best (Hsu), "
        "each error at least the pair's own. Probabilities and shrunken differences: a hierarchical model whose prior "
        "lets one arm in five lie far from the others, hidden below 4 arms or 3 seeds. Verdicts need at least 3 paired "
        "seeds. Every other metric is exploratory."
    )


def _facts(page: Page) -> list[str]:
    results, analysis = page.results, page.analysis
    runs = results.all_runs
    settled = sum(not run.missing for run in runs)
    facts = [
        f"Design {code(results.design)}; family: each arm against {code(analysis.baseline)}; alpha {analysis.alpha:g}.",
        f"{analysis.k} distinct arms, {count(analysis.blocks, 'paired seed')} (planned: {_seeds(results.seeds)}).",
        _error(page),
        f"Outcomes: {settled} of {len(runs)} trials ({results.cells} cells planned). {_deviations(page)}",
        f"Scores: {escape(results.split)} split, final weights. Intervals are over seeds, for these scenes only.",
    ]
    if analysis.smallest_effect is not None:
        unit = f" {escape(results.metric.unit)}" if results.metric.unit and analysis.scale == "raw" else ""
        facts.append(f"Smallest effect of interest: {analysis.smallest_effect:g}{unit}.")
    else:
        facts.append("No smallest effect of interest was declared, so no arm can be called equivalent.")
    if analysis.guard is not None and analysis.blocks >= 3:
        facts.append(f"Guard: own over pooled variance of the differences, mean {analysis.guard:.2f}.")
    facts += _named("Data", results.data) + _named("Each trial", results.resources)
    return facts + ([f"Plan {code(results.hash)}, written before the first trial."] if results.hash else [])


def _named(noun: str, facts: Mapping[str, Any]) -> list[str]:
    plain = [
        f"{escape(key)} {code(value)}" for key, value in sorted(facts.items()) if not isinstance(value, dict | list)
    ]
    return [f"{noun}: {', '.join(plain)}."] if plain else []


def _seeds(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds)) if len(seeds) <= 12 else f"{len(seeds)} seeds, {min(seeds)} to {max(seeds)}"


def _error(page: Page) -> str:
    analysis = page.analysis
    if analysis.sigma is None:
        return "No residual degrees of freedom: no estimate of error."
    said = f"Residual sd {analysis.sigma:.3g} with {count(analysis.df, 'degree')} of freedom"
    if analysis.detectable is not None:
        ratio = analysis.detectable / analysis.sigma
        said += f"; detectable with 80 % power: {page.numbers.size(analysis.detectable)}, {ratio:.1f} times that sd"
    if analysis.removed_by_pairing is not None:
        said += f"; pairing by seed removed {100 * analysis.removed_by_pairing:.0f} % of the variance within arms"
    return said + "."


def _deviations(page: Page) -> str:
    runs = page.results.all_runs
    counts = {
        "missing": sum(run.missing for run in runs),
        "failed and not in the fit": sum(run.failed_by_itself for run in runs),
        "stopped early and not in the fit": sum(run.outcome == Status.stopped for run in runs),
    }
    parts = [f"{number} {what}" for what, number in counts.items() if number]
    return f"Deviations from the plan: {', '.join(parts)}." if parts else "No cell of the plan is missing."
