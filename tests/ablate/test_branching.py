"""A first part of training that trials have in common: planned, waited for, counted, and cleared away."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ablate import driver as driving
from ablate import events
from ablate.branching import Branch, branches, left_for
from ablate.clean import clean
from ablate.executor import Outcome
from ablate.plan import Plan, make_plan
from ablate.plan_words import describe
from ablate.planning import document
from ablate.records import StudyFolder, TrialFolder, write_atomically
from ablate.space import need
from ablate.study import load
from reports import foresight
from tests.ablate import studies
from tests.ablate.fakes import InstantExecutor, Killed, drive
from tests.ablate.test_driver_faults import SEARCH

COURSE = """\
  course:
    late: {stages: [{until: 0.5}, {terms: {l1: 30, ssim: 5}}]}
    slow: {stages: [{until: 0.5}, {ramp: 0.4, terms: {l1: 30, ssim: 5}}]}
    third: {stages: [{until: 0.5}, {until: 0.8, terms: {l1: 30, ssim: 5}}, {terms: {l1: 1}}]}
    other: {terms: {l1: 30}}
"""
STUDY = studies.STUDY.replace("resources: {ranks: 2}", "resources: {slots: 1}").partition("factors:")[0] + f"""\
factors:
{COURSE}design: one_at_a_time
seeds: 2
metric: {{name: gmsd, smallest_effect: 0.005}}
also: [mae]
resources: {{slots: 1}}
"""


@pytest.fixture
def make(tmp_path, monkeypatch) -> Callable[..., Plan]:
    monkeypatch.chdir(tmp_path)
    return lambda *sets, text=STUDY: make_plan(load(studies.write(tmp_path, text), sets=sets))


def named(plan: Plan) -> dict[str, tuple[str, int]]:
    """Cell -> (cell that it goes on from, update)."""
    cells = {cell.trial: f"{cell.arm.removeprefix('course=')}/{cell.seed}" for cell in reversed(plan.cells)}
    return {cells[id]: (cells[branch.trunk], branch.step) for id, branch in plan.branches.items()}


# -- the plan --------------------------------------------------------------------------------------------


def test_each_trial_goes_on_from_the_earliest_that_has_most_of_it(make):
    found = named(make())
    assert found == {f"{arm}/{seed}": pair for seed in (1, 2) for arm, pair in
                     {"late": (f"base/{seed}", 3), "slow": (f"base/{seed}", 3),
                      "third": (f"late/{seed}", 5)}.items()}  # fmt: skip


@pytest.mark.parametrize("sets", [["resources.share=false"], ["factors.course={other: {terms: {l1: 30}}}"]])
def test_what_is_not_to_be_shared_or_has_nothing_in_common_is_trained_alone(make, sets):
    assert make(*sets).branches == {}


def test_to_share_changes_no_trial_and_no_plan(make):
    one, two = make(), make("resources.share=false")
    assert one.specs == two.specs and one.to_json() == two.to_json()


def test_a_search_shares_nothing(make):
    plan = make()
    assert branches(plan.specs) and replace(make(text=SEARCH), specs=plan.specs).branches == {}


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"seed": 7}, {"replica": 1}, {"ranks": 2}, {"threads": 2},
                                    {"data": "x" * 12}])  # fmt: skip
def test_only_trials_alike_in_all_besides_share(make, change):
    plan = make("seeds=1")
    first, *others = plan.specs.values()
    changed = replace(first, **change)
    specs = {spec.id: spec for spec in (changed, *others)}
    assert changed.id not in {branch.trunk for branch in branches(specs).values()}
    assert first.id in {branch.trunk for branch in branches(plan.specs).values()}


def test_on_a_gpu_nothing_is_shared(make):
    specs = {id: replace(spec, device="cuda") for id, spec in make().specs.items()}
    assert branches({spec.id: spec for spec in specs.values()}) == {}


def test_what_is_kept_of_the_networks_is_no_matter(make):
    assert make("keep=nothing").branches == make().branches


def test_many_arms_are_a_matter_of_a_moment(make):
    levels = ", ".join(f"s{n}: {{stages: [{{until: 0.5}}, {{terms: {{l1: {n + 1}}}}}]}}" for n in range(60))
    plan = make(f"factors.course={{{levels}}}", "seeds=5")
    began = time.process_time()
    assert len(plan.branches) == 60 * 5
    assert time.process_time() - began < 3  # seconds of one core


# -- in words ----------------------------------------------------------------------------------------------


def facts_of(plan: Plan, runs: Path) -> dict:
    return document(plan, runs, foresight)


def test_a_plan_says_what_is_saved(make, tmp_path):
    plan = make()
    facts = facts_of(plan, tmp_path / "runs")
    once = facts["trained_once"]
    assert (once["updates"], once["of"]) == (2 * (3 + 3 + 5), 10 * 6)
    assert once["trials"][0] == {"id": plan.cells[1].trial, "from": plan.cells[0].trial, "updates": 3}
    said = describe(plan, facts)
    assert ("22 of 60 updates are made once for all that share them: 37% saved"
            " (6 trials go on from what another has trained)") in said  # fmt: skip
    alone = make("resources.share=false")
    facts = facts_of(alone, tmp_path / "runs")
    assert facts["trained_once"] == {"updates": 0, "of": 60, "trials": []}
    assert "made once" not in describe(alone, facts)


def test_disk_is_counted_with_the_branches_of_the_trials_at_work(make, tmp_path):
    one, alone = (need(make(f"resources.share={share}"), tmp_path / "runs") for share in ("true", "false"))
    assert one.branches == one.checkpoint and alone.branches == 0
    assert one.known == alone.known + one.branches
    two = need(make("resources.slots=2"), tmp_path / "runs")
    assert two.branches == 2 * one.checkpoint


def pretend(plan: Plan, runs: Path, seconds: dict[int, float], *, over: dict[int, tuple[int, float]]) -> None:
    """Write ended trials of some cells, by place, that took so long; `over` has updates and seconds taken over."""
    folder = StudyFolder(runs, plan.study.name)
    write_atomically(folder.plan, json.dumps(plan.to_json()))
    for at, took in seconds.items():
        step, others = over.get(at, (0, 0.0))
        lines = [
            events.Started(time=0.0, world_size=1, threads=1, device="", step=step, taken_over=others),
            events.Measured(time=took, step=6, images=24, split="validation", values={"gmsd": 1.0}),
            events.Ended(time=took, step=6, images=24, status="done"),
        ]
        write_atomically(folder.trial(plan.cells[at].trial).events, "".join(map(events.to_line, lines)))


def test_hours_are_those_of_what_is_left_to_train(make, tmp_path):
    plan = make()
    arms = [cell.arm for cell in plan.cells[:3]]
    assert arms == ["base", "course=late", "course=slow"]
    pretend(plan, tmp_path, {0: 60.0, 1: 30.0, 2: 60.0}, over={1: (3, 30.0)})  # the third began when nobody shared
    cost = facts_of(plan, tmp_path)["cost"]
    assert cost["seconds_a_trial"] == 60.0 and cost["trials_left"] == 7
    updates = (1 + 6) + (6 + 3 + 3 + 1 + 6)  # third and other of the first seed, all of the second
    assert cost["hours_left"] == pytest.approx(10 * updates / 3600)


# -- the driver ---------------------------------------------------------------------------------------------


@dataclass
class Job:
    """A job that does a thing each time that somebody looks at it; `lost` is how it ends where it breaks off."""

    acts: list[Callable[[], None]]
    lost: Outcome | None = None
    over: bool = False

    def poll(self) -> Outcome | None:
        if self.acts:
            self.acts.pop(0)()
            return None
        self.over = True
        return self.lost or Outcome()

    def stop(self) -> None:
        pass


@dataclass
class Stepping(InstantExecutor):
    """Jobs that take five looks: a trial measures, leaves its branches where its spec.json names some, and ends.

    `log` has what was begun and left, in order; `broken` maps trials to what their next jobs do instead of ending.
    """

    log: list[tuple[str, str]] = field(default_factory=list)
    broken: dict[str, list[str]] = field(default_factory=dict)

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> Job:
        if kind == "references":
            return super().start(kind, folder, ranks=ranks, threads=threads)
        paths = TrialFolder(folder)
        self.log.append(("begun", folder.name))
        self.started.append(folder.name)
        how = self.broken.get(folder.name, []) and self.broken[folder.name].pop(0)
        if how == "broken before":
            words = {"time": 1.0, "rank": 0, "kind": "arm", "type": "ValueError", "message": "no"}
            (folder / "error.0.json").write_text(json.dumps(words))
            job = Job([lambda: None], Outcome({0: 1}))
        elif how == "lost before":
            job = Job([lambda: None], Outcome(lost=True))
        else:
            job = Job([lambda: self._measure(paths, 3), lambda: self._leave(paths), lambda: None,
                       lambda: self._measure(paths, 6), lambda: self._end(paths)])  # fmt: skip
        self.handles.append(job)
        return job

    def _write(self, paths: TrialFolder, kind: type[events.Event], **fields) -> None:
        """Opened for each line: what dies with its process in truth must not hold the stream here."""
        writer = events.EventWriter(paths.events, clock=lambda: 0.0)
        writer.append(kind, **fields)
        writer.close()

    def _measure(self, paths: TrialFolder, step: int) -> None:
        scores = {"gmsd": 0.5, "mae": 0.5}
        self._write(paths, events.Measured, step=step, images=4 * step, split="validation", values=scores)

    def _leave(self, paths: TrialFolder) -> None:
        for step in left_for(paths):
            write_atomically(paths.branches / f"step-{step:08d}.pt", b"state")
            self._write(paths, events.Saved, step=step, what="branch", path=f"branches/step-{step:08d}.pt", sha256="")
            self.log.append(("left", paths.root.name))

    def _end(self, paths: TrialFolder) -> None:
        self._write(paths, events.Ended, step=6, images=24, status="done")
        self.log.append(("ended", paths.root.name))


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    """Trials that the machine failed are taken up again at once."""
    monkeypatch.setattr("ablate.attempts.FIRST_REST", 0.0)


def checked(plan: Plan, runs: Path, executor: Stepping) -> driving.Driver:
    """Drive the plan to its end; all are run, and what is shared was there where a trial could have waited for it."""
    driven = drive(plan, runs, executor)
    assert set(driven.results) == set(plan.specs)
    folder = StudyFolder(runs, plan.study.name)
    assert list(folder.root.glob("trials/*/branches")) == []
    return driven


def place(log: list, act: str, id: str) -> int:
    return log.index((act, id))


@pytest.mark.parametrize("slots", [1, 2, 3, 10])
def test_a_trial_begins_once_what_it_goes_on_from_is_there(make, tmp_path, slots):
    plan, executor = make(f"resources.slots={slots}"), Stepping(slots=slots)
    checked(plan, tmp_path / "runs", executor)
    for id, branch in plan.branches.items():
        assert place(executor.log, "left", branch.trunk) < place(executor.log, "begun", id)
    assert sorted(executor.started) == sorted(plan.specs), "each is begun once"


def test_with_room_for_it_a_trial_begins_while_its_trunk_trains_on(make, tmp_path):
    plan, executor = make(), Stepping(slots=5)
    checked(plan, tmp_path / "runs", executor)
    late, base = plan.cells[1].trial, plan.cells[0].trial
    assert place(executor.log, "begun", late) < place(executor.log, "ended", base)


def test_a_slot_does_not_stay_empty_for_those_that_wait(make, tmp_path):
    plan, executor = make(), Stepping(slots=2)
    checked(plan, tmp_path / "runs", executor)
    assert executor.started[:2] == [plan.cells[0].trial, plan.cells[4].trial], "base, and the arm that shares nothing"


def test_spec_json_says_what_is_left_for_whom_and_what_is_taken(make, tmp_path):
    plan = make("seeds=1")
    checked(plan, tmp_path / "runs", Stepping())
    ids = {cell.arm.removeprefix("course="): cell.trial for cell in plan.cells}
    said = {}
    for arm, id in ids.items():
        stated = json.loads(StudyFolder(tmp_path / "runs", "tiny").trial(id).spec.read_text())
        said[arm] = {key: stated[key] for key in ("branches", "trunk") if key in stated}
        assert stated["spec"] == plan.specs[id].to_json()
    assert said == {
        "base": {"branches": [{"step": 3, "for": [ids["late"], ids["slow"]]}]},
        "late": {"trunk": {"trial": ids["base"], "step": 3}, "branches": [{"step": 5, "for": [ids["third"]]}]},
        "slow": {"trunk": {"trial": ids["base"], "step": 3}},
        "third": {"trunk": {"trial": ids["late"], "step": 5}},
        "other": {},
    }


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_where_the_trunk_fails_before_it_the_others_train_by_themselves(make, tmp_path, slots):
    plan = make(f"resources.slots={slots}", "seeds=1")
    base = plan.cells[0].trial
    executor = Stepping(slots=slots, broken={base: ["broken before"]})
    driven = checked(plan, tmp_path / "runs", executor)
    assert driven.results[base].status.value == "failed"
    assert all(result.status.value == "done" for id, result in driven.results.items() if id != base)
    third, late = plan.cells[3].trial, plan.cells[1].trial
    assert place(executor.log, "left", late) < place(executor.log, "begun", third)


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("times", [1, 4])
def test_while_the_machine_fails_the_trunk_the_others_wait_for_its_next_job(make, tmp_path, slots, times):
    plan = make(f"resources.slots={slots}")
    base = plan.cells[0].trial
    executor = Stepping(slots=slots, broken={base: ["lost before"] * times})
    checked(plan, tmp_path / "runs", executor)
    assert executor.started.count(base) == times + 1
    for id, branch in plan.branches.items():
        assert place(executor.log, "left", branch.trunk) < place(executor.log, "begun", id)


@pytest.mark.parametrize("lives", range(1, 10))
def test_a_driver_that_is_killed_anywhere_goes_on_to_the_same_end(make, tmp_path, lives):
    plan = make()

    @dataclass
    class Mortal(Stepping):
        def start(self, kind, folder, *, ranks, threads):
            if kind == "run" and len(self.started) >= lives:
                raise Killed
            return super().start(kind, folder, ranks=ranks, threads=threads)

    with pytest.raises(Killed):
        drive(plan, tmp_path / "runs", Mortal(slots=2))
    checked(plan, tmp_path / "runs", Stepping(slots=2))


def test_a_branch_that_was_left_before_the_driver_began_is_not_waited_for(make, tmp_path):
    plan = make("seeds=1")
    folder, base = StudyFolder(tmp_path / "runs", "tiny"), plan.cells[0].trial
    checked(plan, tmp_path / "runs", Stepping())
    trunk = folder.trial(base)
    kept = [event for event in events.read(trunk.events) if not isinstance(event, events.Ended)]
    trunk.events.write_text("".join(map(events.to_line, kept)))
    for cell in plan.cells[1:]:
        folder.trial(cell.trial).events.unlink()
    executor = Stepping(slots=3)
    checked(plan, tmp_path / "runs", executor)
    assert executor.started[:3] == [cell.trial for cell in plan.cells[:3]]


def test_a_trunk_that_began_when_nobody_shared_is_not_waited_for(make, tmp_path):
    plan = make("seeds=1")
    trunk = StudyFolder(tmp_path / "runs", "tiny").trial(plan.cells[0].trial)
    alone = {"spec": plan.specs[plan.cells[0].trial].to_json(), "metrics": ["gmsd", "mae"], "cache": "../../../cache/x"}
    write_atomically(trunk.spec, json.dumps(alone))
    executor = Stepping(slots=2)
    checked(plan, tmp_path / "runs", executor)
    assert executor.started[:2] == [cell.trial for cell in plan.cells[:2]]
    assert place(executor.log, "begun", plan.cells[1].trial) < place(executor.log, "ended", plan.cells[0].trial)


def test_arms_that_are_added_go_on_from_each_other_and_from_nobody_that_has_ended(make, tmp_path):
    runs, executor = tmp_path / "runs", Stepping(slots=2)
    checked(make("factors.course={other: {terms: {l1: 30}}}"), runs, Stepping())
    (runs / "tiny" / "plan.json").unlink()  # as `ablate run --extend` writes the larger plan
    plan = make("resources.slots=2")
    checked(plan, runs, executor)
    ids = {(cell.arm.removeprefix("course="), cell.seed): cell.trial for cell in plan.cells}
    new = {id for (arm, _), id in ids.items() if arm in ("late", "slow", "third")}
    assert set(executor.started) == new
    for seed in (1, 2):
        assert place(executor.log, "left", ids["late", seed]) < place(executor.log, "begun", ids["third", seed])


def test_branches_stay_for_as_long_as_somebody_is_to_come(make, tmp_path):
    plan = make("seeds=1")
    base, late, slow = (cell.trial for cell in plan.cells[:3])
    seen = {}

    @dataclass
    class Looking(Stepping):
        def _end(self, paths):
            super()._end(paths)
            trunk = StudyFolder(tmp_path / "runs", "tiny").trial(base)
            seen[paths.root.name] = trunk.branches.exists()

    checked(plan, tmp_path / "runs", Looking())
    assert (seen[base], seen[late], seen[slow]) == (True, True, True)
    assert not seen[plan.cells[4].trial]


@dataclass
class Scored(Stepping):
    """With scores by arm and seed: the worse arms leave a race."""

    worth: dict[str, float] = field(default_factory=dict)

    def _measure(self, paths: TrialFolder, step: int) -> None:
        scores = {"gmsd": self.worth[paths.root.name], "mae": 0.5}
        self._write(paths, events.Measured, step=step, images=4 * step, split="validation", values=scores)


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("worse", ["late", "slow"])
def test_in_a_race_trials_share_and_no_seed_begins_before_its_look(make, tmp_path, slots, worse):
    plan = make("race=true", "seeds=5", f"resources.slots={slots}")
    arms = {cell.trial: (cell.arm.removeprefix("course="), cell.seed) for cell in plan.cells}
    worth = {id: 0.5 + 0.4 * (arm == worse) + random.Random(f"{arm}/{seed}").gauss(0, 0.01)
             for id, (arm, seed) in arms.items()}  # fmt: skip
    executor = Scored(slots=slots, worth=worth)
    driven = checked(plan, tmp_path / "runs", executor)
    stopped = {arms[id] for id, result in driven.results.items() if result.status.value == "stopped"}
    assert stopped == {(worse, 4), (worse, 5)}
    for seed in (4, 5):
        first = min(place(executor.log, "begun", id) for id in executor.started if arms[id][1] == seed)
        assert {id for act, id in executor.log[:first] if act == "ended"} >= {
            id for id, (_, before) in arms.items() if before < seed and arms[id] not in stopped
        }  # fmt: skip
    shared = [id for id, branch in plan.branches.items() if id in executor.started and branch.trunk in executor.started]
    assert all(place(executor.log, "left", plan.branches[id].trunk) < place(executor.log, "begun", id) for id in shared)
    third = next(id for id, arm in arms.items() if arm == ("third", 5))
    assert third in executor.started and (third in shared) == (worse != "late"), "without its trunk it trains alone"


# -- what is left on disk -----------------------------------------------------------------------------------


def test_clean_removes_branches_that_nobody_will_take(make, tmp_path):
    plan, runs = make("seeds=1"), tmp_path / "runs"
    checked(plan, runs, Stepping())
    folder = StudyFolder(runs, "tiny")
    trunk, late = (folder.trial(cell.trial) for cell in plan.cells[:2])
    write_atomically(trunk.branches / "step-00000003.pt", bytes(1000))
    ended = late.events.read_text()
    late.events.unlink()
    assert not clean(runs, "tiny").items and trunk.branches.exists(), "one is to come"
    late.events.write_text(ended)
    assert [item.path for item in clean(runs, "tiny", dry_run=True).items] == [trunk.branches]
    assert trunk.branches.exists()
    clean(runs, "tiny")
    assert not trunk.branches.exists() and trunk.events.exists()


def test_a_trial_is_its_own_whatever_it_shares(make):
    """A branch is no part of what identifies a trial."""
    plan = make()
    assert all(isinstance(branch, Branch) and branch.step < 6 for branch in plan.branches.values())
    assert not any("trunk" in spec.to_json() or "branches" in spec.to_json() for spec in plan.specs.values())
