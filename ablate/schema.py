"""JSON Schema of a study file, for editors: built from the same dataclasses that `load` checks with.

An editor completes every recipe path and shows its range. The schema accepts what `ablate check`
accepts; it can't see what depends on other values (refused combinations, levels that change nothing).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablate.design import DESIGNS
from ablate.fraction import RESOLUTIONS
from ablate.race import FIRST_LOOK
from ablate.records import KEPT, SLUG
from ablate.resolve import RANKS
from ablate.searchfile import MAX_VALUES, Listed, Range, SearchOptions
from ablate.study import MAX_SEED, MAX_SEEDS, SECTIONS, TRAINERS, Resources
from trainers.families import METRICS, TERMS, Family
from trainers.recipe import DEFAULTS, PARTS, PLAIN, Optimizer, Start, Timing

Schema = dict[str, Any]
NEEDED = ("name", "metric")


def schema() -> Schema:
    """The schema as a plain mapping (draft 2020-12)."""
    recipe = _recipe()
    dotted = _dotted(recipe)
    level = {"type": "object", "minProperties": 1, "additionalProperties": False,
             "properties": {**recipe, **dotted, RANKS: _options(Resources)["properties"]["ranks"]}}  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study: one question, one base recipe, factors that change it",
        "type": "object",
        "properties": {
            **{key: value if key in NEEDED else _or_nothing(value) for key, value in _top_level().items()},
            "base": _object({**recipe, **dotted}, "The recipe that every arm changes; unnamed options keep defaults."),
            "factors": _named(
                _named({"$ref": "#/$defs/level"}, "A level: what it changes in the base."),
                "Factor -> level -> dotted recipe paths; the base is every factor's first level.",
            ),
        },
        "patternProperties": {r"^(base|full|factors|when|metric|failure|resources|tracking|design)\.": {}},
        "additionalProperties": False,
        "anyOf": [{"required": ["extends"]}, {"required": ["name"]}],
        "$defs": {"level": {"anyOf": [level, {"type": "null"}]}},
    }


def _or_nothing(value: Schema) -> Schema:
    """A key left empty says nothing."""
    about = {"description": value["description"]} if "description" in value else {}
    return {"anyOf": [{k: v for k, v in value.items() if k != "description"}, {"type": "null"}], **about}


def _top_level() -> Schema:
    whole = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
    word = {"type": ["string", "number", "boolean"]}
    levels = {"type": "object", "minProperties": 1,
              "additionalProperties": {"anyOf": [word, {"type": "array", "items": word, "minItems": 1}]}}  # fmt: skip
    metrics = {"type": "string", "enum": METRICS.names()}
    sections = {key: _options(cls) for key, cls in SECTIONS.items()}
    sections["metric"]["properties"]["name"] = metrics
    return {
        "name": {"type": "string", "pattern": f"^{SLUG.pattern}$", "description": "Names the study's folder."},
        "question": {"type": "string", "description": "What the study is to answer, in one sentence."},
        "trainer": {"type": "string", "enum": list(TRAINERS)},
        "extends": {"type": "string", "description": "A study file that this one changes, relative to this file."},
        "full": {
            "type": "object", "additionalProperties": word,
            "description": "Factor -> its level in the full recipe; `base` leaves it out.",
        },
        "when": {
            "type": "object", "additionalProperties": levels,
            "description": "Factor -> other factor -> the levels of that one which it only exists beside.",
        },
        "never": {"type": "array", "items": levels, "description": "Combinations that are not to be run."},
        "design": _design(word),
        "seeds": {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_SEEDS},
                {"type": "array", "items": whole, "minItems": 1, "maxItems": MAX_SEEDS, "uniqueItems": True},
            ],
            "description": "How many (3 means 1, 2, 3), or which.",
        },
        "aa": {"type": "boolean", "description": "Train the base once more, which must not differ: an A/A arm."},
        "race": _race(),
        "keep": {"type": "string", "enum": list(KEPT), "description": "What an ended trial keeps of its networks."},
        "also": {"type": "array", "items": metrics, "uniqueItems": True, "description": "Exploratory metrics."},
        **sections,
    }  # fmt: skip


def _design(word: Schema) -> Schema:
    only = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
    arms = _named({"type": "object", "minProperties": 1, "additionalProperties": word}, "Arm -> factor -> level.")
    fractional = _object({"resolution": {"enum": list(RESOLUTIONS)}, "factors": only}, "A fraction of the factorial.")
    options = {**{name: only for name in DESIGNS}, "fractional": {"anyOf": [only, fractional]}, "list": arms,
               "search": _search()}  # fmt: skip
    plain = [name for name in DESIGNS if name not in ("list", "search")]
    one = {"type": "object", "properties": options, "additionalProperties": False, "maxProperties": 1}
    return {
        "anyOf": [{"type": "string", "enum": plain}, {**one, "minProperties": 1}],
        "description": "Which arms are run.",
    }


def _search() -> Schema:
    """What a search draws its arms from; which names its space may hold depends on the factors."""
    found = _options(SearchOptions)
    values = {"type": "array", "minItems": 2, "maxItems": MAX_VALUES, "description": "One of these values."}
    listed = _options(Listed)
    listed["properties"]["values"] = values
    space = {
        "type": "object", "minProperties": 1, "additionalProperties": {"anyOf": [values, _options(Range), listed]},
        "description": "Recipe path -> {low, high} or a list of values; factor -> a list of its levels.",
    }  # fmt: skip
    return {**found, "properties": {**found["properties"], "space": space}}


def _race() -> Schema:
    seeds = {"type": "integer", "minimum": FIRST_LOOK}
    options = {"from": seeds, "looks": {"type": "array", "items": seeds, "minItems": 1, "uniqueItems": True}}
    about = "Stop whole arms at whole seeds once they have left the best set."
    return {"anyOf": [{"type": "boolean"}, {"type": "object", "properties": options, "additionalProperties": False}],
            "description": about}  # fmt: skip


def _recipe() -> dict[str, Schema]:
    """Schema of every key of a recipe."""
    return {
        **{key: _family(key, family) for key, family in PARTS.items()},
        "terms": _object({name: _term(name) for name in TERMS.names()}, "Loss terms of the generator with weights."),
        **{key: _options(cls) for key, cls in PLAIN.items()},
        "start": {"anyOf": [{"type": "string"}, _options(Start)], "description": "Networks to start from: a file."},
        "stages": {"type": "array", "items": _stage(), "description": "Training in stages, one after another."},
        "batch": {"type": "integer", "minimum": 1, "description": "Pairs a step, over all ranks."},
    }


def _stage() -> Schema:
    """When a stage ends, and what it changes of the one before: whole sections or dotted paths in them."""
    terms = _object({name: _term(name) for name in TERMS.names()}, "Loss terms of the generator with weights.")
    changes = {"terms": terms, "optimizer": _options(Optimizer)}
    weight = {"type": "number", "minimum": 0, "description": "Of the adversarial part in the generator's loss."}
    return {
        **_options(Timing), "additionalProperties": False,
        "properties": {**_options(Timing)["properties"], **changes, **_dotted(changes), "objective.adv_weight": weight},
    }  # fmt: skip


def _family(key: str, family: Family) -> Schema:
    """One alternative a part; the options of the others are allowed beside its own, being inert."""
    inert = {name: {} for name in sorted(family.known_options())}
    usual = DEFAULTS[key][family.key]
    return {"oneOf": [_part(family, name, inert, named=name != usual) for name in family.names()]}


def _part(family: Family, name: str, inert: Mapping[str, Schema], *, named: bool) -> Schema:
    found = _options(family.options(name), about=(family.part(name).__doc__ or name).split("\n")[0])
    required = ([family.key] if named else []) + found.get("required", [])
    properties = {family.key: {"const": name}, **inert, **found["properties"]}
    return {**found, "properties": properties, "required": required}


def _term(name: str) -> Schema:
    found = _options(TERMS.options(name), about=(TERMS.part(name).__doc__ or name).split("\n")[0])
    weight = found["properties"]["weight"]
    return {"anyOf": [weight, found, {"type": "null"}], "description": found["description"]}


def _options(cls: type, *, about: str = "") -> Schema:
    """Schema of an options dataclass, without references; `about` replaces the class's own docstring."""
    from pydantic import TypeAdapter

    found = TypeAdapter(cls).json_schema()
    found = _inlined(found, found.get("$defs", {}))
    return {**found, "description": about} if about else found


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with references written out and pydantic's titles (class names) left away."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        return _inlined({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    kept = {key: value for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(kept["description"].split())
    return {key: _inlined(value, definitions) for key, value in kept.items() if key != "$defs"}


def _dotted(recipe: Mapping[str, Schema]) -> dict[str, Schema]:
    """Schema of every place inside a recipe, by dotted path; several parts may know one option."""
    found: dict[str, list[Schema]] = {}
    for key, value in recipe.items():
        for path, leaf in _places(key, value):
            if leaf and leaf not in found.setdefault(path, []):
                found[path].append(leaf)
    names = {f"{key}.{family.key}": [{"enum": family.names()}] for key, family in PARTS.items() if key in recipe}
    merged = {**found, **names}
    return {path: leaves[0] if len(leaves) == 1 else {"anyOf": leaves} for path, leaves in sorted(merged.items())}


def _places(path: str, node: Schema) -> list[tuple[str, Schema]]:
    inner = [(f"{path}.{name}", value) for name, value in node.get("properties", {}).items()]
    alternatives = [*node.get("oneOf", []), *node.get("anyOf", [])]
    below = [place for name, value in inner for place in _places(name, value)]
    return [*inner, *below, *(place for other in alternatives for place in _places(path, other))]


def _object(properties: Mapping[str, Schema], description: str) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
        "description": description,
    }


def _named(values: Schema, description: str) -> Schema:
    """A mapping whose keys are names that a person gives."""
    names = {"pattern": f"^{SLUG.pattern}$"}
    return {"type": "object", "propertyNames": names, "additionalProperties": values, "description": description}
