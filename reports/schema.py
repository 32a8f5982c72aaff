"""The JSON schema of report.json, from the records that it is written from.

`report.schema.json` is its copy for other programs; a test keeps the two equal.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from reports.findings import Analysis
from reports.stability import Stability
from reports.tables import COLUMNS, MORE, SCHEMA

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_WORDS = {"arm", "changes", "verdict", "same_as"}
_WHOLE = {"rank", "n_ok", "n_planned", "n_failed", "rank_low", "rank_high"}


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    text, number, anything = {"type": "string"}, {"type": ["number", "null"]}, {"type": "object"}
    metric = _object({key: text for key in ("name", "label", "unit", "split")} | {"goal": {"enum": ["max", "min"]}})
    run = _object({
        "arm": text, "seed": {"type": ["integer", "string"]}, "trial": text, "outcome": text, "score": number,
        "flags": _map({"type": "integer"}),
    })  # fmt: skip
    properties = {
        "schema": {"const": SCHEMA}, "study": text, "question": text, "metric": metric, "unavailable": _map(text),
        "plan": text, "trials": _object({"planned": {"type": "integer"}, "settled": {"type": "integer"}}),
        "analysis": of(Analysis), "table": {"type": "array", "items": _row()},
        "stability": {"anyOf": [of(Stability), {"type": "null"}]}, "confirms": {"type": ["object", "null"]},
        "test_reads": {"type": "integer", "minimum": 0}, "references": _map(_map(number)),
        "runs": {"type": "array", "items": run}, "provenance": anything,
    }  # fmt: skip
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "report.json of a study"}
    return head | _object(properties)


def _row() -> dict[str, Any]:
    """A row of the table: the agreed columns, and a number for every other metric."""
    known = {}
    for column in (*COLUMNS, *MORE):
        kind = "string" if column in _WORDS else "integer" if column in _WHOLE else "number"
        known[column] = {"type": ["boolean", "null"] if column == "best_set" else [kind, "null"]}
    return _object(known) | {"additionalProperties": {"type": ["number", "null"]}}


def of(kind: Any) -> dict[str, Any]:
    """The schema of what a record or a type becomes in JSON."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        needed = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
        return _object({one.name: of(hints[one.name]) for one in fields(kind)}, required=needed)
    inside = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return {"anyOf": [of(one) for one in inside]}
    if get_origin(kind) is Mapping:
        return _map(of(inside[1]))
    if get_origin(kind) is tuple:
        return {"type": "array", "items": of(inside[0])}
    raise TypeError(f"no JSON for {kind!r}")


def _object(properties: Mapping[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object", "properties": dict(properties), "additionalProperties": False,
        "required": list(properties) if required is None else required,
    }  # fmt: skip


def _map(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": dict(values)}
