"""What a search drew, what won, and what its parameters explain beside useless ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reports.findings import Analysis
from reports.load import Metric, Results
from reports.page import Page, show
from reports.scoring import mean_of
from reports.wording import Numbers, code, count, escape, listed, table

SHOWN = 5  # arms whose draws are listed
HOW = {
    "tpe": "by TPE, which looks where earlier arms were good",
    "random": "independently of each other",
    "qmc": "as a Sobol sequence, which leaves no gaps",
    "nsga2": "by NSGA-II, which breeds from the arms that no other beats on all objectives",
}


def search(page: Page) -> str:
    """The section of a study whose arms were drawn; empty for any other."""
    found = page.results.search
    if not found:
        return ""
    drawn = [arm for arm in page.results.arms if arm.sampled]
    parts = [
        "## Search",
        _drawn(page.results, len(drawn)),
        _space(found["space"]),
        "A search finds a recipe. It does not say what single settings do: drawn arms differ in many of them at once, "
        "and the first was picked for its score, which flatters it. Confirm it on fresh seeds, and put the settings "
        "that seem to matter into a small factorial.",
        _best(page),
        _front(page),
        *_importances(found),
    ]
    return "\n\n".join(filter(None, parts))


def _drawn(results: Results, number: int) -> str:
    found = results.search
    how = HOW.get(found["sampler"], escape(found["sampler"]))
    text = f"{count(number, 'arm')} of {found['trials']} were drawn, {how}, each on {count(len(results.seeds), 'seed')}"
    text += f"; sampler {escape(found['sampler'])}, seed {found['seed']}."
    refused = len(results.properties.get("refused", ()))
    if refused:
        text += f" {count(refused, 'further draw')} could not run and {'was' if refused == 1 else 'were'} replaced."
    if found.get("pruner", "none") != "none":
        text += f" A pruner ({escape(found['pruner'])}) ended runs on the way; it never ended the base."
    return text


def _space(space: Mapping[str, Mapping[str, Any]]) -> str:
    return table(["parameter", "drawn from"], [[code(name), _range(one)] for name, one in space.items()])


def _range(one: Mapping[str, Any]) -> str:
    if "values" in one:
        text = ", ".join(show(value) for value in one["values"])
    else:
        text = f"{show(one['low'])} to {show(one['high'])}"
        text += f" in steps of {show(one['step'])}" if "step" in one else ""
        text += ", log scale" if one.get("log") else ""
    conditions = (f"{code(name)} is {' or '.join(map(show, allowed))}" for name, allowed in one.get("when", {}).items())
    when = " and ".join(conditions)
    return f"{text} (where {when})" if when else text


def _best(page: Page) -> str:
    """The draws of the arms that stand first; with several objectives the front says it."""
    if len(page.results.search["objectives"]) > 1:
        return ""
    first = [name for name in page.order if page.arm(name).sampled and page.place(name)][:SHOWN]
    return _draws(page.results, first, page.results.search["space"], page.analysis, page.numbers) if first else ""


def _draws(results: Results, arms: list[str], space: Mapping[str, Any], analysis: Analysis, numbers: Numbers) -> str:
    by_name = {arm.name: arm for arm in results.arms}
    rows = []
    for name in arms:
        values = [show(by_name[name].sampled[key]) if key in by_name[name].sampled else "" for key in space]
        rows.append([code(name), numbers.value(analysis.arms[name].mean), *values])
    return table(["arm", f"mean {escape(results.metric.label)}", *map(code, space)], rows, right=[1])


def _front(page: Page) -> str:
    """Arms that no other beats on all objectives, by their means."""
    names = page.results.search["objectives"]
    if len(names) < 2:
        return ""
    known = {metric.name: metric for metric in (page.results.metric, *page.results.also)}
    metrics = [known[name] for name in names if name in known]
    means = {arm.name: _means(page.results, arm.name, metrics) for arm in page.results.arms}
    scored = {name: values for name, values in means.items() if None not in values}
    front = [name for name in scored if not any(_beats(other, scored[name], metrics) for other in scored.values())]
    rows = [[code(name), *(f"{value:.4g}" for value in scored[name])] for name in sorted(front, key=scored.get)]
    head = ["arm", *(escape(metric.label) for metric in metrics)]
    said = "By their means, no other arm is ahead of these on all objectives at once (an estimate, not a claim):"
    return f"{said}\n\n{table(head, rows, right=range(1, len(head)))}" if rows else ""


def _means(results: Results, arm: str, metrics: list[Metric]) -> tuple[float | None, ...]:
    return tuple(mean_of(results, arm, metric.name) for metric in metrics)


def _beats(one: tuple, other: tuple, metrics: list[Metric]) -> bool:
    signs = [1 if metric.goal == "max" else -1 for metric in metrics]
    gains = [sign * (a - b) for sign, a, b in zip(signs, one, other, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def _importances(found: Mapping[str, Any]) -> Iterator[str]:
    """Shares of the spread between arms, each beside the largest that its decoys got; or why there are none."""
    facts = found.get("importances")
    if not facts:
        return
    yield "### Importances"
    if "why" in facts:
        yield f"Not given: {escape(facts['why'])}."
        return
    order = sorted(facts["values"], key=lambda name: -facts["values"][name])
    above = [name for name in order if facts["values"][name] > facts["highest"]]
    said = listed(above) if above else "no parameter"
    yield (
        f"How much of the spread between {count(facts['arms'], 'arm')} each parameter explains by "
        f"{escape(facts['method'])}, beside decoys: its own values, shuffled between the arms {facts['shuffles']} "
        f"times. Above every decoy: {said}. What is not above them is no more than chance gives a useless parameter; "
        "what is above them is worth a factorial, and is not claimed here."
    )
    rows = [[code(name), f"{facts['values'][name]:.2f}", f"{facts['decoys'][name]:.2f}"] for name in order]
    yield table(["parameter", "importance", "largest of its decoys"], rows, right=[1, 2])
    if facts["left_out"]:
        yield f"Left out, as not every arm has them: {listed(facts['left_out'])}."
