"""`ablate doctor`: what works on this machine, tried rather than assumed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ablate import doctor_stores, machine, raydoctor, slurmqueue, space
from ablate.events import CorruptStream
from ablate.plan import make_plan
from ablate.preconditions import no_address
from ablate.problems import StudyError
from ablate.records import StudyFolder
from ablate.resources import LOCAL, RAY, SLURM
from ablate.searchplan import restored
from ablate.stored import Damaged
from ablate.study import load
from trainers.pairs import DataError

# Asked in a process of its own: the driver never imports torch.
PROBE = """
import json, torch, torch.distributed as dist
print(json.dumps({"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available(),
    "cuda": torch.cuda.is_available(),
    "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]}))
"""


def examine(runs: Path, executor: str = LOCAL) -> dict[str, Any]:
    """Facts and findings; `ok` is False when a study can't run here, or can't be handed to the executor."""
    versions = machine.versions()
    missing = [name for name, version in versions.items() if not version]
    torch = _torch() if versions["torch"] else {"error": "not installed"}
    problems = [f"not installed: {', '.join(missing)}"] if missing else []
    problems += [f"torch does not work: {torch['error']}"] if "error" in torch and versions["torch"] else []
    if "error" not in torch and not torch["gloo"]:
        problems.append("this torch has no gloo: CPU trials on several ranks can't run")
    if sys.platform != "linux":
        problems.append(f"{sys.platform} is not supported: ranks and locks rely on Linux")
    writable = _writable(runs)
    problems += [] if writable else [f"the runs folder {runs.absolute()} is not writable"]
    problems += filter(None, [no_address(runs)])
    problems += _too_little_space(runs)
    problems += slurmqueue.problems() if executor == SLURM else []
    cluster, nodes, said = raydoctor.examine(runs) if executor == RAY else ("", [], [])
    problems += said
    stores = doctor_stores.examine(runs)
    problems += [f"{store.name}: {store.problem}" for store in stores if store.problem]
    return {
        "ok": not problems, "problems": problems, "python": platform.python_version(), "platform": platform.platform(),
        "cores": machine.cores(), "versions": versions, "torch": torch,
        "runs": str(runs.absolute()), "free": space.free(runs), "stores": [asdict(store) for store in stores],
        **({"cluster": cluster, "nodes": nodes} if executor == RAY else {}),
    }  # fmt: skip


def _torch() -> dict[str, Any]:
    import json

    found = subprocess.run(
        [sys.executable, "-P", "-c", PROBE], capture_output=True, text=True, timeout=120, check=False
    )
    if found.returncode:
        return {"error": (found.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(found.stdout)


def _writable(folder: Path) -> bool:
    """Whether the folder, or the nearest one above that exists, can be written to."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return os.access(there, os.W_OK | os.X_OK)


def _too_little_space(runs: Path) -> list[str]:
    """Of each study under `runs` with work left: that it does not fit onto the disk; unreadable ones are skipped."""
    said = [text for path in sorted(runs.glob("*/study.yaml")) if (text := _shortage(path, runs))]
    free = space.free(runs)
    if not said and free < space.RESERVE:
        said = [f"{runs.absolute()}: {space.in_bytes(free)} are free; no study starts with less than "
                f"{space.in_bytes(space.RESERVE)}"]  # fmt: skip
    return said


def _shortage(study: Path, runs: Path) -> str:
    try:
        plan = make_plan(load(study, runs=runs))
        return space.shortage(restored(plan, StudyFolder(runs, study.parent.name)), runs)
    except (StudyError, DataError, Damaged, CorruptStream, OSError):
        return ""  # the commands that read it say what is wrong


def describe(found: dict[str, Any]) -> str:
    torch = found["torch"]
    devices = ", ".join(torch.get("devices", ())) or "none"
    lines = [f"Python {found['python']} on {found['platform']}, {found['cores']} cores", f"CUDA devices: {devices}"]
    lines += [f"  {name} {version or 'missing'}" for name, version in found["versions"].items()]
    lines += [found["cluster"]] if found.get("cluster") else []
    lines += raydoctor.describe(found.get("nodes", []))
    lines.append(f"free on the disk of {found['runs']}: {space.in_bytes(found['free'])}")
    lines += [doctor_stores.describe(doctor_stores.Store(**store)) for store in found["stores"]]
    lines.append("all is well: studies can run here" if found["ok"] else "")
    return "\n".join(lines + [f"problem: {text}" for text in found["problems"]]).replace("\n\n", "\n")
