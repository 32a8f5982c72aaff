"""How much of the spread between a search's arms its parameters explain, always beside useless ones.

fANOVA (Hutter et al., 2014, https://proceedings.mlr.press/v32/hutter14.html), as Optuna computes it, on arms that
were drawn evenly (random, qmc). Beside every parameter stands a decoy in the same forest: its own values, shuffled
between the arms. A parameter says something only above all that decoys get.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ablate.ledger import DIRECTIONS
from ablate.plan import Plan, metric_facts
from ablate.records import StudyFolder, TrialResult, digest, write_atomically
from ablate.search import ADAPTIVE, Search
from ablate.searchdraw import State, Tried, frozen
from ablate.searching import tried

FEWEST = 10  # arms with a value; below, the forest has nothing to split
SHUFFLES = 5
DECOY = "decoy of "


def write(plan: Plan, folder: StudyFolder, results: Mapping[str, TrialResult]) -> None:
    """Keep the importances of a finished search in its folder; the same outcomes give the same bytes."""
    facts = importances(plan.study.search, tried(plan, results, {}), goal=metric_facts(plan.study.metric.name)["goal"])
    write_atomically(folder.search, json.dumps({"importances": facts}, indent=1))


def importances(search: Search, arms: Sequence[Tried], *, goal: str) -> dict[str, Any]:
    """`values` and `decoys` per parameter (median over the shuffles, and the largest of them), or `why` there are none.

    `highest` is the largest of all decoys. Parameters that are not always there are left out.
    """
    done = [one for one in arms if one.state is State.done]
    if search.sampler in ADAPTIVE:
        return {"why": f"{search.sampler} draws where earlier arms were good, so its draws are not spread evenly, and "
                       "importances computed from them mislead; draw at random or by qmc to have them"}  # fmt: skip
    if len(done) < FEWEST:
        return {"why": f"{len(done)} arms have a value; at least {FEWEST} are needed"}
    if len({one.values for one in done}) < 2:
        return {"why": "all arms have the same value"}
    done = sorted(done, key=lambda one: digest([one.sampled, one.values]))  # their order is no matter
    always = [name for name in search.space if all(name in one.sampled for one in done)]
    found = [_evaluated(search, done, always, number, goal) for number in range(SHUFFLES)]
    decoys = {name: max(one[DECOY + name] for one in found) for name in always}
    return {
        "method": "fANOVA", "arms": len(done), "shuffles": SHUFFLES,
        "values": {name: _median([one[name] for one in found]) for name in always},
        "decoys": decoys, "highest": max(decoys.values(), default=0.0),
        "left_out": [name for name in search.space if name not in always],
    }  # fmt: skip


def _evaluated(search: Search, done: Sequence[Tried], names: Sequence[str], number: int, goal: str) -> dict[str, float]:
    """Importances of the parameters and of their decoys under the shuffle with that number, from one forest."""
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    records = [frozen(search, one) for one in done]
    kinds = {name: search.space[name].distribution() for name in names}
    kinds |= {DECOY + name: kind for name, kind in kinds.items()}
    columns = {name: [record.params[name] for record in records] for name in names}
    columns |= {DECOY + name: _shuffled(column, (search.seed, number, name)) for name, column in columns.items()}
    study = optuna.create_study(direction=DIRECTIONS[goal])
    for place, record in enumerate(records):
        params = {name: column[place] for name, column in columns.items()}
        study.add_trial(create_trial(values=record.values[:1], params=params, distributions=kinds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = FanovaImportanceEvaluator(seed=number)
        found = get_param_importances(study, evaluator=evaluator, params=list(kinds))
    return {name: float(value) for name, value in found.items()}


def _shuffled(column: Sequence[Any], seed: tuple) -> list[Any]:
    return [column[place] for place in sorted(range(len(column)), key=lambda place: digest([*seed, place]))]


def _median(values: Sequence[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
