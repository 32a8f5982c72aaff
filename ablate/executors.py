"""The places where trials can run, by the name that a study gives them."""

from __future__ import annotations

from ablate import machine, slurmqueue
from ablate.executor import CannotLaunch, Executor, LocalExecutor
from ablate.plan import Plan
from ablate.records import StudyFolder
from ablate.resources import LOCAL, SLURM
from ablate.slurm import Shape, SlurmExecutor


def check(plan: Plan, folder: StudyFolder) -> None:
    """Raises CannotLaunch where this machine is to train what jobs of another executor's still train."""
    if plan.study.resources.executor == LOCAL and (jobs := slurmqueue.alive(folder.slurm)):
        some = ", ".join(jobs[:3]) + " ..." * (len(jobs) > 3)
        raise CannotLaunch(
            f"jobs of Slurm still wait or run for this study: {some}; follow them with --set resources.executor=slurm,"
            " or end them with scancel"
        )


def make(plan: Plan, folder: StudyFolder) -> Executor:
    """The executor that the plan's study asks for."""
    asked = plan.study.resources
    if asked.executor == SLURM:
        return SlurmExecutor(folder.slurm, plan.slots, Shape.of(asked))
    return LocalExecutor(plan.slots, folder.log, devices=machine.gpus() if plan.device == "cuda" else ())
