"""A real Ray cluster of a head without CPUs and two nodes, all on this machine, for tests."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
MEMORY = 80 * 2**20  # bytes of each node's object store, which nothing uses
NODE = {"object_store_memory": MEMORY, "include_dashboard": False}


class Cluster:
    """Nodes that can be added and lost, and a head that can be killed."""

    def __init__(self, *, nodes: int = 2, cpus: int = 2):
        # What the nodes' processes are born with: Ray's own statistics call out, and gloo asks the host's name.
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "GLOO_SOCKET_IFNAME": "lo", "RAY_worker_niceness": "0"}
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        from ray.cluster_utils import Cluster as Real

        self.real = Real(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
        self.nodes: list[Any] = []
        for _ in range(nodes):
            self.add(cpus)

    @property
    def address(self) -> str:
        return self.real.address

    def add(self, cpus: int = 2) -> None:
        self.nodes.append(self.real.add_node(num_cpus=cpus, **NODE))

    def lose(self, at: int = 0) -> None:
        """A node fails: all its processes die at once."""
        self.real.remove_node(self.nodes.pop(at), allow_graceful=False)

    def lose_head(self) -> None:
        """What keeps the cluster's state dies; its nodes have not noticed yet."""
        self.real.head_node.kill_gcs_server()

    @property
    def pids(self) -> list[int]:
        """Of the process on each node that starts the others."""
        return [node.all_processes["raylet"][0].process.pid for node in self.nodes]

    def end(self) -> None:
        import ray

        ray.shutdown()  # of this process, which may have been a driver
        self.real.shutdown()


def missing() -> str:
    """Why there can be none; empty where Ray is installed."""
    if sys.platform != "linux":
        return "the test cluster needs Linux"
    return "" if importlib.util.find_spec("ray") else "ray is not installed (pip install 'ablate-gan[ray]')"


@functools.cache
def _shared() -> Cluster:
    return Cluster()


def possible() -> None:
    """Skip the test where there can be no cluster, and say why."""
    if why := missing():
        pytest.skip(why)


def needed() -> Cluster:
    """The cluster of this process's tests that kill no node."""
    possible()
    return _shared()
