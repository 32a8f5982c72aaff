"""The places where trials can run, by the name that a study gives them."""

from __future__ import annotations

from ablate import machine, slurmqueue
from ablate.executor import CannotLaunch, Executor, LocalExecutor
from ablate.plan import Plan
from ablate.records import StudyFolder
from ablate.slurm import Shape, SlurmExecutor


def make(plan: Plan, folder: StudyFolder) -> Executor:
    """The executor that the plan's study asks for. Raises CannotLaunch while jobs of another one live."""
    asked = plan.study.resources
    if asked.executor == "slurm":
        return SlurmExecutor(folder.slurm, plan.slots, Shape.of(asked))
    if jobs := slurmqueue.alive(folder.slurm):
        some = ", ".join(jobs[:3]) + " ..." * (len(jobs) > 3)
        raise CannotLaunch(
            f"jobs of Slurm still wait or run for this study: {some}; follow them with --set resources.executor=slurm,"
            " or end them with scancel"
        )
    return LocalExecutor(plan.slots, folder.log, devices=machine.gpus() if plan.device == "cuda" else ())
