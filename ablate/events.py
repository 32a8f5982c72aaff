"""The stream of facts a trial leaves on disk: one JSON line an event (standard library only).

A trial's folder is the protocol between driver, workers and reports. Rank 0 appends; everyone
else reads. A line without its newline is not yet an event: a torn tail is ignored by readers
and cut off when a worker takes the file up again. A line ends with a checksum of itself, so that
a byte that has changed in the file is noticed; lines of before there was one are read without.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ablate.clock import steady
from ablate.disk import PRIVATE, File, make_folder, naming
from ablate.failpoints import failpoint
from ablate.records import Status, TrialResult


@dataclass(frozen=True, kw_only=True)
class Event:
    kind: ClassVar[str] = "event"
    time: float  # seconds since 1970
    attempt: int = 1


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    kind: ClassVar[str] = "started"
    world_size: int
    threads: int
    device: str
    versions: Mapping[str, str] = field(default_factory=dict)
    step: int = 0  # generator updates already done (above 0 after a resume)
    # Seconds from the birth of the process, or from its taking the trial, to this event; streams of before have none.
    start_up: float | None = None
    taken_over: float = 0.0  # seconds that another trial spent on the updates before `step`, where this one has not
    ways: str = ""  # of trainers.ways, as asked for
    beside: int = 1  # trials that its device may hold at a time, this one included


@dataclass(frozen=True, kw_only=True)
class Measured(Event):
    kind: ClassVar[str] = "measured"
    step: int  # generator updates
    images: int  # pairs that the generator has been updated on
    split: str  # train, validation or test
    values: Mapping[str, float]
    mode: str = ""  # of evaluation, where a split other than train was scored: running or paper


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    kind: ClassVar[str] = "saved"
    step: int
    what: str  # checkpoint, branch (a checkpoint that other trials go on from), sample, scores or generator
    path: str  # relative to the trial's folder
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    kind: ClassVar[str] = "warned"
    step: int
    message: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    kind: ClassVar[str] = "ended"
    step: int
    images: int
    status: str
    why: str = ""
    seconds: float = 0.0  # of this attempt
    diagnosis: str = ""  # of its health: a kind of pathology, healthy, or unjudged where it was too short
    evidence: Mapping[str, float] = field(default_factory=dict)  # of the diagnosis
    findings: Mapping[str, str] = field(default_factory=dict)  # kind to message of all that was found
    ways: str = ""  # what came of each that was asked for
    peak_memory: int | None = None  # bytes that torch held of its GPU at most; None elsewhere


LOCK_TRIES, LOCK_PAUSE = 600, 0.05  # a killed writer's lock is gone within a moment

CHECKSUM = re.compile(r',"crc":"([0-9a-f]{8})"}\n?$')
CHECKSUM_LENGTH = len(',"crc":"01234567"}\n')

KINDS: dict[str, type[Event]] = {kind.kind: kind for kind in (Started, Measured, Saved, Warned, Ended)}


def _encode(value: Any) -> Any:
    """JSON has no NaN or infinity: they travel as the strings "nan", "inf", "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    return value


def _decode_values(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items()}


def to_line(event: Event) -> str:
    """The event as one JSON line with its newline."""
    document = {"event": event.kind, **asdict(event)}
    facts = json.dumps(_encode(document), separators=(",", ":"), allow_nan=False).removesuffix("}")
    return f'{facts},"crc":"{_checksum(facts)}"}}\n'


def _checksum(facts: str) -> str:
    return f"{zlib.crc32(facts.encode()):08x}"


def from_line(line: str, *, train: tuple[str, ...] = ("",)) -> Event:
    """The event of one line; unknown fields (of a later version) are left aside.

    Of what was measured in training only keys that begin with one of `train` are taken.
    Raises ValueError for anything that is not an event, and for one whose checksum is another.
    """
    stated = CHECKSUM.search(line, max(0, len(line) - CHECKSUM_LENGTH))
    if stated and stated[1] != _checksum(line[: stated.start()]):
        raise ValueError(f"its checksum does not hold: {line[:80]!r}")
    document = json.loads(line)
    if not isinstance(document, dict) or document.get("event") not in KINDS:
        raise ValueError(f"not an event: {line[:80]!r}")
    kind = KINDS[document["event"]]
    known = {key: value for key, value in document.items() if key in kind.__dataclass_fields__}
    if train != ("",) and known.get("split") == "train":
        known["values"] = {key: value for key, value in known["values"].items() if key.startswith(train)}
    for numbers in {"values", "evidence"} & known.keys():
        known[numbers] = _decode_values(known[numbers])
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(f"not a {kind.kind} event: {error}") from None


class EventWriter:
    """Appends whole lines; `sync` makes what was appended durable.

    Opening waits for the kernel lock of an earlier writer that is still dying, then cuts off the
    torn last line it may have left: a stream never has two writers. Raises OSError when the lock
    is not given up within half a minute. Without a `clock` of the caller's, times in a stream never go back.
    """

    def __init__(self, path: Path, *, attempt: int = 1, clock: Callable[[], float] | None = None):
        make_folder(path.parent)
        self.attempt = attempt
        with naming(path):
            self._file = File(path, "a+", opener=lambda path, flags: os.open(path, flags, PRIVATE))
        self._lock(path)
        self._file.seek(0)
        before = self._file.readall()
        self._whole = before.rfind(b"\n") + 1
        self._file.truncate(self._whole)
        self._clock = clock or steady(not_before=_last_time(before[: self._whole]))
        failpoint("stream-opened")

    def _lock(self, path: Path) -> None:
        for _ in range(LOCK_TRIES):
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOCK_PAUSE)
        self._file.close()
        raise OSError(f"{path}: another process has held this stream for {LOCK_TRIES * LOCK_PAUSE:.0f} s")

    def append(self, kind: type[Event], **fields: Any) -> Event:
        """Add one event, whole or not at all. Raises DiskFull where there is no space for it."""
        event = kind(time=self._clock(), attempt=self.attempt, **fields)
        try:
            self._whole += self._file.write(to_line(event).encode())
        except OSError:
            self._file.truncate(self._whole)
            raise
        failpoint("event-appended")
        return event

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self.sync()
        self._file.close()


def _last_time(lines: bytes) -> float:
    """When the last of the lines was written; 0 where there is none, or it is damaged."""
    try:
        return from_line(lines[:-1].rpartition(b"\n")[2].decode()).time
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return 0.0


class CorruptStream(ValueError):
    """A whole line of a stream is not an event: the file was damaged from outside."""


class EventReader:
    """Follows a growing stream from a byte offset; each call of `new` returns the events since."""

    def __init__(self, path: Path, offset: int = 0, *, train: tuple[str, ...] = ("",)):
        self.path, self.offset, self._train = path, offset, train

    def new(self) -> list[Event]:
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        lines = data.split(b"\n")[:-1]  # what follows the last newline is not yet an event
        events = [self._next(line) for line in lines]
        return [event for event in events if event is not None]

    def _next(self, line: bytes) -> Event | None:
        try:
            event = from_line(line.decode(), train=self._train) if line.strip() else None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise CorruptStream(f"{self.path}:{self._line_number()}: damaged: {error}") from None
        self.offset += len(line) + 1
        return event

    def _line_number(self) -> int:
        with open(self.path, "rb") as file:
            return file.read(self.offset).count(b"\n") + 1


def read(path: Path, *, train: tuple[str, ...] = ("",)) -> list[Event]:
    """All whole events of a file; empty where there is none. `train` as in `from_line`."""
    return EventReader(path, train=train).new()


def first(path: Path) -> Event | None:
    """The first event of a file if it is whole; None where there is none. Raises CorruptStream."""
    try:
        with open(path, "rb") as file:
            line = file.readline()
    except FileNotFoundError:
        return None
    if not line.endswith(b"\n"):
        return None
    try:
        return from_line(line.decode())
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise CorruptStream(f"{path}:1: damaged: {error}") from None


def last(path: Path, *, tail: int = 1 << 16) -> Event | None:
    """The last whole event of a file, read from its end; None where there is none. Raises CorruptStream."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - tail))
            data = file.read()
    except FileNotFoundError:
        return None
    whole = data.rpartition(b"\n")[0]
    if size > tail and b"\n" not in whole:  # a longer line than that
        return (read(path) or [None])[-1]
    line = whole.rpartition(b"\n")[2]
    try:
        return from_line(line.decode()) if line.strip() else None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise CorruptStream(f"{path}: damaged: its last line: {error}") from None


def first_measurements(events: Iterable[Event]) -> Iterator[Measured]:
    """The measurements, each (split, step, key) once: after a resume the first line stands."""
    seen: set[tuple[str, int, str]] = set()
    for event in events:
        if not isinstance(event, Measured):
            continue
        fresh = {key: value for key, value in event.values.items() if (event.split, event.step, key) not in seen}
        seen.update((event.split, event.step, key) for key in fresh)
        if fresh:
            yield Measured(
                time=event.time, attempt=event.attempt, step=event.step, images=event.images,
                split=event.split, values=fresh, mode=event.mode,
            )  # fmt: skip


def fold(id: str, events: Iterable[Event], *, why: str = "") -> TrialResult:
    """The result that a trial's events amount to.

    Without an `ended` event the trial is `failed` with the given reason. A pure function: replaying
    the same lines, in any chunks, gives the same result.
    """
    events = list(events)
    curves: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
    for event in first_measurements(events):
        for key, value in event.values.items():
            curves.setdefault((event.split, key), []).append((event.step, event.images, value))
    ended = next((event for event in events if isinstance(event, Ended)), None)
    last = max((row[0] for rows in curves.values() for row in rows), default=0)
    return TrialResult(
        id=id,
        status=Status(ended.status) if ended else Status.failed,
        scores={key: rows[-1][2] for (split, key), rows in curves.items() if split == "validation"},
        curves={key: tuple(sorted(rows)) for key, rows in curves.items()},
        steps=ended.step if ended else last,
        images=ended.images if ended else 0,
        seconds=spent(events),
        taken_over=taken_over(events),
        why=ended.why if ended else (why or "no end was recorded"),
        warnings=tuple(dict.fromkeys(event.message for event in events if isinstance(event, Warned))),
        diagnosis=ended.diagnosis if ended else "",
        evidence=ended.evidence if ended else {},
        findings=ended.findings if ended else {},
    )


def taken_over(events: Iterable[Event]) -> float:
    """Seconds of another trial in what this one has taken over; it may have had to do so more than once."""
    return max((event.taken_over for event in events if isinstance(event, Started)), default=0.0)


def spent(events: list[Event]) -> float:
    """Wall time of all attempts, each from its first to its last event."""
    total = 0.0
    for attempt in {event.attempt for event in events}:
        times = [event.time for event in events if event.attempt == attempt]
        total += max(times) - min(times)
    return total
