"""A place for one trial at a time on a cluster of Ray's: what the actors run that `ablate.rayexecutor` starts.

An actor keeps a launcher (`trainers.launcher`) from job to job, as the local executor does. It outlives the driver and
leaves by itself once nobody gives it work. Which batch may train a trial stands in a file beside the study, the claim:
an actor that finds another's name there ends its job, so that one which the cluster has lost from sight trains
nothing that is trained elsewhere meanwhile. No torch here, and Ray only where an actor calls it.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import select
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.executor import STOP_SECONDS, Launcher, Outcome
from trainers.batch import claim

IDLE_SECONDS = 30.0  # that an actor keeps its CPUs and GPUs without work
LOOK_SECONDS = 1.0  # between looks at the claim
TURN_SECONDS = 0.1
FENCE_SECONDS = 5.0  # for an actor that lost its claim to have seen it, and its ranks to have gone
TAKEN, ENDED = "its trial was given to another place", "its job was ended from here"


@dataclass(frozen=True)
class Need:
    """What a trial asks for: `nodes` bundles of so many CPUs and GPUs."""

    nodes: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        each = f"{self.cpus} CPUs" + (f" and {self.gpus} GPUs" if self.gpus else "")
        return each if self.nodes == 1 else f"{self.nodes} times {each}"


class Claim:
    """Whether the file beside the study still names a batch, at the last look."""

    def __init__(self, path: Path, batch: str):
        self._path, self._batch, self._looked = path, batch, -LOOK_SECONDS

    def anew(self) -> Claim:
        """The same for another machine, which has a clock of its own."""
        return Claim(self._path, self._batch)

    def holds(self) -> bool:
        """A disk that does not answer changes nothing."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            try:
                if json.loads(self._path.read_text())["batch"] != self._batch:
                    return False
            except FileNotFoundError:
                return False
            except OSError:
                pass
            self._looked = time.monotonic()
        return True


class Part:
    """A machine's part of trials: a launcher that is kept from job to job. Made in the thread that uses it."""

    def __init__(self, log: str, environment: Mapping[str, str]):
        os.environ.pop("OMP_NUM_THREADS", None)  # Ray's; ranks have their own
        os.environ |= environment
        self._log = open(log, "ab")
        self._launcher: Launcher | None = None

    def warm_up(self) -> None:
        if self._launcher is None or not self._launcher.alive:
            self._launcher = Launcher(self._log)

    def run(self, job: Mapping[str, Any], wanted: Callable[[], bool], held: Claim | None = None) -> Outcome:
        """Run a job to its end, or until it is wanted no more. Raises CannotLaunch."""
        self.warm_up()
        self._launcher.send(job)
        while (outcome := self._launcher.poll()) is None:
            if not wanted():
                self._launcher.end()
                return Outcome(lost=True)
            select.select([self._launcher.process.stdout], [], [], TURN_SECONDS)
        return outcome

    def end(self) -> None:
        if self._launcher:
            self._launcher.end()


class Member:
    """An actor with one part of a trial that lies in several bundles; it ends with the actor that made it."""

    def __init__(self, log: str, environment: Mapping[str, str]):
        self._part = Part(log, environment)
        self._part.warm_up()

    def address(self) -> str:
        import ray

        return ray.util.get_node_ip_address()

    def port(self) -> int:
        with socket.create_server(("", 0)) as free:
            return free.getsockname()[1]

    def run(self, job: Mapping[str, Any], held: Claim) -> Outcome:
        return self._part.run(job, held.anew().holds)


class Team:
    """The parts of a trial in several bundles. Bundles and members go with the actor that holds them."""

    def __init__(self, need: Need, log: str, environment: Mapping[str, str]):
        self._need, self._log, self._environment = need, log, environment
        self._members: list[Any] = []

    def warm_up(self) -> None:
        """Wait for the bundles, then for a member in each."""
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as In

        need = self._need
        bundle = {"CPU": need.cpus, **({"GPU": need.gpus} if need.gpus else {})}
        group = placement_group([bundle] * need.nodes, strategy="PACK")
        ray.get(group.ready())
        self._members = [
            ray.remote(Member)
            .options(num_cpus=need.cpus, num_gpus=need.gpus, scheduling_strategy=In(group, at))
            .remote(self._log, self._environment)
            for at in range(need.nodes)
        ]
        self._addresses = ray.get([member.address.remote() for member in self._members])

    def run(self, job: Mapping[str, Any], wanted: Callable[[], bool], held: Claim) -> Outcome:
        """As Part.run; each member looks at the claim too. A team that has lost a part is of no use any more."""
        import ray
        from ray.exceptions import OutOfMemoryError, RayActorError

        failures, end = {}, None
        try:
            port = ray.get(self._members[0].port.remote())
            waiting = [member.run.remote(self._asked(job, at, port), held) for at, member in enumerate(self._members)]
            while waiting:
                done, waiting = ray.wait(waiting, timeout=TURN_SECONDS)
                for outcome in ray.get(done):
                    failures |= outcome.failures
                    if outcome.lost:
                        return self._lost("the launcher of one of its nodes died")
                if failures and end is None:
                    end = time.monotonic() + STOP_SECONDS  # for its peers to notice
                if not wanted() or (end and time.monotonic() > end and waiting):
                    return self._lost("")
        except (RayActorError, OutOfMemoryError) as error:
            return self._lost(cause(error))
        return Outcome(failures)

    def _asked(self, job: Mapping[str, Any], at: int, port: int) -> dict[str, Any]:
        run = f"{Path(job['folder']).name}-{port}"  # torch names folders after it
        meeting = {"nodes": self._need.nodes, "meet": f"{self._addresses[0]}:{port}", "run": run,
                   "here": self._addresses[at], "first": at == 0}  # fmt: skip
        return {**job, "meeting": meeting}

    def _lost(self, said: str) -> Outcome:
        self.end()
        return Outcome(lost=True, said=said)

    def end(self) -> None:
        import ray

        for member in self._members:
            ray.kill(member)
        for member in self._members:
            ray.wait([member.port.remote()], timeout=STOP_SECONDS)  # it fails once the member has gone


class Slot:
    """The actor that the driver speaks to. It leaves when it has had nothing to do for a while."""

    def __init__(self, claims: str, log: str, need: Need, environment: Mapping[str, str]):
        self._claims, self._need = Path(claims), need
        self._crew = Part(log, environment) if need.nodes == 1 else Team(need, log, environment)
        self._asked: queue.SimpleQueue[tuple[str, dict, float]] = queue.SimpleQueue()
        self._batch = ""
        self._outcomes: dict[str, Outcome | Exception] = {}
        self._unwanted: set[str] = set()
        self._ready, self._broken = threading.Event(), None
        # One thread for the life of the actor: what it starts is killed by the kernel when that thread ends.
        threading.Thread(target=self._serve, daemon=True).start()

    async def ready(self) -> Need:
        """What it holds, once it does. Raises what keeps it from that."""
        while not self._ready.is_set():
            await asyncio.sleep(TURN_SECONDS / 2)
        if self._broken:
            raise self._broken
        return self._need

    async def state(self) -> tuple[Need, str]:
        """What it holds, and the batch that it runs."""
        return await self.ready(), self._batch

    async def start(self, batch: str, job: dict[str, Any], fence: float) -> None:
        """Take a job on; `fence` seconds later than at once where another may still have to notice."""
        self._batch = batch
        self._asked.put((batch, job, fence))

    async def outcome(self, batch: str) -> Outcome:
        """How a batch ended, once it has. This call may overtake the one that starts it."""
        end = time.monotonic() + STOP_SECONDS
        while True:
            running = batch == self._batch  # asked first: a job that ends leaves its outcome before its name goes
            if batch in self._outcomes:
                break
            if not running and time.monotonic() > end:
                return Outcome(lost=True, said="its place knows nothing of it")
            await asyncio.sleep(TURN_SECONDS / 5)
        if isinstance(found := self._outcomes[batch], Exception):
            raise found
        return found

    async def stop(self, batch: str) -> None:
        """End a batch's job now."""
        self._unwanted.add(batch)

    def _serve(self) -> None:
        try:
            self._crew.warm_up()
        except Exception as error:
            traceback.print_exc()
            self._broken = error
        self._ready.set()
        while True:
            try:
                batch, job, fence = self._asked.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                break
            try:
                self._outcomes[batch] = self._run(batch, job, fence)
            except Exception as error:
                self._outcomes[batch] = error
            self._batch = self._batch if self._batch != batch else ""
        self._crew.end()
        os._exit(0)

    def _run(self, batch: str, job: dict[str, Any], fence: float) -> Outcome:
        held, end = Claim(claim(self._claims, Path(job["folder"]).name), batch), time.monotonic() + fence

        def wanted() -> bool:
            return batch not in self._unwanted and held.holds()

        while time.monotonic() < end and wanted():
            time.sleep(TURN_SECONDS)
        outcome = self._crew.run(job, wanted, held) if wanted() else Outcome(lost=True)
        if outcome.lost and not wanted():
            return Outcome(lost=True, said=ENDED if batch in self._unwanted else TAKEN)
        return outcome


def cause(error: BaseException) -> str:
    """What Ray says of an actor's end, in a line."""
    facts = ("class_name", "actor_id", "pid", "name", "namespace", "ip", "The actor died unexpectedly")
    told = [line for line in map(str.strip, str(error).splitlines()) if line and not line.startswith(facts)]
    if not told:
        return type(error).__name__
    line = told[-1 if "creation task" in told[0] else 0]  # there a traceback follows, whose last line says what it is
    return line.partition(" Some common causes")[0]
