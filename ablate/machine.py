"""What this machine offers, found without importing torch."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def gpus() -> tuple[str, ...]:
    """Names of the CUDA devices that a worker would see, as CUDA_VISIBLE_DEVICES has them; none beside a CPU torch."""
    if "+cpu" in _version("torch"):
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(device.strip() for device in visible.split(",") if device.strip() not in ("", "-1"))
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (subprocess.TimeoutExpired, OSError):
        return ()  # a driver that does not answer is of no use to a worker either
    found = [line for line in listing.stdout.splitlines() if line.startswith("GPU ")]
    return tuple(map(str, range(len(found))))


def device(kind: str, *, ranks: int) -> str:
    """`cpu` or `cuda`; `auto` takes CUDA where there is a GPU for each of a trial's ranks."""
    return ("cuda" if len(gpus()) >= ranks else "cpu") if kind == "auto" else kind


def slots(asked: int | str, *, ranks: int, threads: int, device: str) -> int:
    """How many trials run side by side; `auto` fills the cores, or gives each trial its GPUs."""
    if asked != "auto":
        return int(asked)
    return max(1, len(gpus()) // ranks) if device == "cuda" else max(1, cores() // (ranks * threads))


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
