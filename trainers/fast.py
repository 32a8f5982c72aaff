"""What of the faster ways (trainers.ways) a training takes, and why not the rest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from trainers import ondevice, ways
from trainers.choice import Choice, Refused
from trainers.families import TERMS, part_name
from trainers.graphs import Graphs

if TYPE_CHECKING:
    from trainers.training import Training

log = logging.getLogger(__name__)


class Fast:
    """Does the updates of a training, by CUDA graphs where that is asked for, possible, and found to be faster.

    `graphs` is None where the plain way is taken.
    """

    def __init__(self, training: Training, asked: Sequence[str]):
        """The training's recipe, ranks and draws are there, its networks not yet."""
        self.training, self.said = training, {}
        if ways.RESIDENT in asked:
            self.said[ways.RESIDENT] = self._keep_tiles()
        hindrance = self._hindrance() if ways.GRAPH in asked else "not asked for"
        self.graphs = None if hindrance else Graphs(training)
        if ways.GRAPH in asked:
            self.said[ways.GRAPH] = hindrance and f"no: {hindrance}"
        self.choice = Choice(self._plainly, self._by_graphs, self._wait, period=training.recipe.updates.generator)

    def __str__(self) -> str:
        """Each way that was asked for, with what came of it; empty where none was."""
        return "; ".join(f"{name}: {said or 'not yet chosen'}" for name, said in sorted(self.said.items()))

    def update(self) -> None:
        """The draws of one generator update."""
        if self.graphs is None:
            return self._plainly()
        known = self.choice.why
        self.choice()
        if self.choice.why != known:
            self._settle(taken=self.choice.decided == "fast")

    def _settle(self, *, taken: bool) -> None:
        self.said[ways.GRAPH] = f"{'yes' if taken else 'no'}: {self.choice.why}"
        log.info("%s: %s", ways.GRAPH, self.said[ways.GRAPH])
        if not taken:
            self.graphs.forget()
            self.graphs = None

    def forget(self) -> None:
        """The state of the training has been replaced."""
        if self.graphs is not None:
            self.graphs.forget()

    def _plainly(self) -> None:
        for number, learning in self.training.of_update():
            self.training.learn_from(number, learning)

    def _by_graphs(self) -> bool:
        if self.graphs.broken:
            raise Refused(self.graphs.broken)
        steady = True
        for number, learning in self.training.of_update():
            self.graphs.learn(number, learning)
            steady &= self.graphs.steady
        return steady

    def _keep_tiles(self) -> str:
        draws, device = self.training.draws, self.training.ranks.device
        needed, room = ondevice.size(draws.tiles, draws.order.indices), ondevice.room(device)
        if needed > room:
            return f"no: the training tiles take {needed / 1e9:.2f} GB, and {room / 1e9:.2f} GB is what they may take"
        draws.keep_tiles_on_device()
        return f"yes: {needed / 1e9:.2f} GB"

    def _hindrance(self) -> str:
        """Why an update can't be a graph; empty where it can."""
        if self.training.ranks.size > 1:
            return "ranks of a trial wait for each other"
        parts = {part_name(term) for stage in self.training.recipe.course for term in stage.terms.values()}
        waiting = sorted(name for name in parts if getattr(TERMS.part(name), "WAITS", False))
        return f"the host waits for the device in {', '.join(waiting)}" if waiting else ""

    def _wait(self) -> None:
        if self.training.ranks.device.type == "cuda":
            torch.cuda.synchronize(self.training.ranks.device)
