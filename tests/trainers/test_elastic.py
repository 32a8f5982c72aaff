"""Two machines with a rank each are one machine with two: both stand on this one, by processes that know no other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainers import jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
OPTIONS = {"steps": 6, "every": 3, "norm": "batch", "ranks": 2}
HERE = """
import sys
from trainers.elastic import launch
from trainers.pool import Job
if __name__ == "__main__":
    failures = launch(Job("run", sys.argv[1], 2, 1), nodes=2, meet=sys.argv[2], run="trial")
    sys.exit(str(failures) if failures else 0)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[object, ...]:
    folder = jobs.alone(tmp_path_factory.mktemp("one"), **OPTIONS)
    assert jobs.run(folder, ranks=2) == [0, 0], folder.log.read_text()
    return jobs.facts(folder)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def both(*commands: list[str]) -> None:
    """The parts of both machines, side by side to their ends."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    parts = [
        subprocess.Popen(one, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for one in commands
    ]
    said = [part.communicate(timeout=240)[0] for part in parts]
    assert [part.returncode for part in parts] == [0, 0], "\n".join(said)


def test_a_job_on_two_nodes_gives_the_numbers_of_one(undisturbed, tmp_path):
    folder, script = jobs.alone(tmp_path, **OPTIONS), tmp_path / "node.py"
    script.write_text(HERE)
    command = [sys.executable, str(script), str(folder.root), f"127.0.0.1:{free_port()}"]
    both(command, command)
    assert jobs.facts(folder) == undisturbed
    assert sorted(path.name for path in folder.root.iterdir()) == sorted(
        ["spec.json", "events.jsonl", "log.txt", "checkpoints", "samples", "scores.csv"]
    )


def test_the_line_of_the_docs_does_too(undisturbed, tmp_path):
    """docs/slurm.md: torchrun by hand, once on each machine."""
    folder, port = jobs.alone(tmp_path, **OPTIONS), free_port()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
                "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]  # fmt: skip
    job = ["-m", "trainers", "run", str(folder.root)]
    both([*torchrun, "--local-addr", "127.0.0.1", *job], [*torchrun, "--local-addr", "127.0.0.2", *job])
    assert jobs.facts(folder) == undisturbed
