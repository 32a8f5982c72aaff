"""The actors of a study on its Ray cluster, as the driver knows them: asked for, ready, at work, given back."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate import raycluster
from ablate.executor import STOP_SECONDS, CannotLaunch
from ablate.rayslot import IDLE_SECONDS, Need, Slot, cause
from ablate.records import digest

log = logging.getLogger(__name__)

PENDING = 8  # actors that are asked for at a time, which is what an autoscaler sees
KEPT_SECONDS = IDLE_SECONDS / 2  # that one without work is kept here; later it may be about to leave
WAIT_SECONDS = 30.0  # until it is said that trials wait for a node
GONE_SECONDS = 40.0  # for the cluster's head to come back; after 60 Ray ends the process that asks for it
LOOK_SECONDS = 5.0  # between looks at the head
FAILURES = 3  # turns in which actors died before they were ready, until one has been
# To ranks: Ray's processes have the environment in which their node was started.
PASSED_ON = ("ABLATE_CUDA", "ABLATE_FAILPOINTS", "ABLATE_FAILPOINTS_ONCE", "ABLATE_LIMITS", "ABLATE_WEIGHTS",
             "ABLATE_WORKERS", "TORCH_HOME")  # fmt: skip


@dataclass(eq=False)
class Place:
    """An actor. Its promises are references to what Ray has still to say; None where nothing is awaited."""

    name: str
    actor: Any
    need: Need
    since: float  # when it was asked for, or had last to do
    ready: Any = None  # that it has its CPUs and GPUs
    batch: str = ""  # what it runs
    began: Any = None  # that it has taken the batch on
    ended: Any = None  # how that ended

    @property
    def idle(self) -> bool:
        return self.ready is None and not self.batch

    def begin(self, batch: str, job: Mapping[str, Any], fence: float) -> None:
        """Hand a job on; see Slot.start."""
        self.batch = batch
        self.began = self.actor.start.remote(batch, dict(job), fence)
        self.follow()

    def follow(self) -> None:
        self.ended = self.actor.outcome.remote(self.batch)

    def free(self, now: float) -> None:
        """It has nothing to do any more."""
        self.batch, self.began, self.ended, self.since = "", None, None, now

    def taken_on(self) -> bool:
        """Whether the batch has arrived, as far as one can know; one of an earlier driver's has."""
        import ray
        from ray.exceptions import RayError

        try:
            if self.began is not None:
                ray.get(self.began, timeout=0)
        except RayError:
            return False
        return True


class Places:
    """`folder` is the study's own for Ray: it holds claims, logs of launchers and the cluster's address."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic):
        self.folder, self.clock = folder, clock
        self.all: list[Place] = []
        self._space = raycluster.namespace(folder)
        self._fitting: set[Need] = set()  # what the cluster can hold, or could once
        self._told: set[Need] = set()  # of which it was said that trials wait for it
        self._failures, self._worked = 0, False  # whether an actor has ever been ready
        self._looked = self._answered = clock()
        self._there, self._head = True, ""

    def find(self) -> None:
        """Those that an earlier driver has left. What waits for a node, or answers nobody, is ended."""
        self._head = raycluster.head()
        found = raycluster.actors(self._space)
        told = raycluster.states(found)
        for name, actor in found.items():
            if name not in told:
                _kill(actor)
                continue
            need, batch = told[name]
            self.all.append(place := Place(name, actor, need, self.clock(), batch=batch))
            if batch:
                place.follow()

    def done(self, what: str) -> list[Place]:
        """Those of whose promise, `ready` or `ended`, something has come."""
        import ray

        asked = {getattr(place, what): place for place in self.all if getattr(place, what) is not None}
        found, _ = ray.wait([*asked], num_returns=len(asked), timeout=0) if asked else ([], [])
        return [asked[ref] for ref in found]

    def wait(self, seconds: float) -> None:
        """Sleep until one is ready or a job has ended."""
        import ray

        asked = [ref for place in self.all for ref in (place.ready, place.ended) if ref is not None]
        if asked:
            ray.wait(asked, num_returns=1, timeout=seconds)
        else:
            time.sleep(seconds)

    def see_ready(self) -> None:
        """Raises CannotLaunch where actors die before they are; one that waits on a node which is lost dies too."""
        import ray
        from ray.exceptions import RayError

        dead = None
        for place in self.done("ready"):
            try:
                ray.get(place.ready)
            except RayError as error:
                self.drop(place)
                log.warning("an actor died before it was ready: %s", cause(error))
                if getattr(error, "actor_init_failed", False):
                    raise CannotLaunch(f"executor ray: no trial can start on a node: {cause(error)}") from error
                dead = error
                continue
            place.ready, place.since, self._worked = None, self.clock(), True
            self._told.discard(place.need)
        self._failures += dead is not None
        if dead and not self._worked and self._failures >= FAILURES:
            raise CannotLaunch(f"executor ray: no trial can start on a node: {cause(dead)}") from dead

    def idle_for(self, need: Need) -> Place | None:
        """One that has what is needed, and will not leave just now."""
        now = self.clock()
        fresh = (place for place in self.all if place.idle and place.need == need and now - place.since < KEPT_SECONDS)
        return next(fresh, None)

    def balance(self, needs: Mapping[Need, int]) -> None:
        """As many as there are trials that wait, some at a time; what is idle makes room for another need.

        Raises CannotLaunch for what the cluster can't hold.
        """
        now = self.clock()
        for place in [*self.all]:
            stale = place.idle and (now - place.since >= KEPT_SECONDS or (needs and place.need not in needs))
            if stale or (place.ready is not None and self._asked_for(place.need) > needs.get(place.need, 0)):
                self.drop(place)
        for need, number in needs.items():
            while self._asked_for(need) < min(number, PENDING):
                self._ask_for(need)
            self._explain(need)

    def drop(self, place: Place) -> None:
        """Give it back, with all that runs there."""
        self.all.remove(place)
        _kill(place.actor)

    def drop_all(self, places: list[Place]) -> None:
        """Give them back; they have gone when this returns: then they answer no more."""
        import ray
        from ray.exceptions import RayError

        for place in places:
            self.drop(place)
        left, end = [place.actor for place in places if place.ready is None], self.clock() + STOP_SECONDS
        while left and self.clock() < end:
            try:
                ray.get(left[0].state.remote(), timeout=max(0.1, end - self.clock()))
                time.sleep(0.02)
            except RayError:
                left.pop(0)

    def head_is_there(self) -> bool:
        """Whether the cluster's head answered at the last look; while it does not, what it is asked may hang.

        Raises CannotLaunch where it has been away for long: Ray would end this process.
        """
        now = self.clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._there = raycluster.answers(self._head)
            self._answered = self.clock() if self._there else self._answered
        if now - self._answered > GONE_SECONDS and not self._there:
            raise CannotLaunch(f"executor ray: the cluster's head at {self._head} does not answer any more; what has"
                               " run is whole, and the same command goes on once it does")  # fmt: skip
        return self._there

    def _asked_for(self, need: Need) -> int:
        return sum(place.need == need and place.ready is not None for place in self.all)

    def _ask_for(self, need: Need) -> None:
        import ray

        self._check_fit(need)
        name = f"{self.folder.parent.name}-{digest([os.getpid(), time.time(), len(self.all)], 8)}"
        alone = need.nodes == 1  # else its members have what it needs
        made = ray.remote(Slot).options(
            name=name, namespace=self._space, lifetime="detached", num_cpus=need.cpus if alone else 0,
            num_gpus=need.gpus if alone else 0, max_restarts=0,
        )  # fmt: skip
        claims, words = (str((self.folder / each).resolve()) for each in ("claims", f"log/{name}"))
        actor = made.remote(claims, words, need, {key: os.environ[key] for key in PASSED_ON if key in os.environ})
        self.all.append(Place(name, actor, need, self.clock(), ready=actor.ready.remote()))

    def _check_fit(self, need: Need) -> None:
        if need in self._fitting:
            return
        there = raycluster.nodes()
        if not raycluster.side_by_side(need, there) and not raycluster.grows_to(need, there):
            found = raycluster.largest(there)
            raise CannotLaunch(f"executor ray: a trial asks for {need}; the cluster has {found}")
        self._fitting.add(need)

    def _explain(self, need: Need) -> None:
        """Say once that trials wait for nodes."""
        waits = [self.clock() - place.since for place in self.all if place.need == need and place.ready is not None]
        busy = any(place.batch for place in self.all)
        if waits and max(waits) > WAIT_SECONDS and not busy and need not in self._told:
            self._told.add(need)
            log.warning("trials wait for %s; the cluster has %s, and others may use it, or a node may have to start",
                        need, raycluster.largest(raycluster.nodes()))  # fmt: skip


def _kill(actor: Any) -> None:
    import ray

    ray.kill(actor)
