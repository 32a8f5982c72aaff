"""`ablate plan --measure`: a few real updates, readings and evaluations, timed in the real worker.

A trial of the plan's own recipe is begun in a scratch folder with a budget of which only the beginning is run; its
stream of events says what an update, a reading of health and an evaluation take. Prepared data stay in the cache,
where the run finds them.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ablate import machine, startfiles
from ablate.events import Ended, Event, EventReader, Measured, Saved
from ablate.executor import Executor, LocalExecutor
from ablate.outcome import settle
from ablate.plan import Plan, PlannedArm, trial_spec
from ablate.problems import Problem, StudyError
from ablate.records import TrialFolder, TrialSpec, write_atomically
from trainers.recipe import READINGS, Budget, Recipe

QUICK, PATIENT = 3.0, 12.0  # seconds: two cycles and the first, or one cycle and the second, are enough
POLL_SECONDS = 0.05
LEAST = 3  # windows of training, of which the first warms up


@dataclass(frozen=True)
class Timing:
    """Seconds that an update, a reading and an evaluation take.

    `covariance` is that of update and reading (variance, variance, covariance), `factor` the quantile of Student's t
    that makes an interval of 95 % of it; None where too few were timed.
    """

    update: float
    reading: float
    evaluation: float
    updates: int  # that were timed
    covariance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    factor: float | None = None

    def seconds(self, recipe: Recipe) -> float:
        """What a whole trial of that recipe takes, its start left out."""
        updates = recipe.steps * self.update + len(recipe.reading_steps) * self.reading
        return updates + len(recipe.eval_steps) * self.evaluation

    def margin(self, recipe: Recipe) -> float | None:
        """Half of the 95 % interval of `seconds`, from how unequal the timed updates were."""
        updates, readings = recipe.steps, len(recipe.reading_steps)
        of_updates, of_readings, both = self.covariance
        variance = updates**2 * of_updates + readings**2 * of_readings + 2 * updates * readings * both
        return None if self.factor is None else self.factor * float(np.sqrt(max(variance, 0.0)))


def measure(plan: Plan, runs: Path, *, say: Callable[[str], None] = print) -> dict[str, Timing]:
    """Arm -> what it takes, one of each kind of cost being timed alone on the machine.

    Raises StudyError where such an arm can't be trained, DataError for its data.
    """
    devices = machine.gpus() if plan.device == "cuda" else ()
    with tempfile.TemporaryDirectory(prefix="ablate-measure-") as scratch:
        executor = LocalExecutor(1, Path(scratch) / "log.txt", devices=devices)
        try:
            executor.warm_up()
            return _measured(plan, runs, executor, Path(scratch), say)
        finally:
            executor.close()


def _measured(plan: Plan, runs: Path, executor: Executor, scratch: Path, say: Callable[[str], None]) -> dict:
    from trainers.prepare import prepare

    groups: dict[str, list[PlannedArm]] = {}
    for arm in plan.arms:
        groups.setdefault(cost_key(arm), []).append(arm)
    found: dict[str, Timing] = {}
    for members in groups.values():
        arm = members[0]
        say(f"timing {arm.name}" + (f" (and {len(members) - 1} that cost the same)" if len(members) > 1 else ""))
        spec = plan.specs[next(cell.trial for cell in plan.cells if cell.arm == arm.name)]
        cache = prepare(plan.data[spec.data], runs / "cache").resolve()
        startfiles.keep(arm.resolved.recipe, spec.recipe, runs / "cache")
        timing = _Job(plan, arm, spec, cache, executor, scratch).timed()
        found |= dict.fromkeys((one.name for one in members), timing)
    return found


def cost_key(arm: PlannedArm) -> str:
    """Equal for arms whose updates and evaluations do the same work."""
    document = arm.resolved.document
    kept = {key: document[key] for key in ("generator", "discriminator", "updates", "batch", "compute")}
    kept["objective"] = {k: v for k, v in document["objective"].items() if k not in ("smoothing", "adv_weight")}
    kept["evaluate"] = {k: v for k, v in document["evaluate"].items() if k != "every"}
    kept["terms"] = {name: {k: v for k, v in document["terms"].get(name, {}).items() if k != "weight"}
                     for name in arm.terms}  # fmt: skip
    return repr((document["data"]["tile"], kept, bool(document["ema"]["decay"]), arm.resolved.ranks))


@dataclass(frozen=True)
class _Job:
    plan: Plan
    arm: PlannedArm
    spec: TrialSpec
    cache: Path
    executor: Executor
    scratch: Path

    def timed(self) -> Timing:
        """Begin a trial whose readings and evaluations fall on different updates; stop it when enough is known."""
        every = self.arm.resolved.recipe.updates.generator
        stride = 2 * every * max(1, -(-2 // every))
        cycle = 3 * stride  # holds three readings and two evaluations, one of them between readings
        folder = self._folder(updates=READINGS * stride, evaluate=cycle // 2)
        events = self._run(folder, enough=lambda events: _enough(events, cycle))
        if sum(isinstance(event, Measured) and event.split == "train" for event in events) < LEAST:
            ended = next((event for event in events if isinstance(event, Ended)), None)
            raise self._refused(f"it ended too soon: {ended.why if ended else 'for no reason that it gave'}")
        return timing(events, stride=stride)

    def _folder(self, *, updates: int, evaluate: int) -> TrialFolder:
        recipe = self.arm.resolved.recipe
        budget, rhythm = Budget(generator_updates=updates), replace(recipe.evaluate, every=evaluate)
        recipe = replace(recipe, budget=budget, evaluate=rhythm)
        spec = trial_spec(self.plan.study, recipe, seed=self.spec.seed, ranks=self.spec.ranks, device=self.spec.device,
                          data=self.spec.data)  # fmt: skip
        folder = TrialFolder(self.scratch / self.arm.name)
        folder.root.mkdir(parents=True)
        files = startfiles.for_worker(spec.recipe)
        start = {role: str(self.cache.parent / place) for role, place in files.items()}
        document = {"spec": spec.to_json(), "metrics": list(self.plan.metrics), "cache": str(self.cache)}
        write_atomically(folder.spec, json.dumps(document | ({"start": start} if start else {})))
        return folder

    def _run(self, folder: TrialFolder, *, enough: Callable[[Sequence[Event]], bool]) -> list[Event]:
        handle = self.executor.start("run", folder.root, ranks=self.spec.ranks, threads=self.spec.threads)
        reader, events = EventReader(folder.events), []
        while (ended := handle.poll()) is None:
            events += reader.new()
            if enough(events):
                folder.stop.touch()
            time.sleep(POLL_SECONDS)
        events += reader.new()
        if not ended.clean:
            raise self._refused(settle("measured", folder, ended, attempts=1).why)
        return events

    def _refused(self, why: str) -> StudyError:
        return StudyError([Problem(str(self.plan.study.source), 0, 0, f"arm {self.arm.name}", f"not timed: {why}")])


def _enough(events: Sequence[Event], cycle: int) -> bool:
    """Whether the first updates, which warm up, and one or two cycles after them have been seen."""
    trained = [event for event in events if isinstance(event, Measured) and event.split == "train"]
    if not trained:
        return False
    seconds, cycles = trained[-1].time - trained[0].time, trained[-1].step // cycle
    return (cycles >= 2 and seconds > QUICK) or (cycles >= 1 and seconds > PATIENT)


def timing(events: Sequence[Event], *, stride: int) -> Timing:
    """Seconds of an update, a reading and an evaluation from a stream, by least squares; the first ones warm up."""
    spans = list(_spans(events))[1:]
    work = np.array([(updates, step % stride == 0) for step, updates, _ in spans], dtype=float)
    seconds = np.array([span for *_, span in spans])
    found = np.linalg.lstsq(work, seconds, rcond=None)[0]
    if (found < 0).any() or np.linalg.matrix_rank(work) < 2:  # too short to be told apart
        work[:, 1], found = 0.0, np.array([seconds.sum() / work[:, 0].sum(), 0.0])
    rest, df = seconds - work @ found, len(spans) - int(np.linalg.matrix_rank(work))
    covariance = np.linalg.pinv(work.T @ work) * (rest @ rest / df if df else 0.0)
    return Timing(
        float(found[0]), float(found[1]), _evaluation(events), int(work[:, 0].sum()),
        covariance=(float(covariance[0, 0]), float(covariance[1, 1]), float(covariance[0, 1])),
        factor=_student(df) if df else None,
    )  # fmt: skip


def _student(df: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.975))


def _spans(events: Sequence[Event]) -> Iterator[tuple[int, int, float]]:
    """(step, updates since the last one, seconds) of each closed window of training."""
    before, step = None, 0
    for event in events:
        if isinstance(event, Measured) and event.split == "train":
            if before is not None:
                yield event.step, event.step - step, event.time - before
            step = event.step
        before = event.time


def _evaluation(events: Sequence[Event]) -> float:
    """Median seconds from a closed window to the last thing that was saved for its evaluation."""
    began: dict[int, float] = {}
    ended: dict[int, float] = {}
    for event in events:
        if isinstance(event, Measured) and event.split == "train":
            began[event.step] = event.time
        elif isinstance(event, Measured | Saved) and event.step in began:
            ended[event.step] = event.time
    spans = [ended[step] - began[step] for step in ended]
    return float(np.median(spans)) if spans else 0.0


def per_trial(plan: Plan, timings: Mapping[str, Timing]) -> dict[str, tuple[Timing, Recipe]]:
    """Trial id -> its timing and recipe."""
    arms = {cell.trial: cell.arm for cell in reversed(plan.cells)}
    return {id: (timings[arms[id]], plan.arm(arms[id]).resolved.recipe) for id in plan.specs}
