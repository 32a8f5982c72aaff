"""What a study may ask of machines, and what Slurm's words mean for a trial."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ablate.executor import CannotLaunch
from ablate.outcome import Next, settle
from ablate.plan import make_plan
from ablate.problems import StudyError
from ablate.raycluster import Node, connect, side_by_side
from ablate.rayexecutor import Shape as RayShape
from ablate.rayslot import Need
from ablate.records import TrialFolder
from ablate.resources import MOST_JOBS, minutes
from ablate.slurm import Shape
from ablate.slurmqueue import LOST, MEMORY, PREEMPTED, ending
from ablate.study import load
from tests.ablate import studies
from trainers.pool import Job

OF_SLURM = {"partition": "gpu", "nodes": 2, "gpus_per_node": 1, "cpus_per_task": 4, "time": 60, "account": "me",
            "setup": ["module load cuda"], "trials_per_job": 3}  # fmt: skip


def asked(tmp_path: Path, **resources) -> Path:
    import json

    stated = json.dumps({"ranks": 2, **resources})
    return studies.write(tmp_path, studies.STUDY.replace("resources: {ranks: 2}", f"resources: {stated}"))


@pytest.mark.parametrize("option", OF_SLURM)
def test_what_is_slurms_needs_slurm(tmp_path, option):
    with pytest.raises(StudyError, match=rf"resources\.{option}.*executor: slurm"):
        load(asked(tmp_path, **{option: OF_SLURM[option]}))
    assert load(asked(tmp_path, executor="slurm", **{option: OF_SLURM[option]}))


OF_RAY = {"nodes": 2, "gpus_per_node": 1, "cpus_per_task": 4, "address": "head:6379"}


@pytest.mark.parametrize("option", OF_RAY)
def test_what_is_rays_needs_ray(tmp_path, option):
    with pytest.raises(StudyError, match=rf"resources\.{option}.*executor: .*ray"):
        load(asked(tmp_path, **{option: OF_RAY[option]}))
    assert load(asked(tmp_path, executor="ray", **{option: OF_RAY[option]}))


@pytest.mark.parametrize("option", sorted({*OF_SLURM} - {*OF_RAY}))
def test_what_is_slurms_alone_is_not_rays(tmp_path, option):
    with pytest.raises(StudyError, match=rf"resources\.{option}: is for executor slurm; take it away"):
        load(asked(tmp_path, executor="ray", **{option: OF_SLURM[option]}))


@pytest.mark.parametrize(("stated", "kind", "ranks", "need"), [
    ({}, "run", 2, Need(1, 2, 0)),
    ({"threads": 3}, "run", 2, Need(1, 6, 0)),
    ({"nodes": 2, "gpus_per_node": 1}, "run", 2, Need(2, 1, 1)),
    ({"cpus_per_task": 8, "gpus_per_node": 2}, "run", 2, Need(1, 8, 2)),
    ({"nodes": 2, "gpus_per_node": 1}, "references", 1, Need(1, 1, 0)),
])  # fmt: skip
def test_what_a_trial_asks_ray_for(tmp_path, stated, kind, ranks, need):
    resources = load(asked(tmp_path, executor="ray", **stated)).resources
    assert RayShape.of(resources).need(Job(kind, "", ranks, resources.threads)) == need


@pytest.mark.parametrize(("need", "room"), [
    (Need(1, 2, 0), 6), (Need(1, 4, 0), 3), (Need(2, 4, 0), 1), (Need(1, 1, 1), 4), (Need(2, 1, 2), 1),
    (Need(1, 16, 0), 0), (Need(1, 1, 8), 0), (Need(4, 4, 0), 0),
])  # fmt: skip
def test_the_room_of_a_cluster_is_counted_node_by_node(need, room):
    assert side_by_side(need, [Node("a", "a", 8, 4), Node("b", "b", 5, 0), Node("head", "head", 0, 0)]) == room


def test_slurms_options_are_all_in_the_shape_of_a_job(tmp_path):
    study = load(asked(tmp_path, executor="slurm", **OF_SLURM | {"trials_per_job": 1}))
    assert {one.name for one in fields(Shape)} == {*OF_SLURM}
    assert Shape.of(study.resources) == Shape(2, "gpu", 1, 4, 60, "me", ("module load cuda",), 1)


@pytest.mark.parametrize(("stated", "said"), [
    ({"nodes": 3}, r"resources\.nodes: 2 ranks \(arm base\) can't be shared out over 3 nodes"),
    ({"nodes": 2, "trials_per_job": 2}, "stay on one node"),
    ({"time": "10:00"}, "expected minutes"),
    ({"time": "00:00:30"}, "expected minutes"),
    ({"time": 0}, "expected"),
])  # fmt: skip
def test_what_cant_be_is_refused_where_it_stands(tmp_path, stated, said):
    with pytest.raises(StudyError, match=said):
        make_plan(load(asked(tmp_path, executor="slurm", **stated)))


@given(some.integers(0, 400), some.integers(0, 23), some.integers(0, 59), some.integers(0, 59))
def test_a_time_is_read_as_slurm_writes_it(days, hours, rest, seconds):
    text = f"{f'{days}-' if days else ''}{hours:02}:{rest:02}:{seconds:02}"
    assert minutes(text) == (days * 24 + hours) * 60 + rest


@pytest.mark.parametrize("text", ["", "UNLIMITED", "NONE", "10", "1:2", "-01:00:00", "a-01:00:00", "1-2"])
def test_what_is_no_time_is_none(text):
    assert minutes(text) is None


def test_the_place_does_not_enter_a_trials_identity(tmp_path):
    here = make_plan(load(asked(tmp_path)))
    more = OF_SLURM | {"trials_per_job": 1, "gpus_per_node": None}
    there = make_plan(load(asked(tmp_path, executor="slurm", **more)))
    assert [*here.specs] == [*there.specs] and here.to_json()["hash"] == there.to_json()["hash"]
    assert there.slots == min(len(there.specs), MOST_JOBS)


def test_gpus_of_the_cluster_make_the_device(tmp_path):
    assert make_plan(load(asked(tmp_path, executor="slurm", gpus_per_node=2))).device == "cuda"
    assert make_plan(load(asked(tmp_path, executor="slurm", gpus_per_node=2, device="cpu"))).device == "cpu"


@pytest.mark.parametrize(("states", "after"), [
    (PREEMPTED, Next.preempted), (MEMORY, Next.fail), (LOST, Next.resume), (["LAUNCH_FAILED", "REVOKED"], Next.resume),
])  # fmt: skip
def test_every_last_state_of_a_job_has_its_kind(tmp_path, states, after):
    for state in states:
        settled = settle("trial", TrialFolder(tmp_path), ending(state), attempts=1)
        assert settled.next is after and settled.why


def test_without_slurm_a_study_says_what_is_missing(tmp_path):
    path = asked(tmp_path, executor="slurm")
    done = studies.ablate("run", path, cwd=tmp_path, more={"PATH": ""})
    assert done.returncode == 4 and "sbatch" in done.stderr + done.stdout and "Traceback" not in done.stderr


def test_rays_client_is_no_way_to_a_cluster():
    pytest.importorskip("ray")
    with pytest.raises(CannotLaunch, match="expected the head's own HOST:PORT"):
        connect("ray://head:10001")


def test_without_a_cluster_a_study_says_so_and_is_planned_all_the_same(tmp_path):
    pytest.importorskip("ray")
    path = asked(tmp_path, executor="ray", address="127.0.0.1:1")
    done = studies.ablate("run", path, cwd=tmp_path)
    assert done.returncode == 4 and "nothing answers at 127.0.0.1:1" in done.stderr and "Traceback" not in done.stderr
    planned = studies.ablate("plan", path, cwd=tmp_path)
    assert planned.returncode == 0 and "each a placement group of 2 CPUs" in planned.stdout
    found = studies.ablate("doctor", "--executor", "ray", cwd=tmp_path, more={"RAY_ADDRESS": "127.0.0.1:1"})
    assert found.returncode == 4 and "RAY_ADDRESS" in found.stdout, found.stdout + found.stderr


def test_what_the_command_line_has_set_is_refused_there(tmp_path):
    path = asked(tmp_path, executor="slurm", nodes=1)
    for setting in ("resources.nodes=5", "resources={executor: slurm, ranks: 2, nodes: 5}"):
        with pytest.raises(StudyError) as raised:
            make_plan(load(path, sets=["resources.nodes=2", setting, "seeds=1"]))
        said = "2 ranks (arm base) can't be shared out over 5 nodes"
        assert str(raised.value) == f"--set {setting}: resources.nodes: {said}"
    with pytest.raises(StudyError) as raised:
        make_plan(load(asked(tmp_path, executor="slurm", nodes=5), sets=["seeds=1"]))
    assert str(raised.value) == f"{path}: resources.nodes: {said}"
