"""The oracle of every test that kills: what a study's folder and its stores hold, whatever has happened to them.

I1 to I10 as the sentences of `violations` number them. Everything is read off the disk, past Optuna and MLflow.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ablate import artifacts, events
from ablate.disk import leftovers
from ablate.mlflow_facts import metric_name, rows
from ablate.records import Status, StudyFolder, TrialFolder, TrialResult
from ablate.sqlite import unsound
from tests import processes, projections, sameness
from tests.ondisk import OnDisk
from trainers.recipe import Recipe

After = Literal["kill", "interruption", "end"]
RUN_STATES = {Status.failed: "FAILED"}  # all other outcomes: FINISHED
LAST_STATES = ("COMPLETE", "PRUNED", "FAIL")
BUILDING = (".*.new", ".*.new-*", ".*.old", "*.partial", "*-journal")  # names of what is not in its place yet


@dataclass
class Acknowledged:
    """Results that have been seen to end, with the digests of all that they amount to: these never change again."""

    files: dict[Path, str] = field(default_factory=dict)
    trials: set[str] = field(default_factory=set)

    def look(self, folder: StudyFolder) -> None:
        """Take note of the trials that have ended since. A failure may be put aside, to run again."""
        for path in folder.root.glob("trials/*/events.jsonl"):
            if path.parent.name in self.trials or b'"event":"ended"' not in path.read_bytes():
                continue
            stream = events.read(path)
            if any(isinstance(event, events.Ended) and event.status != Status.failed for event in stream):
                self.trials.add(path.parent.name)
                listed = [path.parent / artifact.path for artifact in artifacts.listed(stream)]
                self.files |= {file: _digest(file) for file in (path, *listed)}

    def changed(self) -> Iterator[str]:
        for path, digest in self.files.items():
            if _digest(path) != digest:
                yield f"{path} has changed since its trial ended"


def violations(
    folder: StudyFolder, *, after: After = "end", undisturbed: StudyFolder | None = None,
    acknowledged: Acknowledged | None = None, patience: float = 10, shared: projections.Shared | None = None,
) -> list[str]:  # fmt: skip
    """What of the invariants does not hold, a sentence each; empty where all is well.

    After a `kill` only what holds at any moment is asked for, after an `interruption` also that nothing stays open,
    after the `end` that every cell has its outcome. Numbers are compared with those of an `undisturbed` run of the same
    study. Processes that are ending get `patience` seconds. `shared` stores stand in place of the folder's own.
    """
    study = _Study(folder, shared, after, undisturbed, acknowledged, patience)
    return [f"I{number}: {words}" for number, check in enumerate(CHECKS, 1) for words in check(study)]


@dataclass
class _Study(OnDisk):
    after: After = "end"
    undisturbed: StudyFolder | None = None
    acknowledged: Acknowledged | None = None
    patience: float = 10

    @property
    def ended(self) -> bool:
        return self.after == "end"


# -- I1 to I10 ------------------------------------------------------------------------------------


def one_outcome_per_cell(study: _Study) -> Iterator[str]:
    planned = set(study.cells.values())
    yield from (f"trials/{id} is of no planned cell" for id in study.trials if id not in planned)
    for id in sorted(planned):
        ends = sum(isinstance(event, events.Ended) for event in study.streams.get(id, ()))
        if ends > 1 or (study.ended and not ends):
            yield f"trial {id} has {ends} ends"
    yield from (f"Optuna has a record of {cell}, which is not planned" for cell in study.records.keys() - study.cells)
    for cell, trial in study.cells.items():
        records = study.records.get(cell, [])
        first = [record for record in records if "retry_of" not in record.facts]
        if len(first) > 1 or (study.ended and not first):
            yield f"Optuna has {len(first)} records of {cell}"
        if study.ended and records and records[-1].state not in LAST_STATES:
            yield f"Optuna's record of {cell} is {records[-1].state}"
        if study.ended and records and (result := study.results.get(trial)) and not _told(study, records[-1], result):
            yield f"Optuna's record of {cell} is another result than that of trial {trial}"


def _told(study: _Study, record: projections.Record, result: TrialResult) -> bool:
    if "search" in study.plan or record.state != "COMPLETE":
        return "search" in study.plan or result.status is not Status.done
    metric = study.plan["metric"]
    return record.values == (result.final(metric["name"], metric["split"]),)


def results_stay(study: _Study) -> Iterator[str]:
    yield from study.acknowledged.changed() if study.acknowledged else ()


def one_worker_at_a_time(study: _Study) -> Iterator[str]:
    """In a stream attempts follow each other, and each begins with its start, or is the driver's own end."""
    for id, stream in study.streams.items():
        numbers = [event.attempt for event in stream]
        if numbers != sorted(numbers):
            yield f"attempts of trial {id} interleave"
        for number in sorted(set(numbers)):
            own = [event for event in stream if event.attempt == number]
            starts = sum(isinstance(event, events.Started) for event in own)
            steps = [event.step for event in own if isinstance(event, events.Measured)]
            written_by_driver = len(own) == 1 and isinstance(own[0], events.Ended)
            if not (starts == 1 and isinstance(own[0], events.Started)) and not written_by_driver:
                yield f"attempt {number} of trial {id} has {starts} starts"
            if steps != sorted(steps):
                yield f"attempt {number} of trial {id} went back"


def one_run_per_cell(study: _Study) -> Iterator[str]:
    counts = Counter(run.cell for run in study.runs)
    yield from (f"MLflow has a run of {cell}, which is not planned" for cell in counts.keys() - study.cells - {""})
    for cell in ("", *study.cells):
        if counts[cell] > 1 or (study.ended and not counts[cell]):
            yield f"MLflow has {counts[cell]} runs of {cell or 'the study (or of nobody)'}"
    for run in study.runs:
        what = f"MLflow's run of {run.cell or 'the study'}"
        if study.after != "kill" and run.state in ("RUNNING", "SCHEDULED"):
            yield f"{what} is {run.state}"
        result = study.results.get(study.cells.get(run.cell, ""))
        expected = RUN_STATES.get(result.status, "FINISHED") if result else "FINISHED"
        if study.ended and run.state != expected and (result or not run.cell):
            yield f"{what} is {run.state}, expected {expected}"
        if study.ended and run.cell and run.tags.get("ablate.trial") != study.cells.get(run.cell):
            yield f"{what} is of trial {run.tags.get('ablate.trial')}"


def one_row_per_declared_step(study: _Study) -> Iterator[str]:
    for id, result in study.results.items():
        if result.status is not Status.failed:
            yield from _declared(study.trials[id], result)
    for cell, trial in study.cells.items():
        if (run := study.run(cell)) is None:
            continue
        counts = Counter((row.key, row.step) for row in run.rows)
        yield from (f"MLflow has {n} rows of {cell}: {name} at {step}" for (name, step), n in counts.items() if n > 1)
        if study.ended and trial in study.results:
            what = _mirrored(run, study.streams[trial], study.results[trial])
            yield from (f"MLflow {words} of {cell}" for words in what)


def _mirrored(run: projections.Run, stream: list[events.Event], result: TrialResult) -> Iterator[str]:
    """A run's rows are what the stream measured first, at the events' own times, and the final scores."""
    measured = (row for row in rows(events.first_measurements(stream)) if _finite(row.value))
    expected = {projections.Row(metric_name(row), row.step, row.value, row.time) for row in measured}
    final = {name for name, value in result.scores.items() if _finite(value)} if result.status is Status.done else set()
    more = {row for row in {*run.rows} - expected if row.key not in {*final, "seconds"}}
    yield from (f"lacks {row.key} at {row.step}" for row in sorted(expected - {*run.rows}, key=str))
    yield from (f"has a {row.key} at {row.step} that was not measured" for row in sorted(more, key=str))
    yield from (f"lacks the final {name}" for name in sorted(final - {row.key for row in run.rows}))


def _declared(folder: TrialFolder, result: TrialResult) -> Iterator[str]:
    """The curves of an ended trial have the steps that its recipe declares, up to where it ended."""
    document = json.loads(folder.spec.read_text())
    recipe = Recipe.from_document(document["spec"]["recipe"])
    declared = {"validation": recipe.eval_steps, "train": tuple(sorted({*recipe.eval_steps, *recipe.reading_steps}))}
    for (split, name), curve in result.curves.items():
        steps, expected = [row[0] for row in curve], [s for s in declared.get(split, ()) if s <= result.steps]
        required = result.status is Status.done and (split == "validation" or name.startswith(("loss", "lr")))
        if split in declared and (steps != expected if required else not {*steps} <= {*expected}):
            yield f"trial {folder.root.name}: {split} {name} at {steps}, declared {list(expected)}"
    if result.status is Status.done:
        lacking = [name for name in document["metrics"] if ("validation", name) not in result.curves]
        yield from (f"trial {folder.root.name}: no {name}" for name in lacking)


def artifacts_are_whole(study: _Study) -> Iterator[str]:
    for id in study.streams:
        gone = artifacts.problems(study.trials[id])
        # What a killed writer left, and checkpoints of a trial that ended in that moment, go with the next start.
        passing = () if study.ended else ("left over by", "of a trial that has ended")
        yield from (f"trial {id}: {words}" for words in gone if not any(each in words for each in passing))
        if study.ended and study.trials[id].branches.exists():
            yield f"trial {id}: branches/ that nobody will go on from"
    for run in study.runs if study.ended else ():
        if run.cell:
            yield from _pictures(run, study.streams.get(study.cells.get(run.cell, ""), []))
        elif sameness.files(run.artifacts / "report") != sameness.files(study.folder.report):
            yield "MLflow's copy of the report is not the report"


def _pictures(run: projections.Run, stream: list[events.Event]) -> Iterator[str]:
    """Every sample once, full and small, in MLflow."""
    steps = {event.step for event in stream if isinstance(event, events.Saved) and event.what == "sample"}
    names = [path.name for path in (run.artifacts / "images").glob("*")]
    for step in sorted(steps):
        if (found := sum(f"step+{step}+" in name for name in names)) != 2:
            yield f"MLflow has {found} of 2 pictures of {run.cell} at {step}"


def numbers_equal(study: _Study) -> Iterator[str]:
    for id, stream in study.streams.items():
        yield from (f"trial {id}: {words}" for words in _measured_otherwise(stream))
    if study.undisturbed is None:
        return
    for id, result in study.results.items():
        there = study.undisturbed.trial(id)
        other = events.fold(id, events.read(there.events))
        for what in ("status", "why", "steps", "images", "curves", "scores", "findings"):
            if getattr(result, what) != getattr(other, what):
                yield f"trial {id}: its {what} differ from the undisturbed run's"
        if sameness.weights(study.trials[id]) != sameness.weights(there):
            yield f"trial {id}: its final weights differ from the undisturbed run's"


def _measured_otherwise(stream: list[events.Event]) -> Iterator[str]:
    """After a resume an update is measured again, and gives the same."""
    seen: dict[tuple[str, int, str], float] = {}
    for event in stream:
        for name, value in event.values.items() if isinstance(event, events.Measured) else ():
            if str(seen.setdefault((event.split, event.step, name), value)) != str(value):
                yield f"{event.split} {name} at {event.step} came out differently in attempt {event.attempt}"


def report_equal(study: _Study) -> Iterator[str]:
    if not study.ended:
        return
    own = sameness.report(study.folder)
    if not own:
        yield "there is no report"
    if study.undisturbed:
        other = sameness.report(study.undisturbed)
        differing = sorted(name for name in own.keys() | other.keys() if own.get(name) != other.get(name))
        yield from (f"report/{name} differs from the undisturbed run's" for name in differing)


def no_process_left(study: _Study) -> Iterator[str]:
    end = time.monotonic() + study.patience
    while (left := processes.holders(study.folder.root)) and time.monotonic() < end:
        time.sleep(0.02)
    for pid, files in left.items():
        yield f"process {pid} has {sorted(file.name for file in files)} open"


def databases_sound(study: _Study) -> Iterator[str]:
    yield from study.damaged
    for path in (study.folder.optuna, study.folder.mlflow):
        if study.shared:
            yield from [f"{path} is there beside the shared stores"] if path.exists() else ()
        elif not path.exists():
            yield from [f"{path} is missing"] if study.ended else ()
        elif words := unsound(path):
            yield words
    if study.ended:
        stale = {*leftovers(study.folder.runs), *(path for name in BUILDING for path in study.folder.runs.rglob(name))}
        yield from (f"{path} is left over" for path in sorted(stale))


CHECKS: tuple[Callable[[_Study], Iterator[str]], ...] = (
    one_outcome_per_cell, results_stay, one_worker_at_a_time, one_run_per_cell, one_row_per_declared_step,
    artifacts_are_whole, numbers_equal, report_equal, no_process_left, databases_sound,
)  # fmt: skip


def crowded(folder: StudyFolder) -> list[str]:
    """I3 as it shows while a study runs: trials that more ranks work on than they state, or more than one rank 0."""
    found = []
    there = processes.ranks(folder.root)
    for trial in sorted({rank.trial for rank in there}):
        own = [rank for rank in there if rank.trial == trial]
        stated = json.loads(folder.trial(trial).spec.read_text())["spec"]["ranks"]
        if len(own) > stated or sum(not rank.peer for rank in own) > 1:
            pids = ", ".join(f"{rank.pid}{'' if rank.peer else ' (with the stream)'}" for rank in own)
            found.append(f"I3: {len(own)} ranks work on trial {trial}, which states {stated}: {pids}")
    return found


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
