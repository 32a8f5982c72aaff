"""Base and patch to a complete, checked recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from ablate.patches import PatchError, apply, expanded, plain
from ablate.problems import no_such, shown
from ablate.stages import read_stages
from ablate.startfiles import digests
from ablate.validate import MAX_ERRORS, Error, defaults, stand_in, validate
from trainers import rules
from trainers.families import TERMS, Family
from trainers.inert import without_inert
from trainers.options import places
from trainers.recipe import DEFAULTS, PARTS, PLAIN, Budget, Evaluate, Recipe, Start

RANKS = "resources.ranks"  # a level may change it, like a path of the recipe
KEYS = (*PARTS, "terms", *PLAIN, "stages", "batch")


@dataclass(frozen=True)
class Resolved:
    """A recipe that can be trained. `notes` say which inert settings were dropped, `cautions` what is suspect."""

    recipe: Recipe
    document: dict[str, Any]  # the recipe as plain data, every default filled in
    ranks: int
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


class ResolveError(ValueError):
    """Why base and patch give no recipe: all (recipe path, message) at once."""

    def __init__(self, errors: list[Error]):
        self.errors = tuple(errors)
        super().__init__("\n".join(": ".join((".".join(map(str, path)), message)) for path, message in errors))


def resolve(base: Mapping[str, Any], patch: Mapping[str, Any], *, ranks: int = 1) -> Resolved:
    """The recipe that `base` (a study's complete base) becomes under `patch`, on that many ranks.

    Raises ResolveError with everything that is wrong.
    """
    draft = attempt(base, patch, ranks=ranks)
    if draft.errors or draft.recipe is None:
        raise ResolveError(draft.errors)
    return Resolved(draft.recipe, document(draft.recipe), draft.ranks, tuple(draft.notes), draft.cautions())


def document(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data: what JSON and YAML hold."""
    return plain(recipe.to_document())


def identity_document(recipe: Recipe) -> dict[str, Any]:
    """The recipe's part of a trial's identity: the files and folders that it reads are left blank; of those that
    its networks start from, the sha256 stands there.

    A worker reads it back with `Recipe.from_document`.
    """
    found = document(recipe)
    found["start"] |= digests(recipe)
    for path, _, options in rules.parts(recipe):
        node = found
        for key in path:
            node = node[key]
        for name in places(type(options)):
            node[name] = ""
    return found


class Draft:
    """A recipe in the making: sections one by one, each with its errors.

    A section that is wrong is stood in for by its defaults (`stood_in`), so that the rules can
    judge the others and a person learns of all mistakes at once.
    """

    def __init__(self, ranks: int):
        self.ranks = ranks
        self.errors: list[Error] = []
        self.notes: list[str] = []
        self.stood_in: set[str] = set()
        self.sections: dict[str, Any] = {}
        self.recipe: Recipe | None = None

    def add(self, key: str, value: Any, errors: list[Error]) -> None:
        self.sections[key] = value
        if errors:
            self.stood_in.add(key)
            self.errors += [((key, *path), message) for path, message in errors]

    def finish(self) -> None:
        """The recipe, unless a section is missing altogether; then what the rules refuse in it."""
        if any(self.sections.get(key) is None for key in KEYS):
            return
        self.recipe, notes = without_inert(Recipe(**self.sections))
        self.notes += notes
        refused = rules.refusals(self.recipe, ranks=self.ranks)
        blind = self._unjudged()
        self.errors += [(path, message) for path, message in refused if path[0] not in blind]

    def cautions(self) -> tuple[str, ...]:
        return tuple(rules.cautions(self.recipe, ranks=self.ranks)) if self.recipe else ()

    def warnings(self) -> tuple[str, ...]:
        """Notes and cautions."""
        return (*self.notes, *self.cautions())

    def _unjudged(self) -> set[str]:
        """Sections of which a refusal may come from a default that stands in for something wrong."""
        unjudged = set(self.stood_in)
        if "budget" in self.stood_in:
            unjudged.add("evaluate")
        if "resources" in self.stood_in:
            unjudged.add("batch")
        if any(path[:2] in (("data",), ("data", "tile")) for path, _ in self.errors):
            unjudged |= {"generator", "discriminator", "terms"}  # they fit the tile or don't
        if unjudged & {"data", "generator", "discriminator"}:
            unjudged.add("start")  # its weights fit the networks or don't
        return unjudged


def attempt(base: Mapping[str, Any], patch: Mapping[str, Any], *, ranks: int = 1) -> Draft:
    """Like `resolve`, but a draft that holds its errors."""
    draft = Draft(ranks)
    recipe_patch = {key: value for key, value in patch.items() if key != RANKS}
    if RANKS in patch:
        draft.ranks = _count(draft, ("resources", "ranks"), patch[RANKS], otherwise=ranks)
    try:
        raw = apply(base, recipe_patch)
    except PatchError as error:
        draft.errors.append((tuple(error.key.split(".")), error.message))
        return draft
    unknown = [key for key in raw if key not in KEYS][:MAX_ERRORS]
    draft.errors += [((key,), no_such("recipe key", key, KEYS)) for key in unknown]
    for key, family in PARTS.items():
        _add_part(draft, key, family, raw.get(key))
    draft.add("terms", *_read_terms(raw.get("terms")))
    for key, cls in PLAIN.items():
        _add_plain(draft, key, cls, raw.get(key))
    _add_stages(draft, raw)
    draft.sections["batch"] = _count(draft, ("batch",), raw.get("batch"), otherwise=1)
    draft.finish()
    return draft


def _add_part(draft: Draft, key: str, family: Family, value: Any) -> None:
    default = DEFAULTS[key][family.key]
    name = value.get(family.key) if isinstance(value, Mapping) else None
    names = family.names()
    if isinstance(name, str) and name in names:
        options, notes = _without_inert(family, name, value)
        draft.notes += notes
        found, errors = validate(family.options(name), options)
        draft.add(key, found or _stand_in_part(key, family, name, options, errors), errors)
        return
    example = f"a mapping such as {{{family.key}: {default}}}"
    if not isinstance(value, Mapping):
        error = ((), f"expected {example}, found {shown(value)}")
    elif name is None:
        error = ((family.key,), f"is missing; a mapping replaces the whole {key}: expected one of {', '.join(names)}")
    else:
        error = ((family.key,), no_such(family.noun, name, names))
    draft.add(key, stand_in(family.options(default), value, []), [error])


def _stand_in_part(key: str, family: Family, name: str, value: Mapping[str, Any], errors: list[Error]) -> Any | None:
    """The part with its defaults where it is wrong; the default part where it has no default (a folder)."""
    usual = family.options(DEFAULTS[key][family.key])
    return stand_in(family.options(name), value, errors) or stand_in(usual, value, errors)


def _without_inert(family: Family, name: str, value: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A part's own options, and a note for each that only another member of the family has.

    An inert option at its default says nothing, so nothing is said.
    """
    own = {field.name for field in fields(family.options(name))}
    foreign = _defaults_by_option(family)
    inert = [key for key in value if key not in own and key in foreign]
    notes = [f"{key} is inert with {family.noun} {name}: dropped" for key in inert if value[key] not in foreign[key]]
    return {key: item for key, item in value.items() if key not in inert and key != family.key}, notes


@cache
def _defaults_by_option(family: Family) -> dict[str, list[Any]]:
    """Every option name of a family with the defaults that its members give it."""
    found: dict[str, list[Any]] = {name: [] for name in family.known_options()}
    for member in family.names():
        for option, value in defaults(family.options(member)).items():
            found[option].append(value)
    return found


def _read_terms(value: Any) -> tuple[dict[str, Any], list[Error]]:
    """Loss terms by name, with what is wrong; a wrong option is left at its default."""
    if not isinstance(value, Mapping):
        return {}, [((), f"expected a mapping such as {{l1: 100}}, found {shown(value)}")]
    names = TERMS.names()
    unknown = [name for name in value if name not in names][:MAX_ERRORS]
    errors: list[Error] = [((name,), no_such(TERMS.noun, name, names)) for name in unknown]
    terms: dict[str, Any] = {}
    for name in names:  # the order in a file must not reach the sum of the losses
        if value.get(name) is not None:
            term, wrong = _term(name, expanded(value[name]))
            terms |= {name: term} if term else {}
            errors += [((name, *path), message) for path, message in wrong]
    return terms, errors


def _add_stages(draft: Draft, raw: Mapping[str, Any]) -> None:
    objective = draft.sections["objective"]
    start = {"terms": raw.get("terms"), "optimizer": raw.get("optimizer"),
             "objective": {"adv_weight": getattr(objective, "adv_weight", 1.0)}}  # fmt: skip
    stages, errors = read_stages(raw.get("stages"), start=start, read_terms=_read_terms)
    draft.add("stages", stages, errors)


def _term(name: str, value: Any) -> tuple[Any | None, list[Error]]:
    if not isinstance(value, Mapping):
        return None, [((), f"expected a weight (a number of at least 0) or a mapping, found {shown(value)}")]
    found, errors = validate(TERMS.options(name), value)
    return found or stand_in(TERMS.options(name), value, errors), errors


_EXAMPLES = {"budget": "{generator_updates: 10000}", "evaluate": "{every: 1000}"}
_STAND_INS = {"budget": Budget(generator_updates=1), "evaluate": Evaluate(every=1)}  # what has no default


def _add_plain(draft: Draft, key: str, cls: type, value: Any) -> None:
    if value is None and key in _EXAMPLES:
        draft.add(key, _STAND_INS[key], [((), f"is missing; expected a mapping such as {_EXAMPLES[key]}")])
        return
    if cls is Start and isinstance(value, str):
        value = {"generator": value}
    found, errors = validate(cls, value)
    draft.add(key, found or stand_in(cls, value, errors) or _STAND_INS[key], errors)


def _count(draft: Draft, path: tuple[str, ...], value: Any, *, otherwise: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    draft.errors.append((path, f"expected a whole number of at least 1, found {shown(value)}"))
    draft.stood_in.add(path[0])
    return otherwise


def place_paths() -> set[tuple[str, ...]]:
    """Recipe paths of all options that name a file or folder."""
    parts = {(key, place) for key, family in PARTS.items() for name in family.names()
             for place in places(family.options(name))}  # fmt: skip
    plain_sections = {(key, place) for key, cls in PLAIN.items() for place in places(cls)}
    terms = {("terms", name, place) for name in TERMS.names() for place in places(TERMS.options(name))}
    return parts | plain_sections | terms
