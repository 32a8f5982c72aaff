"""What a data check has found, before it is put into words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainers.checks.alignment import Alignment
from trainers.checks.examination import Examination, Look, Sample
from trainers.checks.leaks import Finding
from trainers.domains import Scaling
from trainers.layouts._common import Data, Source


@dataclass(frozen=True)
class Checked:
    """All that was found. `splits` maps a pair's name to its split; empty where the scenes are too few to split."""

    data: Data
    source: Source
    scalings: tuple[Scaling, Scaling]
    examination: Examination
    splits: Mapping[str, str]
    unsplit: str  # why there is no split
    leaks: tuple[Finding, ...]
    alignment: Alignment | None
    references: Mapping[str, float] | None
    samples: tuple[Sample, ...]
    assumed: tuple[str, ...] = ()

    @property
    def looks(self) -> list[Look]:
        return self.examination.looks


def clipped_shares(looks: Sequence[Look]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each band of SAR and optical, the mean over pairs of the share outside the range."""
    return tuple(
        tuple(mean(band) for band in zip(*(look.clipped[side] for look in looks), strict=True)) for side in (0, 1)
    )


def mean(values: Iterable[float]) -> float:
    """0 of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else 0.0
