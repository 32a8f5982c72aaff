"""What a Ray cluster says: whether it is there, what it has, which actors of a study it holds. Ray is loaded on use."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.disk import write_atomically
from ablate.executor import CannotLaunch
from ablate.rayslot import FENCE_SECONDS, Need
from ablate.records import digest
from trainers.batch import claimant

log = logging.getLogger(__name__)

AUTO = "auto"  # the cluster that this machine belongs to
CONNECT_SECONDS = 5.0  # for a cluster's address to take a connection
ANSWER_SECONDS = 10.0  # for actors to say what they do
MISSING = "executor ray: not found here: ray (pip install 'ablate-gan[ray]')"


@dataclass(frozen=True)
class Node:
    """What a living node has in all."""

    id: str
    host: str
    cpus: float
    gpus: float

    def holds(self, need: Need) -> int:
        """How many of a need's bundles lie on it side by side."""
        rooms = [self.cpus // need.cpus] + ([self.gpus // need.gpus] if need.gpus else [])
        return int(min(rooms))


def address(asked: str | None) -> str:
    """Of the cluster: what the study asks for, else RAY_ADDRESS, else the one that this machine belongs to."""
    return asked or os.environ.get("RAY_ADDRESS") or AUTO


def described(asked: str | None) -> str:
    """The cluster that this process is a driver of, and who has named it."""
    import ray

    source = "from resources.address" if asked else "from RAY_ADDRESS" if os.environ.get("RAY_ADDRESS") else ""
    return f"Ray {ray.__version__} at {head()} ({source or 'the one that this machine belongs to'})"


def connect(place: str) -> None:
    """Be a driver of the cluster at an address. Raises CannotLaunch where there is none."""
    if importlib.util.find_spec("ray") is None:
        raise CannotLaunch(MISSING)
    if "://" in place:
        raise CannotLaunch(f"executor ray: {place}: expected the head's own HOST:PORT; a driver outside of the cluster"
                           " joins it by ray start --address=HOST:PORT --num-cpus 0 --num-gpus 0")  # fmt: skip
    if place != AUTO and not answers(place):
        raise CannotLaunch(f"executor ray: nothing answers at {place}")
    # Nothing calls out, and no folder is sent to the cluster: the nodes have their own environment.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # each takes most of a minute, where no head answers
    import ray

    if ray.is_initialized():
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray.init(address=place, log_to_driver=False, configure_logging=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
        said = (str(error).splitlines() or [""])[0]
        raise CannotLaunch(f"executor ray: no cluster at {place}: {said}") from error
    finally:
        for number, handler in handlers.items():  # Ray takes them; the driver has its own
            signal.signal(number, handler)
    ray._private.worker.print_to_stdstream = _into_log  # else the terminal is told of every actor that is killed


def _into_log(data: dict[str, Any], **_: Any) -> None:
    log.info("%s", " ".join(data.get("lines", ())))


def head() -> str:
    """host:port of what the cluster's state is kept by."""
    import ray

    return ray.get_runtime_context().gcs_address


def answers(place: str) -> bool:
    """Whether something takes connections at host:port."""
    host, _, port = place.rpartition(":")
    if not port.isdigit():
        return False
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def nodes() -> list[Node]:
    """The living ones."""
    import ray

    return [
        Node(one["NodeID"], one["NodeManagerHostname"], one["Resources"].get("CPU", 0), one["Resources"].get("GPU", 0))
        for one in ray.nodes() if one["Alive"]
    ]  # fmt: skip


def side_by_side(need: Need, there: Iterable[Node]) -> int:
    """How many trials with that need the nodes hold at a time."""
    return sum(node.holds(need) for node in there) // need.nodes


def grows_to(need: Need, there: Iterable[Node]) -> bool:
    """Whether an autoscaler may start nodes that hold the need; of one that has started none yet nobody knows."""
    from ray._private.state import state

    if not any(node.cpus for node in there):
        return True
    config = state.get_cluster_config()
    groups = [Node("", one.name, one.resources.get("CPU", 0), one.resources.get("GPU", 0)).holds(need) * most
              for one in (config.node_group_configs if config else ())
              if (most := one.max_count if one.max_count >= 0 else need.nodes)]  # fmt: skip
    return sum(groups) >= need.nodes


def largest(there: Iterable[Node]) -> str:
    """In words, what the nodes have."""
    kinds: dict[tuple[float, float], int] = {}
    for node in there:
        kinds[node.cpus, node.gpus] = kinds.get((node.cpus, node.gpus), 0) + 1
    each = [f"{number} x {cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
            for (cpus, gpus), number in sorted(kinds.items(), reverse=True)]  # fmt: skip
    return ", ".join(each) or "no nodes"


# -- the actors of a study --------------------------------------------------------------------------


def namespace(place: Path) -> str:
    """Where the actors of the study whose `ray` folder is `place` have their names."""
    return f"ablate-{place.parent.name}-{digest(str(place.resolve()), 6)}"


def actors(space: str) -> dict[str, Any]:
    """The living actors of a namespace by name, those that wait for a node among them."""
    import ray

    names = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] == space]
    found = {}
    for name in names:
        try:
            found[name] = ray.get_actor(name, namespace=space)
        except ValueError:
            continue  # it has just gone
    return found


def states(found: dict[str, Any]) -> dict[str, tuple[Need, str]]:
    """Of those actors that answer: what each holds and which batch it runs."""
    import ray
    from ray.exceptions import RayError

    asked = {actor.state.remote(): name for name, actor in found.items()}
    done, _ = ray.wait([*asked], num_returns=len(asked), timeout=ANSWER_SECONDS) if asked else ([], [])
    told = {}
    for ref in done:
        try:
            told[asked[ref]] = ray.get(ref)
        except RayError:
            continue
    return told


def remember(place: Path, where: str) -> None:
    """Keep on disk which cluster has the study's actors."""
    write_atomically(place / "cluster.json", json.dumps({"address": where}))


def alive(place: Path) -> list[str]:
    """Trials of a study that actors still run. Where their cluster does not answer, they are told to end by their
    claims, which any actor that lives looks at."""
    claims = [*(place / "claims").glob("*.json")]
    if not claims:
        return []
    try:
        running = _running(place)
    except (OSError, ValueError, KeyError, CannotLaunch):
        running = set()
    busy = [path.stem for path in claims if claimant(place / "claims", path.stem) in running]
    if not busy:
        for path in claims:
            path.unlink(missing_ok=True)
        time.sleep(FENCE_SECONDS)
    return sorted(busy)


def _running(place: Path) -> set[str]:
    """The batches that a study's actors run on the cluster of its last driver."""
    connect(str(json.loads((place / "cluster.json").read_text())["address"]))
    import ray

    try:
        return {batch for _, batch in states(actors(namespace(place))).values() if batch}
    finally:
        ray.shutdown()  # which else would end this process with the cluster
