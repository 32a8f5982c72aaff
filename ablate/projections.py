"""The two projections of a study, Optuna's storage and MLflow, as its plan.json says what they hold.

A driver opens them to tell what happens, `ablate sync` to tell what has happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ablate.ledger import Ledger
from ablate.ledger_queue import LedgerQueue
from ablate.optuna_storage import resolve, study_name
from ablate.plan import metric_facts
from ablate.records import Arm, StudyFolder
from ablate.searchplan import base_values
from ablate.searchspace import Parameter
from ablate.tracking import Tracking


@contextmanager
def open_projections(
    plan: Mapping[str, Any], uri: str | None, folder: StudyFolder, *, storage: str = "auto", live: bool = True
) -> Iterator[tuple[LedgerQueue, Tracking]]:
    """The lines to Optuna's storage and to MLflow; however the block ends, no run stays open in the store.

    `plan` is what plan.json holds; `uri` (MLflow's) and `storage` (Optuna's) are as the study says them. `live` as in
    `Tracking`. Raises LedgerError.
    """
    arms = [Arm(arm["name"], arm["changes"]) for arm in plan["arms"]]
    factors, metric, search = plan["factors"], plan["metric"], plan.get("search")
    space = {name: Parameter.from_json(name, one) for name, one in search["space"].items()} if search else None
    goals = {name: metric_facts(name)["goal"] for name in search["objectives"]} if search else None
    where = resolve(storage, folder)
    ledger = LedgerQueue(Ledger(
        where, study_name=study_name(where, folder), goal=metric["goal"], metric=metric["name"], split=metric["split"],
        factors=factors, arms=() if search else arms, space=space, objectives=goals,
    ), aloud=live)  # fmt: skip
    for arm, planned in zip(arms, plan["arms"], strict=True) if search else ():
        ledger.add(arm, planned.get("sampled") or base_values(space, plan["base"]))
    tracking = Tracking.open(uri, folder, arms=arms, factors=factors, question=plan["question"], live=live)
    try:
        yield ledger, tracking
    finally:
        tracking.interrupt()
        ledger.close()
        tracking.close()


def unreachable(ledger: LedgerQueue, tracking: Tracking) -> dict[str, str]:
    """Store -> why something has not arrived there; empty where all has."""
    said = {"Optuna's storage": ledger.unreachable, "MLflow": tracking.unreachable}
    return {store: why for store, why in said.items() if why}
