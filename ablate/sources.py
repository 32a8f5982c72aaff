"""Where a study's words come from: its file, the files that this extends, and `--set`.

The farthest ancestor is the base; each nearer file, then each `--set`, is a patch on it. Every key
keeps the place where it was written, so that a mistake is shown there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.patches import PatchError, apply, clashes, plain, segments
from ablate.problems import Problem, StudyError, did_you_mean, dotted, not_local, shown, unusable, without_password
from ablate.yamlfile import MAX_BYTES, Document, read_yaml
from trainers.recipe import DEFAULTS, PARTS

MAX_ANCESTORS = 10
MAX_KEYS = 1000  # at the top level or in the base
MAX_LABEL = 100  # characters of a setting that a message repeats
MAX_PROBLEMS = 200  # nobody reads more at once
Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Location:
    """A place in a file (line and column from 1), or a `--set` (line 0); paths there are relative to `folder`."""

    file: str
    line: int
    column: int
    folder: Path


@dataclass
class Sources:
    """The merged document, where each key was written, and the mistakes found so far."""

    start: Location
    data: dict[str, Any] = field(default_factory=lambda: {"base": plain(DEFAULTS)})
    locations: dict[Key, Location] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unread: set[tuple[str, str]] = field(default_factory=set)  # file and path of values that YAML itself refused

    def at(self, path: Key) -> Location:
        """Where that key, or the nearest one around it, was written."""
        near = (self.locations.get(path[:n]) for n in range(len(path), 0, -1))
        return next((location for location in near if location), self.start)

    def refuse(self, path: Key, message: str) -> None:
        """Note a mistake at the place of that key. Raises StudyError when there are too many to go on."""
        place = self.at(path)
        if (place.file, dotted(path)) not in self.unread:
            self._refuse_at(place, path, message)

    def overlay(self, document: Document, *, file: str, folder: Path, lines: bool = True) -> None:
        """Apply a document whose top-level keys may be dotted paths."""
        self.problems += document.problems
        self.unread |= {(problem.file, problem.path) for problem in document.problems}
        places: dict[str, dict[Key, Location]] = {key: {} for key in document.data}
        for path, (line, column) in document.marks.items():
            if path:
                at = Location(file, line, column, folder) if lines else Location(file, 0, 0, folder)
                places[str(path[0])][path[1:]] = at
        self._limit(document.data, Location(file, 1 if lines else 0, 1, folder), ())
        for clash in _clashes(document.data):
            self._refuse_at(places[clash.key][()], (clash.key,), clash.message)
        for key, value in document.data.items():
            if key == "extends" and lines:
                continue
            try:
                self._set(key, value, places[key])
            except PatchError as error:
                self._refuse_at(places[key][()], (error.key,), error.message)

    def _set(self, key: str, value: Any, places: dict[Key, Location]) -> None:
        path = split_key(key, self.data)
        if path == ("base",) and isinstance(value, Mapping):
            value, places = self._base(value, places)
        self.data = apply(self.data, {key: value}, split=lambda _: path)
        if path[:1] in self.locations:
            self.locations = {old: place for old, place in self.locations.items() if old[: len(path)] != path}
        self.locations |= {(*path, *rest): place for rest, place in places.items()}
        self.locations.setdefault(path[:1], places[()])

    def _base(self, patch: Mapping[str, Any], places: dict[Key, Location]) -> tuple[Any, dict[Key, Location]]:
        """A base as written, over the defaults; a part without a name is the default one."""
        base: dict[str, Any] = plain(DEFAULTS)
        self._limit(patch, places[()], ("base",))
        for clash in _clashes(patch):
            self._refuse_at(places[(clash.key,)], ("base", clash.key), clash.message)
        for key, value in patch.items():
            if key in PARTS and isinstance(value, Mapping) and PARTS[key].key not in value:
                value = {PARTS[key].key: DEFAULTS[key][PARTS[key].key], **value}
            try:
                base = apply(base, {key: value})
            except PatchError as error:
                self._refuse_at(places[(key,)], ("base", key), error.message)
        return base, {(*_split(path[:1]), *path[1:]): place for path, place in places.items()}

    def _limit(self, mapping: Mapping[str, Any], place: Location, path: Key) -> None:
        if len(mapping) > MAX_KEYS:
            self._refuse_at(place, path, f"holds {len(mapping):,} keys; {MAX_KEYS:,} are the limit")
            raise self.error()

    def _refuse_at(self, place: Location, path: Key, message: str) -> None:
        self.problems.append(Problem(place.file, place.line, place.column, dotted(path), message))
        if len(self.problems) >= MAX_PROBLEMS:
            raise self.error()

    def error(self) -> StudyError:
        return StudyError(self.problems[:MAX_PROBLEMS])


def _clashes(patch: Mapping[str, Any]) -> list[PatchError]:
    """Overlapping keys; a key that is no path at all is left to the code that applies it."""
    try:
        return clashes(patch)
    except PatchError:
        return []


def _split(path: Key) -> Key:
    return tuple(part for key in path for part in str(key).split("."))


def split_key(key: str, data: Mapping[str, Any]) -> tuple[str, ...]:
    """The places that a dotted key of a study goes through.

    Below a level everything is one key, since a level holds dotted paths of the recipe itself; names
    of factors and levels may hold dots (`factors.lr_ratio.0.5`), known ones first.
    """
    parts = segments(key)
    if parts[:3] == ("design", "search", "space") and len(parts) > 3:
        return _in_space(parts, data)
    if parts[0] != "factors" or len(parts) < 3:
        return parts
    factors = data.get("factors")
    factor, rest = _longest(parts[1:], factors)
    level, rest = _longest(rest, factors.get(factor) if isinstance(factors, Mapping) else None)
    return tuple(part for part in ("factors", factor, level, ".".join(rest)) if part)


def _in_space(parts: tuple[str, ...], data: Mapping[str, Any]) -> tuple[str, ...]:
    """A parameter of a search is one key, though its name is a dotted path; what is not known yet is a new one."""
    space: Any = data
    for part in parts[:3]:
        space = space.get(part) if isinstance(space, Mapping) else None
    name, rest = _longest(parts[3:], space)
    known = isinstance(space, Mapping) and name in space
    return (*parts[:3], name, *rest) if known else (*parts[:3], ".".join(parts[3:]))


def _longest(parts: tuple[str, ...], known: Any) -> tuple[str, tuple[str, ...]]:
    names = known if isinstance(known, Mapping) else ()
    sizes = [n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in names]
    size = sizes[0] if sizes else min(1, len(parts))
    return ".".join(parts[:size]), parts[size:]


def gather(path: Path | str, *, sets: Iterable[str], cwd: Path) -> Sources:
    """The study in `path` with its ancestors and `PATH=YAML` settings, merged.

    Raises StudyError where a file can't be read at all.
    """
    chain = _chain(Path(path), cwd)
    file, _, folder = chain[0]
    sources = Sources(Location(file, 1, 1, folder))
    for file, document, folder in reversed(chain):
        sources.overlay(document, file=file, folder=folder)
    for text in sets:
        _overlay_setting(sources, text, cwd)
    return sources


def label(setting: str) -> str:
    """How a message names a `PATH=YAML` setting."""
    return f"--set {without_password(setting)[:MAX_LABEL]}"


def _overlay_setting(sources: Sources, text: str, cwd: Path) -> None:
    place = label(text)
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        sources.problems.append(Problem(place, 0, 0, "", "expected PATH=YAML, such as base.batch=8"))
        return
    if key.split(".")[0] == "extends":
        sources.problems.append(Problem(place, 0, 0, key, "stands in a file only; it names the file to start from"))
        return
    try:
        read = read_yaml(value, name=place)
    except StudyError as error:
        sources.problems += [Problem(place, 0, 0, key, problem.message) for problem in error.problems]
        return
    problems = tuple(Problem(place, 0, 0, ".".join(filter(None, (key, p.path))), p.message) for p in read.problems)
    marks = {(key, *path): mark for path, mark in read.marks.items()} | {(key,): (0, 0)}
    sources.overlay(Document({key: read.data}, marks, problems), file=place, folder=cwd, lines=False)


def _chain(path: Path, cwd: Path) -> list[tuple[str, Document, Path]]:
    """(label, document, folder) of the file and all that it extends, nearest first."""
    chain: list[tuple[str, Document, Path]] = []
    seen: list[Path] = []
    asked_by: tuple[str, Document] | None = None
    while True:
        document = _read(path, cwd, asked_by)
        seen.append((cwd / path).resolve())
        chain.append((str(path), document, (cwd / path).resolve().parent))
        parent = document.data.get("extends")
        if parent is None:
            return chain
        asked_by = (str(path), document)
        if not isinstance(parent, str):
            raise _at_extends(asked_by, f"expected the path of a study file, found {shown(parent)}")
        if wrong := not_local(parent):
            raise _at_extends(asked_by, f"{wrong}; expected the path of a study file")
        path = Path(os.path.normpath(path.parent / Path(parent).expanduser()))
        if (cwd / path).resolve() in seen:
            raise _at_extends(asked_by, f"{parent} extends this file in turn; a circle has no beginning")
        if len(chain) == MAX_ANCESTORS:
            raise _at_extends(asked_by, f"the {MAX_ANCESTORS}th file in a row that extends another; that is the limit")


def _at_extends(asked_by: tuple[str, Document], message: str) -> StudyError:
    file, document = asked_by
    return StudyError([*document.problems, Problem(file, *document.marks[("extends",)], "extends", message)])


def _read(path: Path, cwd: Path, asked_by: tuple[str, Document] | None) -> Document:
    file = cwd / path
    if message := _unreadable(file):
        raise (
            _at_extends(asked_by, f"{path}: {message}")
            if asked_by
            else StudyError([Problem(str(path), 0, 0, "", message)])
        )
    with open(file, "rb") as stream:
        document = read_yaml(stream.read(MAX_BYTES + 1), name=str(path))
    if not isinstance(document.data, Mapping):
        found = "the file is empty" if document.data is None else f"found {shown(document.data)}"
        raise StudyError(
            [*document.problems, Problem(str(path), 1, 1, "", f"expected keys such as name, base, factors; {found}")]
        )
    return document


def _unreadable(file: Path) -> str:
    found = unusable(file)
    if found == "no such file":
        beside: Sequence[str] = sorted(str(other.name) for other in file.parent.glob("*.yaml"))[:100]
        return f"{found}{did_you_mean(file.name, beside)}"
    return f"{found}; expected a study file (YAML)" if found == "is a folder" else found
