"""Slurm's commands as scripts over a folder, which a test makes refuse, fall silent or end jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ablate import slurmcommands
from ablate.records import TrialFolder
from ablate.slurm import Shape, SlurmExecutor

SCRIPTS = {
    "sbatch": """
        [ -e refuses ] && { echo "sbatch: error: $(grep . refuses || echo QOSMaxSubmitJobPerUserLimit)" >&2; exit 1; }
        id=$(($(cat ids 2>/dev/null || echo 0) + 1)); echo $id > ids
        name=$(sed -n 's/^#SBATCH --job-name=//p' "$1"); nodes=$(sed -n 's/^#SBATCH --nodes=//p' "$1")
        echo "$id|PENDING|$name|None" >> queue; echo "$name $nodes" >> submitted
        sed -n 's/^#SBATCH //p' "$1" > script
        echo "Submitted batch job $id" """,
    "squeue": """
        [ -e silent ] && { echo "slurm_load_jobs error: Zero Bytes were transmitted" >&2; exit 1; }
        cat queue 2>/dev/null || true""",
    "scancel": """echo "$@" >> scancelled; for id in "$@"; do sed -i "/^$id|/d" queue; done""",
    "scontrol": """
        [ -e mute ] && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
        case "$*" in *partition*) cat partition;; *) echo >> recalled; cat jobs 2>/dev/null || true;; esac""",
    "sinfo": """case "$*" in *%G*) [ -e silent ] && exit 1; cat nodes;; *) echo "test|up";; esac""",
    "srun": "true",
}


class Cluster:
    """A folder that the scripts read and write."""

    def __init__(self, root: Path):
        self.root, self.now = root, 0.0
        root.mkdir()
        for name, lines in SCRIPTS.items():
            (root / name).write_text(f"#!/bin/bash\ncd {root}\nenv > env.{name}\n{lines}\n")
            (root / name).chmod(0o755)
        (root / "partition").write_text("PartitionName=test Default=YES DefaultTime=NONE MaxTime=1-00:00:00\n")

    def executor(self, slots: int = 4, **shape) -> SlurmExecutor:
        return SlurmExecutor(self.root.parent / "slurm", slots, Shape(**shape), clock=lambda: self.now)

    def lines(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    def environment(self, name: str) -> set[str]:
        """Names of the variables that a command was last run with."""
        return {line.partition("=")[0] for line in self.lines(f"env.{name}")}

    def say(self, name: str, text: str = "") -> None:
        (self.root / name).write_text(text)

    def all_end(self, state: str) -> None:
        """All jobs leave the queue in a state, and Slurm remembers it."""
        left = [line.split("|") for line in self.lines("queue")]
        said = "".join(f"JobId={id} JobName={name} JobState={state}\n" for id, _, name, _ in left)
        self.say("jobs", said + "".join(f"{line}\n" for line in self.lines("jobs")))
        self.say("queue")
        self.now += 10

    def waits_for(self, reason: str) -> None:
        """All jobs wait for a reason."""
        rows = [line.split("|")[:3] for line in self.lines("queue")]
        self.say("queue", "".join("|".join([*row, reason]) + "\n" for row in rows))
        self.now += 10


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Cluster:
    monkeypatch.setattr(slurmcommands, "_silent", {})
    made = Cluster(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.root}{os.pathsep}{os.environ['PATH']}")
    return made


@pytest.fixture
def trial(tmp_path):
    def make(name: str) -> TrialFolder:
        folder = TrialFolder(tmp_path / "trials" / name)
        folder.root.mkdir(parents=True)
        return folder

    return make


def begin(executor: SlurmExecutor, folder: TrialFolder, kind: str = "run", ranks: int = 2):
    return executor.start(kind, folder.root, ranks=ranks, threads=1)
