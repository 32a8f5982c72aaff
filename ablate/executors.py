"""The places where trials can run, by the name that a study gives them."""

from __future__ import annotations

from ablate import machine, raycluster, slurmqueue
from ablate.executor import CannotLaunch, Executor, LocalExecutor
from ablate.plan import Plan
from ablate.rayexecutor import RayExecutor
from ablate.rayexecutor import Shape as RayShape
from ablate.records import StudyFolder
from ablate.resources import RAY, SLURM
from ablate.slurm import Shape, SlurmExecutor


def check(plan: Plan, folder: StudyFolder) -> None:
    """Raises CannotLaunch where one executor is to train what jobs of another's still train."""
    asked = plan.study.resources.executor
    jobs = [] if asked == SLURM else slurmqueue.alive(folder.slurm)
    if jobs is None:
        raise CannotLaunch(
            f"jobs of Slurm may still train trials of this study, as {folder.slurm} says, and squeue does not answer"
            " here; follow them with --set resources.executor=slurm where it does, or remove it if no job is left"
        )
    if jobs:
        raise CannotLaunch(
            f"jobs of Slurm still wait or run for this study: {_some(jobs)}; follow them with"
            " --set resources.executor=slurm, or end them with scancel"
        )
    if asked != RAY and (trials := raycluster.alive(folder.ray)):
        raise CannotLaunch(
            f"actors of Ray still train trials of this study: {_some(trials)}; follow them with"
            f" --set resources.executor=ray, or remove {folder.ray}, on which they end"
        )


def make(plan: Plan, folder: StudyFolder) -> Executor:
    """The executor that the plan's study asks for."""
    asked = plan.study.resources
    if asked.executor == SLURM:
        return SlurmExecutor(folder.slurm, plan.slots, Shape.of(asked))
    if asked.executor == RAY:
        return RayExecutor(folder.ray, plan.slots, RayShape.of(asked), asked.address)
    return LocalExecutor(plan.slots, folder.log, devices=machine.gpus() if plan.device == "cuda" else ())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + " ..." * (len(names) > 3)
