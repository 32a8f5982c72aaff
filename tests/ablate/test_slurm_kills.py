"""Whoever is killed on a Slurm of two nodes, thrice each: the driver, a job, a node, the controller."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ablate.records import StudyFolder
from tests import processes, slurm
from tests.ablate import studies
from tests.invariants import violations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

STUDY = (studies.STUDY.replace("generator_updates: 6", "generator_updates: 150").replace("every: 3", "every: 10")
         .replace("seeds: 2", "seeds: 4"))  # fmt: skip
SLOWLY = {"ABLATE_FAILPOINTS": "step=sleep:0.3@1+#0"}  # so that a fast machine is not done before all kills
NODES, PORT = ("n1", "n2"), "16950"
KILLS, SEED = 3, 8  # of each
PATIENCE = 240


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Path]:
    """A Slurm of this file's own, since nodes are killed: its folder."""
    slurm.needed()
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("SLURM_TEST_PORT", PORT)
        start(folder)
        yield folder
        ids = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True).stdout.split()
        subprocess.run(["scancel", *ids], check=False) if ids else None
        for path in folder.glob("*.pid"):
            end(path)


def start(folder: Path) -> None:
    """Start what is missing of the cluster."""
    done = subprocess.run([slurm.START, folder, str(len(NODES))], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


def end(path: Path, number: int = signal.SIGTERM) -> None:
    try:
        os.kill(int(path.read_text()), number)
    except (OSError, ValueError):
        pass  # it has ended


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory) -> StudyFolder:
    """The study as this machine runs it by itself."""
    root = tmp_path_factory.mktemp("undisturbed")
    done = studies.ablate("run", studies.write(root, STUDY), cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return StudyFolder(root / "runs", "tiny")


@dataclass
class Study:
    """A study that runs on the cluster, by one driver after the other."""

    root: Path
    cluster: Path
    more: tuple[str, ...]
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))
    driver: subprocess.Popen | None = None

    def __post_init__(self) -> None:
        self.folder = StudyFolder(self.root / "runs", "tiny")
        self.file = studies.write(self.root, STUDY)
        self.drive()

    def drive(self) -> None:
        self.driver = studies.start("run", self.file, *self.more, cwd=self.root, more=SLOWLY)

    def kept(self) -> dict[Path, int]:
        """Checkpoints that each stream tells of."""
        streams = self.folder.root.glob("trials/*/events.jsonl")
        return {path: path.read_bytes().count(b'"checkpoint"') for path in streams}

    def goes_on(self) -> bool:
        """Wait for a new checkpoint of any trial; whether the study has work left."""
        before, until = self.kept(), time.monotonic() + PATIENCE
        while self.kept() == before:
            if self.driver.poll() is not None:
                return False
            assert time.monotonic() < until, f"no checkpoint within {PATIENCE} s: {squeue('%i %j %T %r %N')}"
            administer(self.cluster)
            time.sleep(0.2)
        return True

    def kill_driver(self) -> None:
        self.driver.kill()
        self.driver.communicate()
        self.drive()

    def kill_job(self) -> None:
        ids = [line.split()[0] for line in squeue("%i %T %j") if " RUNNING ablate-" in line]
        if ids:
            subprocess.run(["scancel", self.dice.choice(ids)], check=True)

    def kill_node(self) -> None:
        """The node's daemon, those of its jobs, and all below them; it comes back when Slurm has missed it."""
        node = self.dice.choice(NODES)
        path = self.cluster / f"slurmd.{node}.pid"
        steps = [step for step in processes.living() if is_step(step, self.cluster / f"spool.{node}")]
        for pid in (int(path.read_text()), *steps, *(below for step in steps for below in processes.descendants(step))):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: "DOWN" in state(node), f"{node} is missed")
        start(self.cluster)

    def kill_server(self) -> None:
        end(self.cluster / "slurmctld.pid", signal.SIGKILL)
        time.sleep(3)
        start(self.cluster)


def is_step(pid: int, spool: Path) -> bool:
    """Whether a process is slurmstepd of a node: what holds files in its spool."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False
    return name.startswith("slurmstepd") and any(file.is_relative_to(spool) for file in processes.open_files(pid))


def squeue(what: str) -> list[str]:
    return subprocess.run(["squeue", "-h", "-o", what], capture_output=True, text=True).stdout.splitlines()


def state(node: str) -> str:
    """What Slurm holds of a node, as DOWN+DRAIN+NOT_RESPONDING."""
    said = subprocess.run(["scontrol", "show", "node", node, "--oneliner"], capture_output=True, text=True).stdout
    return said.partition(" State=")[2].partition(" ")[0]


def administer(cluster: Path) -> None:
    """As who runs a cluster would: let jobs that Slurm keeps for two minutes begin, and drained nodes work again."""
    if any("DRAIN" in state(node) for node in NODES):
        start(cluster)
    for line in squeue("%i %T %r"):
        id, *why = line.split(maxsplit=2)
        if why == ["PENDING", "BeginTime"]:
            subprocess.run(["scontrol", "update", f"JobId={id}", "StartTime=now"], check=False)


def wait_until(condition: Callable[[], object], what: str) -> None:
    studies.wait_until(lambda: bool(condition()), seconds=PATIENCE, what=what)


@pytest.fixture
def study(cluster, undisturbed, tmp_path) -> Iterator[Study]:
    began = Study(tmp_path, cluster, ("--set", "resources.executor=slurm"))
    yield began
    if began.driver.poll() is None:  # the test has failed
        began.driver.kill()
        began.driver.communicate()


def test_kills_of_driver_jobs_nodes_and_controller_cost_no_result(study, undisturbed):
    deeds = [study.kill_driver, study.kill_job, study.kill_node, study.kill_server] * KILLS
    study.dice.shuffle(deeds)
    done = []
    for deed in deeds:
        if not study.goes_on():
            break
        deed()
        done.append(deed.__name__)
    said = finish(study)
    assert study.driver.returncode == 0, said
    assert len(done) == len(deeds), f"the study ended before all kills: {done}"
    assert violations(study.folder, undisturbed=undisturbed) == []
    assert not squeue("%i")


def finish(study: Study) -> str:
    """Wait for the driver, with jobs let go meanwhile."""
    until = time.monotonic() + PATIENCE
    while study.driver.poll() is None:
        assert time.monotonic() < until, squeue("%i %j %T %r")
        administer(study.cluster)
        time.sleep(0.5)
    return study.driver.communicate()[0]


def test_ranks_on_two_nodes_give_the_numbers_of_one(cluster, tmp_path):
    start(cluster)
    alone, apart = tmp_path / "alone", tmp_path / "apart"
    for root, more in ((alone, ()), (apart, ("executor=slurm", "nodes=2", "slots=1"))):
        root.mkdir()
        options = [word for one in more for word in ("--set", f"resources.{one}")]
        done = studies.ablate("run", studies.write(root), *options, cwd=root)
        assert done.returncode == 0, done.stdout + done.stderr
    folder = StudyFolder(apart / "runs", "tiny")
    assert violations(folder, undisturbed=StudyFolder(alone / "runs", "tiny")) == []
    assert any("--nodes=2" in path.read_text() for path in folder.slurm.glob("log/*.sh"))
