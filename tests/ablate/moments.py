"""What a running study is at, as its folder shows it: the moment that a kill hits."""

from __future__ import annotations

import json
from pathlib import Path

from ablate import artifacts, events
from ablate.records import StudyFolder, TrialFolder
from trainers.recipe import Recipe

# In the order in which a study comes to them.
MOMENTS = {
    "start": "the driver reads, checks, prepares; launchers load torch",
    "store": "MLflow's or Optuna's database is being made",
    "references": "the predictors without training are scored",
    "training": "a trial has begun, or gone on from its checkpoint",
    "evaluation": "an update is done that is evaluated",
    "checkpoint": "scores are measured; sample, checkpoint and manifest are written",
    "final": "the last scores are measured; tables and the generator are written",
    "between": "a trial has ended: its outcome is told, the next one starts",
    "end": "the last trial has ended; runs are closed",
    "report": "the report is written and sent",
}


class Moments:
    """Looks at a study's folder, again and again; what was written before `since` (seconds since 1970) is old."""

    def __init__(self, folder: StudyFolder):
        self.folder, self.since = folder, 0.0
        self._planned, self._ended = 0, set()
        self._evaluated: dict[str, tuple[int, ...]] = {}

    def now(self) -> str:
        """One of MOMENTS; `start` also where nothing has been written since."""
        if any(map(self._new, (self.folder.runs / ".mlflow.db.new", self.folder.root / ".optuna.db.new"))):
            return "store"
        if any(map(self._new, (self.folder.report / "report.md", self.folder.root / ".report.new"))):
            return "report"
        newest = max(self._streams(), key=_written, default=None)
        if newest is None or not self._new(newest.events):
            references = self.folder.references
            scored = artifacts.ended(events.read(references.events))
            return "references" if self._new(references.spec) and not scored else "start"
        return self._of(newest)

    def planned(self) -> int:
        """Number of trials; 0 before the plan is written."""
        if not self._planned and self.folder.plan.exists():
            self._planned = len({cell["trial"] for cell in json.loads(self.folder.plan.read_text())["cells"]})
        return self._planned

    def all_ended(self) -> bool:
        """Whether every trial has its outcome."""
        for trial in self._streams():
            if trial.root.name not in self._ended and b'"event":"ended"' in _tail(trial.events):
                self._ended.add(trial.root.name)
        return 0 < self.planned() == len(self._ended)

    def _streams(self) -> list[TrialFolder]:
        folders = (TrialFolder(path.parent) for path in self.folder.root.glob("trials/*/events.jsonl"))
        return [folder for folder in folders if ".failed-" not in folder.root.name]

    def _of(self, trial: TrialFolder) -> str:
        """By the last event of the trial that was written to last."""
        last = next((line for line in reversed(_tail(trial.events).split(b"\n")[:-1]) if line), b"")
        try:
            event = events.from_line(last.decode())
        except ValueError:
            return "training"  # nothing whole yet
        if isinstance(event, events.Ended):
            return "end" if self.all_ended() else "between"
        evaluated = self._evaluations(trial)
        measured = isinstance(event, events.Measured)
        if event.step == evaluated[-1] and not (measured and event.split == "train"):
            return "final"
        if measured and event.split == "train":
            return "evaluation" if event.step in evaluated else "training"
        saved = isinstance(event, events.Saved) and event.what != "checkpoint"
        return "checkpoint" if measured or saved else "training"

    def _evaluations(self, trial: TrialFolder) -> tuple[int, ...]:
        id = trial.root.name
        if id not in self._evaluated:
            document = json.loads(trial.spec.read_text())
            self._evaluated[id] = Recipe.from_document(document["spec"]["recipe"]).eval_steps
        return self._evaluated[id]

    def _new(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime >= self.since
        except FileNotFoundError:
            return False


def _written(folder: TrialFolder) -> float:
    return folder.events.stat().st_mtime


def _tail(path: Path, size: int = 1 << 14) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read()
