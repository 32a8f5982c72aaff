"""A real Slurm of one node, for tests."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

START = Path(__file__).with_name("start.sh")
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")


@functools.cache
def why_not() -> str:
    """Why there is none; empty once one answers. It is started once a machine, and left running."""
    if missing := [tool for tool in NEEDED if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not installed (apt-get install slurm-wlm munge)"
    if os.geteuid() != 0 and "SLURM_CONF" not in os.environ:
        return "starting Slurm's daemons needs root"
    folder = Path(tempfile.gettempdir()) / "ablate-test-slurm"
    os.environ.setdefault("SLURM_CONF", str(folder / "slurm.conf"))
    command = ["flock", "--close", f"{folder}.lock", str(START), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    return "" if done.returncode == 0 else f"Slurm does not start here: {done.stderr.strip()}"


def needed() -> None:
    """Skip the test where there can be no Slurm, and say why."""
    if why := why_not():
        pytest.skip(why)
