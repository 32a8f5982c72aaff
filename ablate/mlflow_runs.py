"""The runs of one study in an MLflow store: one parent, one child per cell, rebuilt from facts on disk.

Every method may be repeated, also by another process after a kill, and then changes nothing: runs are
found by the uid of the study's folder and the cell, both tags; metrics carry the event's own time and
step (a row is keyed by run, key, time, step and value); pictures are looked for before they are sent.
A run that already holds a cell's end is left alone.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate import postgresql
from ablate.clock import steady
from ablate.events import Event, EventReader, Saved, read
from ablate.events import first as first_event
from ablate.failpoints import failpoint
from ablate.ledger import key
from ablate.mlflow_facts import Row, clipped, metric_name, milliseconds, parameters, rows, shown_as_text
from ablate.mlflow_store import open_store, own_uid
from ablate.pictures import read_strip
from ablate.records import Arm, Cell, Status, StudyFolder, TrialResult, TrialSpec, digest

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run, RunInfo, RunTag

PARENT = ""  # where the parent stands among the runs by cell
OPEN = ("RUNNING", "SCHEDULED")
PICTURE = "samples"
METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100  # limits of MLflow's API
STREAM = "ablate.stream"  # tag: which stream a run's rows are from
PAGE = 100  # runs asked for at once: MLflow takes some 160 kB for each meanwhile
log = logging.getLogger(__name__)


@dataclass
class _Sent:
    """What this process knows to be in a run. Forgotten once the run is closed."""

    begun: bool = False  # RUNNING, with all parameters
    offset: int = 0  # bytes of the cell's stream that have been sent
    held: Mapping[str, float] = field(default_factory=dict)  # metrics that the run had when it was opened
    values: set[tuple[str, int, str]] = field(default_factory=set)  # split, step, key
    skipped: set[str] = field(default_factory=set)  # names with values that are not finite
    named: bool = False  # tagged with the stream that it holds
    last: int | None = None  # time of the last event, ms
    shown: bool = False  # whether MLflow's page knows that there are pictures
    pictures: list[str] | None = None  # files under images/; None where the store has to be asked


class MlflowRuns:
    """The study's runs; synchronous, raises what MLflow raises. `factors` has each base level first."""

    def __init__(
        self,
        uri: str,
        folder: StudyFolder,
        *,
        arms: Iterable[Arm],
        factors: Mapping[str, Sequence[str]],
        question: str = "",
        clock: Callable[[], float] | None = None,
    ):
        self._uri, self._folder, self._question, self._clock = uri, folder, question, clock or steady()
        self._factors, self._arms = factors, {arm.name: arm for arm in arms}
        self._client: Any = None
        self._known = False  # whether the store's runs have been learnt
        self._runs: dict[str, Run] = {}
        self._sent: dict[str, _Sent] = {}  # by run id
        self._unsure = False  # whether a run may have been made or deleted without our seeing it

    def add(self, arm: Arm) -> None:
        """An arm that the study did not have at its start."""
        self._arms[arm.name] = arm

    def connect(self) -> None:
        """Open or create the store and the study's experiment; a run left RUNNING by a kill is closed."""
        self._uid = own_uid(self._folder)
        self._client, self._experiment = open_store(self._uri, self._folder)
        self._load()
        self._close_open()
        self._known = True

    def open_study(self) -> None:
        """Connect, and have the parent RUNNING."""
        self.connect()
        self._client.update_run(self._parent().info.run_id, status="RUNNING")
        self._refresh(PARENT)

    def reachable(self) -> bool:
        """Whether the store answers at all: tells an outage from a call that it refuses."""
        if self._client is None:  # it has not been opened yet
            return False
        if postgresql.is_address(self._uri):  # without a server between, whose client gives up in time
            return postgresql.answers(self._uri)
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return bool(self._client.search_experiments(max_results=1))
        except (MlflowException, SQLAlchemyError, OSError):  # requests' errors are OSErrors
            return False

    def mirror(self, cell: Cell, spec: TrialSpec, result: TrialResult | None = None) -> None:
        """Bring a cell's run up to date with its folder: parameters, events, and its end where it has a `result`.

        Nothing is sent where the run already holds this end.
        """
        self._ready()
        if result is not None and self.holds(cell, result):
            return
        begun = self._begun(cell)
        reader = EventReader(self._folder.trial(cell.trial).events, self._sent_of(key(cell)).offset if begun else 0)
        events = reader.new()
        if not begun:
            self.begin(cell, spec, events[0].time if events else None)
        sent = self._sent_of(key(cell))
        self.follow(cell, events)
        sent.offset = reader.offset
        if result is not None:
            self.end(cell, result)

    def holds(self, cell: Cell, result: TrialResult) -> bool:
        """Whether the cell's run was closed with this very result: everything else was sent before."""
        run = self._runs.get(key(cell))
        return bool(run) and _holds(run, cell, result) and self._of_this_stream(run, cell)

    def begin(self, cell: Cell, spec: TrialSpec, at: float | None = None) -> None:
        """The cell's run, RUNNING, with its parameters; `at` is when it began (default now)."""
        self._settle()
        run = self._runs.get(key(cell))
        if run and not (_is_of(run, cell) and self._of_this_stream(run, cell)):
            self._unsure = True
            self._client.delete_run(run.info.run_id)
            self._unsure = False
            self._forget(key(cell))
            del self._runs[key(cell)]
            run = None
        if run:
            self._client.update_run(run.info.run_id, status="RUNNING")
            self._client.set_tag(run.info.run_id, "ablate.status", "running")
            run = self._client.get_run(run.info.run_id)
        else:
            tags = {"ablate.cell": key(cell), "ablate.trial": cell.trial, "ablate.arm": cell.arm}
            tags |= {"ablate.seed": str(cell.seed), "ablate.status": "running"}
            tags["mlflow.parentRunId"] = self._parent().info.run_id
            self._create(key(cell), f"{cell.arm} · seed {cell.seed}", tags, at)
        self._describe(cell, spec, present=run.data.params if run else {})
        self._refresh(key(cell))
        sent = self._sent_of(key(cell))
        sent.begun, sent.held = True, run.data.metrics if run else {}

    def follow(self, cell: Cell, events: Iterable[Event]) -> None:
        """Send what the events of a begun cell hold; after a start of the driver, from the first event on."""
        events = list(events)
        sent = self._sent_of(key(cell))
        sent.last = max([sent.last or 0] + [milliseconds(event.time) for event in events]) or None
        fresh = [row for row in rows(events) if row.identity not in sent.values]
        first = {row.identity: row for row in reversed(fresh)}  # after a resume the first line stands
        self._send_metrics(key(cell), list(first.values()), "" if sent.named else self._stream(cell))
        sent.values.update(first)
        sent.named = sent.named or bool(first)
        for event in events:
            if isinstance(event, Saved) and event.what == "sample":
                self._send_picture(cell, event)

    def end(self, cell: Cell, result: TrialResult, *, whole: bool = True) -> None:
        """Close a begun cell's run: FAILED if the machinery failed, else FINISHED with the outcome as a tag.

        Unless its events are there as a `whole` it does not count as ended, and they are sent again.
        """
        sent = self._sent_of(key(cell))
        last = (sent.last if whole else None) or self._last_on_disk(cell) or milliseconds(self._clock())
        if result.status is Status.done:
            self._send_scores(key(cell), result, last)
        self._conclude(cell, result, last, whole=whole)
        if whole:
            self._forget(key(cell))

    def finish_study(self, report: Path, summary: str) -> None:
        """The report's folder and the short answer on the parent, which ends FINISHED; nothing where it holds them."""
        self._ready()
        self._load()
        parent, told = self._parent(), _content(report, summary)
        self._close_open(keep=PARENT)
        if parent.info.status == "FINISHED" and parent.data.tags.get("ablate.report") == told:
            return
        self._delete_artifacts(parent.info, "report")  # figures of an older plan
        self._client.log_artifacts(parent.info.run_id, str(report), "report")
        self._client.set_tag(parent.info.run_id, "mlflow.note.content", clipped(summary, 5000))
        self._client.set_tag(parent.info.run_id, "ablate.report", told)
        self._client.set_terminated(parent.info.run_id, "FINISHED", end_time=milliseconds(self._clock()))
        self._refresh(PARENT)

    def interrupt(self) -> None:
        """No run stays RUNNING: what has not ended is KILLED, and `mirror` opens it again."""
        self._ready()
        self._load()
        self._close_open()

    def _ready(self) -> None:
        """Connected, should opening the store have been given up."""
        if not self._known:
            self.connect()

    def _last_on_disk(self, cell: Cell) -> int | None:
        times = [event.time for event in read(self._folder.trial(cell.trial).events)]
        return milliseconds(max(times)) if times else None

    def _begun(self, cell: Cell) -> bool:
        run = self._runs.get(key(cell))
        return run is not None and _is_of(run, cell) and self._sent_of(key(cell)).begun

    def _stream(self, cell: Cell) -> str:
        """What tells a cell's stream from that of another attempt from nothing; empty where there is none yet."""
        first = first_event(self._folder.trial(cell.trial).events)
        return repr(first.time) if first else ""

    def _of_this_stream(self, run: Run, cell: Cell) -> bool:
        """Whether what a run holds is in the cell's stream. A trial that is run anew has other rows at other times."""
        named, stream = run.data.tags.get(STREAM), self._stream(cell)
        return named == stream if named else bool(stream) or not self._client.get_run(run.info.run_id).data.metrics

    def _parent(self) -> Run:
        if PARENT not in self._runs:
            self._create(PARENT, self._folder.name, {"mlflow.note.content": shown_as_text(self._question)})
        return self._runs[PARENT]

    def _conclude(self, cell: Cell, result: TrialResult, last: int, *, whole: bool) -> None:
        """Tags and final state; the tag that says all is there goes last but for the state."""
        from mlflow.entities import RunTag

        facts = {"status": result.status, "why": result.why, "warnings": "\n".join(result.warnings)}
        facts["diagnosis"] = result.diagnosis
        facts |= {"result": _fingerprint(result)} if whole else {}
        run = self._runs[key(cell)]
        stale = {name for name in facts if f"ablate.{name}" in run.data.tags}  # of an attempt before `--retry-failed`
        said = {name: clipped(str(text), 5000) for name, text in facts.items() if text or name in stale}
        tags = [RunTag(f"ablate.{name}", text) for name, text in said.items()]
        self._client.log_batch(run.info.run_id, tags=tags, synchronous=True)
        status = "FAILED" if result.status is Status.failed else "FINISHED"
        self._client.set_terminated(run.info.run_id, status, end_time=last)
        failpoint("run-ended")
        self._refresh(key(cell))

    def _load(self) -> None:
        """Learn the runs of this very folder; of two runs of one cell (a lost reply) one stays.

        The store may hold runs of equally named studies of other people, some of them alive: all that
        is ever closed, deleted or reused comes from here.
        """
        runs, token, own = [], None, f"tags.`ablate.uid` = '{self._uid}'"
        while token is None or token:
            page = self._client.search_runs([self._experiment], own, max_results=PAGE, page_token=token)
            runs.extend(map(_outline, page))
            token = page.token or ""
        self._runs = {}
        for run in sorted(runs, key=self._worth_keeping):
            cell = run.data.tags.get("ablate.cell", PARENT)
            if cell in self._runs:
                self._client.delete_run(run.info.run_id)
            self._runs.setdefault(cell, run)
        self._unsure = False

    def _worth_keeping(self, run: Run) -> tuple[bool, bool, int, str]:
        """Of two runs of one cell: the ended one, then the one that is written to, then the older."""
        id = run.info.run_id
        return not _ended(run), id not in self._sent, run.info.start_time, id

    def _close_open(self, keep: str | None = None) -> None:
        """An interrupted run ended with the last event that it was told of, if there is one."""
        for cell, run in list(self._runs.items()):
            if cell != keep and run.info.status in OPEN:
                if cell:
                    self._client.set_tag(run.info.run_id, "ablate.status", "interrupted")
                end = self._sent_of(cell).last or milliseconds(self._clock())
                self._client.set_terminated(run.info.run_id, "KILLED", end_time=end)
                self._refresh(cell)
                self._forget(cell)

    def _create(self, cell: str, name: str, tags: Mapping[str, str], at: float | None = None) -> None:
        self._settle()
        if cell not in self._runs:
            self._unsure = True
            self._runs[cell] = _outline(self._client.create_run(
                self._experiment,
                run_name=name,
                start_time=milliseconds(self._clock() if at is None else at),
                tags={"ablate.study": self._folder.name, "ablate.uid": self._uid, **tags},
            ))  # fmt: skip
            self._unsure = False
            failpoint("run-created")

    def _settle(self) -> None:
        """Look what a call whose reply was lost has done."""
        if self._unsure:
            self._load()

    def _refresh(self, cell: str) -> None:
        self._runs[cell] = _outline(self._client.get_run(self._run_id(cell)))

    def _run_id(self, cell: str) -> str:
        return self._runs[cell].info.run_id

    def _sent_of(self, cell: str) -> _Sent:
        return self._sent.setdefault(self._run_id(cell), _Sent())

    def _forget(self, cell: str) -> None:
        self._sent.pop(self._run_id(cell), None)

    def _describe(self, cell: Cell, spec: TrialSpec, *, present: Mapping[str, str]) -> None:
        """Log the parameters that the run lacks (one logged twice with another value raises)."""
        from mlflow.entities import Param
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        run_id = self._run_id(key(cell))
        changes = self._arms[cell.arm].changes
        levels = {factor: changes.get(factor, names[0]) for factor, names in self._factors.items()}
        stated = parameters(cell, spec, levels)
        lacking = {name: clipped(text, MAX_PARAM_VAL_LENGTH) for name, text in stated.items() if name not in present}
        params = [Param(name, text) for name, text in lacking.items()]
        for start in range(0, len(params), PARAMS_PER_CALL):
            self._client.log_batch(run_id, params=params[start : start + PARAMS_PER_CALL], synchronous=True)

    def _send_metrics(self, cell: str, values: Sequence[Row], stream: str = "") -> None:
        """Rows, and the name of the `stream` that they are the first of."""
        from mlflow.entities import Metric, RunTag

        metrics = [Metric(metric_name(row), row.value, row.time, row.step) for row in values]
        finite = [metric for metric in metrics if math.isfinite(metric.value)]
        self._log(cell, finite, [RunTag(STREAM, stream)] if stream else ())
        skipped = {metric.key for metric in metrics if not math.isfinite(metric.value)}
        known = self._sent_of(cell).skipped
        if skipped - known:  # MLflow would store inf as 1.797e308
            names = ", ".join(sorted(known | skipped))
            self._client.set_tag(self._run_id(cell), "ablate.not_finite", clipped(names, 5000))
            known |= skipped

    def _log(self, cell: str, metrics: Sequence[Metric], tags: Sequence[RunTag] = ()) -> None:
        for start in range(0, len(metrics), METRICS_PER_CALL):
            part = metrics[start : start + METRICS_PER_CALL]
            self._client.log_batch(self._run_id(cell), metrics=part, tags=() if start else tags, synchronous=True)

    def _send_scores(self, cell: str, result: TrialResult, at: int) -> None:
        """Final scores, without those the run held when it was opened: they may carry another time."""
        from mlflow.entities import Metric

        present = self._sent_of(cell).held
        scores = {name: value for name, value in result.scores.items() if math.isfinite(value)}
        scores["seconds"] = result.seconds
        fresh = [Metric(name, value, at, result.steps) for name, value in scores.items() if present.get(name) != value]
        self._log(cell, fresh)

    def _send_picture(self, cell: Cell, event: Saved) -> None:
        """Rows of SAR, generated, real under images/, once per step, where the UI puts steps side by side."""
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

        run, sent = self._runs[key(cell)].info, self._sent_of(key(cell))
        if sent.pictures is None:
            sent.pictures = [file.path for file in self._client.list_artifacts(run.run_id, "images")]
        present = [file for file in sent.pictures if file.startswith(f"images/{PICTURE}+step+{event.step}+")]
        if any("compressed" in file for file in present):  # MLflow writes this copy last, but for a tag that shows it
            if not sent.shown and MLFLOW_LOGGED_IMAGES not in self._runs[key(cell)].data.tags:
                self._client.set_tag(run.run_id, MLFLOW_LOGGED_IMAGES, "True")
            sent.shown = True
            return
        for torn in present:
            self._delete_artifacts(run, torn)
        picture = read_strip(self._folder.trial(cell.trial).inside(event.path))
        if picture is not None:
            known, sent.pictures = sent.pictures, None  # unknown, should the next line break halfway
            at = milliseconds(event.time)
            self._client.log_image(run.run_id, picture, key=PICTURE, step=event.step, timestamp=at, synchronous=True)
            sent.pictures = [*known, f"images/{PICTURE}+step+{event.step}+compressed"]
            sent.shown = True

    def _delete_artifacts(self, run: RunInfo, path: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        try:
            get_artifact_repository(run.artifact_uri, tracking_uri=self._uri).delete_artifacts(path)
        except Exception as error:  # not every store can, and there may be nothing to delete
            log.debug("%s stays in the store: %s", path, type(error).__name__)


def _outline(run: Run) -> Run:
    """The run without its parameters and metrics, which would be most of the memory that a study's runs take."""
    from mlflow.entities import Run, RunData, RunTag

    return Run(run.info, RunData(tags=[RunTag(name, text) for name, text in run.data.tags.items()]))


def _is_of(run: Run, cell: Cell) -> bool:
    return run.data.tags.get("ablate.trial") == cell.trial


def _ended(run: Run) -> bool:
    return run.info.status in ("FINISHED", "FAILED") and "ablate.result" in run.data.tags


def _holds(run: Run, cell: Cell, result: TrialResult) -> bool:
    """Whether the run was closed with this very result: everything else was sent before."""
    tags = run.data.tags
    return _ended(run) and tags["ablate.result"] == _fingerprint(result) and _is_of(run, cell)


def _content(report: Path, summary: str) -> str:
    """A fingerprint of the report's files and of the answer."""
    files = sorted(path for path in report.rglob("*") if path.is_file())
    digests = [[path.relative_to(report).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]
    return digest([summary, digests], 32)


def _fingerprint(result: TrialResult) -> str:
    facts = (result.id, result.status, sorted(result.scores.items()), result.steps, result.seconds, result.why)
    return digest([str(fact) for fact in facts])
