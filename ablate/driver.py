"""The study driver: one process that holds the plan and sees every cell to its outcome.

The trial folders are the truth. Everything the driver knows about progress it reads from them,
so that it can be killed at any moment: the next `ablate run` looks at the folders and goes on.
Optuna's storage and MLflow are brought up to date from the same lines.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from ablate import outcome, race, racing
from ablate.artifacts import remove_checkpoints, tidy_ended
from ablate.attempts import PREEMPTIONS, Attempts
from ablate.branching import Branching
from ablate.disk import make_folders
from ablate.events import Ended, Event, EventReader, Measured, Saved, Started, read
from ablate.executor import Executor, Handle, Outcome
from ablate.failpoints import failpoint
from ablate.interrupts import Interrupt
from ablate.outcome import Next
from ablate.plan import Plan
from ablate.processes import evict
from ablate.pruning import Pruning, prunable
from ablate.race import Judge, Look
from ablate.records import Cell, Status, StudyFolder, TrialResult, TrialSpec, write_atomically
from ablate.referencing import score_references
from ablate.searching import grow, worth_of_failures
from ablate.specfile import write_spec

POLL_SECONDS = 0.2  # between turns of the loop, unless a job ends
AHEAD = 64  # trials whose folders are made at once
GRACE_SECONDS = 60  # for running trials to reach a boundary and checkpoint after Ctrl-C
SILENCE_SECONDS = 60  # for the executor to say that a job is over whose trial has written its end


class CannotGoOn(RuntimeError):
    """This machine can run no trial any more; what has run is whole."""


@dataclass
class Running:
    """A trial whose job is alive, and how far its stream has been read."""

    spec: TrialSpec
    cells: tuple[Cell, ...]
    handle: Handle
    reader: EventReader
    before: int | None = None  # starts in its stream before its own, which it may wait for; None: it has begun
    over: float | None = None  # when its end was read, on the driver's clock


@dataclass
class Driver:
    """Runs a plan in a study folder. `ledger` and `tracking` are projections, `display` is for people."""

    plan: Plan
    folder: StudyFolder
    executor: Executor
    ledger: object
    tracking: object
    display: object
    judge: Judge
    interrupt: Interrupt = field(default_factory=Interrupt)
    retry_failed: bool = False
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def run(self) -> dict[str, TrialResult]:
        """Bring every trial to its outcome; trial id -> result. Fewer when interrupted; a search's plan has grown."""
        self.ledger.reconcile(self.plan.cells)
        self.results: dict[str, TrialResult] = {}
        self.looks: tuple[Look, ...] = race.looks_of(self.folder)
        self.pruning = Pruning.of(self.plan)
        self.ran = False  # whether a trial was started
        self.made: set[str] = set()  # trials whose folders are durably there
        self.running: list[Running] = []
        self.branching = Branching(self.folder, self.plan.branches)
        self.attempts = Attempts()
        self.waiting = deque(self._unfinished())
        self.branching.look([*self.waiting, *(running.spec.id for running in self.running)])
        for running in self.running:
            self._write_spec(running.spec)  # it may wait for a node still
        for id in self.results:
            self.branching.ended(id, self.results)  # a kill may have come before
        try:
            score_references(
                self.plan, self.folder, self.executor, self.sleep,
                left=lambda: self.interrupt.leave, note=self.display.note,
            )  # fmt: skip
            if self.interrupt.leave:
                return self.results
            self.worth = worth_of_failures(self.plan, outcome.finished("references", self.folder.references))
            self.interrupt.patient = True
            self._loop()
        finally:
            for running in self.running if self.interrupt.ends(self.executor.outlives) else ():
                running.handle.stop()
        return self.results

    def _unfinished(self) -> Iterable[str]:
        """Ids still to run, in block order; what is finished on disk is told again to the projections."""
        fallen = racing.stops(self.plan, self.looks)
        for id in self.plan.specs:
            result = outcome.finished(id, self.folder.trial(id))
            if result is not None and result.status is Status.failed and self.retry_failed:
                self._put_aside(id, result)
                yield id
            elif result is None and (handle := self.executor.adopt(self.folder.trial(id).root)):
                self._adopt(id, handle, fallen.get(id))
            elif result is None and (why := outcome.stop_reason(self.folder.trial(id)) or fallen.get(id)):
                self._stop(id, why)
            elif result is None:
                yield id
            else:
                self._settled_before(id, result)

    def _adopt(self, id: str, handle: Handle, fallen: str | None) -> None:
        """Follow a job that an earlier driver has started."""
        if fallen:
            outcome.ask_to_stop(self.folder.trial(id), fallen)
        self._follow_from_now_on(self.plan.specs[id], handle)

    def _put_aside(self, id: str, result: TrialResult) -> None:
        """Keep what a failed trial left under another name, and queue a further record of its cells."""
        for cell in self.plan.cells_of(id):
            self.ledger.finish(cell, result)
            self.ledger.retry(cell)
        outcome.put_aside(self.folder.trial(id))

    def _settled_before(self, id: str, result: TrialResult) -> None:
        """A kill may have come between the outcome and the projections: told again, it changes nothing."""
        remove_checkpoints(self.folder.trial(id).checkpoints)  # a kill may have come before the worker did
        self.results[id] = result
        self._mirror(id, self.plan.cells_of(id))
        self.display.ended(self.plan.cells_of(id)[0], result)
        self._judged(id)

    def _mirror(self, id: str, cells: Iterable[Cell]) -> None:
        for cell in cells:
            self.ledger.finish(cell, self.results[id])
            self.tracking.mirror(cell, self.plan.specs[id], self.results[id])

    def _loop(self) -> None:
        asked_to_stop: float | None = None
        while self.running or (self._left() and not self.interrupt.count):
            for id in self.attempts.rested(self.clock()):
                self.waiting.appendleft(id)
            while not self.interrupt.count and self.executor.free() > 0 and (id := self._next()):
                self._start(id)
            ended = [running for running in list(self.running) if self._advance(running)]
            if self.interrupt.leave:
                return self.display.note("leaving: jobs go on, and the same command finds them")
            if self.interrupt.count and asked_to_stop is None:
                asked_to_stop = self.clock()
                self._ask_to_stop()
            if asked_to_stop is not None and self.clock() - asked_to_stop > GRACE_SECONDS:
                return
            if not ended:  # else there is a place for the next trial
                self.sleep(POLL_SECONDS)

    def _left(self) -> bool:
        """Whether there is anything to start, now or later."""
        return bool(self.waiting or self.attempts.resting or self.plan.undrawn)

    def _ask_to_stop(self) -> None:
        """The flags come before the word: the terminal may be what has gone."""
        for running in self.running:
            self.folder.trial(running.spec.id).stop.touch()
        self.display.note("stopping: running trials write a checkpoint first (once more ends them now)")

    # -- what comes next --------------------------------------------------------------------------

    def _next(self) -> str | None:
        """The trial to start now; None where a running one has to end first.

        A search draws its next arm when nothing else can start, and all of them before the first look of a race.
        """
        while self.waiting or self.plan.undrawn:
            after = racing.due(self.plan, self.looks, self.waiting[0]) if self.waiting else None
            if self.waiting and after is None:
                return self._ready()
            if self.attempts.resting:  # draws and looks take in what it will amount to
                return None
            if self.plan.undrawn:
                self._draw()
            elif racing.complete(self.plan, self.looks, after, self.results):
                self._look(after)
            else:
                return None
        return None

    def _ready(self) -> str | None:
        """The first that need not wait for a part of its training that another is to make, nor for a look of the race;
        None where all have to.

        What they wait for runs, rests or stands in the queue itself, before them and with the same seed.
        """
        if not self.branching.found:
            return self.waiting.popleft()
        unfinished = {*self.waiting, *self.attempts.resting, *(running.spec.id for running in self.running)}
        for id in self.waiting:
            if racing.due(self.plan, self.looks, id) is not None:
                return None
            if not self.branching.awaited(id, unfinished):
                self.waiting.remove(id)
                return id
        return None

    def _draw(self) -> None:
        """Add the next arm of the search: to plan.json first, so that a killed driver finds it there."""
        known = len(self.plan.arms)
        self.plan = grow(self.plan, self.results, self.worth)
        write_atomically(self.folder.plan, json.dumps(self.plan.to_json(), indent=1))
        failpoint("arm-drawn")
        for arm in self.plan.arms[known:]:
            self.ledger.add(arm.arm, arm.sampled)
            self.tracking.add(arm.arm)
        self.ledger.reconcile(self.plan.cells)
        for cell in self.plan.cells:
            if cell.arm == self.plan.arms[-1].name and cell.trial in self.results:
                self._mirror(cell.trial, [cell])  # a recipe that has run under another name
        busy = {running.spec.id for running in self.running} | self.attempts.resting
        self.waiting = deque(id for id in self.plan.specs if id not in self.results and id not in busy)

    def _look(self, after: int) -> None:
        """Decide a look of the race, keep it on disk, and only then end what it stops."""
        found = racing.look(self.plan, self.looks, after, self.results, self.worth, self.judge)
        self.looks = (*self.looks, found)
        race.record(self.folder, self.looks)
        failpoint("look-recorded")
        arms = ", ".join(found.stopped) or "nobody"
        noun, left = self.plan.study.race.noun, len(found.kept)
        self.display.note(f"{noun}, after {after} seeds: {arms} stopped; arms that go on: {left}")
        for id, why in racing.stops(self.plan, self.looks).items():
            if id in self.waiting:
                self.waiting.remove(id)
                self._stop(id, why)

    def _stop(self, id: str, why: str) -> None:
        """The outcome `stopped` of a trial that does not run, or not any more."""
        folder = self.folder.trial(id)
        self._write_spec(self.plan.specs[id])
        evict(folder.log)
        self.results[id] = outcome.record_stop(id, folder, why)
        self._mirror(id, self.plan.cells_of(id))
        self.display.skipped(self.results[id])
        self._judged(id)
        self.branching.ended(id, self.results)

    def _prune(self, id: str, event: Event) -> None:
        """Ask a run to stop for good where the pruner says so; its flag holds the reason until it has ended."""
        if self.pruning and prunable(self.plan, id) and (why := self.pruning.follow(id, event)):
            outcome.ask_to_stop(self.folder.trial(id), why)

    def _judged(self, id: str) -> None:
        if self.pruning and prunable(self.plan, id):
            self.pruning.ended(id, self.results[id])

    # -- one trial ------------------------------------------------------------------------------

    def _start(self, id: str) -> None:
        spec, folder = self.plan.specs[id], self.folder.trial(id)
        self._make_folder(id)
        self._write_spec(spec)
        evict(folder.log)
        outcome.clear(folder)
        before = _starts(read(folder.events)) if self.executor.outlives else 0
        handle = self.executor.start("run", folder.root, ranks=spec.ranks, threads=spec.threads)
        failpoint("trial-begun")
        self._follow_from_now_on(spec, handle, before)

    def _follow_from_now_on(self, spec: TrialSpec, handle: Handle, before: int = 0) -> None:
        """`before`: starts that its stream tells of already."""
        self.attempts.begin(spec.id)
        self.ran = True
        cells = self.plan.cells_of(spec.id)
        reader = EventReader(self.folder.trial(spec.id).events)
        self.running.append(Running(spec, cells, handle, reader, before if self.executor.outlives else None))
        for cell in cells:
            self.ledger.begin(cell)
            self.tracking.begin(cell, spec)
        tell = self.display.submitted if self.executor.outlives else self.display.started
        tell(cells[0], self.plan.arm(cells[0].arm).generator_updates)

    def _make_folder(self, id: str) -> None:
        """The trial's folder and those of the trials after it: a sync for each would be a quarter of its overhead."""
        if id not in self.made:
            ids = (id, *islice(self.waiting, AHEAD - 1))
            make_folders([self.folder.trial(each).root for each in ids])
            self.made.update(ids)

    def _write_spec(self, spec: TrialSpec) -> None:
        write_spec(self.folder.trial(spec.id), spec, self.plan.metrics, self.branching.found)

    def _advance(self, running: Running) -> bool:
        """Follow a trial; whether its job has ended."""
        ended = running.handle.poll()  # before reading: what was written by then is read below
        self._follow(running)
        ended = ended or self._silent(running)
        if ended is None:
            return False
        self.running.remove(running)
        id, folder = running.spec.id, self.folder.trial(running.spec.id)
        settlement = outcome.settle(id, folder, ended, attempts=self.attempts.of(id))
        if settlement.next is Next.resume:
            seconds = self.attempts.rest(id, self.clock())
            self._note(running, f"{settlement.why}; taken up again in {seconds:.0f} s")
        elif settlement.next is Next.interrupted and not self.interrupt.count:
            self.attempts.uncounted(id, self.clock())
            self._note(running, "stopped from outside; taken up again")
        elif settlement.next is Next.preempted:
            self._preempted(running, settlement.why)
        elif settlement.next is Next.fail:
            self._tell(running, outcome.record_failure(id, folder, settlement.why))
        elif settlement.next is Next.stop:
            self._tell(running, outcome.record_stop(id, folder, settlement.why))
        elif settlement.next is Next.settled:
            tidy_ended(folder)  # a worker may have been killed before it did
            self._tell(running, settlement.result)
        elif settlement.next is Next.halt:
            raise CannotGoOn(
                f"{_name(running)}: {settlement.why}; resumed {outcome.RESUMES} times; what has run is whole: once that"
                " is mended, the same command goes on from the last checkpoints"
            )
        return True

    def _preempted(self, running: Running, why: str) -> None:
        id = running.spec.id
        if self.attempts.preempted(id, self.clock()):
            self._note(running, f"{why}; taken up again")
        else:
            why = f"machine: {why}, {PREEMPTIONS} times without a new checkpoint"
            self._tell(running, outcome.record_failure(id, self.folder.trial(id), why))

    def _silent(self, running: Running) -> Outcome | None:
        """A job whose trial has written its end must be over: what starts it, is stuck."""
        if running.over is None or self.clock() - running.over < SILENCE_SECONDS:
            return None
        running.handle.stop()
        return Outcome(lost=True)

    def _note(self, running: Running, said: str) -> None:
        self.display.note(f"{_name(running)}: {said}")

    def _follow(self, running: Running) -> None:
        new = running.reader.new()
        for cell in running.cells if new else ():
            self.tracking.follow(cell)
        if running.before is not None:
            self._begun(running, _starts(new))
        for event in new:
            if isinstance(event, Measured):
                self.display.measured(running.cells[0], event)
                self._report(running.cells, event)
                self._prune(running.spec.id, event)
            elif isinstance(event, Saved) and event.what == "checkpoint":
                self.attempts.saved(running.spec.id, event.step)
            elif isinstance(event, Ended):
                running.over = self.clock()
            self.branching.follow(running.spec.id, event)

    def _begun(self, running: Running, starts: int) -> None:
        """Say that a job which may have waited has begun, once its own start is in the stream."""
        running.before -= starts
        if running.before < 0:
            running.before = None
            self.display.started(running.cells[0], self.plan.arm(running.cells[0].arm).generator_updates)

    def _report(self, cells: tuple[Cell, ...], event: Measured) -> None:
        metric = self.plan.study.metric
        if event.split == metric.split and metric.name in event.values:
            for cell in cells:
                self.ledger.report(cell, event.step, event.values[metric.name])

    def _tell(self, running: Running, result: TrialResult) -> None:
        """Bring the outcome to every projection."""
        id = running.spec.id
        self.results[id] = result
        failpoint("result-read")
        for cell in running.cells:
            self.ledger.finish(cell, result)
            self.tracking.end(cell, result)
        self._mirror(id, (cell for cell in self.plan.cells_of(id) if cell not in running.cells))  # drawn meanwhile
        self.display.ended(running.cells[0], result)
        self._judged(id)
        self.branching.ended(id, self.results)


def _starts(stream: Iterable[Event]) -> int:
    return sum(isinstance(event, Started) for event in stream)


def _name(running: Running) -> str:
    return f"{running.cells[0].arm} · seed {running.cells[0].seed}"


def counts(plan: Plan, results: dict[str, TrialResult]) -> dict[str, int]:
    """Cells by status; `waiting` are those without an outcome."""
    statuses = [results[cell.trial].status if cell.trial in results else None for cell in plan.cells]
    table = {status.value: statuses.count(status) for status in Status}
    return {**table, "waiting": statuses.count(None) + plan.undrawn}
