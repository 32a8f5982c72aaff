"""What the events and the plan say, in MLflow's words: pure translations.

Names in the store: training values keep the event's name (`loss_d`, `term/l1`, `health/...`), held-out
values are prefixed by their split (`validation/psnr`) and the final scores of a trial that is `done`
stand under plain names (`psnr`), so that tables and parallel coordinates compare like with like.
Parameters: every factor's level under the factor's name, `arm`, `seed`, and the resolved recipe by its
paths (`generator.width`; top-level numbers as `recipe.batch`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ablate.events import Event, Measured
from ablate.records import Cell, TrialSpec

_MARKUP = re.compile(r"([\\`*_\[\]|#~$!])")


class Row(NamedTuple):
    """One measured value; `time` in ms since 1970."""

    split: str
    step: int
    key: str
    value: float
    time: int

    @property
    def identity(self) -> tuple[str, int, str]:
        return self.split, self.step, self.key


def rows(events: Iterable[Event]) -> Iterator[Row]:
    for event in events:
        if isinstance(event, Measured):
            for name, value in event.values.items():
                yield Row(event.split, event.step, name, value, milliseconds(event.time))


def metric_name(row: Row) -> str:
    return row.key if row.split == "train" else f"{row.split}/{row.key}"


def parameters(cell: Cell, spec: TrialSpec, levels: Mapping[str, str]) -> dict[str, str]:
    """Parameters of a cell's run; `levels` maps every factor to the arm's level."""
    recipe = {name if "." in name else f"recipe.{name}": value for name, value in flat(spec.recipe)}
    machine = {"resources.ranks": spec.ranks, "resources.threads": spec.threads, "resources.device": spec.device}
    own = {"arm": cell.arm, "seed": cell.seed, "replica": spec.replica}
    return {name: _text(value) for name, value in {**recipe, **machine, **levels, **own}.items()}


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping as (dotted path, value)."""
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def clipped(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def shown_as_text(text: str) -> str:
    """Text that MLflow's pages, which read markdown, show as it was written."""
    return _MARKUP.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
