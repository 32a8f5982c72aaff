"""What the commands share: their arguments, how they find a study, and how mistakes end."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablate.logs import keep_traceback
from ablate.problems import LONGEST, SHOWN, Problem, StudyError, printable, safe, unusable

if TYPE_CHECKING:
    from ablate.study import Study

def _folder(path: Path) -> Path:
    """The path unless something else than a folder lies there."""
    if unusable(path) in ("", "is not a regular file"):
        raise typer.BadParameter(f"{path} is a file; expected the folder of results")
    return path


StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study file, or the name of one under the runs folder.")
]
Runs = Annotated[
    Path,
    typer.Option("--runs", callback=_folder, help="Folder that holds results, prepared data and the MLflow store."),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=YAML", help="Change any path of the study; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
RUNS = Path("runs")


@contextmanager
def plain_errors() -> Iterator[None]:
    """People's own mistakes end in a sentence and an exit code; a traceback goes into the log, if there is one yet."""
    from ablate.codechange import CodeChanged
    from ablate.disk import DiskFull
    from ablate.driver import CannotGoOn
    from ablate.events import CorruptStream
    from ablate.executor import CannotLaunch
    from ablate.ledger import LedgerError
    from ablate.lock import Busy
    from ablate.planfile import StudyChanged
    from ablate.preconditions import CannotRun
    from ablate.referencing import ReferencesFailed
    from ablate.run import Exit
    from ablate.stored import REMEDY_OF_A_STREAM, Damaged
    from trainers.pairs import DataError

    codes: dict[type[Exception], Exit] = {
        **dict.fromkeys((StudyError, StudyChanged, CodeChanged, DataError), Exit.usage),
        **dict.fromkeys((LedgerError, CorruptStream, Damaged), Exit.storage),
        **dict.fromkeys((CannotRun, CannotLaunch, CannotGoOn, ReferencesFailed, DiskFull), Exit.environment),
        Busy: Exit.busy,
    }
    try:
        yield
    except tuple(codes) as error:
        keep_traceback(error)
        remedy = f"; {REMEDY_OF_A_STREAM}" if isinstance(error, CorruptStream) else ""
        print(safe(f"{error}{remedy}", keep="\n"), file=sys.stderr)
        raise typer.Exit(next(code for kind, code in codes.items() if isinstance(error, kind))) from None
    except OSError as error:
        keep_traceback(error)
        print(safe(f"{error.filename or 'input/output'}: {error.strerror or error}"), file=sys.stderr)
        raise typer.Exit(Exit.environment) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:  # ours; Python's own exit code for it would say that some trials have failed
        said = f"an error of ablate's own: {type(error).__name__}: {str(error)[:LONGEST]}"
        log = keep_traceback(error)
        print(safe(f"{said}; its traceback: {log}" if log else traceback.format_exc(), keep="\n"), file=sys.stderr)
        raise typer.Exit(Exit.environment) from None
    except KeyboardInterrupt:
        print("ended at once; the same command goes on from the last checkpoints", file=sys.stderr)
        raise typer.Exit(Exit.interrupted) from None


@contextmanager
def private() -> Iterator[None]:
    """What is written meanwhile, by processes started here too, is for its owner's eyes only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def check_arguments(arguments: Sequence[str]) -> None:
    """Exit with code 2 where an argument holds what would command a terminal, or is not UTF-8."""
    for argument in arguments:
        if printable(argument, keep="\n\t") != argument:
            said = f"{printable(argument)[:SHOWN]}: an argument holds a control character, or is not UTF-8"
            print(said, file=sys.stderr)
            raise SystemExit(2)


def check_environment() -> None:
    """Exit with code 2 where a variable of ours can't be followed, before any command runs."""
    try:
        import ablate.failpoints  # noqa: F401  # reads its own
        from trainers.watchdog import Limits

        Limits.from_environment()
    except ValueError as error:
        print(printable(str(error))[:SHOWN], file=sys.stderr)
        raise SystemExit(2) from None


def find_study(study: str, runs: Path) -> Path:
    """The file that STUDY names: itself, or the study of that name under the runs folder."""
    from ablate.records import SLUG, StudyFolder

    path = Path(study)
    found = "is empty" if not study else unusable(path)
    if not found:
        return path
    stored = StudyFolder(runs, study).study
    if SLUG.fullmatch(study) and stored.is_file():
        return stored
    there = sorted(folder.parent.name for folder in runs.glob("*/study.yaml"))
    names = f"; under {runs}/ there are: {', '.join(there)}" if there else ""
    expected = f"{found}; expected a study file such as studies/quick.yaml{names}"
    raise StudyError([Problem(study or "STUDY", 0, 0, "", expected)])


def load(study: str, runs: Path, sets: list[str] | None) -> Study:
    from ablate.study import load as load_study

    return load_study(find_study(study, runs), sets=sets or (), runs=runs)


def say(text: object) -> None:
    """Print, whether or not anybody is left to read it: the exit code still tells.

    Names and reasons come from files: what of them would command the terminal is spelled out.
    """
    _print(safe(str(text), keep="\n\t"))


def show_json(document: Any) -> None:
    """Print one JSON document, as `say` prints a text: whether or not anybody is left to read it."""
    _print(json.dumps(document, indent=1))


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
