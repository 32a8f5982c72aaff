"""`ablate analyse` and `ablate compare`: results that exist already, from anybody."""

from __future__ import annotations

import json as json_text
import platform
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablate.terminal import RUNS, Json, Runs, plain_errors, say, show_json

if TYPE_CHECKING:
    from ablate.analyse import Settled
    from reports.frames import Asked
    from reports.page import Page

Names = list[str] | None


def analyse(
    results: Annotated[str, typer.Argument(
        metavar="RESULTS", help="A table (CSV, TSV, Parquet), mlflow:EXPERIMENT, a tracking URI, an Optuna storage.")],
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
        place, contents = _write(settled, out or found.beside, found.source)
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
    from reports.frames import page_of, write_page
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
    from reports.frames import Asked
    from reports.load import Metric

    command = without_password(shlex.join(["ablate", *sys.argv[1:]]))
    provenance = {"command": command, "python": platform.python_version(), "versions": machine.versions()}
    return Asked(
        name=settled.name, metric=Metric.of(settled.metric), baseline=settled.baseline,
        also=tuple(map(Metric.of, settled.also)), factors=settled.factors, twin=settled.twin,
        smallest_effect=settled.smallest_effect, penalty=settled.penalty, family=settled.family, facts=settled.facts,
        provenance=provenance, cautions=settled.cautions,
    )  # fmt: skip
