"""Stopping single runs of a search in their course, by one of Optuna's pruners.

A study in memory replays what the streams hold, run by run: the same streams give the same decisions, also after
a kill. Such a stop is a search's way to spend less, never a claim about the arm.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

from ablate.conditions import BASE
from ablate.events import Event, Measured
from ablate.ledger import DIRECTIONS
from ablate.plan import Plan, metric_facts
from ablate.records import Status, TrialResult

if TYPE_CHECKING:
    import optuna

STARTUP_RUNS = 4  # finished runs before the median says anything
WARM_UP = 1 / 3  # of the budget, in which the median stops nobody: GANs often look worse before they look better
REDUCTION = 3  # of the halving pruners, Optuna's own


class Pruning:
    """Judges runs (trial ids) at their evaluations. `first` is the step of the first one, `last` of the final one."""

    def __init__(self, pruner: str, *, goal: str, metric: str, first: int, last: int):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._name, self._metric, self._last = pruner, metric, last
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study = optuna.create_study(
                study_name="pruning", direction=DIRECTIONS[goal], sampler=optuna.samplers.RandomSampler(0),
                pruner=_pruner(pruner, first, last),
            )  # fmt: skip
        self._trials: dict[str, optuna.Trial] = {}
        self._seen: dict[str, set[int]] = {}
        self._decided: set[str] = set()

    @classmethod
    def of(cls, plan: Plan) -> Pruning | None:
        """The pruning that a plan asks for, if any."""
        search, metric = plan.study.search, plan.study.metric.name
        if search is None or search.pruner == "none":
            return None
        steps = plan.arms[0].resolved.recipe.eval_steps
        return cls(search.pruner, goal=metric_facts(metric)["goal"], metric=metric, first=min(steps), last=max(steps))

    def follow(self, run: str, event: Event) -> str:
        """Why the run has to stop after this event; empty where it goes on."""
        if not isinstance(event, Measured) or event.split != "validation" or self._metric not in event.values:
            return ""
        return self.judge(run, event.step, event.values[self._metric])

    def judge(self, run: str, step: int, value: float) -> str:
        """The reason to stop the run after this value, empty to let it go on. A step counts once, none after that."""
        trial, seen = self._trial(run), self._seen.setdefault(run, set())
        if run in self._decided or step in seen or step >= self._last or not math.isfinite(value):
            return ""
        seen.add(step)
        trial.report(value, step)
        if not trial.should_prune():
            return ""
        self._decided.add(run)
        return f"pruned by {self._name} at step {step}: {self._metric} {value:.4g}"

    def ended(self, run: str, result: TrialResult) -> None:
        """The run's outcome, with those of its evaluations that were not judged yet."""
        from optuna.trial import TrialState

        for step, _, value in result.curves.get(("validation", self._metric), ()):
            self.judge(run, step, value)
        value = result.scores.get(self._metric, math.nan)
        if result.status is Status.done and math.isfinite(value):
            self._study.tell(self._trial(run).number, value, skip_if_finished=True)
        else:
            state = TrialState.PRUNED if result.status is Status.stopped else TrialState.FAIL
            self._study.tell(self._trial(run).number, state=state, skip_if_finished=True)

    def _trial(self, run: str) -> optuna.Trial:
        if run not in self._trials:
            self._trials[run] = self._study.ask()
        return self._trials[run]


def prunable(plan: Plan, run: str) -> bool:
    """Whether the base is not among the arms that the run stands for."""
    return all(cell.arm != BASE for cell in plan.cells_of(run))


def _pruner(name: str, first: int, last: int) -> optuna.pruners.BasePruner:
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=STARTUP_RUNS, n_warmup_steps=int(WARM_UP * last))
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=first, max_resource=last, reduction_factor=REDUCTION)
    return pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION)
