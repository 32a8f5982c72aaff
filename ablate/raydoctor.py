"""`ablate doctor --executor ray`: the cluster as its own nodes see it, tried rather than assumed."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ablate import machine, raycluster
from ablate.disk import write_atomically
from ablate.executor import CannotLaunch
from ablate.plan import make_plan
from ablate.problems import StudyError
from ablate.raycluster import Node
from ablate.rayexecutor import Shape
from ablate.resources import RAY
from ablate.study import load
from trainers.pairs import DataError
from trainers.pool import Job

LOOK_SECONDS = 60.0  # for nodes to say what they see
SAME = ("torch", "torchvision", "numpy")  # must be the driver's


@dataclass(frozen=True)
class Seen:
    """What a node has and sees."""

    host: str
    cpus: float
    gpus: float
    python: str = ""
    versions: Mapping[str, str] | None = None  # None where the node said nothing
    runs: bool = False  # whether it reads what the driver has written, and may write there
    why: str = ""  # it said nothing


def examine(runs: Path) -> tuple[str, list[dict[str, Any]], list[str]]:
    """Which cluster it is, facts about each node, and what keeps trials from running there, a sentence each."""
    where = raycluster.address(None)
    try:
        raycluster.connect(where)
    except CannotLaunch as error:
        hint = "; set RAY_ADDRESS, or start one: ray start --head" if "ray (pip" not in str(error) else ""
        return "", [], [f"{error}{hint}"]
    there = raycluster.nodes()
    found = _ask(there, runs)
    cluster = raycluster.described(None)
    return cluster, [asdict(one) for one in found], [*_wrong(found, runs), *_too_small(there, runs)]


def _ask(there: list[Node], runs: Path) -> list[Seen]:
    """What each node says of itself, all at once."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    runs = runs.absolute()
    probe = next(path for path in (runs, *runs.parents) if path.exists()) / f".probe-{secrets.token_hex(4)}"
    word = secrets.token_hex(16)
    write_atomically(probe, word)
    try:
        asked = {
            node: ray.remote(look)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False))
            .remote(str(probe), word)
            for node in there
        }
        ray.wait([*asked.values()], num_returns=len(asked), timeout=LOOK_SECONDS)
        found = []
        for node, ref in asked.items():
            try:
                said = ray.get(ref, timeout=0)
                found.append(Seen(node.host, node.cpus, node.gpus, **said))
            except RayError as error:
                why = getattr(error, "cause", None) or (str(error).splitlines() or [type(error).__name__])[-1]
                found.append(Seen(node.host, node.cpus, node.gpus, why=str(why)))
        return found
    finally:
        probe.unlink(missing_ok=True)


def look(probe: str, word: str) -> dict[str, Any]:
    """Run on a node: its versions, and whether it sees the driver's file."""
    try:
        seen = Path(probe).read_text() == word and os.access(Path(probe).parent, os.W_OK | os.X_OK)
    except OSError:
        seen = False
    return {"python": platform.python_version(), "versions": {name: machine.versions()[name] for name in SAME},
            "runs": seen}  # fmt: skip


def _wrong(found: list[Seen], runs: Path) -> Iterator[str]:
    ours = {name: machine.versions()[name] for name in SAME}
    for one in found:
        if one.versions is None:
            yield f"node {one.host} can't run ablate: {one.why}"
            continue
        if one.python != platform.python_version():
            yield f"node {one.host} has Python {one.python}, the driver {platform.python_version()}"
        for name, version in ours.items():
            if one.versions[name] != version:
                yield f"node {one.host} has {name} {one.versions[name] or 'not'}, the driver {version}"
        if not one.runs:
            yield f"node {one.host} does not share the runs folder {runs.absolute()}, or may not write there"


def _too_small(there: list[Node], runs: Path) -> Iterator[str]:
    """Studies under `runs` that ask the cluster for more than it has."""
    if not any(node.cpus for node in there):
        yield "no node has a CPU to give, yet: trials would wait until one joins"
    for path in sorted(runs.glob("*/study.yaml")):
        try:
            plan = make_plan(load(path, runs=runs))
        except (StudyError, DataError, OSError):
            continue  # the commands that read it say what is wrong
        if plan.study.resources.executor == RAY:
            need = need_of(plan)
            if not raycluster.side_by_side(need, there) and not raycluster.grows_to(need, there):
                yield f"{plan.study.name}: a trial asks for {need}; the cluster has {raycluster.largest(there)}"


def need_of(plan: Any) -> raycluster.Need:
    """What the plan's widest trial asks the cluster for."""
    widest = max(plan.specs.values(), key=lambda spec: spec.ranks)
    return Shape.of(plan.study.resources).need(Job("run", "", widest.ranks, widest.threads))


def describe(found: list[dict[str, Any]]) -> list[str]:
    """The nodes for people."""
    return [f"node {one['host']}: {one['cpus']:g} CPUs, {one['gpus']:g} GPUs, Python {one['python'] or '?'}, torch"
            f" {(one['versions'] or {}).get('torch') or '?'}" for one in found]  # fmt: skip
