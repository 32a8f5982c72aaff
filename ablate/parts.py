"""The list of parts that a study can choose from, as markdown, read from the parts themselves.

`python -m ablate.parts > docs/parts.md` writes it again; a test keeps the page equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass

from ablate.validate import describe, hints
from trainers.families import DISCRIMINATORS, GENERATORS, LAYOUTS, METRICS, OBJECTIVES, TERMS, Family
from trainers.recipe import PLAIN, Timing

HEADINGS: tuple[tuple[str, str, Family], ...] = (
    ("Generators", "`generator: {name: ...}`", GENERATORS),
    ("Discriminators", "`discriminator: {name: ...}`", DISCRIMINATORS),
    ("Objectives", "`objective: {name: ...}`", OBJECTIVES),
    ("Loss terms", "`terms: {NAME: weight}` or `terms: {NAME: {weight: ..., ...}}`", TERMS),
    ("Data layouts", "`data: {layout: ...}`", LAYOUTS),
)


def markdown() -> str:
    """Every family with its parts, their options, what is allowed and the default."""
    lines = ["# Parts", "", "What a study can name. Made by `python -m ablate.parts`; do not edit.", ""]
    for heading, use, family in HEADINGS:
        lines += [f"## {heading}", "", use, ""]
        for name in family.names():
            lines += _part(family, name)
    lines += ["## Sections of the recipe", ""]
    for key, options in {**PLAIN, "stages (each)": Timing}.items():
        lines += _options(f"### {key}", _first_paragraph(options.__doc__), options)
    lines += ["## Metrics", "", "`metric: {name: ...}` and `also: [...]`", "", *_metrics(), ""]
    return "\n".join(lines)


def _part(family: Family, name: str) -> Iterator[str]:
    module = family.part(name)
    yield from _options(f"### {name}", _first_paragraph(module.__doc__), module.Options)


def _options(heading: str, about: str, options: type) -> Iterator[str]:
    yield from (heading, "", about, "")
    rows = list(_rows(options))
    if rows:
        yield from ("| option | allowed | default |", "|---|---|---|", *rows, "")


def _rows(options: type, above: str = "") -> Iterator[str]:
    """A row an option; those of a nested mapping by their path."""
    for field in fields(options):
        if is_dataclass(field.default_factory):
            yield from _rows(field.default_factory, f"{above}{field.name}.")
        else:
            allowed = describe(hints(options)[field.name]).replace("|", "\\|")
            yield f"| `{above}{field.name}` | {allowed} | {_default(field)} |"


def _default(field: Field) -> str:
    if field.default is not MISSING:
        return "none" if field.default in (None, "") else f"`{_as_yaml(field.default)}`"
    return "required"


def _as_yaml(value: object) -> object:
    """A default as a study would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return list(value) if isinstance(value, tuple) else value


def _metrics() -> Iterator[str]:
    yield from ("| metric | unit | better | of | what |", "|---|---|---|---|---|")
    for name in METRICS.names():
        part = METRICS.part(name)
        better = "higher" if part.GOAL == "max" else "lower"
        of = "the set" if getattr(part, "SET", False) else "each image"
        yield f"| `{name}` | {part.UNIT or '-'} | {better} | {of} | {_first_paragraph(part.__doc__)} |"


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())


if __name__ == "__main__":
    print(markdown(), end="")
