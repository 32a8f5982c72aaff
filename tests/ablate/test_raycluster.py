"""What is made of a Ray cluster's words, and of its silence; no cluster is started."""

from __future__ import annotations

import json
import socket

import pytest

from ablate import raycluster
from ablate.executor import CannotLaunch
from ablate.executors import check
from ablate.plan import make_plan
from ablate.raycluster import Node, grows_to, largest
from ablate.rayplaces import GONE_SECONDS, LOOK_SECONDS, Places
from ablate.rayslot import Need
from ablate.records import StudyFolder
from ablate.study import load
from tests.ablate import studies


def test_what_the_nodes_have_is_said_kind_by_kind():
    there = [Node("a", "a", 8, 4), Node("b", "b", 8, 4), Node("head", "head", 2, 0)]
    assert largest(there) == "2 x 8 CPUs and 4 GPUs, 1 x 2 CPUs" and largest([]) == "no nodes"


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
    assert grows_to(need) is grows
    monkeypatch.setattr(state, "get_cluster_config", lambda: None)
    assert grows_to(need) is False


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
