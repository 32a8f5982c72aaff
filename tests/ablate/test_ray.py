"""Studies on a real Ray cluster: the same results as here, whatever is killed; two nodes with a rank each are one."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ablate import events
from ablate.executor import CannotLaunch, Outcome
from ablate.outcome import Next, clear, settle
from ablate.rayexecutor import RayExecutor, Shape
from ablate.records import StudyFolder, TrialFolder
from tests import processes, raycluster
from tests.ablate import studies
from tests.invariants import crowded, violations
from tests.trainers import jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LONG = studies.STUDY.replace("generator_updates: 6", "generator_updates: 160").replace("every: 3", "every: 10")
VICTIMS = ("server", "driver", "job", "node")  # without a head there must be work for longer than it is waited for
SLOWLY = {"ABLATE_FAILPOINTS": "step=sleep:0.25@1+#0"}  # so that a fast machine is not done before all kills


@pytest.fixture(scope="module")
def cluster() -> Iterator[raycluster.Cluster]:
    """Nodes of this file's own: it kills them."""
    raycluster.possible()
    made = raycluster.Cluster()
    yield made
    made.end()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> StudyFolder:
    """The study as this machine runs it by itself."""
    raycluster.possible()
    return alone(tmp_path_factory.mktemp("undisturbed"))


def alone(root: Path, *more: str) -> StudyFolder:
    done = studies.ablate("run", studies.write(root, LONG), *more, cwd=root, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return StudyFolder(root / "runs", "tiny")


class Run:
    """`ablate run` on a cluster, again and again until the study is whole."""

    def __init__(self, root: Path, cluster: raycluster.Cluster, *more: str):
        self.command = ("run", studies.write(root, LONG), "--set", "resources.executor=ray", *more)
        self.root, self.cluster, self.folder = root, cluster, StudyFolder(root / "runs", "tiny")
        self.driver: subprocess.Popen | None = None
        self.said = ""

    def begin(self) -> None:
        address = ("--set", f"resources.address={self.cluster.address}")
        with studies.hang_up(signal.SIG_DFL):
            self.driver = studies.start(*self.command, *address, cwd=self.root, more=SLOWLY)

    def end(self, seconds: float = 300) -> int:
        said, _ = self.driver.communicate(timeout=seconds)
        self.said += said
        return self.driver.returncode

    @property
    def over(self) -> bool:
        """Whether the driver has gone."""
        return self.driver.poll() is not None

    def when(self, condition: Callable[[], object], what: str) -> None:
        studies.wait_until(lambda: bool(condition()), seconds=180, what=what)

    def updates(self) -> int:
        """Of all trials, as far as their newest checkpoints or their ends go."""
        return sum(_updates(path.parent) for path in self.folder.root.glob("trials/*/events.jsonl"))

    def attempts(self) -> dict[str, int]:
        """How often each trial has begun."""
        return {
            path.parent.name: sum(isinstance(event, events.Started) for event in events.read(path))
            for path in self.folder.root.glob("trials/*/events.jsonl")
        }


def _updates(trial: Path) -> int:
    steps = [0]
    for event in events.read(trial / "events.jsonl"):
        if isinstance(event, events.Ended) or (isinstance(event, events.Saved) and event.what == "checkpoint"):
            steps.append(event.step)
    return max(steps)


def is_whole(run: Run, undisturbed: StudyFolder) -> None:
    assert violations(run.folder, undisturbed=undisturbed) == []


def test_the_cluster_is_asked_for_what_it_has(cluster, tmp_path):
    """`ablate plan` and `ablate doctor`; by hand, a trial that asks for too much."""
    path, asked = studies.write(tmp_path, LONG), ("--set", "resources.executor=ray")
    at = {"RAY_ADDRESS": cluster.address}
    planned = studies.ablate("plan", path, *asked, cwd=tmp_path, more=at)
    named = f"Ray {importlib.metadata.version('ray')} at {cluster.address} (from RAY_ADDRESS)"
    words = " ".join(planned.stdout.split())
    assert f"2 trials at a time, each a placement group of 2 CPUs; {named}, with 2 x 2 CPUs" in words, planned
    found = json.loads(studies.ablate("doctor", "--executor", "ray", "--json", cwd=tmp_path, more=at).stdout)
    assert found["cluster"] == named
    assert sorted(node["cpus"] for node in found["nodes"]) == [0, 2, 2], found
    assert not [words for words in found["problems"] if "node" in words], found
    assert all(node["runs"] for node in found["nodes"]), found
    wide = studies.ablate("run", path, *asked, "--set", "resources.cpus_per_task=3", cwd=tmp_path, more=at)
    assert wide.returncode == 4 and "asks for 3 CPUs; the cluster has 2 x 2 CPUs" in wide.stderr, wide.stderr
    assert "Traceback" not in wide.stderr
    assert [*tmp_path.glob(".probe-*"), *tmp_path.glob("runs/.probe-*")] == []


def test_a_study_is_this_machines_and_a_driver_that_comes_back_finds_its_trials(cluster, undisturbed, tmp_path):
    run = Run(tmp_path, cluster)
    run.begin()
    run.when(run.updates, "a trial writes a checkpoint")
    run.driver.send_signal(signal.SIGHUP)
    assert run.end() == 5 and "jobs go on" in run.said, run.said
    here = studies.ablate("run", tmp_path / "tiny.yaml", cwd=tmp_path)
    assert here.returncode == 4 and "resources.executor=ray" in here.stderr, here.stdout + here.stderr
    run.begin()
    assert run.end() == 0, run.said
    is_whole(run, undisturbed)
    assert {*run.attempts().values()} == {1}, run.said


@pytest.mark.long
def test_an_interruption_ends_everything_and_gives_everything_back(cluster, undisturbed, tmp_path):
    run = Run(tmp_path, cluster)
    run.begin()
    run.when(run.updates, "a trial writes a checkpoint")
    run.driver.send_signal(signal.SIGINT)
    assert run.end() == 5, run.said
    assert not processes.ranks(run.folder.root)
    run.when(lambda: not processes.holders(run.folder.root), "all processes go")
    here = studies.ablate("run", tmp_path / "tiny.yaml", cwd=tmp_path)
    assert here.returncode == 0, here.stdout + here.stderr
    is_whole(run, undisturbed)


def test_two_nodes_with_a_rank_each_are_one_with_two(tmp_path):
    """Also when a rank is killed, and when a node is lost."""
    raycluster.possible()
    import ray

    ray.shutdown()  # a process is a driver of one cluster at a time
    small, study = raycluster.Cluster(nodes=2, cpus=1), tmp_path / "study"
    executor = RayExecutor(study / "ray", 1, Shape(nodes=2), small.address)

    def run(folder: TrialFolder, hurt: Callable[[], object] | None = None) -> Outcome:
        handle = executor.start("run", folder.root, ranks=2, threads=1)
        if hurt:
            studies.wait_until(lambda: any(folder.checkpoints.glob("step-*")), seconds=120, what="a checkpoint")
            hurt()
        studies.wait_until(lambda: handle.poll() is not None, seconds=120, what="the trial ends")
        return handle.poll()

    def kill_a_rank() -> None:
        os.kill(_ranks(study)[1], signal.SIGKILL)

    def lose_a_node() -> None:
        small.lose()
        small.add(1)

    try:
        one, *others = (jobs.alone(study, name, steps=60, every=10, norm="batch", ranks=2) for name in "abcd")
        assert jobs.run(one, ranks=2) == [0, 0], one.log.read_text()
        for folder, hurt in zip(others, (None, kill_a_rank, lose_a_node), strict=True):
            outcome = run(folder, hurt)
            assert outcome.clean == (hurt is None), folder.log.read_text()
            if hurt:
                assert settle(folder.root.name, folder, outcome, attempts=1).next is Next.resume, outcome
                clear(folder)
                assert run(folder).clean, folder.log.read_text()
            assert jobs.facts(folder) == jobs.facts(one)
        assert {path.name for path in (study / "trials").iterdir()} == {*"abcd"}, "torch's agents leave nothing there"
        with pytest.raises(CannotLaunch, match="2 times 2 CPUs; the cluster has 2 x 1 CPUs"):
            executor.start("run", one.root, ranks=4, threads=1)
    finally:
        executor.close()
        small.end()


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.long)])
def test_whatever_is_killed_costs_no_result(undisturbed, tmp_path, times):
    """A driver, an actor, a node and the head, in turn. Nodes that a head leaves behind train on for a while."""
    more = ("--set", f"seeds={2 * times}")  # an orphaned node ends the trial that it has
    undisturbed = undisturbed if times == 1 else alone(tmp_path / "alone", *more)
    run = Run(tmp_path, raycluster.Cluster(), *more)
    struck, clusters = [], [run.cluster]
    run.begin()
    try:
        for victim in VICTIMS * times:
            before = run.updates()
            run.when(lambda before=before: run.over or (run.updates() > before and ranks(run)), f"before {victim}")
            assert not run.over, run.end() or run.said
            assert crowded(run.folder) == []
            strike(run, victim)
            struck.append((victim, sum(run.attempts().values())))
            clusters.append(run.cluster)
        assert run.end() == 0, run.said
        is_whole(run, undisturbed)
        assert sum(run.attempts().values()) >= len(run.attempts()) + 2 * times, struck
    finally:
        for cluster in reversed(list(dict.fromkeys(clusters))):
            cluster.end()


def ranks(run: Run) -> list[int]:
    return _ranks(run.folder.root)


def _ranks(study: Path) -> list[int]:
    return [rank.pid for rank in processes.ranks(study)]


def strike(run: Run, victim: str) -> None:
    """Kill it; what a person has to do then is done."""
    if victim == "driver":
        run.driver.kill()
        run.end()
        run.begin()
    elif victim == "job":
        os.kill(next(pid for pid in above(ranks(run)[0]) if b"ray::" in _command(pid)), signal.SIGKILL)
    elif victim == "node":
        run.cluster.lose(next(at for at, pid in enumerate(run.cluster.pids) if pid in above(ranks(run)[0])))
        run.cluster.add()
    else:
        run.cluster.lose_head()
        assert run.end() == 4 and "does not answer any more" in run.said, run.said
        run.cluster = raycluster.Cluster()
        run.begin()


def above(pid: int) -> list[int]:
    """The processes that a process comes from, its parent first."""
    parents, found = processes.parents(), []
    while (pid := parents.get(pid, 0)) > 1:
        found.append(pid)
    return found


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
