"""What this machine offers, found without importing torch."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU time in each period, and the period


def cores(quota: Path = QUOTA) -> int:
    """CPU cores that this process may use: those it may run on, or as many as a container's quota amounts to."""
    allowed = len(os.sched_getaffinity(0))
    try:
        time, period = quota.read_text().split()
        return max(1, min(allowed, int(time) // int(period)))
    except (OSError, ValueError):  # there is none: the file is missing, or says `max`
        return allowed


def gpus() -> tuple[str, ...]:
    """Names of the CUDA devices that a worker would see, as CUDA_VISIBLE_DEVICES has them; none beside a CPU torch."""
    if "+cpu" in _version("torch"):
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(device.strip() for device in visible.split(",") if device.strip() not in ("", "-1"))
    return tuple(map(str, range(len(_asked_of_nvidia("index")))))


def gpu_memory() -> int:
    """Bytes of the smallest CUDA device that nvidia-smi lists; 0 where it says nothing."""
    return min((int(size) * 2**20 for size in _asked_of_nvidia("memory.total")), default=0)


def _asked_of_nvidia(what: str) -> list[str]:
    """A number for each device; none where there is no driver, or one that does not answer: of no use to a worker."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False).stdout
    except (subprocess.TimeoutExpired, OSError):
        return []
    return [line.strip() for line in said.splitlines() if line.strip().isdigit()]


def beside(slots: int, devices: int) -> int:
    """Trials that one of so many devices holds at most, when they are shared out in turn; 1 where each has its own."""
    return max(1, -(-slots // devices)) if devices else 1


def device(kind: str, *, ranks: int) -> str:
    """`cpu` or `cuda`; `auto` takes CUDA where there is a GPU for each of a trial's ranks."""
    return ("cuda" if len(gpus()) >= ranks else "cpu") if kind == "auto" else kind


def slots(asked: int | str, *, trials: int, ranks: int, threads: int, device: str) -> int:
    """How many trials run side by side, as long as there are trials; `auto` fills the cores, or gives each trial its
    GPUs."""
    if asked != "auto":
        return max(1, min(int(asked), trials))
    room = len(gpus()) // ranks if device == "cuda" else cores() // (ranks * threads)
    return max(1, min(room, trials))


def memory(total: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory; 0 where the system does not say."""
    try:
        lines = total.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")), 0)


def room(device: str) -> str:
    """What `auto` shares out, in words."""
    number, noun = (len(gpus()), "GPU") if device == "cuda" else (cores(), "core")
    return f"{number} {noun}{'s' * (number != 1)}"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


PACKAGES = (
    "torch",
    "torchvision",
    "mlflow",
    "optuna",
    "pytorch-msssim",
    "rasterio",
    "pandas",
    "typer",
    "numpy",
    "scipy",
)


def versions() -> dict[str, str]:
    """Installed versions of the packages that matter; empty where one is missing."""
    return {name: _version(name) for name in PACKAGES}
