"""The `ablate` command. Thin: each command reads its arguments, calls one function and prints.

The only module that sees the driver, the workers' heads and the reports.
"""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablate import analyse_cli, data_cli
from ablate.entry import INTERRUPTED, open_streams
from ablate.terminal import (
    RUNS,
    Json,
    Runs,
    Sets,
    StudyArgument,
    check_arguments,
    check_environment,
    load,
    plain_errors,
    private,
    say,
    show_json,
)

if TYPE_CHECKING:
    from ablate.plan import Plan

AcceptCode = Annotated[
    bool, typer.Option("--accept-code-change", help="Go on though other code has trained a part; the report says so.")
]

app = typer.Typer(
    help="Controlled experiments for image-to-image GANs: which remedies help, and how sure can one be?",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
app.add_typer(data_cli.app, name="data")


def planned(study: str, runs: Path, sets: list[str] | None) -> Plan:
    from ablate.packing import packed
    from ablate.plan import make_plan
    from ablate.records import StudyFolder
    from ablate.searchplan import restored

    made = make_plan(load(study, runs, sets))
    return packed(restored(made, StudyFolder(runs, made.study.name)), runs)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to put the starter study.")] = Path(),
    example: Annotated[str, typer.Option(help="Which of the studies that come with ablate to start from.")] = "quick",
    data: Annotated[Path | None, typer.Option(help="A folder of pairs: a study on them, with what is found.")] = None,
) -> None:
    """Write a commented starter study; with --data on your own pairs."""
    from ablate.start import write_starter
    from ablate.startdata import write_starter_on

    with plain_errors():
        paths, doubts = (write_starter(folder, example), ()) if data is None else write_starter_on(folder, data)
        for path in paths:
            say(path)
        for doubt in doubts:
            say(f"caution: {doubt}")


@app.command()
def check(study: StudyArgument, runs: Runs = RUNS, set: Sets = None) -> None:
    """Say every mistake in a study, each with its place."""
    with plain_errors():
        plan = planned(study, runs, set)
    for warning in plan.warnings:
        say(f"caution: {warning}")
    seeds, total = len(plan.study.seeds), plan.num_trials
    say(f"{study}: nothing wrong; {total // seeds} arms x {seeds} seeds = {total} trials")
    if any(getattr(options, "root", "") or getattr(options, "table", "") for options in plan.data.values()):
        say("what the image files hold is checked by `ablate run`, before it trains anything")


@app.command()
def plan(
    study: StudyArgument, runs: Runs = RUNS, set: Sets = None,
    pilot: Annotated[
        str | None, typer.Option(metavar="STUDY|NUMBER", help="Where the metric's residual sd comes from.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time real updates, of arms that cost differently.")
    ] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Show arms, trials, what the study could detect and what it costs, before anything runs."""
    from ablate.measure import measure as measured
    from ablate.plan_words import describe, filled
    from ablate.planning import document
    from reports import foresight

    with plain_errors(), private():  # --measure prepares data
        made, cluster = filled(planned(study, runs, set))
        timings = measured(made, runs, say=partial(print, file=sys.stderr)) if measure else None
        facts = document(made, runs, foresight, pilot=pilot, timings=timings, cluster=cluster)
    if json:
        show_json(facts)
    else:
        say(describe(made, facts))


@app.command()
def run(
    study: StudyArgument,
    runs: Runs = RUNS,
    set: Sets = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Add this study's new arms and seeds to what has run.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    accept_code_change: AcceptCode = False,
) -> None:
    """Run a study, or go on with it where it stopped; then write the report."""
    from ablate import run as running
    from reports import answer, leaving, write

    with plain_errors(), private():
        made = planned(study, runs, set)
        ended = running.run(made, runs, report=write, summary=answer, judge=leaving, retry_failed=retry_failed,
                            extend=extend, accept_code_change=accept_code_change)  # fmt: skip
    say(running_summary(made, ended, runs))
    raise typer.Exit(ended.code)


@app.command()
def confirm(
    study: StudyArgument,
    runs: Runs = RUNS,
    arms: Annotated[
        list[str] | None, typer.Option("--arm", help="Confirm this arm in place of the best set; may be repeated.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How many fresh seeds; by default as before, or 5.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, run nothing.")] = False,
    extend: Annotated[bool, typer.Option("--extend", help="Add arms or seeds to a confirmation that has run.")] = False,
    accept_code_change: AcceptCode = False,
) -> None:
    """Train a study's best arms and its base on fresh seeds, and rank them by the test scenes."""
    from ablate import confirm as confirming
    from ablate import run as running
    from ablate.plan import make_plan
    from ablate.records import StudyFolder
    from reports import answer, leaving, selection, write

    with plain_errors(), private():
        folder = StudyFolder(runs, find_study_name(study, runs))
        begun = confirming.begun(folder)
        if begun and not (arms or seeds):
            made = make_plan(load(str(begun), runs, None))
        else:
            changed = confirming.settings(folder, selection(folder.root), arms=arms or (), seeds=seeds)
            made = make_plan(load(str(folder.study), runs, changed))
        say(confirming.describe(made))
        if dry_run:
            return
        ended = running.run(made, runs, report=write, summary=answer, judge=leaving, extend=extend,
                            accept_code_change=accept_code_change)  # fmt: skip
        if ended.code is running.Exit.done or ended.code is running.Exit.some_failed:
            write(folder.root)  # its headline now comes from the confirmation
    say(running_summary(made, ended, runs))
    raise typer.Exit(ended.code)


def elsewhere(runs: Path) -> str:
    """What a command that is printed says of the runs folder, for a shell."""
    return f" --runs {shlex.quote(str(runs))}" if runs != RUNS else ""


def running_summary(made: Plan, ended: Any, runs: Path) -> str:
    """The last lines of `ablate run`: what there is, and what to do next."""
    from ablate.run import Exit
    from ablate.sync import behind

    where = elsewhere(runs)
    again = f"ablate run {made.study.name}{where}"
    said = ", ".join(f"{number} {name}" for name, number in ended.counts.items() if number)
    idle = "" if ended.ran or ended.code is Exit.interrupted else "nothing was left to train"
    lines = [f"{made.num_trials} trials: {said}", *filter(None, [idle, ended.remark]), f"report: {ended.report}"]
    if made.study.tracking.mlflow:
        local = ended.place.startswith("sqlite:")
        lines.append(f"MLflow: ablate ui{where}" if local else f"MLflow: {ended.place}")
    lines += [f"Optuna: {ended.storage}"] if ended.storage else []
    if ended.code is Exit.interrupted:
        lines.append(f"stopped with work left; go on with: {again}")
    whole = f"the results are whole under {runs}/; once it answers: ablate sync {made.study.name}{where}"
    lines += [f"{behind(store, why)}; {whole}" for store, why in ended.unreachable.items()]
    return "\n".join(lines)


@app.command()
def sync(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="One study; all of them by default.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Bring MLflow and Optuna's storage up to date from the folders; nothing is trained."""
    from ablate.logs import log_into
    from ablate.records import StudyFolder
    from ablate.run import Exit
    from ablate.status import preparing
    from ablate.status_words import describe as described
    from ablate.sync import describe
    from ablate.sync import sync as synced
    from reports import answer

    codes: list[int] = []
    with plain_errors():
        names = studies_under(study, runs)
    for name in names:
        try:
            with plain_errors(), private():
                folder = StudyFolder(runs, name)
                log_into(folder.log)
                found = synced(folder, summary=answer)
                say(describe(found))
                codes.append(Exit.storage if found.unreachable else Exit.done)
        except typer.Exit as ended:  # said already; the other studies are none the worse for it
            if ended.exit_code == Exit.interrupted:
                raise
            codes.append(ended.exit_code)
    locks = [] if study else sorted(runs.glob("*/driver.lock"))
    early = [found for lock in locks if (found := preparing(StudyFolder(runs, lock.parent.name)))]
    for one in early:
        say(described(one))
    if not names and not early:
        say(f"no study has run under {runs}/ yet")
    raise typer.Exit(Exit.storage if Exit.storage in codes else max(codes, default=Exit.done))


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="One study; all of them by default.")] = None,
    runs: Runs = RUNS, json: Json = False,
) -> None:  # fmt: skip
    """Say the truth now, from the folders: what is done, running, waiting, failed, and what resuming has cost."""
    from ablate.run import Exit
    from ablate.status import all_status, is_whole, study_status
    from ablate.status_words import describe

    with plain_errors():
        found = [study_status(runs, find_study_name(study, runs, planned=False))] if study else all_status(runs)
    if json:
        show_json(found[0] if study else found)
    else:
        where = elsewhere(runs)
        lines = [describe(one, every=study is not None, resume=f"ablate run {one['study']}{where}") for one in found]
        say("\n".join(lines) or f"no study has run under {runs}/ yet")
    if not all(map(is_whole, found)):
        raise typer.Exit(Exit.storage)


def studies_under(study: str | None, runs: Path) -> list[str]:
    """The name of one study, or of all that have a folder under `runs`."""
    return [find_study_name(study, runs)] if study else sorted(path.parent.name for path in runs.glob("*/plan.json"))


def find_study_name(study: str, runs: Path, *, planned: bool = True) -> str:
    """The name of a study that has a folder under `runs`; STUDY is the name or its file.

    Raises Busy for one whose data are still being prepared, unless it need not be `planned`.
    """
    from ablate.lock import Busy
    from ablate.problems import Problem, StudyError, unusable
    from ablate.records import SLUG, StudyFolder
    from ablate.status import preparing
    from ablate.status_words import describe
    from ablate.stored import read_plan

    name = study if unusable(Path(study)) or not study else load(study, runs, None).name
    if SLUG.fullmatch(name) and (early := preparing(StudyFolder(runs, name))):
        if planned:
            raise Busy(describe(early))
        return name
    if not SLUG.fullmatch(name) or not StudyFolder(runs, name).plan.is_file():
        raise StudyError([Problem(study or "STUDY", 0, 0, "", f"no study of this name has run under {runs}/")])
    read_plan(StudyFolder(runs, name))  # whoever reads the folder may trust it
    return name


@app.command()
def show(trial: Annotated[str, typer.Argument(metavar="TRIAL", help="The id of a trial, or its first digits.")],
         runs: Runs = RUNS, json: Json = False) -> None:  # fmt: skip
    """Show one trial: recipe, outcome, health, files, and how to apply its generator."""
    from ablate.show import describe, find_trial, trial_document

    with plain_errors():
        document = trial_document(find_trial(trial, runs))
    if json:
        show_json(document)
    else:
        say(describe(document))


@app.command()
def report(study: StudyArgument, runs: Runs = RUNS) -> None:
    """Write the report again from the study's folder."""
    from ablate.records import StudyFolder
    from reports import write

    with plain_errors(), private():
        name = find_study_name(study, runs)
        say(write(StudyFolder(runs, name).root))


@app.command()
def clean(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="One study; all of them by default.")] = None,
    runs: Runs = RUNS,
    failed: Annotated[bool, typer.Option("--failed", help="Also failed trials put aside for another attempt.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Remove what can be rebuilt, never a result: unneeded prepared data, checkpoints of ended trials, half files."""
    from ablate.clean import clean as cleaned
    from ablate.clean import describe

    with plain_errors(), private():
        name = find_study_name(study, runs) if study else None
        found = cleaned(runs, name, failed=failed, dry_run=dry_run)
    if json:
        show_json(found.to_json())
    else:
        say(describe(found, runs))


app.command()(analyse_cli.analyse)
app.command()(analyse_cli.compare)


@app.command()
def diagnose(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="A loss_log.txt of pix2pix.")],
    objective: Annotated[str, typer.Option(help="What it was trained with: vanilla or lsgan.")] = "vanilla",
    lambda_l1: Annotated[float, typer.Option(help="The weight that G_L1 was logged with.")] = 100.0,
    smoothing: Annotated[
        tuple[float, float], typer.Option(help="D's targets for real and fake, if labels were smoothed: 0.9 0.")
    ] = (1.0, 0.0),
    json: Json = False,
) -> None:
    """Read the losses of a pix2pix training: what they show, what they can't, what is meant to help."""
    from ablate import diagnose as reading
    from ablate.diagnose_words import describe, document
    from ablate.losslog import read_loss_log

    with plain_errors():
        trained = reading.objective_named(objective)
        found = reading.diagnose(read_loss_log(log), objective=trained, lambda_l1=lambda_l1,
                                 smoothing=smoothing)  # fmt: skip
    if json:
        show_json(document(found))
    else:
        say(describe(found))


@app.command()
def ui(
    runs: Runs = RUNS, port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000
) -> None:
    """Open the MLflow UI over the local store, on 127.0.0.1 only."""
    from ablate.records import StudyFolder
    from ablate.start import mlflow_ui

    with plain_errors(), private():
        raise typer.Exit(mlflow_ui(StudyFolder(runs, ""), port))


@app.command()
def schema() -> None:
    """Print the JSON schema of a study file, for editors."""
    from ablate.schema import schema as study_schema

    show_json(study_schema())


@app.command()
def doctor(
    runs: Runs = RUNS, json: Json = False,
    executor: Annotated[str, typer.Option(help="Where trials shall run: local, slurm or ray.")] = "local",
) -> None:  # fmt: skip
    """Say what works on this machine."""
    from ablate.doctor import describe, examine
    from ablate.problems import no_such
    from ablate.resources import EXECUTORS

    if executor not in EXECUTORS:
        raise typer.BadParameter(f"--executor: {no_such('executor', executor, EXECUTORS)}")
    found = examine(runs, executor)
    if json:
        show_json(found)
    else:
        say(describe(found))
    raise typer.Exit(0 if found["ok"] else 4)


def main() -> None:
    open_streams()
    try:
        check_arguments(sys.argv[1:])
        check_environment()
        app()
    except KeyboardInterrupt:  # outside a command
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
