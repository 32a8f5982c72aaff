"""Jobs in turn inside of a scheduler's job, as `trainers.launcher` runs them beside the driver (no torch at import).

The driver need not be there: how a job ended becomes a file. A batch may be started more than once, as schedulers
requeue what they pre-empt: what has an answer is passed over, the rest goes on from its checkpoints.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ablate import processes
from ablate.disk import make_folder, write_atomically
from ablate.records import TrialFolder
from trainers.pool import Job, Pool

CHECKPOINT_SECONDS = 75  # for a trial to write a checkpoint once the scheduler has said that its time is over
LOOK_SECONDS = 0.2
TERMED = 128 + signal.SIGTERM  # exit code of a batch that its scheduler ends


def claim(place: Path, trial: str) -> Path:
    """The file that names the batch which may run a trial."""
    return place / f"{trial}.json"


def claimant(place: Path, trial: str) -> str:
    """The batch that may run a trial; empty where no file says so."""
    try:
        return str(json.loads(claim(place, trial).read_text())["batch"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def answer(place: Path, batch: str, trial: str) -> Path:
    """The file that says how a batch's job ended."""
    return place / batch / f"{trial}.json"


def requeued(place: Path, batch: str) -> Path:
    """The file that names the trial whose flag a batch has raised, as its scheduler will start the batch again."""
    return place / f"{batch}.requeued"


def current(place: Path, batch: str) -> Path:
    """The file that names the trial which a batch runs."""
    return place / batch / "current"


def running(place: Path, batch: str) -> str:
    """The trial that a batch runs, or ran last; empty where it has begun none."""
    try:
        return current(place, batch).read_text()
    except OSError:
        return ""


@dataclass
class Batch:
    """`jobs` of one shape on `nodes` machines; `place` holds claims and answers. Calling it runs it."""

    name: str
    place: str
    jobs: tuple[Job, ...]
    nodes: int = 1

    def __call__(self) -> None:
        self._current: Job | None = None
        self._pool: Pool | None = None
        self._ending = False
        before = signal.signal(signal.SIGTERM, self._term)
        try:
            self._run()
        finally:
            signal.signal(signal.SIGTERM, before)
            if self._pool:
                self._pool.close()  # whose ranks wait for more: the interpreter would wait for them

    def _run(self) -> None:
        raised = self._lower()
        run = self._on_one_node() if self.nodes == 1 else self._on_nodes
        for job in self.jobs:
            if self._mine(job) and not self._answer(job).exists():
                folder = TrialFolder(Path(job.folder))
                failures = {} if _is_up(folder, raised) else self._begun(job, folder, run)
                if self._ending:  # they ended since everything here does: nothing that is to be told
                    os._exit(TERMED)
                if _node() == 0:
                    told = {"failures": {str(rank): code for rank, code in failures.items()}}
                    make_folder(self._answer(job).parent)
                    write_atomically(self._answer(job), json.dumps(told))

    def _begun(self, job: Job, folder: TrialFolder, run: Callable[[Job], Mapping]) -> Mapping:
        self._current = job
        if _node() == 0:
            make_folder(current(Path(self.place), self.name).parent)
            write_atomically(current(Path(self.place), self.name), _trial(job))
            for words in folder.root.glob("error.*.json"):
                words.unlink()  # of the start before this one, at which all that ran here was ended
        return run(job)

    def checkpoint(self):
        """What submitit calls when time is up: the running trial writes a checkpoint, and the batch is requeued."""
        from submitit.helpers import DelayedSubmission

        if self._current is not None:
            folder = TrialFolder(Path(self._current.folder))
            if not folder.stop.exists():
                write_atomically(requeued(Path(self.place), self.name), str(folder.root))
                folder.stop.touch()
            end = time.monotonic() + CHECKPOINT_SECONDS
            while any(processes.speaking_into(folder.log)) and time.monotonic() < end:
                time.sleep(LOOK_SECONDS)
        return DelayedSubmission(replace(self))

    def _lower(self) -> str:
        """Take the flag down that this batch raised when its time was up; the trial's folder, empty if it raised none.

        The flag goes first: other nodes, which look meanwhile, either find both files or need neither.
        """
        told = requeued(Path(self.place), self.name)
        try:
            raised = told.read_text()
        except OSError:
            return ""
        if _node() == 0:
            if _is_raised_here(TrialFolder(Path(raised)), raised):
                TrialFolder(Path(raised)).stop.unlink(missing_ok=True)
            told.unlink()
        return raised

    def _mine(self, job: Job) -> bool:
        """Whether no later batch was made for the job: a driver that was killed may not have known of this one."""
        return claimant(Path(self.place), _trial(job)) == self.name

    def _answer(self, job: Job) -> Path:
        return answer(Path(self.place), self.name, _trial(job))

    def _on_one_node(self):
        from trainers.launcher import launch, loaded

        self._pool = pool = Pool(loaded())

        def run(job: Job) -> Mapping[str, int]:
            return launch(job, pool)["failures"]

        return run

    def _on_nodes(self, job: Job) -> Mapping[int, int]:
        """Ranks in equal parts on all nodes, met by torch's rendezvous on the first one's address."""
        import submitit

        from trainers.elastic import launch

        place = submitit.JobEnvironment()
        first = os.environ.get("SLURM_LAUNCH_NODE_IPADDR") or place.hostnames[0]  # names of nodes need not be names of hosts
        port = 20_000 + int(place.raw_job_id) % 20_000
        return launch(job, nodes=self.nodes, meet=f"{first}:{port}", run=f"{self.name}-{_trial(job)}",
                      here=_address_towards(first), first=_node() == 0)  # fmt: skip

    def _term(self, *_: object) -> None:
        """A scheduler may send this to this process alone: ranks end with it."""
        self._ending = True
        for pid in self._pool.pids if self._pool else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _trial(job: Job) -> str:
    return Path(job.folder).name


def _node() -> int:
    return int(os.environ.get("SLURM_NODEID", "0"))


def _address_towards(host: str) -> str | None:
    """This machine's address as `host` sees it; None where the name leads nowhere yet. Nothing is sent."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as asked:
            asked.connect(place)
            return asked.getsockname()[0]
    except OSError:
        return None


def _is_up(folder: TrialFolder, raised: str) -> bool:
    """Whether a trial's flag is up, but for one that this batch has raised itself."""
    return folder.stop.exists() and not _is_raised_here(folder, raised)


def _is_raised_here(folder: TrialFolder, raised: str) -> bool:
    """Whether a flag is the batch's own: one that says no reason."""
    try:
        return str(folder.root) == raised and not folder.stop.read_bytes()
    except FileNotFoundError:
        return True  # node 0 has just taken it down
