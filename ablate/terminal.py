"""What the commands share: their arguments, how they find a study, and how mistakes end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ablate.study import Study

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study file, or the name of one under the runs folder.")
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds results, prepared data and the MLflow store.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=YAML", help="Change any path of the study; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
RUNS = Path("runs")


@contextmanager
def plain_errors() -> Iterator[None]:
    """People's own mistakes end in a sentence and an exit code, never in a traceback."""
    from ablate.driver import ReferencesFailed
    from ablate.events import CorruptStream
    from ablate.executor import CannotLaunch
    from ablate.ledger import LedgerError
    from ablate.lock import Busy
    from ablate.problems import StudyError
    from ablate.run import CannotRun, Exit, StudyChanged
    from trainers.pairs import DataError

    codes: dict[type[Exception], Exit] = {
        **dict.fromkeys((StudyError, StudyChanged, DataError), Exit.usage),
        **dict.fromkeys((LedgerError, CorruptStream), Exit.storage),
        **dict.fromkeys((CannotRun, CannotLaunch, ReferencesFailed), Exit.environment),
        Busy: Exit.busy,
    }
    try:
        yield
    except tuple(codes) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(next(code for kind, code in codes.items() if isinstance(error, kind))) from None
    except OSError as error:
        print(f"{error.filename or 'input/output'}: {error.strerror or error}", file=sys.stderr)
        raise typer.Exit(Exit.environment) from None
    except KeyboardInterrupt:
        print("ended at once; the same command goes on from the last checkpoints", file=sys.stderr)
        raise typer.Exit(Exit.interrupted) from None


def find_study(study: str, runs: Path) -> Path:
    """The file that STUDY names: itself, or the study of that name under the runs folder."""
    from ablate.problems import Problem, StudyError
    from ablate.records import StudyFolder

    path = Path(study)
    if path.is_file():
        return path
    stored = StudyFolder(runs, study).study
    if "/" not in study and stored.is_file():
        return stored
    found = "is a folder" if path.is_dir() else "no such file"
    there = sorted(folder.parent.name for folder in runs.glob("*/study.yaml"))
    names = f"; under {runs}/ there are: {', '.join(there)}" if there else ""
    raise StudyError([Problem(study, 0, 0, "", f"{found}; expected a study file such as studies/quick.yaml{names}")])


def load(study: str, runs: Path, sets: list[str] | None) -> Study:
    from ablate.study import load as load_study

    return load_study(find_study(study, runs), sets=sets or ())


def say(text: str) -> None:
    """Print, whether or not anybody is left to read it: the exit code still tells."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def show_json(document: Any) -> None:
    print(json.dumps(document, indent=1))
