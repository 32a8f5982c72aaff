"""Values checked against a dataclass of options, with messages in the words of a study file.

Pydantic decides; what it says is put as "expected ..., found ...", located by key path.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ablate.patches import plain
from ablate.problems import did_you_mean, no_such, shown
from trainers.options import Bounds

Error = tuple[tuple[str | int, ...], str]  # key path and message
MAX_ERRORS = 50  # of one mapping
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}


def validate(cls: type, document: Any) -> tuple[Any | None, list[Error]]:
    """The options that `document` states, and what is wrong with it (then no options).

    Strict: text is never read as a number, 1.0 is no whole number, true is no number.
    """
    if not isinstance(document, Mapping):
        return None, [((), f"expected {describe(cls)}, found {shown(document)}")]
    from pydantic import ValidationError

    try:
        return _adapter(cls).validate_json(json.dumps(document), strict=True), []
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    errors: dict[tuple[str | int, ...], str] = {}
    for item in found[:MAX_ERRORS]:
        path, message = _in_words(cls, document, item)
        errors.setdefault(path, message)
    # Of a union every alternative complains: what is said inside of a mapping is nearer than that it is none.
    whole = {path[:end] for path in errors for end in range(len(path))}
    return None, [(path, message) for path, message in errors.items() if path not in whole]


def stand_in(cls: type, document: Any, errors: Iterable[Error]) -> Any | None:
    """The options with what is wrong left at its default, so that later checks can go on; None where one has none."""
    wrong = {path[0] for path, _ in errors if path}
    known = {field.name for field in fields(cls)} - wrong
    kept = {key: document[key] for key in known if key in document} if isinstance(document, Mapping) else {}
    return validate(cls, kept)[0] or validate(cls, {})[0]


@cache
def _adapter(cls: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _in_words(cls: type, document: Any, item: Mapping[str, Any]) -> Error:
    path, hint, value = _walk(cls, document, item["loc"])
    kind = item["type"]
    if kind == "value_error":
        return path, str(item["ctx"]["error"])
    if kind.startswith("missing") and isinstance(value, Mapping):
        key = item["loc"][-1]  # before it may stand the name of a union's alternative
        return (*path, key), f"is missing; expected {describe(hints(_dataclass(hint))[key])}"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return path, no_such("option", path[-1], hint)
    near = did_you_mean(value, choices(hint)) if isinstance(value, str) else ""
    return path, f"expected {describe(hint)}, found {shown(value)}{_hint(hint, value)}{near}"


def _walk(cls: type, document: Any, loc: Iterable[str | int]) -> tuple[tuple[str | int, ...], Any, Any]:
    """Follow an error's place as far as the document goes: path, type there, value there.

    For an option that the type lacks, the type is the list of those it has.
    """
    path: tuple[str | int, ...] = ()
    hint, value = cls, document
    for key in loc:
        owner = _dataclass(hint)
        if owner and isinstance(value, Mapping) and key in value:
            hint = hints(owner).get(key, sorted(hints(owner)))
        elif isinstance(key, int) and isinstance(value, list) and key < len(value) and _items(hint):
            items = _items(hint)
            if len(items) > 1 and items[1] is not Ellipsis and len(items) != len(value):
                break
            hint = items[0] if items[1:] == (Ellipsis,) or len(items) == 1 else items[key]
        else:
            continue
        path, value = (*path, key), value[key]
    return path, hint, value


@cache
def hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, each without its annotations; one for any other type."""
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(member for part in get_args(hint) for member in _members(part))
    return (hint,)


def _dataclass(hint: Any) -> Any | None:
    return next((member for member in _members(hint) if is_dataclass(member)), None)


def _items(hint: Any) -> tuple[Any, ...]:
    return next((get_args(member) for member in _members(hint) if get_origin(member) in (tuple, list)), ())


def choices(hint: Any) -> list[str]:
    """The words that an option may hold, where it holds words of a fixed list."""
    if isinstance(hint, list):
        return []
    return [word for member in _members(hint) if get_origin(member) is Literal for word in get_args(member)]


def describe(hint: Any) -> str:
    """A type in words: `a number above 0 and at most 1`, `one of batch, instance, none`."""
    if get_origin(hint) is Annotated:
        first, *notes = get_args(hint)
        return describe(first) + "".join(_range(note) for note in notes if isinstance(note, Bounds))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe(member) for member in get_args(hint))
    if get_origin(hint) is Literal:
        words = [str(word) for word in get_args(hint)]
        return f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    if get_origin(hint) in (tuple, list):
        items = get_args(hint)
        if len(items) == 1 or items[1] is Ellipsis:
            return f"a list, each item {describe(items[0])}"
        return f"a list of {len(items)}: {', '.join(describe(item) for item in items)}"
    if is_dataclass(hint):
        return f"a mapping of {', '.join(field.name for field in fields(hint))}"
    return _WORDS.get(hint, "a mapping")


def _range(bounds: Bounds) -> str:
    if bounds.low is not None and bounds.high is not None:
        text = f" from {bounds.low} to {bounds.high}"
    else:
        low = f"above {bounds.above}" if bounds.above is not None else f"of at least {bounds.low}"
        high = f"below {bounds.below}" if bounds.below is not None else f"at most {bounds.high}"
        ends = [end for end in (low, high) if not end.endswith("None")]
        text = f" {' and '.join(ends)}" if ends else ""
    return text + (f" that is a multiple of {bounds.multiple_of}" if bounds.multiple_of else "")


def _hint(hint: Any, value: Any) -> str:
    """What to write instead, where a value is nearly right."""
    from ablate.yamlfile import scalar

    kinds = {member for member in _members(hint) if isinstance(member, type)}
    if isinstance(value, str) and kinds & {int, float, bool}:
        if bool in kinds and value.lower() in ("yes", "no", "on", "off", "y", "n"):
            return "; write true or false"
        try:
            meant = scalar(value)
        except ValueError:
            return ""
        return f"; write {value} without quotes" if isinstance(meant, int | float) else ""
    if isinstance(value, float) and int in kinds and value.is_integer():
        return f"; write {int(value)}"
    return ""


def defaults(cls: type) -> dict[str, Any]:
    """The default of every option that has one, as plain data."""
    found = {}
    for field in fields(cls):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        if value is not MISSING:
            found[field.name] = plain(asdict(value) if is_dataclass(value) else value)
    return found
