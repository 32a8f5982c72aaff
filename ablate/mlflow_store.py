"""Where a study's MLflow store is, and how it is opened (mlflow is imported here, on first use)."""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ablate.lock import turn
from ablate.mlflow_moved import bring_along
from ablate.problems import SHOWN, did_you_mean, no_such, quoted, redacted, unquoted
from ablate.records import StudyFolder, write_atomically
from ablate.sqlite import address, made_whole

if TYPE_CHECKING:
    from mlflow import MlflowClient

STORES = ("databricks", "http", "https", "mssql", "mysql", "postgresql", "sqlite")
EXPECTED = ("expected http://HOST:PORT, https://HOST, sqlite:///FILE, postgresql://..., mysql://..., mssql://... or "
            "databricks")  # fmt: skip
_HOST = re.compile(r"(\*\*\*@)?(localhost|\[[0-9a-fA-F:.]+\]|[\w-]+(\.[\w-]+)+|[\w-]+(?=:\d))(:\d+)?(/.*)?")

# A client against a closed port retries for 246 s with MLflow's own limits, and repeats blindly what a lost reply
# has left undecided (our `Outbox` looks first); it reports usage home, and
# writes the traceback of every database error to the terminal (what matters of it is said by `Tracking`)
# and prints the URL of each ended run with the password in it.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def resolve(uri: str | None, folder: StudyFolder, environment: Mapping[str, str] = os.environ) -> str | None:
    """The tracking URI a study means: `auto` is $MLFLOW_TRACKING_URI, else a SQLite file under runs/."""
    if uri != "auto":
        return uri
    return environment.get("MLFLOW_TRACKING_URI") or address(folder.mlflow.absolute())


def unknown_store(uri: str) -> str:
    """Why MLflow has no store at a URI, whatever runs there; empty where it may have one, and for no URI at all."""
    scheme, colon, rest = uri.partition("://")
    kind = scheme.partition("+")[0]
    if uri in ("", "databricks"):
        return ""
    if (not colon or kind not in STORES) and _of_plugin(uri):
        return ""
    if not colon or kind == "file":
        return _no_scheme(uri)
    if kind not in STORES:
        return no_such("kind of MLflow store", redacted(scheme), STORES)
    if kind == "sqlite":
        named = rest.startswith("/") and rest[1:].partition("?")[0]
        return "" if named else f"{quoted(redacted(uri, uri))} names no file; expected sqlite:///FILE"
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018  # reads it: out of range, or no number
    except ValueError as error:
        return f"{quoted(redacted(uri, uri))} is not an address: {unquoted(error)}"
    return f"{quoted(redacted(uri, uri))} names no host" if kind in ("http", "https") and not parts.hostname else ""


def _of_plugin(uri: str) -> bool:
    """Whether an installed package adds this kind of store to MLflow, as one does `arn:` for SageMaker."""
    return uri.partition(":")[0] in entry_points(group="mlflow.tracking_store").names


def _no_scheme(uri: str) -> str:
    """What to write instead of an address without its beginning, or of a folder: MLflow 3 has no store in either."""
    found = redacted(f"***@{uri.rpartition('@')[2]}" if "@" in uri else uri)
    kind, colon, rest = found.partition(":")
    near = "" if colon else did_you_mean(found, ["databricks"])
    if near:
        return f"no such kind of MLflow store: {quoted(found)}; {EXPECTED}{near}"
    if colon and kind.partition("+")[0] in STORES:
        meant = f"{kind}:///{rest}" if kind == "sqlite" else f"{kind}://{rest.lstrip('/')}"
        return f"{quoted(found)} lacks its ://; {EXPECTED}; did you mean {meant[:SHOWN]}?"
    file = found.removeprefix("file://").removeprefix("file:")
    if file.endswith((".db", ".sqlite")):
        return f"{quoted(found)} has no sqlite:/// before it; {EXPECTED}; did you mean sqlite:///{file[:SHOWN]}?"
    if _HOST.fullmatch(found):
        return f"{quoted(found)} has no http:// before it; {EXPECTED}; did you mean http://{found[:SHOWN]}?"
    meant = f"sqlite:///{file.rstrip('/')[:SHOWN]}/mlflow.db"
    return f"{quoted(found)} is a folder, in which MLflow 3 keeps no store; {EXPECTED}; did you mean {meant}?"


def client_of(uri: str) -> MlflowClient:
    """MLflow's client of a store, which neither waits for minutes nor talks."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # an outage is told once, by us
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def reason(error: BaseException) -> str:
    """Why a call on a store failed, in a line: of the network's and the database's errors the one at the bottom."""
    said, below = f"{type(error).__name__}: {_first_line(error)}", error
    while below is not None:
        if isinstance(below, OSError) or type(below).__module__.startswith("urllib3."):
            nameless = None if getattr(below, "filename", None) else getattr(below, "strerror", None)
            said = nameless or _first_line(below)
        elif orig := getattr(below, "orig", None):  # of SQLAlchemy's
            said = f"{type(below).__name__}: {_first_line(orig)}"
        below = below.__cause__ or (None if below.__suppress_context__ else below.__context__)
    return said[:300]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def open_store(uri: str, folder: StudyFolder) -> tuple[MlflowClient, str]:
    """A client of the store, created if need be, and the id of the study's experiment.

    Under a file lock: of eight processes that created one SQLite store at once, seven died.
    """
    with locked(folder):
        if place := sqlite_file(uri):
            made_whole(place, lambda beside: client_of(beside).search_experiments(max_results=1))
            if place.absolute() == folder.mlflow.absolute():
                bring_along(folder)
        client = client_of(uri)
        return client, _experiment(client, uri, folder)


def own_uid(folder: StudyFolder) -> str:
    """The folder's uid, made and kept on first use: 32 random hex digits.

    Study names repeat between people and runs folders that share a store; the uid tells whose a run is.
    It stays with a folder that is moved. A copy counts as the same folder until its `uid` file is deleted.
    """
    with locked(folder):
        kept = folder.uid.read_text().strip() if folder.uid.exists() else ""
        if not kept:
            kept = uuid.uuid4().hex
            write_atomically(folder.uid, f"{kept}\n")
    return kept


def _experiment(client: MlflowClient, uri: str, folder: StudyFolder) -> str:
    found = client.get_experiment_by_name(folder.name)
    if found is None:
        served = uri.startswith(("http:", "https:", "databricks"))  # the server knows where artifacts go
        place = None if served else folder.artifacts.absolute().as_uri()
        return client.create_experiment(folder.name, artifact_location=place)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


@contextmanager
def locked(folder: StudyFolder) -> Iterator[None]:
    """Hold the store under the runs folder, for whoever makes it or changes it as a whole."""
    with turn(folder.mlflow.with_name("mlflow.lock")):
        yield


def sqlite_file(uri: str) -> Path | None:
    """The file of a sqlite URI; None for any other store."""
    place = uri.removeprefix("sqlite:///").split("?")[0]
    return Path(place) if uri.startswith("sqlite:///") and place else None
