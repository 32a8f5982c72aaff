"""Optuna's view of a study: one trial record per cell, rebuilt from the trial folders at any time.

The folders are the truth and this database is a projection of them, for optuna-dashboard and for
samplers. Whatever a kill left behind (waiting, running, finished), `reconcile` followed by `finish`
for every outcome on disk brings it back; each call may be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.disk import DiskFull
from ablate.failpoints import failpoint
from ablate.optuna_storage import place_of
from ablate.postgresql import cause
from ablate.records import Arm, Cell, Status, TrialResult
from ablate.searchspace import Parameter, Values, choice

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

DIRECTIONS = {"max": "maximize", "min": "minimize"}


class LedgerError(RuntimeError):
    """The storage cannot be read or written; nothing in the trial folders is affected."""


@dataclass(frozen=True)
class _Running:
    trial: optuna.Trial
    reported: set[int]  # steps that have an intermediate value
    open: bool  # whether it takes any


def key(cell: Cell) -> str:
    """`<arm>/<seed>`: the name under which projections know a cell."""
    return f"{cell.arm}/{cell.seed}"


class Ledger:
    """One Optuna study, written by one process: in a SQLite file (`where` is a path), or on a server (an address).

    `factors` maps factor to its levels, the base's first; they become categorical parameters. A search has a `space`
    instead, whose arms come with `add`, and may have several `objectives` (metric -> goal). The
    seed is a user attribute only: as a parameter it would enter importances and samplers. Trials are
    claimed by number, never by `study.ask()`, which takes whichever waits longest and invents a trial
    when none does. Raises LedgerError where there is no usable database.
    """

    def __init__(
        self,
        where: Path | str,
        *,
        study_name: str,
        goal: str,
        metric: str,
        split: str = "validation",
        factors: Mapping[str, Sequence[str]],
        arms: Iterable[Arm],
        space: Mapping[str, Parameter] | None = None,
        objectives: Mapping[str, str] | None = None,
    ):
        self._place, self._name, self._metric = place_of(where), study_name, metric
        self._goals = dict(objectives or {metric: goal})
        self._split = split
        self._factors = {factor: list(levels) for factor, levels in factors.items()}
        self._space = space
        self._params = {arm.name: self._levels_of(arm) for arm in arms}
        self._numbers: dict[str, int] = {}  # cell -> number of its latest record
        self._running: dict[str, _Running] = {}
        with self._readable():
            self._open()

    @property
    def at_once(self) -> int:
        """How many records may be queued while training waits."""
        return self._place.at_once

    def reachable(self) -> bool:
        """Whether the database can be read: tells one that is locked or away from a call that it refuses."""
        try:
            with self._readable():
                return self._place.answers(self._storage)
        except (LedgerError, DiskFull):
            return False

    def reconcile(self, cells: Sequence[Cell], *, most: int | None = None) -> None:
        """Queue every cell that has no record yet, in the order given; `most` of them at most.

        A ledger of another plan (other factors, metric, cells or trial ids) is emptied first: finished
        outcomes then have to be told again from the folders.
        """
        with self._readable():
            if not self._belongs_to(cells):
                self._empty()
            self._index()  # a call that broke off may have queued some
            for cell in [cell for cell in cells if key(cell) not in self._numbers][:most]:
                self._enqueue(cell)
            self._index()

    def add(self, arm: Arm, sampled: Values) -> None:
        """An arm of a search with the parameters that it has: drawn ones; of the base those that the space holds."""
        self._params[arm.name] = {
            name: choice(value) if self._space[name].values else value for name, value in sampled.items()
        }

    def begin(self, cell: Cell) -> int:
        """The number of the cell's own record, now RUNNING; one left RUNNING by a killed driver is taken up.

        A cell whose failure was told before is being retried.
        """
        with self._readable():
            return self._begin(cell, self._retried(cell)).trial.number

    def report(self, cell: Cell, step: int, value: float) -> None:
        """Record an intermediate value of the primary metric; once per step, finite values only."""
        if not math.isfinite(value) or len(self._goals) > 1:  # Optuna's own limit
            return
        with self._readable():
            running = self._begin(cell)
            if running.open and step not in running.reported:
                running.trial.report(value, step)
                running.reported.add(step)

    def finish(self, cell: Cell, result: TrialResult) -> None:
        """Tell the cell's outcome; one told before stands, but for a failure that a retry has overcome."""
        with self._readable():
            record = self._record(cell) if result.status is Status.failed else self._retried(cell)
            if record.state.is_finished():
                self._running.pop(key(cell), None)
                return
            running = self._begin(cell, record)
            for step, _, value in result.curves.get((self._split, self._metric), ()):
                self.report(cell, step, value)
            for name, fact in _facts(result).items():
                running.trial.set_user_attr(name, fact)
            self._tell(running.trial.number, result)
            failpoint("told")
            del self._running[key(cell)]

    def retry(self, cell: Cell) -> None:
        """Queue a further record for a cell that failed, marked `retry_of`; nothing where one is open."""
        with self._readable():
            self._retried(cell)

    def _retried(self, cell: Cell) -> optuna.trial.FrozenTrial:
        """The cell's record; of one that failed, the further one."""
        if _is_of_a_failure(self._record(cell)):
            self._index()  # a call that broke off may have queued it
        record = self._record(cell)
        if not _is_of_a_failure(record):
            return record
        self._running.pop(key(cell), None)
        self._enqueue(cell, retry_of=record.number)
        self._index()
        return self._record(cell)

    def _begin(self, cell: Cell, record: optuna.trial.FrozenTrial | None = None) -> _Running:
        from optuna.trial import Trial, TrialState

        if key(cell) in self._running:
            return self._running[key(cell)]
        record = record or self._record(cell)
        trial_id = self._id_of(cell)
        if record.state is TrialState.WAITING:
            self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        trial = Trial(self._study, trial_id)
        for name in self._params[cell.arm]:
            suggest(trial, name, self._distributions[name])  # fixed by what was queued
        self._running[key(cell)] = _Running(trial, set(record.intermediate_values), not record.state.is_finished())
        return self._running[key(cell)]

    def _tell(self, number: int, result: TrialResult) -> None:
        from optuna.trial import TrialState

        values = [result.final(metric, self._split) for metric in self._goals]
        if result.status is Status.done and all(map(math.isfinite, values)):
            self._study.tell(number, values)
        else:
            self._study.tell(number, state=TrialState.PRUNED if result.status is Status.stopped else TrialState.FAIL)

    def _levels_of(self, arm: Arm) -> dict[str, str]:
        for factor, level in arm.changes.items():
            if level not in self._factors.get(factor, ()):
                allowed = ", ".join(self._factors.get(factor, ())) or "no such factor"
                raise ValueError(f"arm {arm.name!r}: {factor} has no level {level!r}; there are: {allowed}")
        return {factor: arm.changes.get(factor, levels[0]) for factor, levels in self._factors.items()}

    @contextmanager
    def _readable(self) -> Iterator[None]:
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (LedgerError, DiskFull):
            raise
        except (SQLAlchemyError, StorageInternalError, RuntimeError, OSError) as error:
            raise LedgerError(self._place.problem(cause(error))) from error

    def _open(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._storage = optuna.storages.get_storage(self._place.open())  # which remembers ids, and what has ended
        self._make_study()

    def _make_study(self) -> None:
        import optuna

        self._study = optuna.create_study(
            storage=self._storage,
            study_name=self._name,
            directions=[DIRECTIONS[goal] for goal in self._goals.values()],
            sampler=optuna.samplers.RandomSampler(seed=0),  # never draws: every parameter is fixed
            load_if_exists=True,
        )
        self._study_id = self._storage.get_study_id_from_name(self._name)
        if not self._study.user_attrs:
            self._study.set_user_attr("plan", self._plan())
        self._index()

    def _plan(self) -> dict[str, Any]:
        return {"factors": self._factors, "metric": self._metric, "goals": self._goals,
                "space": {name: one.to_json() for name, one in (self._space or {}).items()}}  # fmt: skip

    @cached_property
    def _distributions(self) -> dict[str, BaseDistribution]:
        from optuna.distributions import CategoricalDistribution

        if self._space is not None:
            return {name: one.distribution() for name, one in self._space.items()}
        return {factor: CategoricalDistribution(levels) for factor, levels in self._factors.items()}

    def _belongs_to(self, cells: Sequence[Cell]) -> bool:
        planned = {key(cell): cell.trial for cell in cells}
        records = [record.user_attrs for record in self._study.get_trials(deepcopy=False)]
        same_cells = all(planned.get(facts.get("cell")) == facts.get("trial") for facts in records)
        return same_cells and self._study.user_attrs.get("plan") == self._plan()

    def _empty(self) -> None:
        """Optuna cannot add a level to a parameter that has values: the study is made anew."""
        import optuna

        optuna.delete_study(study_name=self._name, storage=self._storage)
        self._running.clear()
        self._make_study()

    def _enqueue(self, cell: Cell, **facts: Any) -> None:
        """Params and attributes go in with the record, in one transaction."""
        attributes = {"cell": key(cell), "arm": cell.arm, "seed": cell.seed, "trial": cell.trial, **facts}
        self._study.enqueue_trial(self._params[cell.arm], user_attrs=attributes)

    def _index(self) -> None:
        records = self._study.get_trials(deepcopy=False)
        self._numbers = {record.user_attrs["cell"]: record.number for record in records}

    def _id_of(self, cell: Cell) -> int:
        if key(cell) not in self._numbers:
            self._index()
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, self._numbers[key(cell)])

    def _record(self, cell: Cell) -> optuna.trial.FrozenTrial:
        """Read by itself: with all others, a study's records would take the square of their number."""
        return self._storage.get_trial(self._id_of(cell))


def _is_of_a_failure(record: optuna.trial.FrozenTrial) -> bool:
    from optuna.trial import TrialState

    return record.state is TrialState.FAIL and record.user_attrs.get("status") == Status.failed


def suggest(trial: optuna.Trial, name: str, one: BaseDistribution) -> Any:
    """Optuna's suggestion for a parameter of that distribution."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(one, CategoricalDistribution):
        return trial.suggest_categorical(name, one.choices)
    if isinstance(one, IntDistribution):
        return trial.suggest_int(name, one.low, one.high, log=one.log, step=one.step)
    return trial.suggest_float(name, one.low, one.high, log=one.log, step=one.step)


def _facts(result: TrialResult) -> dict[str, Any]:
    """What a record carries besides its value; JSON has no NaN, so such scores travel as text."""
    scores = {name: value if math.isfinite(value) else str(value) for name, value in result.scores.items()}
    return {"status": str(result.status), "seconds": result.seconds, "steps": result.steps, "why": result.why, **scores}
