"""How the numbers were made, ready for a paper, and to what they apply."""

from __future__ import annotations

from ablate import __version__
from reports.page import Page
from reports.sampling import INDEPENDENT
from reports.sections.alarm import twin_difference
from reports.sections.certainty import numbered
from reports.sections.claims import family
from reports.wording import both, code, count, escape

SOFTWARE = f"ablate {__version__}"


def method(page: Page) -> str:
    head = "## Method and scope"
    if page.analysis.blocks < 3 or not page.analysis.sigma:
        why = "No interval, verdict or probability is given: these runs support none (three paired seeds do)."
        return "\n\n".join([head, why, _bullets(page)])
    return "\n\n".join([head, "For a methods section, as it stands:", _paragraph(page), _bullets(page)])


def _paragraph(page: Page) -> str:
    """Model, comparisons, guard and beliefs with the numbers of this study."""
    return " ".join(filter(None, [_design(page), _model(page), _comparisons(page), _best(page), _beliefs(page),
                                  _outcomes(page), f"Analysis: {SOFTWARE}."]))  # fmt: skip


def _design(page: Page) -> str:
    results, analysis = page.results, page.analysis
    replicates = f"{count(analysis.k, 'arm')} were trained with {count(len(results.seeds), 'seed')} each{_drawn(page)}"
    shared = "; runs that share a seed share data order and the initial weights of shared parts" if results.hash else ""
    before = (
        " Arms, seeds, primary metric, family, smallest effect of interest and the worth of a failed run were fixed in "
        f"a plan (hash {code(results.hash)}) written before the first run."
        if results.hash
        else ""
    )
    scored = f"on the {escape(results.split)} split with the final weights" if results.split else "as given"
    return f"{replicates}{shared}. {escape(results.metric.label)} was scored {scored}.{before}"


def _drawn(page: Page) -> str:
    """How arms came about that nobody listed, and which were not run to their end."""
    search, stopped = page.results.search, page.analysis.stopped
    said = ""
    if search:
        learns = search.get("sampler") not in INDEPENDENT
        said = f", drawn by {escape(search.get('sampler', 'a search'))}"
        said += " from what earlier ones came to; the analysis takes them as given" if learns else ""
    return said + (f"; {len(stopped)} of them were stopped on the way and are not in the fit" if stopped else "")


def _model(page: Page) -> str:
    analysis = page.analysis
    measure = ("the logarithm of " if analysis.scale == "log" else "") + escape(page.results.metric.label)
    return (
        f"We fitted {measure} by ordinary least squares on arm and seed (seeds as fixed blocks; finished runs only; "
        f"residual sd {analysis.sigma:.3g}, {count(analysis.df, 'degree')} of freedom)."
    )


def _comparisons(page: Page) -> str:
    analysis, base = page.analysis, code(page.analysis.baseline)
    level = f"{100 * (1 - analysis.alpha):.0f} %"
    guard = f" (own over pooled variance: {analysis.guard:.2f} on average)" if analysis.guard is not None else ""
    said = {
        "vs_baseline": f"Each arm was compared with {base} by a block Dunnett procedure with {level} intervals",
        "all_pairs": f"All pairs of arms were compared with {level} intervals",
        "factor_effects": f"Effects of factors are linear contrasts of the same fit with {level} intervals",
    }[analysis.family]
    small = "not declared"
    if analysis.smallest_effect is not None:
        small = f"{analysis.smallest_effect:g}" + (f" {escape(page.numbers.unit)}" if page.numbers.unit else "")
    return (
        f"{said} that hold simultaneously (family-wise alpha {analysis.alpha:g}); no standard error is below that of a "
        f"contrast's own per-seed values, nor below the family's{guard}. Smallest effect of interest: {small}."
    )


def _best(page: Page) -> str:
    if not page.analysis.best_set:
        return ""
    return "Arms that could be the best: multiple comparisons with the best (Hsu), each error at least the pair's own."


def _beliefs(page: Page) -> str:
    if not any(arm.p_best is not None for arm in page.analysis.arms.values()):
        return ""
    return (
        "Shrunken differences and probabilities: a hierarchical normal model whose prior lets one arm in five lie far "
        "from the others."
    )


def _outcomes(page: Page) -> str:
    failed = sum(arm.n_failed for arm in page.analysis.arms.values())
    if not failed:
        return ""
    return (
        f"{count(failed, 'run')} that diverged, collapsed or broke by the recipe were counted as outcomes of their "
        "arm, not repeated; they enter the order of arms at the declared penalty."
    )


def _bullets(page: Page) -> str:
    return "\n".join(f"- {line}" for line in _facts(page))


def _facts(page: Page) -> list[str]:
    results, analysis = page.results, page.analysis
    facts = [f"Design {code(results.design)}; family: {family(page)}; alpha {analysis.alpha:g}."]
    arms, blocks = count(analysis.k, "distinct arm"), count(analysis.blocks, "paired seed")
    facts.append(f"{arms}, {blocks} (planned: {numbered(results.seeds)}).")
    facts += [_error(page), *_looks(page), *_twin(page)]
    if analysis.blocks >= 3:
        where = "for these scenes only" if results.split else "for the data that the runs were scored on only"
        facts.append(f"Intervals are over seeds, {where}.")
    if analysis.smallest_effect is None:
        facts.append("No smallest effect of interest was declared, so no arm can be called equivalent.")
    return facts


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


def _looks(page: Page) -> list[str]:
    """How often a race looked at the data: its alpha is split over the looks."""
    looks = len(page.results.looks)
    if not looks:
        return []
    ended = count(len(page.analysis.stopped), "arm")
    return [f"Race: {count(looks, 'look')} after whole seeds, alpha split over them; {ended} stopped."]


def _twin(page: Page) -> list[str]:
    twin = page.analysis.twin
    if twin is None:
        return []
    verdict = "**it differs, see the warning above**" if twin.differs else "no alarm"
    base = code(page.analysis.baseline)
    return [
        f"Pairing check (A/A): {base} again with other initial weights and dropout but the same data order, minus "
        f"{base}: {twin_difference(page, twin)}: {verdict}. The twin is outside the fit, the family and the best set."
    ]


def refused(page: Page) -> str:
    """Cells of the design that are not run, by name."""
    entries = page.results.properties.get("refused") or ()
    said = [f"{code(_named(entry.get('combination')))}: {escape(entry.get('why') or 'declared')}" for entry in entries]
    return f"Combinations that the design leaves out: {both(said)}." if said else ""


def _named(combination: object) -> str:
    if isinstance(combination, dict):
        return "+".join(f"{factor}={level}" for factor, level in combination.items())
    return str(combination)
