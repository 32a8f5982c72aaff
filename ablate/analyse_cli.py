"""`ablate analyse` and `ablate compare`: results that exist already, from anybody."""

from __future__ import annotations

import json as json_text
import platform
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablate.terminal import RUNS, Json, Runs, plain_errors, private, say, show_json

if TYPE_CHECKING:
    from ablate.analyse import Settled
    from reports.changes import Changes
    from reports.given import Asked
    from reports.page import Page
    from reports.recorded import Recorded

Names = list[str] | None


def analyse(
    results: Annotated[str, typer.Argument(
        metavar="RESULTS", help="A table (CSV, TSV, Parquet), mlflow:EXPERIMENT, optuna:STUDY, a store's URI.")],
    metric: Annotated[str | None, typer.Option(help="The column or metric that ranks the arms.")] = None,
    baseline: Annotated[str | None, typer.Option(help="The arm that the others are compared with.")] = None,
    goal: Annotated[Literal["max", "min"] | None, typer.Option(help="Which way is better.")] = None,
    also: Annotated[Names, typer.Option(help="Exploratory metrics, as NAME or NAME:min; may be repeated.")] = None,
    factors: Annotated[Names, typer.Option(help="Columns or params that make up the arms; may be repeated.")] = None,
    smallest_effect: Annotated[float | None, typer.Option(help="Smaller differences don't matter.", min=0.0)] = None,
    penalty: Annotated[float | None, typer.Option(help="What a diverged or collapsed run is worth.")] = None,
    family: Annotated[Literal["vs_baseline", "all_pairs", "factor_effects"], typer.Option(
        help="What the claims are about.")] = "vs_baseline",
    name: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    twin: Annotated[str | None, typer.Option(help="The arm that repeats the baseline, to check the pairing.")] = None,
    arm_from: Annotated[str | None, typer.Option(help="Column, param:NAME or tag:NAME that names the arm.")] = None,
    seed_from: Annotated[str | None, typer.Option(help="Column, param:NAME or tag:NAME of the seed.")] = None,
    scene_from: Annotated[str | None, typer.Option(help="Column of the scene, where a run has several rows.")] = None,
    experiment: Annotated[str | None, typer.Option(help="MLflow: which experiment of the store.")] = None,
    filter: Annotated[str, typer.Option(help="MLflow: only runs that match, in its search syntax.")] = "",
    study: Annotated[str | None, typer.Option(help="Optuna: which study of the storage.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; beside the results by default.")] = None,
    runs: Runs = RUNS, json: Json = False,
) -> None:  # fmt: skip
    """Write the same report for results that others made: a CSV, an MLflow experiment, an Optuna study."""
    from ablate.analyse import Question, settle
    from ablate.analyse_words import describe
    from ablate.readers.sources import Asked, read

    question = Question(
        metric=metric, baseline=baseline, goal=goal, also=_listed(also), factors=_listed(factors),
        smallest_effect=smallest_effect, penalty=penalty, family=family, name=name, twin=twin, arm_from=arm_from,
        seed_from=seed_from, scene_from=scene_from,
    )  # fmt: skip
    with plain_errors():
        found = read(Asked(results, runs, experiment=experiment, study=study, filter=filter))
        settled = settle(found, question)
        target = out or found.beside
        with private() if target.resolve().is_relative_to(runs.resolve()) else nullcontext():  # else the user's own
            place, contents = _write(settled, target, found.source)
    document = json_text.loads(contents["report.json"])
    if json:
        show_json({"report": str(place), "cautions": list(settled.cautions), **document})
    else:
        say(describe(contents["report.md"].decode(), document, settled.cautions, str(place)))


def _listed(names: Names) -> tuple[str, ...]:
    """Names that were given one by one or with commas between them."""
    return tuple(dict.fromkeys(part.strip() for name in names or () for part in name.split(",") if part.strip()))


def _write(settled: Settled, target: Path, source: str) -> tuple[Path, dict[str, bytes]]:
    """The report's path and files. Raises StudyError where the table can't be analysed, or the place is taken."""
    from ablate.analyse_out import check_target
    from ablate.problems import Problem, StudyError
    from reports.given import page_of, write_page
    from reports.writing import files

    check_target(target)
    try:
        page: Page = page_of(settled.frame, _asked(settled))
    except ValueError as error:
        raise StudyError([Problem(source, 0, 0, "", str(error))]) from None
    contents = files(page)
    return write_page(page, target, contents), contents


def _asked(settled: Settled) -> Asked:
    from ablate import machine
    from ablate.problems import without_password
    from reports.given import Asked
    from reports.load import Metric

    command = without_password(shlex.join(["ablate", *sys.argv[1:]]))
    provenance = {"command": command, "python": platform.python_version(), "versions": machine.versions()}
    return Asked(
        name=settled.name, metric=Metric.of(settled.metric), baseline=settled.baseline,
        also=tuple(map(Metric.of, settled.also)), factors=settled.factors, twin=settled.twin,
        smallest_effect=settled.smallest_effect, penalty=settled.penalty, family=settled.family, facts=settled.facts,
        provenance=provenance, cautions=settled.cautions,
    )  # fmt: skip


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A study under the runs folder, a folder or a report.json.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    metric: Annotated[str | None, typer.Option(help="The metric to compare on; the primary one by default.")] = None,
    runs: Runs = RUNS, json: Json = False,
) -> None:  # fmt: skip
    """Say what differs between two studies: recipe, data, code, plan, machine, and numbers beyond their errors."""
    from ablate.compare import document
    from ablate.compare_words import describe

    with plain_errors():
        sides = [_recorded(text, runs, metric) for text in (a, b)]
    found = document(*sides, *_changes(*sides))
    if json:
        show_json(found)
    else:
        say(describe(found))


def _recorded(text: str, runs: Path, metric: str | None) -> Recorded:
    from ablate.problems import Problem, StudyError
    from reports.recorded import recorded

    try:
        return recorded(_place(text, runs), metric)
    except ValueError as error:
        raise StudyError([Problem(text, 0, 0, "", str(error))]) from None


def _place(text: str, runs: Path) -> Path:
    from ablate.problems import Problem, StudyError

    under = runs / text
    if "/" not in text and (under / "plan.json").is_file():
        return under
    if Path(text).exists():
        return Path(text)
    names = sorted(path.parent.name for path in runs.glob("*/plan.json"))
    there = f"; under {runs}/ there are: {', '.join(names)}" if names else ""
    said = f"no such study, folder or report.json{there}"
    raise StudyError([Problem(text, 0, 0, "", said)])


def _changes(a: Recorded, b: Recorded) -> tuple[Changes | None, str]:
    """The numbers' own changes, or why there are none."""
    from reports.changes import changes

    if (a.metric.name, a.metric.goal) != (b.metric.name, b.metric.goal):
        return None, f"A ranks by {a.metric.label} and B by {b.metric.label}; name one that both have with --metric"
    if a.scale != b.scale:
        return None, f"{a.metric.label} was analysed on a {a.scale} scale in A and on a {b.scale} scale in B"
    if not set(a.scores.arms[1:]) & set(b.scores.arms[1:]):
        return None, "no arm beside the baselines has the same name in both"
    prints = [side.data.get("fingerprint") for side in (a, b)]
    return changes(a.scores, b.scores, scale=a.scale, same_data=bool(prints[0]) and prints[0] == prints[1]), ""
