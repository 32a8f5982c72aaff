"""The trials of an Optuna study as rows: params, user attributes and objective values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.design import AA
from ablate.postgresql import DIALECT, engine_options, is_address
from ablate.problems import Problem, StudyError, no_such, redacted
from ablate.readers.found import Found, report_folder

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

STATUSES = {"COMPLETE": "done", "PRUNED": "stopped", "FAIL": "failed"}
OWN_ENDS = ("diverged", "collapsed")  # outcomes that the trial's `status` attribute tells from a failure


def read_study(storage: str | Path, name: str | None, *, beside: Path) -> Found:
    """All ended trials of a study in a storage URL or a journal file; without a name, of its only study.

    Raises StudyError, without passwords, where the storage can't be read.
    """
    with _plain(storage):
        study = _study(storage, name)
        every = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get("retry_of") for trial in every}
    trials = [trial for trial in every if trial.state.name in STATUSES and trial.number not in retried]
    if not trials:
        raise _refused(storage, f"study {study.study_name!r} has {len(every)} trials, none of them ended")
    metrics = _metrics(study)
    left = sum(trial.state.name not in STATUSES for trial in every)
    return Found(
        source=f"Optuna study {study.study_name}", name=study.study_name, columns=_columns(trials, metrics),
        places=tuple(f"trial {trial.number}" for trial in trials),
        beside=beside / report_folder(study.study_name),
        goals={name: "max" if way.name == "MAXIMIZE" else "min"
               for name, way in zip(metrics, study.directions, strict=True)},
        composed=tuple(sorted(set().union(*(trial.params for trial in trials)))),
        facts={"source": f"Optuna study {study.study_name}", "rows": len(trials)},
        cautions=(f"{left} trials have not ended and are left out.",) if left else (),
    )  # fmt: skip


def _metrics(study: optuna.Study) -> list[str]:
    """Names of the objectives: as the study has them, ours from its plan, else value or values_0, values_1, ..."""
    plan = study.user_attrs.get("plan")
    if study.metric_names:
        return list(study.metric_names)
    if isinstance(plan, Mapping) and "metric" in plan and len(study.directions) == 1:
        return [plan["metric"]]
    count = len(study.directions)
    return ["value"] if count == 1 else [f"values_{place}" for place in range(count)]


def _columns(trials: list[FrozenTrial], metrics: list[str]) -> dict[tuple[str, str], list[Any]]:
    columns: dict[tuple[str, str], list[Any]] = {}
    for place, name in enumerate(metrics):
        columns["value", name] = [trial.values[place] if trial.values else None for trial in trials]
    for kind, rows in (("param", [trial.params for trial in trials]), ("attr", [trial.user_attrs for trial in trials])):
        for name in sorted(set().union(*rows)):
            columns[kind, name] = [row.get(name) for row in rows]
    columns["fact", "status"] = [_status(trial) for trial in trials]
    columns["fact", "trial"] = [trial.user_attrs.get("trial") for trial in trials]
    # Records of `ablate run` name their cell.
    columns["fact", "twin"] = ["cell" in trial.user_attrs and trial.user_attrs.get("arm") == AA for trial in trials]
    columns["fact", "why"] = [str(trial.user_attrs.get("why", "")) for trial in trials]
    return columns


def _status(trial: FrozenTrial) -> str:
    said = trial.user_attrs.get("status")
    return said if trial.state.name == "FAIL" and said in OWN_ENDS else STATUSES[trial.state.name]


def _study(storage: str | Path, name: str | None) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    opened = _opened(storage)
    names = optuna.get_all_study_names(opened)
    if name is None and len(names) != 1:
        raise _refused(storage, f"which study? say --study NAME; there are {', '.join(sorted(names)) or 'none'}")
    if name is not None and name not in names:
        raise _refused(storage, no_such("study", name, names))
    return optuna.load_study(study_name=name or names[0], storage=opened)


def _opened(storage: str | Path) -> Any:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if isinstance(storage, Path):
        return JournalStorage(JournalFileBackend(str(storage)))
    if is_address(storage):
        return RDBStorage(f"{DIALECT}://", engine_kwargs=engine_options(storage), skip_table_creation=True)
    return RDBStorage(storage, skip_table_creation=True)


@contextmanager
def _plain(storage: str | Path) -> Iterator[None]:
    """What Optuna raises, in one line and without the secrets of the URL."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError, RuntimeError, OSError, ImportError, KeyError, ValueError) as error:
        cause = (str(error).splitlines() or [""])[0]
        said = f"Optuna's storage can't be read ({type(error).__name__}: {redacted(cause, str(storage))})"
        raise _refused(storage, said) from None


def _refused(storage: str | Path, message: str) -> StudyError:
    return StudyError([Problem(redacted(str(storage), str(storage)), 0, 0, "", message)])
