"""Trials on a Ray cluster: `resources: {executor: ray}`.

Trials wait here until an actor (`ablate.rayslot`) has the CPUs and GPUs that they need; actors are asked for as long
as trials wait, and keep their launchers from trial to trial. They are detached: a driver that comes back finds those
that train by their names, and the trials by their claims. What waits goes with the driver.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ablate import raycluster
from ablate.disk import make_folder, write_atomically
from ablate.executor import STOP_SECONDS, CannotLaunch, Handle, Outcome
from ablate.rayplaces import Place, Places
from ablate.rayslot import ENDED, FENCE_SECONDS, Need, cause
from ablate.records import TrialFolder, digest
from ablate.resources import Resources
from trainers.batch import claim, claimant
from trainers.pool import Job

log = logging.getLogger(__name__)
TURN_SECONDS = 0.05  # in which it is enough to look once at all trials


@dataclass(frozen=True)
class Shape:
    """What one trial asks for; None leaves it to its ranks and threads."""

    nodes: int = 1
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None

    @classmethod
    def of(cls, asked: Resources) -> Shape:
        """The shape that a study asks for."""
        return cls(asked.nodes, asked.cpus_per_task, asked.gpus_per_node)

    def need(self, job: Job) -> Need:
        nodes = self.nodes if job.kind == "run" else 1  # references are scored by one rank, on a CPU
        each = -(-job.ranks // nodes) * job.threads
        gpus = self.gpus_per_node or 0
        return Need(nodes, self.cpus_per_task or each, gpus if job.kind == "run" else 0)


@dataclass(eq=False)
class RayHandle:
    """A trial that waits for an actor, or that one runs. One that an earlier driver has started has no job here."""

    executor: RayExecutor
    folder: TrialFolder
    job: Job | None = None
    place: Place | None = None
    outcome: Outcome | None = None

    @property
    def trial(self) -> str:
        return self.folder.root.name

    def poll(self) -> Outcome | None:
        if self.outcome is None:
            self.executor.turn()
        return self.outcome

    def stop(self) -> None:
        if self.outcome is None:
            self.executor.end([self])


@dataclass
class RayExecutor:
    """At most `slots` trials at a time. `folder` holds claims, logs of launchers and the cluster's address."""

    folder: Path
    slots: int
    shape: Shape = Shape()
    address: str | None = None
    clock: Callable[[], float] = time.monotonic
    outlives: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self._claims = self.folder / "claims"
        for folder in (self._claims, self.folder / "log"):
            make_folder(folder)
        self._places = Places(self.folder, self.clock)
        self._connected, self._tended = False, self.clock()
        self._handles: list[RayHandle] = []  # of trials that have not ended
        self._waiting: list[RayHandle] = []

    # -- the contract ---------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Connect, and find what an earlier driver has left. Raises CannotLaunch where there is no cluster."""
        if not self._connected:
            where = raycluster.address(self.address)
            raycluster.connect(where)
            log.info("trials go to %s", raycluster.described(self.address))
            raycluster.remember(self.folder, where if where != raycluster.AUTO else raycluster.head())
            self._connected = True
            self._places.find()

    def free(self) -> int:
        self._handles = [handle for handle in self._handles if handle.outcome is None]
        return max(0, self.slots - len(self._handles))

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> Handle:
        self.warm_up()
        handle = RayHandle(self, TrialFolder(folder), Job(kind, str(folder.absolute()), ranks, threads))
        self._handles.append(handle)
        self._waiting.append(handle)
        self.tend()
        return handle

    def adopt(self, folder: Path) -> Handle | None:
        """The trial in `folder` if an actor runs it for an earlier driver."""
        batch = claimant(self._claims, folder.name)
        if not batch:
            return None
        self.warm_up()
        followed = {handle.place for handle in self._handles}
        place = next((one for one in self._places.all if one.batch == batch and one not in followed), None)
        if place is None:
            return None
        self._handles.append(RayHandle(self, TrialFolder(folder), place=place))
        return self._handles[-1]

    def wait(self, seconds: float) -> None:
        self._places.wait(seconds) if self._connected else time.sleep(seconds)

    def leave(self) -> None:
        """Give back the actors that wait for a node: nobody would hand them a trial."""
        if self._connected:
            self._places.drop_all([place for place in self._places.all if place.ready is not None])

    def close(self) -> None:
        """End what runs, all at once, and give everything back."""
        if not self._connected:
            return
        self.end([handle for handle in self._handles if handle.outcome is None])
        self._places.drop_all([*self._places.all])

    # -- what goes on ---------------------------------------------------------------------------

    def turn(self) -> None:
        """Tend, but not once for each trial that is asked for."""
        if self.clock() - self._tended >= TURN_SECONDS:
            self.tend()

    def tend(self) -> None:
        """See what has ended or is ready, hand on what waits, ask for actors or give them back. Raises CannotLaunch."""
        there = self._places.head_is_there()
        self._see_ended()
        self._places.see_ready()
        self._hand_on()
        if there:
            self._places.balance(Counter(self.shape.need(handle.job) for handle in self._waiting))
        self._tended = self.clock()

    def end(self, handles: list[RayHandle]) -> None:
        """End trials now; ranks have gone when this returns."""
        for handle in [handle for handle in handles if handle in self._waiting]:
            self._waiting.remove(handle)
            handle.outcome = Outcome(lost=True, said=ENDED)
        running = [handle for handle in handles if handle.place]
        for handle in running:
            handle.place.actor.stop.remote(handle.place.batch)
        end = self.clock() + STOP_SECONDS + FENCE_SECONDS
        while self.clock() < end and any(handle.outcome is None for handle in running):
            self._places.wait(1.0)
            self._see_ended(again=False)
        left = [handle for handle in running if handle.outcome is None]
        self._places.drop_all([handle.place for handle in left])
        for handle in left:
            self._settle(handle, Outcome(lost=True, said=ENDED), known=False)

    def _see_ended(self, *, again: bool = True) -> None:
        """Settle what Ray has an answer for. What never began waits `again`."""
        import ray
        from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayError

        following = {handle.place: handle for handle in self._handles if handle.place}
        for place in self._places.done("ended"):
            handle = following.get(place)
            try:
                outcome = ray.get(place.ended)
            except ActorUnavailableError:  # it lives, as far as Ray knows
                place.follow()
                continue
            except (RayActorError, OutOfMemoryError) as error:
                self._places.all.remove(place)
                if handle and again and not place.taken_on():  # as of an actor that left since it had nothing to do
                    handle.place = None
                    self._waiting.insert(0, handle)
                    continue
                ended = Outcome(lost=True, said=cause(error), preempted=getattr(error, "preempted", False))
                self._settle(handle, ended, known=False)
                continue
            except RayError as error:
                self._places.drop(place)
                raise CannotLaunch(f"executor ray: {getattr(error, 'cause', None) or error}") from error
            self._settle(handle, outcome, known=not outcome.lost or outcome.said == ENDED)
            place.free(self.clock())
            if outcome.lost and place.need.nodes > 1:  # a part of it is missing
                self._places.drop(place)

    def _settle(self, handle: RayHandle | None, outcome: Outcome, *, known: bool) -> None:
        """The claim stays where it is not `known` that the ranks have gone. A batch of nobody's has no handle."""
        if handle is None:
            return
        if known and claimant(self._claims, handle.trial) == handle.place.batch:
            claim(self._claims, handle.trial).unlink(missing_ok=True)
        handle.outcome, handle.place = outcome, None

    def _hand_on(self) -> None:
        """What waits goes to actors that have room; it need not begin where it is asked to stop."""
        for handle in [*self._waiting]:
            if handle.folder.stop.exists():
                self._waiting.remove(handle)
                handle.outcome = Outcome()
            elif (place := self._places.idle_for(self.shape.need(handle.job))) is not None:
                self._waiting.remove(handle)
                self._begin(handle, place)

    def _begin(self, handle: RayHandle, place: Place) -> None:
        """The claim comes first: a killed driver finds what it began, and who had it before sees that it is gone."""
        path = claim(self._claims, handle.trial)
        fence = FENCE_SECONDS if path.exists() else 0.0
        batch = f"{place.name}-{digest([handle.trial, time.time()], 6)}"
        write_atomically(path, json.dumps({"batch": batch}))
        handle.place = place
        place.begin(batch, asdict(handle.job), fence)
