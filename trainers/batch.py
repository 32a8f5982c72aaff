"""Jobs in turn inside of a scheduler's job, as `trainers.launcher` runs them beside the driver (no torch at import).

The driver need not be there: how a job ended becomes a file. A batch may be started more than once, as schedulers
requeue what they pre-empt: what has an answer is passed over, the rest goes on from its checkpoints.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ablate import processes
from ablate.disk import write_atomically
from ablate.records import TrialFolder
from trainers.pool import Job, Pool

CHECKPOINT_SECONDS = 75  # for a trial to write a checkpoint once the scheduler has said that its time is over
LOOK_SECONDS = 0.2
TERMED = 128 + signal.SIGTERM  # exit code of a batch that its scheduler ends


def claim(place: Path, trial: str) -> Path:
    """The file that names the batch which may run a trial."""
    return place / f"{trial}.json"


def answer(place: Path, batch: str, trial: str) -> Path:
    """The file that says how a batch's job ended."""
    return place / batch / f"{trial}.json"


@dataclass
class Batch:
    """`jobs` of one shape on `nodes` machines; `place` holds claims and answers. Calling it runs it.

    `raised` is the trial whose flag a batch before this one has raised, to be requeued.
    """

    name: str
    place: str
    jobs: tuple[Job, ...]
    nodes: int = 1
    raised: str = ""

    def __call__(self) -> None:
        self._current: Job | None = None
        self._ending = False
        before = signal.signal(signal.SIGTERM, self._term)
        try:
            self._run()
        finally:
            signal.signal(signal.SIGTERM, before)

    def _run(self) -> None:
        if self.raised:
            _lower(TrialFolder(Path(self.raised)))
        run = self._on_one_node() if self.nodes == 1 else self._on_nodes
        for job in self.jobs:
            if self._mine(job) and not self._answer(job).exists():
                self._current = job
                asked_to_stop = TrialFolder(Path(job.folder)).stop.exists()
                failures = {} if asked_to_stop else run(job)
                if self._ending:  # they ended since everything here does: nothing that is to be told
                    os._exit(TERMED)
                if _node() == 0:
                    told = {"failures": {str(rank): code for rank, code in failures.items()}}
                    self._answer(job).parent.mkdir(mode=0o700, exist_ok=True)
                    write_atomically(self._answer(job), json.dumps(told))

    def checkpoint(self):
        """What submitit calls when time is up: the running trial writes a checkpoint, and the batch is requeued."""
        from submitit.helpers import DelayedSubmission

        raised = ""
        if self._current is not None:
            folder = TrialFolder(Path(self._current.folder))
            if not folder.stop.exists():
                folder.stop.touch()
                raised = self._current.folder
            end = time.monotonic() + CHECKPOINT_SECONDS
            while any(processes.speaking_into(folder.log)) and time.monotonic() < end:
                time.sleep(LOOK_SECONDS)
        return DelayedSubmission(replace(self, raised=raised))

    def _mine(self, job: Job) -> bool:
        """Whether no later batch was made for the job: a driver that was killed may not have known of this one."""
        try:
            return json.loads(claim(Path(self.place), _trial(job)).read_text())["batch"] == self.name
        except (OSError, ValueError, KeyError):
            return False

    def _answer(self, job: Job) -> Path:
        return answer(Path(self.place), self.name, _trial(job))

    def _on_one_node(self):
        from trainers.launcher import launch, loaded

        pool = Pool(loaded())

        def run(job: Job) -> Mapping[str, int]:
            return launch(job, pool)["failures"]

        return run

    def _on_nodes(self, job: Job) -> Mapping[int, int]:
        """Ranks in equal parts on all nodes, met by torch's rendezvous on the first one's address."""
        import submitit

        from trainers.elastic import launch

        place = submitit.JobEnvironment()
        port = 20_000 + int(place.raw_job_id) % 20_000
        return launch(job, nodes=self.nodes, meet=f"{place.hostnames[0]}:{port}", run=f"{self.name}-{_trial(job)}")

    def _term(self, *_: object) -> None:
        self._ending = True


def _trial(job: Job) -> str:
    return Path(job.folder).name


def _node() -> int:
    return int(os.environ.get("SLURM_NODEID", "0"))


def _lower(folder: TrialFolder) -> None:
    """Take a flag down that says no reason: it was raised to be requeued."""
    if folder.stop.exists() and not folder.stop.read_bytes():
        folder.stop.unlink()
