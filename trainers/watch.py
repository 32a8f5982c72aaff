"""A run's health: what is read of it, and what that amounts to so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainers.diagnosis import Finding, Monitor
from trainers.health import normalised_loss
from trainers.probe import Probe
from trainers.ranks import Ranks
from trainers.tiles import Tiles
from trainers.training import Training
from trainers.window import Totals


class Watch:
    """Gathers what was logged from reading to reading, whenever windows close in between."""

    def __init__(self, training: Training, tiles: Tiles, ranks: Ranks):
        self.training = training
        self.probe, self.monitor = Probe(tiles, ranks), Monitor(updates=training.recipe.steps)
        self.unread = Totals()

    def close_window(self) -> dict[str, float]:
        """What was logged since the last window was closed."""
        totals = self.training.window.close(self.training.ranks)
        self.unread += totals
        return self._values(totals)

    def read(self) -> tuple[dict[str, float], list[Finding]]:
        """A reading: the probe's values, and what is flagged for the first time."""
        training, total = self.training, self.training.recipe.steps
        course = training.course
        self.monitor.enter(course.began / total)
        probe = self.probe.read(training.predict)
        findings = self.monitor.read({**self._values(self.unread), **probe}, progress=training.done / total)
        self.unread = Totals()
        if "health/probe_l1" in probe:
            course.read(probe["health/probe_l1"])
        return probe, findings

    def diverge(self, values: Mapping[str, float]) -> list[Finding]:
        """Take notice of values that are not finite."""
        return self.monitor.read(values, progress=self.training.done / self.training.recipe.steps)

    def _values(self, totals: Totals) -> dict[str, float]:
        objective = self.training.steps.objective
        values = totals.values(objective.threshold)
        if "loss_d" in values:
            values |= normalised_loss(values["loss_d"], floor=objective.floor, blind=objective.blind)
        return values

    def state_dict(self) -> dict[str, Any]:
        return {
            "probe": self.probe.state_dict(), "monitor": self.monitor.state_dict(), "unread": self.unread.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.probe.load_state_dict(state["probe"])
        self.monitor.load_state_dict(state["monitor"])
        self.unread = Totals.of_state(state["unread"])
