"""YAML as people mean it: located, bounded, and without the surprises of YAML 1.1.

Numbers are numbers (`1e-4`, `.5`, `1_000`), only `true` and `false` are booleans, dates are text.
What two readers would read differently (`010`, `0x1F`, `12:30:45`, the second of two equal keys)
is refused. PyYAML's safe parser gives the events; nothing in a file can name a Python object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from ablate.problems import Problem, StudyError, dotted, quoted

MAX_BYTES, MAX_NODES, MAX_DEPTH = 1_000_000, 20_000, 40
Path = tuple[str | int, ...]
Mark = tuple[int, int]  # line and column, from 1

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*|[1-9][0-9]{0,2}(_[0-9]{3})+)")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_AMBIGUOUS = re.compile(
    r"[-+]?(0[0-9_]*[0-9]|0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?)"
)


@dataclass(frozen=True)
class Document:
    """What a file holds. `marks` gives the line and column of every key and list item.

    `problems` are mistakes in single values (twice the same key, `010`): the rest was read.
    """

    data: Any
    marks: dict[Path, Mark]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Node:
    mark: Mark
    text: str = ""
    plain: bool = False
    keys: tuple[tuple[str, Mark], ...] | None = None
    items: tuple[_Node, ...] | None = None
    size: int = 1  # nodes, aliases expanded


@dataclass
class _Refusal(Exception):
    mark: Mark
    message: str


def read_yaml(text: str | bytes, *, name: str) -> Document:
    """The document in `text`; an empty one gives None.

    Raises StudyError where nothing can be read: not UTF-8, not YAML, over 1 MB, nested deeper than
    40, or over 20,000 values once aliases are expanded.
    """
    try:
        root = _tree(_decoded(text))
    except _Refusal as refusal:
        raise StudyError([Problem(name, *refusal.mark, "", refusal.message)]) from None
    building = _Building(name)
    data = building.build(root, ()) if root else None
    return Document(data, building.marks, tuple(building.problems.values()))


def write_yaml(data: Any) -> str:
    """YAML text that `read_yaml` reads back as equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)


def scalar(text: str) -> Any:
    """The value of an unquoted word. Raises ValueError, with a sentence, where two readings compete."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        if len(text) > 24 or abs(int(text)) >= 2**63:
            raise ValueError(f"{quoted(text)} is too large for a whole number")
        return int(text)
    if _AMBIGUOUS.fullmatch(text):
        raise ValueError(f"{quoted(text)} can be read in two ways; write it as a decimal number, or quote it for text")
    if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and abs(float(text)) == float("inf")):
        raise ValueError(f"{quoted(text)} is not a finite number")
    return float(text) if _FLOAT.fullmatch(text) else text


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_BYTES:
        raise _Refusal((1, 1), f"larger than {MAX_BYTES // 10**6} MB; a study is a page or two")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            mark = _mark_at(text[: error.start].decode("utf-8"))
            raise _Refusal(mark, f"byte 0x{text[error.start]:02x} is not UTF-8; save the file as UTF-8") from None
    text = text.removeprefix("\ufeff")
    if found := _UNPRINTABLE.search(text):
        mark = _mark_at(text[: found.start()])
        raise _Refusal(mark, f"the character U+{ord(found[0]):04X} can't stand in YAML")
    return text


def _mark_at(before: str) -> Mark:
    lines = re.split("\r\n|\r|\n", before)
    return len(lines), len(lines[-1]) + 1


def _tree(text: str) -> _Node | None:
    """The nodes of the only document, bounded in depth and number while they are parsed."""
    events = yaml.parse(text, Loader=_LOADER)
    try:
        return _Parsing(events).root()
    except yaml.MarkedYAMLError as error:
        raise _Refusal(*_syntax(error, text)) from None
    except yaml.YAMLError as error:
        raise _Refusal((1, 1), f"not YAML: {error}") from None


def _syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[Mark, str]:
    place = error.problem_mark or error.context_mark
    mark = (place.line + 1, place.column + 1) if place else (1, 1)
    lines = re.split("\r\n|\r|\n", text)
    line = lines[mark[0] - 1] if mark[0] <= len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or line[mark[1] - 1 : mark[1]] == "\t":
        return mark, "a tab can't indent YAML; use spaces"
    began = f" ({error.context}, which began in line {error.context_mark.line + 1})" if error.context_mark else ""
    return mark, f"not YAML: {error.problem}{began}"


def _mark(event: yaml.Event) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column + 1


class _Parsing:
    """Turns PyYAML's events into nodes; an alias gives the anchor's own node again."""

    def __init__(self, events: Iterator[yaml.Event]):
        self.events, self.count = events, 0
        self.anchors: dict[str, _Node | None] = {}

    def root(self) -> _Node | None:
        root = None
        for event in self.events:
            if isinstance(event, yaml.NodeEvent):
                if root:
                    raise _Refusal(_mark(event), "a second document begins here; a study is one")
                root = self.node(event, depth=1)
        return root

    def node(self, event: yaml.Event, *, depth: int) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self.count += 1
        self._limit(self.count, event)
        if depth > MAX_DEPTH:
            raise _Refusal(_mark(event), f"nested deeper than {MAX_DEPTH}")
        if event.tag is not None:
            raise _Refusal(_mark(event), f"the tag {quoted(event.tag)} is not read; write plain values")
        if event.anchor:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(_mark(event), event.value, event.implicit[0])
        elif isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(event, depth)
        else:
            node = self._sequence(event, depth)
        self._limit(node.size, event)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _mapping(self, event: yaml.Event, depth: int) -> _Node:
        keys, items = [], []
        while not isinstance(key := next(self.events), yaml.MappingEndEvent):
            name = self.node(key, depth=depth + 1)
            if name.items is not None:
                raise _Refusal(_mark(key), "a key must be a word, not a mapping or a list")
            keys.append((name.text, _mark(key)))
            items.append(self.node(next(self.events), depth=depth + 1))
        return _Node(_mark(event), keys=tuple(keys), items=tuple(items), size=1 + sum(item.size for item in items))

    def _sequence(self, event: yaml.Event, depth: int) -> _Node:
        items = []
        while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(item, depth=depth + 1))
        return _Node(_mark(event), items=tuple(items), size=1 + sum(item.size for item in items))

    def _alias(self, event: yaml.AliasEvent) -> _Node:
        if event.anchor not in self.anchors:
            raise _Refusal(_mark(event), f"no anchor {quoted(event.anchor)} stands above")
        node = self.anchors[event.anchor]
        if node is None:
            raise _Refusal(_mark(event), f"the anchor {quoted(event.anchor)} contains itself")
        return node

    def _limit(self, size: int, event: yaml.Event) -> None:
        if size > MAX_NODES:
            raise _Refusal(_mark(event), f"more than {MAX_NODES:,} values, aliases expanded")


@dataclass
class _Building:
    """Plain data from nodes, with the place of every key and every mistake in a value."""

    name: str
    marks: dict[Path, Mark] = field(default_factory=dict)
    problems: dict[Mark, Problem] = field(default_factory=dict)

    def build(self, node: _Node, path: Path) -> Any:
        if not path:
            self.marks[path] = node.mark
        if node.keys is not None:
            return self._mapping(node, path)
        if node.items is not None:
            self.marks.update({(*path, at): item.mark for at, item in enumerate(node.items)})
            return [self.build(item, (*path, at)) for at, item in enumerate(node.items)]
        return self._scalar(node, path)

    def _mapping(self, node: _Node, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for (key, mark), item in zip(node.keys or (), node.items or (), strict=True):
            where = (*path, key)
            if key in data:
                self._refuse(mark, where, f"stands twice; first in line {self.marks[where][0]}")
            elif key == "<<":
                self._refuse(mark, where, "merge keys are not read; write the values out, or use extends")
            elif not key or _UNPRINTABLE.search(key):
                self._refuse(mark, where, "a key must be a word")
            else:
                self.marks[where] = mark
                data[key] = self.build(item, where)
        return data

    def _scalar(self, node: _Node, path: Path) -> Any:
        if found := _UNPRINTABLE.search(node.text):
            self._refuse(node.mark, path, f"the character U+{ord(found[0]):04X} can't stand in a value")
        if not node.plain:
            return node.text
        try:
            return scalar(node.text)
        except ValueError as error:
            self._refuse(node.mark, path, str(error))
            return node.text

    def _refuse(self, mark: Mark, path: Path, message: str) -> None:
        self.problems.setdefault(mark, Problem(self.name, *mark, dotted(path), message))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.Node:
        """Quoted wherever `scalar` would not give the text back (PyYAML thinks in YAML 1.1)."""
        try:
            same = scalar(text) == text
        except ValueError:
            same = False
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if same else "'")


_Dumper.add_representer(str, _Dumper.represent_text)
