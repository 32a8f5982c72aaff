"""Draws learned from over buffers that stay where they are: on CUDA, after a few, each as one CUDA graph.

A graph is what the device was given to do once, given to it again at the price of one call; the host's part of an
update, which is most of a small one, is gone. All that changes from draw to draw must lie at the same place on the
device: the batch (or which tiles), the penalty's points, the learning rates; dropout's seed torch looks after. What
the host decides stands in a graph for good: which networks learn, a stage's terms, their weights. So there is a graph
for each `Key`, taken when the key has come up `WARM_UP` times (a ramp's weights come up once); a stage that ends takes
its graphs with it.

Elsewhere than on CUDA the same buffers and the same function give what `Training` gives, to the bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trainers.capture import ByCuda, Capture, Eagerly
from trainers.draws import upload_into, uploaded
from trainers.optimisers import rate_from

if TYPE_CHECKING:
    from trainers.training import Learning, Training

WARM_UP = 3  # draws before a capture: libraries have then made their workspaces


@dataclass(frozen=True)
class Key:
    """What a graph has fixed."""

    learning: Learning
    stage: int
    weights: tuple[float, ...]  # of the generator's loss; none where it does not learn


@dataclass(frozen=True)
class Found:
    """What is to be logged of a draw, in one float64 vector: values by `names`, then the sums of D's logits if any."""

    names: tuple[str, ...]
    row: Tensor


@dataclass(frozen=True)
class Captured:
    again: Callable[[], None]
    found: Found  # its row is written anew each time


class Graphs:
    """Learns from draws as `Training` does. `steady` says whether the last one was learned from at full speed, `broken`
    why there will be no graph: then nothing was lost, and nothing more is to be asked of this.
    """

    def __init__(self, training: Training, by: Capture | None = None):
        self.training, self.device = training, training.ranks.device
        cuda = self.device.type == "cuda"
        self.by = by or (ByCuda(self.device) if cuda else Eagerly())
        self.steady, self.broken = False, ""
        # The CUDA kernel reads a rate in single precision; on a CPU it is the very number.
        self._rates = torch.zeros(2, dtype=torch.float32 if cuda else torch.float64, device=self.device)
        self._uploaded: tuple[float, ...] = ()
        self._inputs: tuple[Tensor, ...] = ()
        self._epsilon: Tensor | None = None
        self._captured: dict[Key, Captured] = {}
        self._times: Counter[Key] = Counter()

    def forget(self) -> None:
        """Give up all graphs: what they have fixed is about to change, or to go."""
        self.by.end()
        self._captured.clear()
        self._times.clear()

    def learn(self, number: int, learning: Learning) -> None:
        """Learn from draw `number`, and log it."""
        self._upload(number, learning)
        self.training.draws.seed_dropout(number)
        key = self._key(learning)
        if any(known.stage != key.stage for known in self._times):
            self.forget()
        captured = self._captured.get(key)
        self.steady = captured is not None or not self.by.captures
        if captured is not None:
            captured.again()
            found = Found(captured.found.names, captured.found.row.clone())
        else:
            if not self._times:
                self.by.make_room()
            found = self.by.run(lambda: self._learned(learning))
        self._log(found)
        self._times[key] += 1
        if self.by.captures and captured is None and self._times[key] >= WARM_UP:
            self._capture(key)

    def _capture(self, key: Key) -> None:
        """The next draw with this key is the first that is learned from by it."""
        try:
            self._captured[key] = Captured(*self.by.capture(lambda: self._learned(key.learning)))
        except RuntimeError as error:  # out of memory too
            self.broken = f"no CUDA graph could be made: {(str(error).splitlines() or [type(error).__name__])[0]}"
            for network in (self.training.generator, self.training.discriminator):
                network.zero_grad(set_to_none=True)
            self.forget()

    def _key(self, learning: Learning) -> Key:
        course = self.training.course
        weights = course.weights(self.training.done)
        of_loss = (weights.adversarial, *weights.terms.values()) if learning.generator else ()
        return Key(learning, course.index, of_loss)

    def _upload(self, number: int, learning: Learning) -> None:
        draws = self.training.draws
        arrays = draws.arrays(number)
        if not self._inputs:
            self._inputs = tuple(uploaded(array, self.device).clone() for array in arrays)
        for buffer, array in zip(self._inputs, arrays, strict=True):
            upload_into(buffer, array)
        if learning.discriminator and self.training.steps.objective.penalty is not None:
            points = draws.points(number)
            if self._epsilon is None:
                self._epsilon = uploaded(points, self.device).clone()
            upload_into(self._epsilon, points)
        if self._uploaded != self.training.rates:
            upload_into(self._rates, np.array(self.training.rates))
            self._uploaded = self.training.rates

    def _learned(self, learning: Learning) -> Found:
        training = self.training
        with rate_from(training.adam_g, self._rates[0]), rate_from(training.adam_d, self._rates[1]):
            batch = training.draws.batch_of(*self._inputs)
            values, logits = training.learn(batch, lambda: self._epsilon, learning)
        row = torch.stack([value.detach().double() for value in values.values()])
        return Found(tuple(values), row if logits is None else torch.cat([row, logits]))

    def _log(self, found: Found) -> None:
        values, logits = found.row[: len(found.names)], found.row[len(found.names) :]
        self.training.window.add(dict(zip(found.names, values.unbind(), strict=True)), logits if len(logits) else None)
