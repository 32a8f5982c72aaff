"""A study as two of them are compared: its numbers, and what is known of how they came about."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ablate.records import StudyFolder
from reports.analysis import analyse_scores
from reports.findings import Analysis, Effect, Scores
from reports.load import ARMS_OWN, Metric, Results, load
from reports.scoring import scores_of

FAILED = ("diverged", "collapsed")


@dataclass(frozen=True)
class Outcome:
    """Of one cell: the id of its trial (empty if unknown) and its final value, NaN where there is none."""

    trial: str
    score: float


@dataclass(frozen=True)
class Recorded:
    """Numbers on one metric, and the facts of the study; `plan`, `data` and `provenance` are empty where unknown."""

    name: str
    metric: Metric
    split: str
    scale: str  # raw or log
    scores: Scores
    effects: Mapping[str, Effect]
    cells: Mapping[tuple[str, int | str], Outcome]
    plan: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    code: tuple[str, ...] = ()  # states of training code and torch, over all runs
    seconds: float | None = None  # of training, all runs

    @property
    def baseline(self) -> str:
        return self.scores.arms[0]


def recorded(path: Path, metric: str | None = None) -> Recorded:
    """What a study's folder, a report's folder or its report.json holds, on its primary or the named metric.

    Raises ValueError where it holds no results, or not that metric.
    """
    if path.is_dir() and (path / "plan.json").is_file():
        return _of_folder(path, metric)
    file = path / "report.json" if path.is_dir() else path
    try:
        document = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"neither a study, nor a report.json that can be read ({type(error).__name__})") from None
    if not isinstance(document, dict) or not {"analysis", "metric", "runs"} <= document.keys():
        raise ValueError("not a report.json of ablate: it has no analysis, metric and runs")
    found = _of_report(document, metric)
    study = file.absolute().parent.parent
    return _with_facts(found, study) if _is_its_report(document, study) else found


def _of_folder(path: Path, asked: str | None) -> Recorded:
    results = load(path)
    metric = _named(asked, results.metric, results.also)
    scores = scores_of(results, metric)
    analysis = analyse_scores(scores)
    cells = {(run.arm, run.seed): Outcome(run.trial, run.score(metric.name)) for run in results.all_runs}
    return replace(_facts(results, path), metric=metric, scale=analysis.scale, scores=scores,
                   effects=_effects(analysis), cells=cells)  # fmt: skip


def _named(asked: str | None, primary: Metric, also: tuple[Metric, ...]) -> Metric:
    known = {metric.name: metric for metric in (primary, *also)}
    if asked is not None and asked not in known:
        raise ValueError(f"--metric: there is no {asked!r}; there are {', '.join(known)}")
    return known[asked] if asked else primary


def _effects(analysis: Analysis) -> dict[str, Effect]:
    return {effect.arm: effect for effect in analysis.effects}


def _facts(results: Results, path: Path) -> Recorded:
    empty = Scores("", "max", (results.baseline,), (), np.empty((1, 0)), np.zeros(1), np.zeros(1))
    return Recorded(
        name=results.name, metric=results.metric, split=results.split, scale="raw", scores=empty, effects={}, cells={},
        plan=json.loads(StudyFolder(path.parent, path.name).plan.read_text()), data=results.data,
        provenance=results.provenance,
        code=tuple(sorted(set().union(*(run.code for run in results.all_runs)))),
        seconds=sum(run.result.seconds for run in results.all_runs if run.result),
    )  # fmt: skip


def _of_report(document: Mapping[str, Any], asked: str | None) -> Recorded:
    """Effects as the report has them; scores from its runs."""
    metric, analysis = _named(asked, Metric.of(document["metric"]), ()), document["analysis"]
    fields = Effect.__dataclass_fields__
    effects = {row["arm"]: Effect(**{key: row[key] for key in fields if key in row}) for row in analysis["effects"]}
    cells = {(run["arm"], run["seed"]): Outcome(run.get("trial") or "", _value(run)) for run in document["runs"]}
    return Recorded(
        name=document["study"], metric=metric, split=document["metric"].get("split") or "", scale=analysis["scale"],
        scores=_scores(document, metric), effects=effects, cells=cells, provenance=document.get("provenance") or {},
    )  # fmt: skip


def _value(run: Mapping[str, Any]) -> float:
    return math.nan if run["score"] is None or run["outcome"] != "done" else float(run["score"])


def _scores(document: Mapping[str, Any], metric: Metric) -> Scores:
    arms, seeds = list(document["analysis"]["arms"]), sorted({run["seed"] for run in document["runs"]})
    values = np.full((len(arms), len(seeds)), np.nan)
    failed, planned = np.zeros(len(arms), int), np.zeros(len(arms), int)
    rows, columns = ({name: place for place, name in enumerate(names)} for names in (arms, seeds))
    for run in document["runs"]:
        row = rows[run["arm"]]
        values[row, columns[run["seed"]]] = _value(run)
        failed[row] += run["outcome"] in FAILED or str(run.get("why", "")).startswith(f"{ARMS_OWN}:")
        planned[row] += 1
    return Scores(metric.name, metric.goal, tuple(arms), tuple(seeds), values, failed, planned)


def _is_its_report(document: Mapping[str, Any], study: Path) -> bool:
    """Whether the folder above the report's is that of the study, with the same plan."""
    plan = study / "plan.json"
    return bool(document.get("plan")) and plan.is_file() and json.loads(plan.read_text())["hash"] == document["plan"]


def _with_facts(found: Recorded, study: Path) -> Recorded:
    facts = _facts(load(study), study)
    return replace(found, plan=facts.plan, data=facts.data, provenance=facts.provenance, code=facts.code,
                   seconds=facts.seconds)  # fmt: skip
