"""The house's one direction: who may load what, asked in a fresh interpreter so that indirect imports count."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import ablate
import reports
import trainers

LEAVES = ["ablate.artifacts", "ablate.clock", "ablate.code", "ablate.disk", "ablate.events", "ablate.failpoints",
          "ablate.processes", "ablate.records"]  # fmt: skip
WORKER_MODULES = {"ablate", *LEAVES}


def loaded_after(code: str) -> set[str]:
    """Top-level and full names in sys.modules after running `code` in a new interpreter."""
    script = f"{code}\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def modules(package) -> list[str]:
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    return sorted(module.name for module in found if not module.name.endswith("__main__"))


def import_all(package) -> str:
    return "\n".join(f"import {name}" for name in modules(package))


def test_the_driver_never_loads_torch():
    assert not loaded_after(import_all(ablate)) & {"torch", "torchvision", "pytorch_msssim"}


def test_the_workers_never_load_the_driver_its_stores_or_the_reports():
    loaded = loaded_after(import_all(trainers))
    assert not loaded & {"optuna", "mlflow", "typer", "pydantic", "reports", "matplotlib", "pandas", "rich"}
    assert {name for name in loaded if name.split(".")[0] == "ablate"} <= WORKER_MODULES


def test_the_reports_load_neither_torch_nor_stores_nor_workers():
    loaded = loaded_after(import_all(reports))
    assert not loaded & {"torch", "optuna", "mlflow", "trainers", "typer", "rasterio"}
    assert {name for name in loaded if name.split(".")[0] == "ablate"} <= WORKER_MODULES


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_leaves_need_the_standard_library_only(leaf):
    bare = loaded_after("")
    new = {name.split(".")[0] for name in loaded_after(f"import {leaf}") - bare} - {"ablate"}
    assert new <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("package", ["reports", "trainers"])
def test_importing_a_package_costs_nothing_heavy(package):
    assert not loaded_after(f"import {package}") & {"torch", "scipy", "pandas", "matplotlib", "numpy"}


HEADS = """
from trainers import families as f
for family in (f.LAYOUTS, f.GENERATORS, f.DISCRIMINATORS, f.OBJECTIVES, f.TERMS, f.METRICS):
    for name in family.names():
        family.part(name)
"""

PLAN = f"""
import os, sys
os.chdir({str(Path(__file__).parent.parent)!r})
sys.argv = ["ablate", "plan", "studies/quick.yaml"]
from ablate.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def test_the_heads_of_all_parts_are_free_of_torch_and_numpy():
    assert not loaded_after(HEADS) & {"torch", "numpy", "scipy", "rasterio"}


def test_ablate_plan_loads_neither_torch_nor_the_stores():
    heavy = {"torch", "mlflow", "optuna", "matplotlib", "pandas", "statsmodels", "scipy"}
    assert not loaded_after(PLAN) & heavy
