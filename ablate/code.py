"""Which code trained: a fingerprint of the training sources, and torch's version (standard library only).

The fingerprint is of the syntax trees: comments, docstrings and layout don't enter, nor the Python that reads them.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ablate.events import Event, Measured, Started

TRAINING, LENGTH = "trainers", 12  # the package whose code makes the numbers, hex digits
UNKNOWN = "?"
_READ_ONLY = {"ctx", "kind", "type_comment"}  # of a syntax tree: what follows from the rest of it
_VERSION = re.compile(r"^__version__ = ['\"]([^'\"]+)['\"]", re.MULTILINE)


@cache
def fingerprint(folder: Path | None = None) -> str:
    """12 hex digits of the sources below `folder`, by default of the training package. About 0.3 s, once a process."""
    root = folder or _home(TRAINING)
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root).as_posix()}\0{_meaning(path.read_bytes())}\0".encode())
    return found.hexdigest()[:LENGTH]


def _meaning(source: bytes) -> str:
    """What of a source text takes part when it runs; of one that is no Python, its digest."""
    try:
        return " ".join(_words(ast.parse(source)))
    except (SyntaxError, ValueError):
        return hashlib.sha256(source).hexdigest()


def _words(node: object) -> Iterator[str]:
    """A syntax tree in words. `ast.dump` would do, but says one tree differently from Python to Python."""
    if isinstance(node, ast.AST):
        yield type(node).__name__
        for name in node._fields:
            value = getattr(node, name, None)
            if name == "body" and isinstance(value, list):
                value = [each for each in value if not _is_remark(each)]
            if value not in (None, []) and name not in _READ_ONLY:
                yield name
                yield from _words(value)
        yield ";"
    elif isinstance(node, list):
        for each in node:
            yield from _words(each)
    else:
        yield repr(node)


def _is_remark(node: ast.AST) -> bool:
    """A docstring, or another statement that does nothing."""
    if isinstance(node, ast.Pass):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def torch_version() -> str:
    """Of the torch that a worker would load, as it says itself (with `+cpu`, `+cu130`); torch is not loaded."""
    try:
        found = _VERSION.search((_home("torch") / "version.py").read_text())
    except OSError:
        return UNKNOWN
    return found[1] if found else UNKNOWN


def _home(package: str) -> Path:
    """Where a package lies. Raises OSError where it is not installed."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def state(versions: Mapping[str, str]) -> str:
    """Code and torch of a run, as reports name them; `?` for what the run did not write down."""
    return f"{versions.get('code') or UNKNOWN}, torch {versions.get('torch') or UNKNOWN}"


def installed() -> str:
    """The state that a trial would be trained by now."""
    return state({"code": fingerprint(), "torch": torch_version()})


def states(events: Iterable[Event]) -> tuple[str, ...]:
    """The states that a trial's numbers come from, each once; an attempt that measured nothing left none behind."""
    events = list(events)
    measured = {event.attempt for event in events if isinstance(event, Measured)}
    began = (event for event in events if isinstance(event, Started) and event.attempt in measured)
    return tuple(dict.fromkeys(state(event.versions) for event in began))
