"""Many trials over many nodes that come and go, by a script: one outcome each, and nothing submitted twice."""

from __future__ import annotations

import io
from collections import Counter

import pytest

from ablate import events
from ablate.display import Display
from ablate.driver import Driver
from ablate.executor import Outcome
from ablate.outcome import finished
from ablate.plan import make_plan
from ablate.planfile import write_plan
from ablate.records import StudyFolder, TrialFolder
from ablate.study import load
from benchmarks.scaling.driver import text
from reports.race import leaving
from tests.ablate import studies
from tests.ablate.fakes import Silent
from tests.ablate.scripted import READINGS, Cluster, ScriptedExecutor

TRIALS, NODES = 60, 8


def planned(root):
    plan = make_plan(load(studies.write(root, text("cluster", TRIALS))))
    folder = StudyFolder(root / "runs", plan.study.name)
    write_plan(plan, folder)
    return plan, folder


def driver(plan, folder, cluster, slots=NODES, sleep=None) -> Driver:
    executor = ScriptedExecutor(cluster, slots)
    return Driver(plan, folder, executor, Silent(), Silent(), Silent(), leaving, sleep=sleep or executor.wait,
                  clock=lambda: cluster.now)  # fmt: skip


def attempts(folder: StudyFolder) -> Counter[str]:
    """How often each trial has begun, by its stream."""
    return Counter(
        path.parent.name for path in folder.root.glob("trials/*/events.jsonl")
        for event in events.read(path) if isinstance(event, events.Started)
    )  # fmt: skip


# -- what every executor promises (test_executor_contract has the same of all, in real time) ------------------------


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(nodes=1, seconds=10.0)


def a_trial(root, name: str) -> TrialFolder:
    folder = TrialFolder(root / name)
    folder.root.mkdir(parents=True)
    folder.spec.write_text('{"spec": {}}')
    return folder


def test_a_job_waits_runs_ends_and_says_so_again(tmp_path, cluster):
    executor, folder = ScriptedExecutor(cluster, slots=2), a_trial(tmp_path, "first")
    first = executor.start("run", folder.root, ranks=1, threads=1)
    second = executor.start("run", a_trial(tmp_path, "second").root, ranks=1, threads=1)
    assert (first.poll(), executor.free()) == (None, 0)
    executor.wait(14.0)
    assert first.poll() == first.poll() == Outcome() and second.poll() is None and executor.free() == 1
    assert finished("first", folder).status == "done"
    executor.wait(14.0)
    assert second.poll() == Outcome() and executor.free() == 2


def test_a_job_that_runs_is_found_by_another_driver_and_one_that_does_not_is_not(tmp_path, cluster):
    folder = a_trial(tmp_path, "first")
    ScriptedExecutor(cluster, slots=1).start("run", folder.root, ranks=1, threads=1)
    other = ScriptedExecutor(cluster, slots=1)
    found = other.adopt(folder.root)
    assert found.poll() is None and other.free() == 0 and other.adopt(tmp_path / "second") is None
    cluster.pass_time(14.0)
    assert found.poll() == Outcome() and other.adopt(folder.root) is None


def test_a_job_that_is_stopped_or_asked_to_stop_ends_once(tmp_path, cluster):
    executor, folder = ScriptedExecutor(cluster, slots=2), a_trial(tmp_path, "first")
    ended = executor.start("run", folder.root, ranks=1, threads=1)
    ended.stop()
    ended.stop()
    assert ended.poll().lost and finished("first", folder) is None
    asked = executor.start("run", folder.root, ranks=1, threads=1)
    folder.stop.touch()
    executor.wait(1.0)
    assert asked.poll() == Outcome() and executor.free() == 2
    executor.start("run", a_trial(tmp_path, "second").root, ranks=1, threads=1)
    executor.close()
    executor.close()
    assert not cluster.jobs


# -- a study ------------------------------------------------------------------------------------------------------


def test_every_node_is_used_and_every_trial_is_done_once(tmp_path):
    plan, folder = planned(tmp_path)
    cluster = Cluster(NODES)
    results = driver(plan, folder, cluster).run()
    assert {result.status for result in results.values()} == {"done"} and len(results) == TRIALS
    assert {*attempts(folder).values()} == {1} and cluster.most == NODES
    assert cluster.now < 1.6 * cluster.seconds * TRIALS / NODES, "nodes don't wait for the driver"


def test_lost_nodes_and_pre_emption_cost_an_attempt_and_no_result(tmp_path):
    plan, folder = planned(tmp_path)
    fates = dict(zip(plan.specs, ("lost", "preempted", ""), strict=False))
    cluster = Cluster(NODES, fate=lambda trial, attempt: fates.get(trial, "") if attempt == 1 else "")
    results = driver(plan, folder, cluster).run()
    assert {result.status for result in results.values()} == {"done"}
    assert {trial: number for trial, number in attempts(folder).items() if number > 1} == {
        trial: 2 for trial, fate in fates.items() if fate
    }
    assert all(result.steps == READINGS for result in results.values())


def test_a_node_that_is_always_lost_ends_its_trial_and_no_other(tmp_path):
    plan, folder = planned(tmp_path)
    unlucky = next(iter(plan.specs))
    results = driver(plan, folder, Cluster(NODES, fate=lambda trial, _: "lost" if trial == unlucky else "")).run()
    assert Counter(result.status for result in results.values()) == {"done": TRIALS - 1, "failed": 1}
    assert results[unlucky].why.startswith("machine: ") and "its node was lost" in results[unlucky].why


def test_a_driver_that_dies_leaves_its_jobs_to_the_next(tmp_path):
    plan, folder = planned(tmp_path)
    cluster = Cluster(NODES)

    class Dies(BaseException):
        pass

    def until(end: float):
        def sleep(seconds: float) -> None:
            cluster.pass_time(seconds)
            if cluster.now > end:
                raise Dies

        return sleep

    for end in (20.0, 100.0, 101.0, 230.0):  # the first while references are scored
        with pytest.raises(Dies):
            driver(plan, folder, cluster, sleep=until(end)).run()
        assert len(cluster.jobs) == (NODES if end > cluster.seconds else 1), "they go on"
    results = driver(plan, folder, cluster).run()
    assert {result.status for result in results.values()} == {"done"} and {*attempts(folder).values()} == {1}


def test_a_trial_is_said_to_have_started_when_it_has_a_node_in_every_attempt(tmp_path):
    plan, folder = planned(tmp_path)
    lost = next(iter(plan.specs))
    cluster = Cluster(NODES, fate=lambda trial, attempt: "lost" if (trial, attempt) == (lost, 1) else "")
    executor, stream = ScriptedExecutor(cluster, TRIALS), io.StringIO()
    display = Display(TRIALS, metric="gmsd", stream=stream, live=False)
    Driver(plan, folder, executor, Silent(), Silent(), display, leaving, sleep=executor.wait,
           clock=lambda: cluster.now).run()  # fmt: skip
    said = stream.getvalue().splitlines()
    kinds = Counter(word for line in said for word in ("submitted", "started", "done") if f"  {word}" in line)
    assert kinds == {"submitted": TRIALS + 1, "started": TRIALS + 1, "done": TRIALS}
    assert all("submitted" in line for line in said[:TRIALS]), "long before most of them start"
    first = plan.cells_of(lost)[0]
    own = [line.split("  ")[1].partition(",")[0] for line in said if f"{first.arm} · seed {first.seed}  " in line]
    assert own == ["submitted", "started", "submitted", "started", "done"]
