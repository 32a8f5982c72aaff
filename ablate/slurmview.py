"""What Slurm has said of our jobs, kept for a while: its controller is asked by all users."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ablate.slurmqueue import Queued, in_queue, remembered

LOOK_SECONDS = 2.0  # between two questions for our jobs in the queue
RECALL_SECONDS = 10.0  # between two for everybody's jobs, ended ones too: a longer answer


@dataclass
class View:
    """`queue` holds this user's jobs that wait or run, by name: the last answer, also while there is none."""

    clock: Callable[[], float] = time.monotonic
    queue: dict[str, Queued] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)  # Slurm's numbers of all jobs that were ever seen, by name
    answered: bool = False  # whether Slurm has ever said what is in the queue
    looked: float = -math.inf  # when it was last asked
    recalled: float = -math.inf  # when it was last asked for ended ones too
    _memory: Mapping[str, Queued] | None = None

    def submitted(self, name: str, id: str) -> None:
        """A job is in the queue that squeue need not list yet."""
        self.queue[name], self.ids[name] = Queued(id, "PENDING"), id
        self.looked = self.clock()

    def look(self, *, at_once: bool = False) -> Mapping[str, Queued]:
        """The queue, no older than LOOK_SECONDS where Slurm answers."""
        if at_once or self.clock() - self.looked >= LOOK_SECONDS:
            if (found := in_queue()) is not None:
                self.queue, self.answered = found, True
                self.ids |= {name: job.id for name, job in found.items()}
            self.looked = self.clock()
        return self.queue

    def recall(self, name: str, since: float = -math.inf) -> Queued | None:
        """A job as Slurm remembers it, asked after `since`: without a state if it does not; None where it is silent."""
        if self.recalled < since or self.clock() - self.recalled >= RECALL_SECONDS:
            self.recalled, self._memory = self.clock(), remembered()
        if self._memory is None:
            return None
        job = self._memory.get(name, Queued("", ""))
        if job.id:
            self.ids[name] = job.id
        return job
