"""Plain records and paths that the driver, the workers and the reports share (standard library only)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate.disk import write_atomically

__all__ = [
    "Arm", "Cell", "Status", "SLUG", "StudyFolder", "TrialFolder", "TrialResult", "TrialSpec", "canonical", "digest",
    "write_atomically",
]  # fmt: skip

SCHEMA = 1
KEPT = ("generator", "nothing")  # what an ended trial may keep of its networks
SLUG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # a name that is also one of a folder, a table cell, a run


class Status(StrEnum):
    """The outcome of a trial. `failed` is the machinery's; all others are results."""

    done = "done"
    diverged = "diverged"
    collapsed = "collapsed"
    stopped = "stopped"
    failed = "failed"


def canonical(value: object) -> str:
    """JSON text in which equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object, length: int = 12) -> str:
    """First `length` hex digits of the sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


@dataclass(frozen=True)
class Arm:
    """A named difference from the base recipe.

    `changes` maps factor to level (empty for `base`); `patch` maps recipe paths to values.
    """

    name: str
    changes: Mapping[str, str] = field(default_factory=dict)
    patch: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialSpec:
    """One training run, fully stated: what `spec.json` holds."""

    recipe: Mapping[str, Any]
    seed: int
    ranks: int
    threads: int
    device: str  # cpu or cuda
    data: str  # fingerprint of the input data
    replica: int = 0  # 1 for an A/A twin: other init, dropout and penalty streams
    schema: int = SCHEMA
    keep: str = "generator"  # one of KEPT: what stays of its networks once it has ended

    @cached_property
    def id(self) -> str:
        """12 hex digits of what determines the numbers; names, paths, executor and what is kept do not enter."""
        return digest({key: value for key, value in self._stated.items() if key != "keep"})

    @property
    def _stated(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, **self._stated}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TrialSpec:
        return cls(**{key: value for key, value in document.items() if key != "id"})


@dataclass(frozen=True)
class Cell:
    """One arm with one seed; `trial` is the id of the run that fills it (cells may share one)."""

    arm: str
    seed: int
    trial: str


@dataclass(frozen=True)
class TrialResult:
    """What folding a trial's events gives.

    `scores` holds the final validation metrics. `curves` maps (split, key) to rows
    (step, images, value) in the order of steps. `seconds` is training wall time over all attempts, `taken_over` that
    of another trial in the first part of training, where this one has gone on from there.
    `diagnosis` is a kind of pathology, `healthy`, or `unjudged` where the run was too short, with the readings that
    show it as `evidence`; `findings` maps the kind of all that was found to a message. Streams of before these
    were written leave them empty.
    """

    id: str
    status: Status
    scores: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[tuple[str, str], tuple[tuple[int, int, float], ...]] = field(default_factory=dict)
    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    why: str = ""
    warnings: tuple[str, ...] = ()
    diagnosis: str = ""
    evidence: Mapping[str, float] = field(default_factory=dict)
    findings: Mapping[str, str] = field(default_factory=dict)
    taken_over: float = 0.0

    @property
    def seconds_alone(self) -> float:
        """What it takes by itself, whoever has made its first updates."""
        return self.seconds + self.taken_over

    def final(self, metric: str, split: str = "validation") -> float:
        """Last value on a split; NaN where there is none."""
        if split == "validation":
            return self.scores.get(metric, float("nan"))
        rows = self.curves.get((split, metric), ())
        return rows[-1][2] if rows else float("nan")

    @property
    def stages_began(self) -> dict[int, int]:
        """Stage of training, from 2 on -> generator updates before it; empty where there is one stage."""
        stages, began = (self.curves.get(("train", key), ()) for key in ("stage", "stage_began"))
        pairs = zip(stages, began, strict=True)
        return {int(stage): int(start) for (*_, stage), (*_, start) in pairs if start}

    @property
    def pathology(self) -> str:
        """What the run suffered from most, as reports count it (`D dominates`); empty where nothing was found."""
        return self.findings.get(self.diagnosis, "").partition(":")[0]


@dataclass(frozen=True)
class TrialFolder:
    """Paths inside one trial's folder."""

    root: Path

    def beside(self, place: str) -> Path:
        """A place that spec.json states from here. As the path is written: a study's folder may be a link elsewhere."""
        return Path(os.path.normpath(self.root / place))

    @property
    def spec(self) -> Path:
        return self.root / "spec.json"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def stop(self) -> Path:
        return self.root / "stop"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def branches(self) -> Path:
        """Checkpoints that other trials go on from."""
        return self.root / "branches"

    @property
    def samples(self) -> Path:
        return self.root / "samples"

    @property
    def scores(self) -> Path:
        return self.scores_of("validation")

    def scores_of(self, split: str) -> Path:
        """Final values per tile: tile, scene, a column per metric."""
        return self.root / ("scores.csv" if split == "validation" else f"scores-{split}.csv")

    def inside(self, path: str) -> Path:
        """A file that an event names. Raises ValueError where it lies elsewhere, by a link too."""
        found = (self.root / path).resolve()
        if not found.is_relative_to(self.root.resolve()):
            raise ValueError(f"{self.root}: {path!r} leads out of the trial's folder")
        return found

    def error(self, rank: int) -> Path:
        return self.root / f"error.{rank}.json"


@dataclass(frozen=True)
class StudyFolder:
    """Paths of one study under a runs folder; the only place that knows them."""

    runs: Path
    name: str

    @property
    def root(self) -> Path:
        return self.runs / self.name

    @property
    def study(self) -> Path:
        return self.root / "study.yaml"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def optuna(self) -> Path:
        return self.root / "optuna.db"

    @property
    def lock(self) -> Path:
        return self.root / "driver.lock"

    @property
    def log(self) -> Path:
        return self.root / "driver.log"

    @property
    def uid(self) -> Path:
        """Whose the study's records in a shared store are: a random name that moves along with the folder."""
        return self.root / "uid"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def data(self) -> Path:
        return self.root / "data.json"

    @property
    def provenance(self) -> Path:
        return self.root / "provenance.json"

    @property
    def accepted_code(self) -> Path:
        """Which states of the training code somebody has let train this study together."""
        return self.root / "accepted-code.json"

    @property
    def confirmation(self) -> StudyFolder:
        """Where `ablate confirm` trains this study's best arms anew."""
        return StudyFolder(self.runs, f"{self.name}-confirm")

    @property
    def race(self) -> Path:
        """What a race has stopped, look by look."""
        return self.root / "race.json"

    @property
    def search(self) -> Path:
        """What a search amounts to besides its trials: importances."""
        return self.root / "search.json"

    @property
    def slurm(self) -> Path:
        """Which jobs of Slurm's were submitted for which trials, and how they ended."""
        return self.root / "slurm"

    @property
    def ray(self) -> Path:
        """Which actors of Ray's may run which trials, on which cluster, and what their launchers said."""
        return self.root / "ray"

    @property
    def mlflow(self) -> Path:
        return self.runs / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        return self.runs / "mlflow-artifacts"

    @property
    def test_reads(self) -> Path:
        """Who has scored test scenes in this runs folder, a line per plan."""
        return self.runs / "test-reads.jsonl"

    @property
    def cache(self) -> Path:
        return self.runs / "cache"

    def trial(self, id: str) -> TrialFolder:
        return TrialFolder(self.root / "trials" / id)

    @property
    def references(self) -> TrialFolder:
        """Predictors without training (mean colour, linear map), scored like a trial."""
        return TrialFolder(self.root / "references")
