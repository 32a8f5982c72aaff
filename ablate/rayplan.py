"""How a Ray cluster would be filled by a plan's trials: asked at `ablate plan`, as far as one answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ablate import raycluster
from ablate.executor import CannotLaunch
from ablate.plan import Plan
from ablate.raydoctor import need_of
from ablate.resources import RAY


def filled(plan: Plan) -> tuple[Plan, dict[str, Any] | None]:
    """The plan with no more slots than the cluster has room for, and what it was asked; None on other executors."""
    asked = plan.study.resources
    if asked.executor != RAY:
        return plan, None
    need, where = need_of(plan), raycluster.address(asked.address)
    facts: dict[str, Any] = {"address": where, "cluster": None, "need": str(need), "nodes": None, "side_by_side": None,
                             "grows": None}  # fmt: skip
    try:
        raycluster.connect(where)
    except CannotLaunch as error:
        return plan, facts | {"why": str(error)}
    there = raycluster.nodes()
    room, grows = raycluster.side_by_side(need, there), raycluster.grows_to(need, there)
    facts["cluster"] = raycluster.described(asked.address)
    facts |= {"nodes": raycluster.largest(there), "side_by_side": room, "grows": grows}
    return replace(plan, slots=max(1, min(plan.slots, room))) if not grows else plan, facts


def describe(facts: Mapping[str, Any]) -> str:
    """Of the line about resources, what follows the number of trials."""
    lead = f", each a placement group of {facts['need']}"
    if facts["nodes"] is None:
        return f"{lead}; {facts['why']}: the time below has room for all"
    room = f"{lead}; {facts['cluster']}, with {facts['nodes']}, has room for {facts['side_by_side']} at a time"
    if facts["grows"]:
        return f"{room} and may grow; the time below has room for all"
    return room if facts["side_by_side"] else f"{room}: it would be refused"
