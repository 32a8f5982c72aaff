"""A pruner stops single runs of a search in their course: on record before it takes effect, never the base."""

from __future__ import annotations

import json

import pytest

from ablate import events, outcome
from ablate.executor import Outcome
from ablate.outcome import Next
from ablate.plan import make_plan
from ablate.pruning import Pruning
from ablate.records import Status, StudyFolder, TrialFolder, TrialResult, TrialSpec
from tests.ablate.fakes import Handle, InstantExecutor, Killed, drive
from tests.ablate.test_searchfile import study

STEPS = range(10, 100, 10)


def result(status: Status, *values: float) -> TrialResult:
    curve = tuple((step, 4 * step, value) for step, value in zip(STEPS, values, strict=False))
    return TrialResult("x", status, {"gmsd": values[-1]}, {("validation", "gmsd"): curve}, steps=len(values))


def pruning(name: str) -> Pruning:
    return Pruning(name, goal="min", metric="gmsd", first=10, last=90)


def play(made: Pruning, runs: dict[str, list[float]]) -> dict[str, str]:
    """Runs one after another, each until the pruner ends it; the reasons of those that were ended."""
    reasons = {}
    for run, values in runs.items():
        seen = []
        for step, value in zip(STEPS, values, strict=False):
            seen.append(value)
            if why := made.judge(run, step, value):
                reasons[run] = why
                break
        made.ended(run, result(Status.stopped if run in reasons else Status.done, *seen))
    return reasons


RUNS = {
    **{f"good{index}": [0.5 - 0.04 * place + 0.001 * index for place in range(9)] for index in range(6)},
    "bad": [0.9] * 9,
    "better": [0.4 - 0.04 * place for place in range(9)],
}


@pytest.mark.parametrize("name", ["median", "hyperband", "asha"])
def test_a_hopeless_run_is_ended_and_a_promising_one_is_not(name):
    reasons = play(pruning(name), RUNS)
    assert "better" not in reasons
    if name != "hyperband":  # its brackets are few runs deep here
        assert reasons["bad"].startswith(f"pruned by {name} at step ") and "gmsd 0.9" in reasons["bad"]


@pytest.mark.parametrize("name", ["median", "hyperband", "asha"])
def test_replayed_from_results_the_next_decision_is_the_same(name):
    live, replayed = pruning(name), pruning(name)
    before = {run: values for run, values in RUNS.items() if run not in ("bad", "better")}
    reasons = play(live, before)
    for run, values in before.items():
        until = int(reasons[run].split("step ")[1].split(":")[0]) // 10 if run in reasons else len(values)
        replayed.ended(run, result(Status.stopped if run in reasons else Status.done, *values[:until]))
    rest = {run: RUNS[run] for run in ("bad", "better")}
    assert play(live, rest) == play(replayed, rest)


def test_a_step_counts_once_and_none_after_the_decision():
    made = pruning("median")
    play(made, {run: values for run, values in RUNS.items() if run.startswith("good")})
    assert not made.judge("bad", 10, 0.9) and not made.judge("bad", 20, 0.9), "a third of the budget is left alone"
    assert made.judge("bad", 40, 0.9)
    assert not made.judge("bad", 40, 0.9) and not made.judge("bad", 50, 0.9)


def test_the_last_evaluation_is_never_pruned_away():
    made = pruning("median")
    play(made, {run: values for run, values in RUNS.items() if run.startswith("good")})
    assert not made.judge("late", 90, 0.9)


@pytest.fixture
def folder(tmp_path) -> TrialFolder:
    folder = TrialFolder(tmp_path / "abc")
    folder.root.mkdir()
    return folder


@pytest.mark.parametrize("ended", [Outcome(), Outcome({0: -9}), Outcome({0: 1}), Outcome(lost=True)])
def test_a_flag_with_a_reason_stops_a_trial_for_good_however_its_job_ended(folder, ended):
    outcome.ask_to_stop(folder, "pruned by median at step 10: gmsd 0.9")
    settled = outcome.settle("abc", folder, ended, attempts=1)
    assert settled.next is Next.stop and settled.why.startswith("pruned by median")


def test_an_end_that_came_before_the_flag_was_seen_stands(folder):
    writer = events.EventWriter(folder.events)
    writer.append(events.Ended, step=5, images=20, status="done")
    writer.close()
    outcome.ask_to_stop(folder, "pruned")
    assert outcome.settle("abc", folder, Outcome(), attempts=1).next is Next.settled
    assert outcome.record_stop("abc", folder, "pruned").status is Status.done


def test_a_recorded_stop_reads_back_and_its_wait_is_nobodys_training_time(folder):
    writer = events.EventWriter(folder.events, clock=lambda: 1000.0)
    writer.append(events.Started, world_size=1, threads=1, device="cpu")
    writer.append(events.Measured, step=10, images=40, split="validation", values={"gmsd": 0.9})
    writer.close()
    folder.checkpoints.mkdir()
    (folder.checkpoints / "step-00000010.pt").touch()
    written = outcome.record_stop("abc", folder, "pruned at step 10")
    assert (written.status, written.why, written.steps, written.seconds) == (Status.stopped, "pruned at step 10", 10, 0)
    assert outcome.finished("abc", folder) == written and not list(folder.checkpoints.iterdir())


class StepwiseExecutor(InstantExecutor):
    """Jobs that take one evaluation per look of the driver, and obey the flag."""

    def start(self, kind, folder, **options):
        if kind == "references":
            return super().start(kind, folder, **options)
        if self.lives is not None and len(self.started) >= self.lives:
            raise Killed
        self.started.append(folder.name)
        job = Job(TrialFolder(folder), self.score)
        self.handles.append(job)
        return job


class Job(Handle):
    def __init__(self, paths: TrialFolder, score):
        super().__init__()
        spec = TrialSpec.from_json(json.loads(paths.spec.read_text())["spec"])
        before = [one.step for one in events.read(paths.events) if isinstance(one, events.Measured)]
        self.paths, self.steps = paths, [step for step in range(1, 7) if step not in before]
        self.value = lambda step: score(spec, step)

    def poll(self):
        if not self.steps or self.paths.stop.exists():
            self.over = True
            return Outcome()
        writer = events.EventWriter(self.paths.events, clock=lambda: 0.0)
        step = self.steps.pop(0)
        writer.append(events.Measured, step=step, images=step, split="validation", values={"gmsd": self.value(step)})
        if not self.steps:
            writer.append(events.Ended, step=step, images=step, status="done")
        writer.close()
        return None


def plan_of(folder):
    sets = ["base.evaluate.every=1", "design.search.pruner=median", "design.search.seeds_per_arm=1",
            "design.search.trials=14", "also=[]"]  # fmt: skip
    return make_plan(study(folder, *sets))


def test_a_pruned_search_ends_runs_on_the_way_but_never_the_base(tmp_path):
    driver = drive(plan_of(tmp_path), tmp_path / "runs", StepwiseExecutor())
    found = {cell.arm: driver.results[cell.trial] for cell in driver.plan.cells}
    stopped = {arm: one for arm, one in found.items() if one.status is Status.stopped}
    assert found["base"].status is Status.done and 2 <= len(stopped) <= 9
    assert all(one.why.startswith("pruned by median at step ") and 0 < one.steps < 6 for one in stopped.values())


def test_killed_between_the_flag_and_the_end_a_pruned_run_is_not_taken_up_again(tmp_path, monkeypatch):
    whole = drive(plan_of(tmp_path), tmp_path / "whole", StepwiseExecutor())
    runs = tmp_path / "runs"

    def dying(*arguments):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("ablate.outcome.record_stop", dying)
        with pytest.raises(Killed):
            drive(plan_of(tmp_path), runs, StepwiseExecutor())
    flagged = [path.parent.name for path in StudyFolder(runs, "found").root.glob("trials/*/stop")]
    second = StepwiseExecutor()
    driver = drive(plan_of(tmp_path), runs, second)
    assert len(flagged) == 1 and flagged[0] not in second.started
    assert {id: one.status for id, one in driver.results.items()} == {
        id: one.status for id, one in whole.results.items()
    }
