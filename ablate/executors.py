"""The places where trials can run, by the name that a study gives them."""

from __future__ import annotations

from ablate import machine
from ablate.executor import Executor, LocalExecutor
from ablate.plan import Plan
from ablate.records import StudyFolder
from ablate.slurm import Shape, SlurmExecutor


def make(plan: Plan, folder: StudyFolder) -> Executor:
    """The executor that the plan's study asks for."""
    asked = plan.study.resources
    if asked.executor == "slurm":
        return SlurmExecutor(folder.slurm, plan.slots, Shape.of(asked))
    return LocalExecutor(plan.slots, folder.log, devices=machine.gpus() if plan.device == "cuda" else ())
