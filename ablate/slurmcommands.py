"""Slurm's own commands: run without what the user's environment would change in their answers, and in our jobs."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

log = logging.getLogger(__name__)

TIMEOUT = 20  # seconds for a command
# Options that a user sets for each command; and of an allocation in which the driver runs, what srun would obey too.
OPTIONS = ("SBATCH_", "SQUEUE_", "SCANCEL_", "SCONTROL_", "SINFO_", "SRUN_", "SLURM_")
# What says which cluster it is, and who asks.
CLUSTER = {"SLURM_CONF", "SLURM_CLUSTERS", "SBATCH_CLUSTERS", "SLURM_JWT", "SLURM_SACK_SOCKET", "SLURM_SACK_KEY"}
# How users name what no study can.
LEFT_OPEN = {"SBATCH_QOS", "SBATCH_RESERVATION", "SBATCH_CONSTRAINT", "SBATCH_CLUSTER_CONSTRAINT", "SBATCH_EXCLUSIVE",
             "SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU", "SBATCH_MEM_PER_NODE"}  # fmt: skip
PARTITION, ACCOUNT = "SBATCH_PARTITION", "SBATCH_ACCOUNT"  # where the study names none: they beat a script's

_silent: dict[str, float] = {}  # commands that fail, since when


def environment(*, partition: str | None = None, account: str | None = None) -> dict[str, str]:
    """The environment for a job that names these itself, or leaves them to the user."""
    kept = CLUSTER | LEFT_OPEN | ({PARTITION} if not partition else set()) | ({ACCOUNT} if not account else set())
    return {name: value for name, value in os.environ.items() if not name.startswith(OPTIONS) or name in kept}


@contextmanager
def submitting(*, partition: str | None = None, account: str | None = None) -> Iterator[None]:
    """This process has that environment meanwhile: submitit hands it to sbatch, and sbatch to the job."""
    kept = environment(partition=partition, account=account)
    removed = {name: os.environ.pop(name) for name in list(os.environ) if name not in kept}
    try:
        yield
    finally:
        os.environ.update(removed)


def partitions(stated: str | None) -> tuple[str, ...]:
    """Names of the partitions that jobs go to; none for the cluster's default."""
    return tuple(filter(None, (stated or os.environ.get(PARTITION, "")).split(",")))


def ask(*words: str) -> str | None:
    """What a command prints; None where it fails, as a busy controller lets it: said once, and when that is over."""
    try:
        said = run(*words)
    except (OSError, subprocess.SubprocessError) as error:
        if words[0] not in _silent:
            log.warning("Slurm does not answer %s: %s; jobs go on, and it is asked again", words[0], reason(error))
        _silent.setdefault(words[0], time.monotonic())
        return None
    if words[0] in _silent:
        log.warning("Slurm answers %s again, after %.0f s", words[0], time.monotonic() - _silent.pop(words[0]))
    return said


def run(*words: str) -> str:
    """What a command prints. Raises OSError, subprocess.SubprocessError."""
    options = {"capture_output": True, "text": True, "errors": "replace", "timeout": TIMEOUT, "check": True}
    return subprocess.run(words, env=environment(), **options).stdout


def reason(error: BaseException) -> str:
    """Why a command failed, in a line."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"nothing within {error.timeout:.0f} s"
    if isinstance(error, subprocess.CalledProcessError):
        return last_line(error.stderr or error.output or f"it ended with code {error.returncode}")
    return last_line(str(error)) or type(error).__name__


def last_line(text: str) -> str:
    """Of what a command has printed; empty where that is nothing."""
    return (text.strip().splitlines() or [""])[-1].strip()


def facts(line: str) -> Mapping[str, str]:
    """Of a line that scontrol prints."""
    return dict(word.partition("=")[::2] for word in line.split())
