"""How many trials share a GPU: by figures of earlier trials, by hand, or one where nothing is known."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from ablate import events, executor, machine, packing
from ablate.executor import CannotLaunch, LocalExecutor
from ablate.plan import make_plan
from ablate.plan_words import describe
from ablate.planning import document
from ablate.preconditions import CannotRun, check_machine
from ablate.records import StudyFolder
from ablate.study import load
from reports import foresight
from tests.ablate import studies

GB = 2**30


def taken(beside: int, speed: float, *, peak: float = 10.0) -> packing.Taken:
    return packing.Taken("recipe", beside, int(peak * GB), speed)


@pytest.mark.parametrize(("found", "most", "each"), [
    ([taken(1, 100.0)], 16, 6),  # 80 GB, of which 64 are filled: six of 10.6
    ([taken(1, 100.0)], 4, 4),  # no more than there are cores for
    ([taken(1, 100.0, peak=70.0)], 16, 1),
    ([taken(1, 100.0), taken(1, 100.0, peak=30.0)], 16, 2),  # the largest must fit
    ([taken(1, 100.0), taken(6, 30.0)], 16, 6),  # 180 images a second together
    ([taken(1, 100.0), taken(6, 15.0)], 16, 1),  # 90: they hinder each other
    ([taken(1, 100.0), taken(4, 40.0), taken(6, 20.0)], 16, 4),
    ([taken(1, 100.0), taken(6, 100 / 6)], 16, 1),  # of equals the fewest
    ([taken(8, 30.0)], 16, 1),  # more than would fit were set by hand
    ([taken(1, 100.0)], 0, 1),
])  # fmt: skip
def test_as_many_share_a_gpu_as_fit_and_as_do_more_together(found, most, each):
    assert packing.together(found, memory=80 * GB, most=most) == each


# -- plans --------------------------------------------------------------------------------------


@pytest.fixture
def one_gpu(monkeypatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ("0",))
    monkeypatch.setattr(machine, "gpu_memory", lambda: 80 * GB)
    monkeypatch.setattr(machine, "cores", lambda: 16)


def planned(root: Path, **resources):
    text = studies.STUDY.replace("{ranks: 2}", str({"device": "cuda", **resources}).replace("'", ""))
    return make_plan(load(studies.write(root, text)))


def write_trials(plan, runs: Path, *, of: int | None = None, beside: int = 1, peak: int | None = 10 * GB,
                 seconds: float = 1.0, status: str = "done", starts: int = 1) -> None:  # fmt: skip
    """Streams of the plan's first trials, as a CUDA device would have them."""
    folder = StudyFolder(runs, plan.study.name)
    for id in list(plan.specs)[:of]:
        writer = events.EventWriter(folder.trial(id).events, clock=lambda: 0.0)
        for _ in range(starts):
            writer.append(events.Started, world_size=1, threads=1, device="a GPU", beside=beside)
        writer.append(events.Ended, step=6, images=100, status=status, seconds=seconds, peak_memory=peak)
        writer.close()


@pytest.mark.usefixtures("one_gpu")
def test_a_study_that_goes_on_shares_its_gpu_by_what_it_has_measured(tmp_path):
    plan = planned(tmp_path)
    assert plan.slots == 1 and packing.packed(plan, tmp_path / "runs").slots == 1
    write_trials(plan, tmp_path / "runs", of=2)  # every arm once
    assert packing.packed(plan, tmp_path / "runs").slots == min(6, len(plan.specs)) == 4


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize("given", [
    {"of": 1}, {"peak": None}, {"status": "diverged"}, {"starts": 2}, {"seconds": 0.0}, {"peak": 79 * GB},
])  # fmt: skip
def test_without_figures_of_every_recipe_nothing_is_guessed(tmp_path, given):
    plan = planned(tmp_path)
    write_trials(plan, tmp_path / "runs", **given)
    assert packing.packed(plan, tmp_path / "runs").slots == 1


@pytest.mark.usefixtures("one_gpu")
def test_what_is_set_by_hand_stands(tmp_path):
    plan = planned(tmp_path, slots=2)
    write_trials(plan, tmp_path / "runs")
    assert packing.packed(plan, tmp_path / "runs").slots == 2


@pytest.mark.usefixtures("one_gpu")
def test_trials_that_hinder_each_other_are_given_a_gpu_each_again(tmp_path):
    plan = planned(tmp_path)
    write_trials(plan, tmp_path / "runs", of=2)
    for id in list(plan.specs)[2:]:
        path = StudyFolder(tmp_path / "runs", "tiny").trial(id).events
        writer = events.EventWriter(path, clock=lambda: 0.0)
        writer.append(events.Started, world_size=1, threads=1, device="a GPU", beside=6)
        writer.append(events.Ended, step=6, images=100, status="done", seconds=10.0, peak_memory=10 * GB)
        writer.close()
    assert packing.packed(plan, tmp_path / "runs").slots == 1


@pytest.mark.usefixtures("one_gpu")
def test_trials_of_one_rank_may_be_put_on_one_gpu_by_hand(tmp_path):
    plan = planned(tmp_path, slots=4)
    check_machine(plan, tmp_path / "runs")
    said = describe(plan, document(plan, tmp_path / "runs", foresight))
    assert "4 trials at a time\nup to 4 trials share a GPU, and its memory" in said


@pytest.mark.usefixtures("one_gpu")
def test_ranks_of_a_trial_never_share_one(tmp_path):
    plan = planned(tmp_path, ranks=2, slots=2)
    with pytest.raises(CannotRun, match="2 trials side by side with 2 ranks each need 4 GPUs, this machine shows 1"):
        check_machine(plan, tmp_path / "runs")


def test_without_a_gpu_there_is_none_to_share(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "gpus", lambda: ())
    with pytest.raises(CannotRun, match="this machine shows 0"):
        check_machine(replace(planned(tmp_path, slots=1), device="cuda"), tmp_path / "runs")


def test_a_way_that_there_is_not_stops_a_study_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATE_CUDA", "graphs")
    with pytest.raises(CannotRun, match="^ABLATE_CUDA=graphs: no such way: 'graphs'"):
        check_machine(planned(tmp_path, device="cpu"), tmp_path / "runs")


# -- slots --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slots", "devices", "shares", "beside"), [
    (1, (), [None], [1]), (3, (), [None] * 3, [1] * 3), (2, ("0", "1"), ["0", "1"], [1, 1]),
    (2, ("0", "1", "2", "3", "4"), ["0,1", "2,3"], [1, 1]), (4, ("0",), ["0"] * 4, [4] * 4),
    (3, ("7", "9"), ["7", "9", "7"], [2, 1, 2]), (5, ("0", "1"), ["0", "1", "0", "1", "0"], [3, 2, 3, 2, 3]),
])  # fmt: skip
def test_a_slot_knows_its_devices_and_how_many_share_them(tmp_path, monkeypatch, slots, devices, shares, beside):
    started = []

    class Launcher:
        alive = busy = False

        def __init__(self, log, slot, share, among):
            self.slot = slot
            started.append((share, among))

        def end(self) -> None:
            pass

    monkeypatch.setattr(executor, "Launcher", Launcher)
    local = LocalExecutor(slots, tmp_path / "log", devices=devices)
    local.warm_up()
    local.close()
    assert started == list(zip(shares, beside, strict=True))
    assert max(beside) == machine.beside(slots, len(devices))


# -- nvidia-smi ---------------------------------------------------------------------------------


def tool(folder: Path, monkeypatch, script: str) -> None:
    """A command in place of nvidia-smi, alone on the path with what a shell needs."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(("script", "found"), [
    ("printf '81559\\n'", 81559 * 2**20), ("printf '81559\\n40960\\n'", 40960 * 2**20), ("exit 9", 0),
    ("echo 'NVIDIA-SMI has failed'", 0), ("printf '[N/A]\\n'", 0),
])  # fmt: skip
def test_the_memory_of_the_smallest_gpu_is_asked_of_its_tool(tmp_path, monkeypatch, script, found):
    tool(tmp_path, monkeypatch, f'case "$*" in *memory.total*) {script};; esac')
    assert machine.gpu_memory() == found


@pytest.mark.parametrize(("script", "found"), [
    ("printf '0\\n1\\n'", ("0", "1")), ("exit 9", ()), ("echo 'No devices were found'", ()),
])  # fmt: skip
def test_the_gpus_are_asked_of_its_tool(tmp_path, monkeypatch, script, found):
    tool(tmp_path, monkeypatch, f'case "$*" in *index*) {script};; esac')
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "_version", lambda distribution: "2.11.0")
    assert machine.gpus() == found


def test_without_the_tool_there_is_no_gpu_and_no_memory_to_fill(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "_version", lambda distribution: "2.11.0")
    assert machine.gpu_memory() == 0 and machine.gpus() == ()


def test_more_slots_than_trials_are_as_many_as_trials(tmp_path):
    assert planned(tmp_path, slots=999).slots == len(planned(tmp_path, slots=1).specs)
    assert planned(tmp_path, slots=999, executor="slurm", device="cpu").slots == len(planned(tmp_path, slots=1).specs)


def test_processes_that_memory_cannot_hold_are_refused_with_figures(tmp_path, monkeypatch):
    plan = planned(tmp_path, slots=2, device="cpu")
    monkeypatch.setattr(machine, "memory", lambda: GB // 4)
    with pytest.raises(CannotRun, match=r"resources.slots: 2 trials side by side .* this machine has 0.2 GiB"):
        check_machine(plan, tmp_path / "runs")
    monkeypatch.setattr(machine, "memory", lambda: 0)  # unknown
    check_machine(plan, tmp_path / "runs")


def test_this_machine_says_how_much_memory_it_has(tmp_path):
    assert machine.memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024 * 1024
    assert machine.memory(tmp_path / "none") == 0


def test_a_launcher_that_does_not_start_says_why_and_where_to_look(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho AF_UNIX path too long >&2\nexit 3\n")
    python.chmod(0o700)
    monkeypatch.setattr(executor.sys, "executable", str(python))
    local = LocalExecutor(1, tmp_path / "driver.log")
    local.warm_up()
    local._launchers[0].process.wait()
    with pytest.raises(CannotLaunch, match=r"ended with code 3 .* \(AF_UNIX path too long\); see .*driver.log$"):
        local._launchers[0].poll()
    local.close()
