"""Trials on a Ray cluster: `resources: {executor: ray}`.

Trials wait here until an actor (`ablate.rayslot`) has the CPUs and GPUs that they need; actors are asked for as long
as trials wait, and keep their launchers from trial to trial. They are detached: a driver that comes back finds those
that train by their names, and the trials by their claims. What waits goes with the driver.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate import raycluster
from ablate.disk import make_folder, write_atomically
from ablate.executor import STOP_SECONDS, CannotLaunch, Handle, Outcome
from ablate.rayslot import ENDED, FENCE_SECONDS, IDLE_SECONDS, Need, Slot, cause
from ablate.records import TrialFolder, digest
from ablate.resources import Resources
from trainers.batch import claim, claimant
from trainers.pool import Job

log = logging.getLogger(__name__)

PENDING = 8  # actors that are asked for at a time, which is what an autoscaler sees
WAIT_SECONDS = 30.0  # until it is said that trials wait for a node
GONE_SECONDS = 40.0  # for the cluster's head to come back; after 60 Ray ends the process that asks for it
LOOK_SECONDS = 5.0  # between looks at the head
TURN_SECONDS = 0.05  # in which it is enough to look once at all trials
FAILURES = 3  # actors in a row that died before they were ready
PASSED_ON = ("ABLATE_FAILPOINTS", "ABLATE_FAILPOINTS_ONCE", "ABLATE_LIMITS", "ABLATE_WORKERS")  # to ranks


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


@dataclass
class RayHandle:
    """A trial that waits for an actor, or that one runs."""

    executor: RayExecutor
    folder: TrialFolder
    job: Job
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


@dataclass(eq=False)
class Place:
    """An actor as the driver knows it."""

    name: str
    actor: Any
    need: Need
    since: float  # when it was asked for, or became idle
    ready: Any = None  # what says that it has its CPUs and GPUs; None once it does
    batch: str = ""
    began: Any = None  # what says that it has taken the batch on
    ended: Any = None  # what says how that ended
    handle: RayHandle | None = None  # none for a batch that nobody here waits for

    @property
    def idle(self) -> bool:
        return self.ready is None and not self.batch


@dataclass
class RayExecutor:
    """At most `slots` trials at a time. `place` holds claims, logs of launchers and the cluster's address."""

    place: Path
    slots: int
    shape: Shape = Shape()
    address: str | None = None
    clock: Callable[[], float] = time.monotonic
    outlives: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self._claims = self.place / "claims"
        for folder in (self._claims, self.place / "log"):
            make_folder(folder)
        self._space = raycluster.namespace(self.place)
        self._connected = False
        self._handles: list[RayHandle] = []
        self._waiting: list[RayHandle] = []
        self._places: list[Place] = []
        self._fitting: set[Need] = set()  # what the cluster can hold, or could once
        self._told: set[Need] = set()  # of which it was said that trials wait for it
        self._failures = 0
        self._looked = self._answered = self._tended = self.clock()

    # -- the contract ---------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Connect, and find what an earlier driver has left. Raises CannotLaunch where there is no cluster."""
        if self._connected:
            return
        where = raycluster.address(self.address)
        raycluster.connect(where)
        self._connected = True
        raycluster.remember(self.place, where if where != raycluster.AUTO else raycluster.head())
        found = raycluster.actors(self._space)
        told = raycluster.states(found)
        for name, actor in found.items():
            if name in told:
                need, batch = told[name]
                self._places.append(place := Place(name, actor, need, self.clock(), batch=batch))
                place.ended = actor.outcome.remote(batch) if batch else None
            else:  # it waits for a node, or answers nobody
                self._kill(actor)

    def free(self) -> int:
        self._handles = [handle for handle in self._handles if handle.outcome is None]
        return max(0, self.slots - len(self._handles))

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> Handle:
        self.warm_up()
        handle = RayHandle(self, TrialFolder(folder), Job(kind, str(folder.resolve()), ranks, threads))
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
        place = next((one for one in self._places if one.batch == batch and one.handle is None), None)
        if place is None:
            return None
        place.handle = RayHandle(self, TrialFolder(folder), Job("run", str(folder.resolve()), 0, 0))
        self._handles.append(place.handle)
        return place.handle

    def wait(self, seconds: float) -> None:
        """Sleep until a trial has ended or an actor is ready."""
        import ray

        asked = [ref for place in self._places for ref in (place.ready, place.ended) if ref is not None]
        if asked and self._connected:
            ray.wait(asked, num_returns=1, timeout=seconds)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        """End what runs, all at once, and give everything back."""
        self.end([handle for handle in self._handles if handle.outcome is None])
        for place in self._places:
            self._kill(place.actor)
        self._gone(self._places)
        self._places = []

    # -- what goes on ---------------------------------------------------------------------------

    def turn(self) -> None:
        """Tend, but not once for each trial that is asked for."""
        if self.clock() - self._tended >= TURN_SECONDS:
            self.tend()

    def tend(self) -> None:
        """See what has ended or is ready, hand on what waits, ask for actors or give them back."""
        self._check_head()
        self._see_ended()
        self._see_ready()
        self._give_up()
        self._hand_on()
        self._balance()
        self._tended = self.clock()

    def end(self, handles: list[RayHandle]) -> None:
        """End trials now; ranks have gone when this returns."""
        import ray

        for handle in handles:
            if handle in self._waiting:
                self._waiting.remove(handle)
                handle.outcome = Outcome(lost=True, said=ENDED)
        places = [place for place in self._places if place.handle in handles]
        for place in places:
            place.actor.stop.remote(place.batch)
        until = self.clock() + STOP_SECONDS + FENCE_SECONDS
        ray.wait([place.ended for place in places], num_returns=len(places), timeout=until - self.clock()) \
            if places else None  # fmt: skip
        self._see_ended()
        left = [place for place in self._places if place.handle in handles]
        for place in left:
            self._kill(place.actor)
        self._gone(left)
        for place in left:
            self._ended(place, Outcome(lost=True, said=ENDED), known=False)
            self._places.remove(place)

    def _see_ended(self) -> None:
        from ray.exceptions import ActorUnavailableError, RayActorError, RayError

        for place in _done(self._places, "ended"):
            try:
                outcome = _value(place.ended)
            except ActorUnavailableError:  # it lives, as far as Ray knows
                place.ended = place.actor.outcome.remote(place.batch)
                continue
            except RayActorError as error:
                self._places.remove(place)
                self._died(place, error)
                continue
            except RayError as error:
                self._places.remove(place)
                self._kill(place.actor)
                raise CannotLaunch(f"executor ray: {getattr(error, 'cause', None) or error}") from error
            self._ended(place, outcome, known=not outcome.lost or outcome.said == ENDED)
            if outcome.lost and place.need.nodes > 1:  # a part of it is missing
                self._places.remove(place)
                self._kill(place.actor)

    def _died(self, place: Place, error: BaseException) -> None:
        handle, begun = place.handle, _came(place.began)
        if handle and not begun:  # it was never taken on: as an actor that left while nothing was to be done
            self._waiting.insert(0, handle)
            return
        said = cause(error)
        self._ended(place, Outcome(lost=True, said=said, preempted=getattr(error, "preempted", False)), known=False)

    def _ended(self, place: Place, outcome: Outcome, *, known: bool) -> None:
        """Free a place. The claim stays where it is not `known` that the ranks have gone."""
        if place.handle:
            place.handle.outcome = outcome
            if known and claimant(self._claims, place.handle.trial) == place.batch:
                claim(self._claims, place.handle.trial).unlink(missing_ok=True)
        place.batch, place.handle, place.began, place.ended, place.since = "", None, None, None, self.clock()

    def _see_ready(self) -> None:
        from ray.exceptions import RayError

        for place in _done(self._places, "ready"):
            try:
                _value(place.ready)
            except RayError as error:
                self._places.remove(place)
                self._failures += 1
                log.warning("an actor died before it was ready: %s", cause(error))
                if getattr(error, "actor_init_failed", False) or self._failures >= FAILURES:
                    raise CannotLaunch(f"executor ray: no trial can start on a node: {cause(error)}") from error
                continue
            place.ready, place.since, self._failures = None, self.clock(), 0
            self._told.discard(place.need)

    def _give_up(self) -> None:
        """Trials that wait need not begin where they are asked to stop."""
        for handle in [handle for handle in self._waiting if handle.folder.stop.exists()]:
            self._waiting.remove(handle)
            handle.outcome = Outcome()

    def _hand_on(self) -> None:
        now = self.clock()
        for handle in [*self._waiting]:
            need = self.shape.need(handle.job)
            fresh = (place for place in self._places
                     if place.idle and place.need == need and now - place.since < IDLE_SECONDS / 2)  # fmt: skip
            if (place := next(fresh, None)) is not None:
                self._waiting.remove(handle)
                self._begin(handle, place)

    def _begin(self, handle: RayHandle, place: Place) -> None:
        """The claim comes first: a killed driver finds what it began, and who had it before sees that it is gone."""
        job, path = handle.job, claim(self._claims, handle.trial)
        fence = FENCE_SECONDS if path.exists() else 0.0
        place.batch = f"{place.name}-{digest([handle.trial, time.time()], 6)}"
        write_atomically(path, json.dumps({"batch": place.batch}))
        asked = {"kind": job.kind, "folder": job.folder, "ranks": job.ranks, "threads": job.threads}
        place.handle = handle
        place.began = place.actor.start.remote(place.batch, asked, fence)
        place.ended = place.actor.outcome.remote(place.batch)

    def _balance(self) -> None:
        """As many actors as there are trials that wait, some at a time; what is idle makes room for another need."""
        needs: dict[Need, int] = {}
        for handle in self._waiting:
            need = self.shape.need(handle.job)
            needs[need] = needs.get(need, 0) + 1
        now = self.clock()
        for place in [*self._places]:
            stale = place.idle and (now - place.since >= IDLE_SECONDS / 2 or (needs and place.need not in needs))
            surplus = place.ready is not None and self._asked_for(place.need) > needs.get(place.need, 0)
            if stale or surplus:
                self._places.remove(place)
                self._kill(place.actor)
        for need, number in needs.items():
            while self._asked_for(need) < min(number, PENDING):
                self._ask_for(need)
            self._explain(need)

    def _asked_for(self, need: Need) -> int:
        return sum(place.need == need and place.ready is not None for place in self._places)

    def _ask_for(self, need: Need) -> None:
        import ray

        if need not in self._fitting:
            there = raycluster.nodes()
            if not raycluster.side_by_side(need, there) and not raycluster.grows_to(need):
                found = raycluster.largest(there)
                raise CannotLaunch(f"executor ray: a trial asks for {need}; the cluster has {found}")
            self._fitting.add(need)
        name = f"{self.place.parent.name}-{digest([os.getpid(), time.time(), len(self._places)], 8)}"
        alone = need.nodes == 1  # else its members have what it needs
        made = ray.remote(Slot).options(
            name=name, namespace=self._space, lifetime="detached", num_cpus=need.cpus if alone else 0,
            num_gpus=need.gpus if alone else 0, max_restarts=0,
        )  # fmt: skip
        environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        actor = made.remote(str(self._claims.resolve()), str((self.place / "log" / name).resolve()), need, environment)
        self._places.append(Place(name, actor, need, self.clock(), ready=actor.ready.remote()))

    def _explain(self, need: Need) -> None:
        """Say once that trials wait for nodes."""
        waits = [self.clock() - place.since for place in self._places if place.need == need and place.ready is not None]
        busy = any(place.batch for place in self._places)
        if waits and max(waits) > WAIT_SECONDS and not busy and need not in self._told:
            self._told.add(need)
            log.warning("trials wait for %s; the cluster has %s, and others may use it, or a node may have to start",
                        need, raycluster.largest(raycluster.nodes()))  # fmt: skip

    def _check_head(self) -> None:
        """Raises CannotLaunch where the cluster's head has been away for long: Ray would end this process."""
        now = self.clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if raycluster.answers(raycluster.head()):
            self._answered = self.clock()
        elif now - self._answered > GONE_SECONDS:
            raise CannotLaunch(f"executor ray: the cluster's head at {raycluster.head()} does not answer any more; what"
                               " has run is whole, and the same command goes on once it does")  # fmt: skip

    def _kill(self, actor: Any) -> None:
        import ray

        ray.kill(actor)

    def _gone(self, places: list[Place]) -> None:
        """Wait for killed actors to have gone: then they answer no more."""
        import ray
        from ray.exceptions import RayError

        left, end = [place.actor for place in places if place.ready is None], self.clock() + STOP_SECONDS
        while left and self.clock() < end:
            try:
                ray.get(left[0].state.remote(), timeout=max(0.1, end - self.clock()))
                time.sleep(0.02)
            except RayError:
                left.pop(0)


def _done(places: list[Place], what: str) -> list[Place]:
    """Those of whose promise something has come."""
    import ray

    asked = {getattr(place, what): place for place in places if getattr(place, what) is not None}
    found, _ = ray.wait([*asked], num_returns=len(asked), timeout=0) if asked else ([], [])
    return [asked[ref] for ref in found]


def _value(ref: Any) -> Any:
    import ray

    return ray.get(ref)


def _came(ref: Any) -> bool:
    """Whether a call has arrived, as far as one can know; one of an earlier driver's has."""
    import ray
    from ray.exceptions import RayError

    if ref is None:
        return True
    try:
        ray.get(ref, timeout=0)
    except RayError:
        return False
    return True
