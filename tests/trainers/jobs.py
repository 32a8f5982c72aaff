"""Jobs in real processes, as an executor starts them: a rank that fails ends the others."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

from torch.distributed import TCPStore

from ablate import events
from ablate.records import TrialFolder

KILLED = -signal.SIGKILL
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torch._dynamo", "trainers.train"])


def run(
    folder: TrialFolder, *, ranks: int = 1, failpoints: str = "", limits: str = "", kind: str = "run",
    wait: float = 240,
) -> list[int]:  # fmt: skip
    """Exit codes of the ranks of a job in `folder` that meets the faults asked for; those it ends have -9."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # the agent's part: no race for a port
    processes = [
        CONTEXT.Process(target=_rank, args=(rank, ranks, store.port, kind, str(folder.root), failpoints, limits))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + wait
    while any(process.exitcode is None for process in processes):
        assert time.monotonic() < end, f"the job has not ended within {wait} s"
        if any(process.exitcode for process in processes):
            for process in processes:
                process.kill()
        time.sleep(0.02)
    return [process.exitcode for process in processes]


def _rank(rank: int, ranks: int, port: int, kind: str, folder: str, points: str, limits: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True", "GLOO_SOCKET_IFNAME": "lo",
                   "ABLATE_LIMITS": limits}  # fmt: skip
    from ablate import failpoints
    from trainers import entry

    failpoints.arm(points)
    entry.end_with_parent()
    entry.work(kind, folder)
    os._exit(0)  # see two_ranks.py


def facts(folder: TrialFolder) -> tuple[object, ...]:
    """All of a trial that an interruption must not change: curves, scores, status, weights, tables, pictures."""
    from tests.trainers import tiny
    from trainers.checkpoint import FINAL, read

    result = events.fold("trial", events.read(folder.events))
    weights = tiny.tensors(read(folder.checkpoints / FINAL)["generator"])
    samples = tuple(sorted((path.name, path.read_bytes()) for path in folder.samples.iterdir()))
    exact = {key: (str(value.dtype), value.numpy().tobytes()) for key, value in weights.items()}
    return (result.curves, result.scores, result.status, result.findings, exact, folder.scores.read_bytes(), samples)


def words(folder: TrialFolder) -> dict:
    """The last words of the rank that spoke first."""
    spoken = [json.loads(path.read_text()) for path in folder.root.glob("error.*.json")]
    return min(spoken, key=lambda each: each["time"], default={})


def alone(root: Path, name: str = "trial", **options) -> TrialFolder:
    """A trial of a tiny recipe, not begun, in `root`."""
    from tests.trainers import tiny

    ranks = options.pop("ranks", 1)
    return tiny.trial_folder(root, tiny.spec(tiny.recipe(**options), ranks=ranks), name)
