"""What is made of a Ray cluster's words, and of its silence; no cluster is started."""

from __future__ import annotations

import json
import socket

import pytest

from ablate import raycluster, rayplan
from ablate.executor import CannotLaunch
from ablate.executors import check
from ablate.plan import make_plan
from ablate.raycluster import Node, grows_to, largest
from ablate.rayexecutor import RayExecutor, RayHandle
from ablate.rayplaces import FAILURES, GONE_SECONDS, LOOK_SECONDS, Place, Places
from ablate.rayslot import Need
from ablate.records import StudyFolder, TrialFolder
from ablate.study import load
from tests.ablate import studies


def test_what_the_nodes_have_is_said_kind_by_kind():
    there = [Node("a", "a", 8, 4), Node("b", "b", 8, 4), Node("head", "head", 2, 0)]
    assert largest(there) == "2 x 8 CPUs and 4 GPUs, 1 x 2 CPUs" and largest([]) == "no nodes"


@pytest.mark.parametrize(("asked", "named", "source"), [
    ("h:1", "", "from resources.address"), ("h:1", "h:2", "from resources.address"), (None, "h:2", "from RAY_ADDRESS"),
    (None, "", "the one that this machine belongs to"),
])  # fmt: skip
def test_which_cluster_it_is_and_who_has_named_it_is_said(monkeypatch, asked, named, source):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(raycluster, "head", lambda: "10.0.0.1:6379")
    monkeypatch.setenv("RAY_ADDRESS", named)
    assert raycluster.described(asked) == f"Ray {ray.__version__} at 10.0.0.1:6379 ({source})"


def test_the_plan_says_what_the_named_cluster_has_room_for():
    said = {"cluster": "Ray 2 at h:1 (from RAY_ADDRESS)", "need": "2 CPUs", "nodes": "2 x 8 CPUs", "side_by_side": 8}
    assert rayplan.describe(said | {"grows": False}).endswith(
        "; Ray 2 at h:1 (from RAY_ADDRESS), with 2 x 8 CPUs, has room for 8 at a time")  # fmt: skip


@pytest.mark.parametrize(("need", "grows"), [
    (Need(1, 8, 1), True), (Need(4, 8, 1), True), (Need(5, 8, 1), False), (Need(1, 9, 1), False), (Need(7, 2, 0), True),
])  # fmt: skip
def test_what_an_autoscaler_may_start_is_worth_waiting_for(monkeypatch, need, grows):
    pytest.importorskip("ray")
    from ray._private.state import state
    from ray.core.generated.autoscaler_pb2 import ClusterConfig, NodeGroupConfig

    groups = [NodeGroupConfig(name="gpu", resources={"CPU": 8, "GPU": 1}, max_count=4),
              NodeGroupConfig(name="any", resources={"CPU": 2}, max_count=-1)]  # fmt: skip
    monkeypatch.setattr(state, "get_cluster_config", lambda: ClusterConfig(node_group_configs=groups))
    there = [Node("a", "a", 2, 0)]
    assert grows_to(need, there) is grows
    monkeypatch.setattr(state, "get_cluster_config", lambda: None)
    assert grows_to(need, there) is False
    assert grows_to(need, [Node("head", "head", 0, 0)]), "of an autoscaler that has started nothing nobody knows"


class Promised:
    """Stands for what Ray says of actors: `dead` fail, the others are ready."""

    def __init__(self, monkeypatch):
        import ray
        from ray.exceptions import ActorDiedError

        self.dead: set[Place] = set()

        def get(place: Place, **_) -> None:
            if place in self.dead:
                raise ActorDiedError

        monkeypatch.setattr(ray, "get", get)
        monkeypatch.setattr(ray, "kill", lambda actor: None)
        monkeypatch.setattr(Places, "done", lambda places, what: [one for one in places.all if one.ready is not None])


def asked_for(places: Places, number: int) -> list[Place]:
    """Actors whose promise is they themselves."""
    made = [Place(str(at), None, Need(2, 1, 0), 0.0) for at in range(number)]
    for place in made:
        place.ready = place
    places.all += made
    return made


def test_an_actor_that_ray_kills_for_memory_is_the_machines_failure(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    promised, executor = Promised(monkeypatch), RayExecutor(tmp_path / "study" / "ray", 1)
    place = Place("one", None, Need(1, 2, 0), 0.0, batch="batch")
    executor._places.all.append(place)
    monkeypatch.setattr(Places, "done", lambda places, what: [place])

    def get(*_, **__) -> None:
        raise ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")

    monkeypatch.setattr(ray, "get", get)
    handle = RayHandle(executor, TrialFolder(tmp_path / "study" / "trials" / "one"), place=place)
    executor._handles.append(handle)
    executor._see_ended()
    assert handle.outcome.lost and not handle.outcome.arms and "low on memory" in handle.outcome.said
    assert not executor._places.all and not promised.dead


def test_who_leaves_gives_back_what_waits_and_keeps_what_runs(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    Promised(monkeypatch)
    executor = RayExecutor(tmp_path / "study" / "ray", 1)
    executor.leave()  # before there was a cluster
    executor._connected = True
    asked_for(executor._places, 2)
    busy = Place("busy", None, Need(1, 2, 0), 0.0, batch="batch")
    executor._places.all.append(busy)
    executor.leave()
    assert executor._places.all == [busy]


def test_actors_that_wait_on_a_node_which_is_lost_end_no_study(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    promised, places = Promised(monkeypatch), Places(tmp_path / "study" / "ray", lambda: 0.0)
    asked_for(places, 1)
    places.see_ready()
    for _ in range(2 * FAILURES):
        promised.dead |= {*asked_for(places, 5)}
        places.see_ready()
    assert [place.name for place in places.all] == ["0"] and places.all[0].ready is None


def test_actors_that_never_become_ready_do(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    promised, places = Promised(monkeypatch), Places(tmp_path / "study" / "ray", lambda: 0.0)
    for _ in range(FAILURES - 1):
        promised.dead |= {*asked_for(places, 5)}
        places.see_ready()
    promised.dead |= {*asked_for(places, 1)}
    with pytest.raises(CannotLaunch, match="no trial can start on a node"):
        places.see_ready()


def test_a_head_that_is_away_is_waited_for_and_then_given_up(tmp_path, monkeypatch):
    now, there = [0.0], [True]
    monkeypatch.setattr(raycluster, "answers", lambda _: there[0])
    places = Places(tmp_path / "study" / "ray", lambda: now[0])
    now[0] = LOOK_SECONDS
    assert places.head_is_there()
    there[0] = False
    now[0] += LOOK_SECONDS
    assert not places.head_is_there()
    there[0] = True
    now[0] += GONE_SECONDS - 2 * LOOK_SECONDS
    assert places.head_is_there(), "it has come back"
    there[0] = False
    now[0] += LOOK_SECONDS
    assert not places.head_is_there()
    now[0] += GONE_SECONDS
    with pytest.raises(CannotLaunch, match="does not answer any more"):
        places.head_is_there()


def test_actors_of_a_cluster_that_is_silent_lose_their_claims_before_this_machine_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(raycluster, "FENCE_SECONDS", 0.0)
    plan, folder = make_plan(load(studies.write(tmp_path))), StudyFolder(tmp_path / "runs", "tiny")
    claims = folder.ray / "claims"
    claims.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    (folder.ray / "cluster.json").write_text(json.dumps({"address": f"127.0.0.1:{nobody}"}))
    (claims / "trial.json").write_text(json.dumps({"batch": "some"}))
    check(plan, folder)
    assert [*claims.iterdir()] == []
