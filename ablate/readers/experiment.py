"""The runs of an MLflow experiment as rows: params, tags and the last value of each metric."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.mlflow_store import client_of, reason
from ablate.problems import Problem, StudyError, no_such, redacted
from ablate.readers.found import Found, report_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STATUSES = {"FINISHED": "done", "FAILED": "failed", "KILLED": "failed"}
PAGE = 1000


def read_experiment(uri: str, name: str | None, *, beside: Path, filter: str = "") -> Found:
    """All ended runs of the experiment, less parents; `filter` is MLflow's own search syntax.

    Without a name it is the store's only experiment with runs. Raises StudyError, without passwords, where the store
    can't be read.
    """
    with _plain(uri):
        client = client_of(uri)
        experiment = _experiment(client, uri, name)
        runs = _search(client, experiment.experiment_id, filter)
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs}
    parents |= {run.info.run_id for run in runs if "ablate.uid" in run.data.tags and "ablate.cell" not in run.data.tags}
    kept = [run for run in runs if run.info.run_id not in parents]
    ended = [run for run in kept if run.info.status in STATUSES]
    if not ended:
        some = f"{len(runs)} runs, none of them ended" if runs else "no runs"
        which = f" that match {filter!r}" if filter else ""
        raise _refused(uri, f"experiment {experiment.name!r} has {some}{which}")
    ended.sort(key=lambda run: (run.info.start_time, run.info.run_id))
    return Found(
        source=f"MLflow experiment {experiment.name}", name=experiment.name, columns=_columns(ended),
        places=tuple(f"run {run.info.run_name or '?'} ({run.info.run_id[:8]})" for run in ended),
        beside=beside / report_folder(experiment.name),
        facts={"source": f"MLflow experiment {experiment.name}", "rows": len(ended)},
        cautions=_cautions(len(kept) - len(ended), ended),
    )  # fmt: skip


def _columns(runs: list[Run]) -> dict[tuple[str, str], list[Any]]:
    """One column per param, tag and metric that any run has, and its outcome."""
    columns: dict[tuple[str, str], list[Any]] = {}
    for kind, holder in (("param", "params"), ("tag", "tags"), ("metric", "metrics")):
        rows = [getattr(run.data, holder) for run in runs]
        for name in sorted(set().union(*rows)):
            if not name.startswith("mlflow."):
                columns[kind, name] = [row.get(name) for row in rows]
    columns["fact", "status"] = [_status(run) for run in runs]
    columns["fact", "trial"] = [run.data.tags.get("ablate.trial") for run in runs]
    columns["fact", "twin"] = [run.data.params.get("replica", "0") not in ("0", "") for run in runs]
    columns["fact", "why"] = [run.data.tags.get("ablate.why", "") for run in runs]
    return columns


def _status(run: Run) -> str:
    said = run.data.tags.get("ablate.status")
    return said if said and run.info.status == "FINISHED" else STATUSES[run.info.status]


def _cautions(open_runs: int, ended: list[Run]) -> tuple[str, ...]:
    found = [f"{open_runs} runs have not ended and are left out."] if open_runs else []
    killed = sum(run.info.status == "KILLED" for run in ended)
    return (*found, *([f"{killed} runs were killed: they count as lost, without an outcome."] if killed else []))


def _experiment(client: MlflowClient, uri: str, name: str | None) -> Any:
    every = client.search_experiments(max_results=PAGE)
    if name is not None:
        chosen = [one for one in every if name in (one.name, one.experiment_id)]
        if not chosen:
            raise _refused(uri, no_such("experiment", name, [one.name for one in every]))
        return chosen[0]
    filled = [one for one in every if client.search_runs([one.experiment_id], max_results=1)]
    if len(filled) != 1:
        there = ", ".join(sorted(one.name for one in filled)) or "none with runs"
        raise _refused(uri, f"which experiment? say --experiment NAME; there are {there}")
    return filled[0]


def _search(client: MlflowClient, experiment: str, filter: str) -> list[Run]:
    runs, token = [], None
    while token is None or token:
        page = client.search_runs([experiment], filter, max_results=PAGE, page_token=token or None)
        runs, token = runs + list(page), page.token or ""
    return runs


@contextmanager
def _plain(uri: str) -> Iterator[None]:
    """What MLflow raises, in one line and without the secrets of the URI."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # requests' errors are OSErrors
        raise _refused(uri, f"MLflow's store can't be read ({redacted(reason(error), uri)})") from None


def _refused(uri: str, message: str) -> StudyError:
    return StudyError([Problem(redacted(uri, uri), 0, 0, "", message)])
