"""Anyone's table of runs as the records that a report is made of: what was not recorded stays empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.records import Status, TrialResult
from reports import analyse
from reports.findings import Analysis
from reports.load import ARMS_OWN, Metric, PlannedArm, Results, Run
from reports.page import Page, compose
from reports.writing import replace_folder

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Asked:
    """What is asked of a table, and how a report names it. `facts` are of the data, `provenance` of time and place."""

    name: str
    metric: Metric
    baseline: str
    also: tuple[Metric, ...] = ()
    factors: tuple[str, ...] = ()
    twin: str | None = None
    smallest_effect: float | None = None
    penalty: float | None = None
    family: str = "vs_baseline"
    facts: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()


def page_of(frame: pandas.DataFrame, asked: Asked) -> Page:
    """The page of a table with the columns arm, seed and the metrics; status, scene, trial, place, why where known.

    Its numbers are those of `reports.analyse` on the same table. Raises ValueError as that does.
    """
    frame = frame if "status" in frame.columns else frame.assign(status=Status.done.value)
    frame, aliases = _distinct(frame, asked)
    return compose(results_of(frame, asked, aliases=aliases), _analysis(frame, asked))


def write_page(page: Page, target: Path, contents: Mapping[str, bytes]) -> Path:
    """Put the report's files at `target` in one step and return the path of report.md."""
    replace_folder(target, dict(contents))
    return target / "report.md"


def _analysis(frame: pandas.DataFrame, asked: Asked) -> Analysis:
    """Only what was asked for is passed on. A failure that the arm's own recipe caused is an outcome."""
    own = (frame["status"] == Status.failed) & _text(frame, "why").str.startswith(f"{ARMS_OWN}:")
    frame = frame.assign(status=frame["status"].mask(own, Status.diverged.value))
    more: dict[str, Any] = {"factors": list(asked.factors), "twin": asked.twin}
    more["family"] = asked.family if asked.family != "vs_baseline" else None
    return analyse(
        frame, metric=asked.metric.name, goal=asked.metric.goal, baseline=asked.baseline,
        smallest_effect=asked.smallest_effect, penalty=asked.penalty,
        **{key: value for key, value in more.items() if value},
    )  # fmt: skip


def _text(frame: pandas.DataFrame, column: str) -> pandas.Series:
    """A column as text, empty where there is none."""
    values = frame[column] if column in frame.columns else frame["arm"].map(lambda _: None)
    return values.where(values.notna(), "").astype(str)


def _distinct(frame: pandas.DataFrame, asked: Asked) -> tuple[pandas.DataFrame, dict[str, tuple[str, ...]]]:
    """The frame less arms that share their trials with another, and those names by the arm that keeps them."""
    trials = _text(frame, "trial")
    known = trials[trials != ""].groupby(frame["arm"], sort=True).agg(frozenset)
    owner: dict[frozenset, str] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    for arm in sorted(known.index, key=lambda arm: (arm != asked.baseline, arm)):
        first = owner.setdefault(known[arm], arm)
        if first != arm and arm != asked.twin:
            aliases[first] = (*aliases.get(first, ()), arm)
    shared = {arm for names in aliases.values() for arm in names}
    return frame[~frame["arm"].isin(shared)].reset_index(drop=True), aliases


def results_of(
    frame: pandas.DataFrame, asked: Asked, *, aliases: Mapping[str, tuple[str, ...]] | None = None
) -> Results:
    """The records of the table; the arms are the baseline and the others by name."""
    runs = _runs(frame, [asked.metric, *asked.also])
    names = sorted({arm for arm, _ in runs} - {asked.twin}, key=lambda arm: (arm != asked.baseline, arm))
    combinations = {arm: own for arm, own in _combinations(frame, asked.factors).items() if arm != asked.twin}
    levels = _levels(combinations, combinations[asked.baseline])
    return Results(
        name=asked.name, question="", trainer="", design=_design(levels, combinations.values()), metric=asked.metric,
        split="", smallest_effect=asked.smallest_effect, also=asked.also,
        failure="" if asked.penalty is None else asked.penalty,
        seeds=tuple(sorted({seed for arm, seed in runs if arm != asked.twin})),
        arms=tuple(_arm(arm, combinations, levels, (aliases or {}).get(arm, ())) for arm in names),
        runs={cell: run for cell, run in runs.items() if cell[0] != asked.twin},
        cells=len(runs), references={}, resources={}, warnings=asked.cautions, data=asked.facts, hash="",
        provenance=asked.provenance, family=asked.family, factors=levels,
        twin=tuple(run for cell, run in runs.items() if cell[0] == asked.twin),
    )  # fmt: skip


def _runs(frame: pandas.DataFrame, metrics: Sequence[Metric]) -> dict[tuple[str, Any], Run]:
    """A run per arm and seed; its scores are means over its scenes where there are several rows."""
    names = list(dict.fromkeys(metric.name for metric in metrics))
    frame = frame.assign(place=_text(frame, "trial").where(_text(frame, "trial") != "", _text(frame, "place")))
    grouped = frame.assign(why=_text(frame, "why")).groupby(["arm", "seed"], sort=True)
    heads, means = grouped[["status", "place", "why"]].first(), grouped[names].mean()
    runs = {}
    for cell, status, place, why, scores in zip(
        heads.index, heads["status"], heads["place"], heads["why"], means.to_numpy(), strict=True
    ):
        result = TrialResult(place, Status(status), dict(zip(names, map(float, scores), strict=True)), why=why)
        runs[cell] = Run(*cell, place, str(result.status.value), result)
    return runs


def _combinations(frame: pandas.DataFrame, factors: Sequence[str]) -> dict[str, dict[str, str]]:
    """Arm -> factor -> level. Raises ValueError where the runs of an arm have several."""
    if not factors:
        return {arm: {} for arm in frame["arm"].unique()}
    rows = frame[["arm", *factors]].astype(str).drop_duplicates()
    twice = rows[rows.duplicated("arm", keep=False)]
    if len(twice):
        arm = twice["arm"].iloc[0]
        factor = next(name for name in factors if twice[twice["arm"] == arm][name].nunique() > 1)
        found = ", ".join(sorted(twice[twice["arm"] == arm][factor].unique()))
        raise ValueError(f"factor {factor}: arm {arm!r} has more than one level ({found})")
    return {row["arm"]: {factor: row[factor] for factor in factors} for row in rows.to_dict("records")}


def _levels(combinations: Mapping[str, Mapping[str, str]], base: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Factor -> levels, the baseline's first."""
    found = {factor: {combination[factor] for combination in combinations.values()} for factor in base}
    return {factor: (base[factor], *sorted(levels - {base[factor]})) for factor, levels in found.items()}


def _arm(arm: str, combinations: Mapping[str, Mapping[str, str]], levels: Mapping[str, tuple[str, ...]],
         aliases: tuple[str, ...]) -> PlannedArm:  # fmt: skip
    changes = {factor: level for factor, level in combinations[arm].items() if level != levels[factor][0]}
    return PlannedArm(arm, changes, {}, None, None, (), aliases=aliases)


def _design(levels: Mapping[str, tuple[str, ...]], combinations: Any) -> str:
    """Factorial where the arms are all combinations of the levels, else a list of arms."""
    if not levels:
        return "list"
    present = {tuple(combination.values()) for combination in combinations}
    return "factorial" if present == set(product(*levels.values())) else "list"
