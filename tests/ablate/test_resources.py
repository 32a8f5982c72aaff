"""What a study may ask of machines, and what Slurm's words mean for a trial."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ablate.outcome import Next, settle
from ablate.plan import make_plan
from ablate.problems import StudyError
from ablate.records import TrialFolder
from ablate.resources import MOST_JOBS, minutes
from ablate.slurm import Shape
from ablate.slurmqueue import LOST, MEMORY, PREEMPTED, ending
from ablate.study import load
from tests.ablate import studies

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


def test_slurms_options_are_all_in_the_shape_of_a_job(tmp_path):
    study = load(asked(tmp_path, executor="slurm", **OF_SLURM | {"trials_per_job": 1}))
    assert {one.name for one in fields(Shape)} == {*OF_SLURM}
    assert Shape.of(study.resources) == Shape(2, "gpu", 1, 4, 60, "me", ("module load cuda",), 1)


@pytest.mark.parametrize(("stated", "said"), [
    ({"nodes": 3}, "does not divide"),
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
