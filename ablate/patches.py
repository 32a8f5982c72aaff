"""Patches: a mapping of dotted path to value says what differs from a base.

A dotted path changes one value; a mapping as value replaces the whole mapping; null takes a loss
term away (and, in a study that extends another, a factor or a level).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ablate.problems import dotted

Path = tuple[str, ...]
MAX_PARTS = 12


class PatchError(ValueError):
    """A patch that can't be applied; `key` is the patch's own key."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key, self.message = key, message


def segments(key: str) -> Path:
    """The parts of a dotted path. Raises PatchError for an empty part, and for more parts than a study is deep."""
    parts = tuple(key.split(".", MAX_PARTS))
    if len(parts) > MAX_PARTS or not all(part.strip() == part and part for part in parts):
        raise PatchError(key, "is not a path; write words joined by dots, such as optimizer.lr")
    return parts


def apply(
    base: Mapping[str, Any], patch: Mapping[str, Any], *, split: Callable[[str], Path] = segments
) -> dict[str, Any]:
    """`base` with the patch's changes, made in their order; neither argument is touched.

    Raises PatchError where a path leads through a value that is no mapping.
    """
    changed: dict[str, Any] = dict(base)
    for key, value in patch.items():
        changed = _replaced(changed, split(key), value, key=key, above=())
    return changed


def clashes(patch: Mapping[str, Any], *, split: Callable[[str], Path] = segments) -> list[PatchError]:
    """Keys that lie inside another key of the same patch: written by one person, that is a slip."""
    paths = {split(key): key for key in patch}
    found = []
    for path, key in paths.items():
        outer = next((paths[path[:n]] for n in range(1, len(path)) if path[:n] in paths), None)
        if outer:
            found.append(PatchError(key, f"lies inside {outer!r}, which is set beside it; write it in there"))
    return found


def _replaced(node: Any, path: Path, value: Any, *, key: str, above: Path) -> Any:
    if not path:
        return plain(value)
    if node is None:
        node = {}
    if above[-2:-1] == ("terms",):
        node = expanded(node)
    if not isinstance(node, Mapping):
        raise PatchError(key, f"leads through {dotted(above)}, which is a single value and has no {path[0]!r}")
    changed = dict(node)
    if value is None and len(path) == 1 and path[0] in node and _may_go(above):
        del changed[path[0]]
    else:
        changed[path[0]] = _replaced(node.get(path[0]), path[1:], value, key=key, above=(*above, path[0]))
    return changed


def _may_go(above: Path) -> bool:
    """Whether null takes entries of this mapping away: loss terms, and a study's factors and levels."""
    return above[-1:] == ("terms",) or (above[:1] == ("factors",) and len(above) <= 2)


def expanded(term: Any) -> Any:
    """A term's options, also where only its weight is written: `l1: 100` is `{weight: 100}`."""
    is_number = isinstance(term, int | float) and not isinstance(term, bool)
    return {"weight": term} if is_number else term


def combine(patches: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One patch that makes all changes; `patches` maps a name for people (`norm=batch`) to a patch.

    Raises PatchError where two of them set the same place to different values: which would win?
    """
    combined: dict[str, Any] = {}
    owner: dict[str, str] = {}
    for name, patch in patches.items():
        for key, value in patch.items():
            for other in combined:
                overlap = _inside(segments(key), segments(other)) or _inside(segments(other), segments(key))
                if overlap and not (key == other and value == combined[other]):
                    raise PatchError(key, f"{name} sets {key} and {owner[other]} sets {other}: they can't be combined")
        combined |= {key: plain(value) for key, value in patch.items()}
        owner |= dict.fromkeys(patch, name)
    return combined


def _inside(path: Path, other: Path) -> bool:
    return path[: len(other)] == other


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Leaf paths at which two documents differ, with both values; None where one has nothing there."""
    left, right = dict(leaves(a)), dict(leaves(b))
    paths = [*left, *(path for path in right if path not in left)]
    return {
        ".".join(path): (left.get(path), right.get(path))
        for path in paths
        if (path in left) != (path in right) or left[path] != right[path]
    }


def leaves(document: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Paths and values of everything that is no mapping (an empty mapping counts as a value)."""
    for key, value in document.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def plain(value: Any) -> Any:
    """A deep copy with tuples as lists: what JSON and YAML hold."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
