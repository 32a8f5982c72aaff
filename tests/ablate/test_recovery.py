"""What being taken up again costs: proved by the stream, bounded by the checkpoint interval, whenever it was killed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.events import Ended, Event, Measured, Saved, Started
from ablate.plan import make_plan
from ablate.recovery import Recovery, Rhythm, resumptions, summed
from ablate.study import load
from tests.ablate import studies


@dataclass
class Worker:
    """Writes the stream that `trainers.train` writes, and can be killed before any of its acts."""

    rhythm: Rhythm
    stream: list[Event] = field(default_factory=list)
    saved: int = 0  # the newest checkpoint
    costs: list[tuple[int, bool]] = field(default_factory=list)  # updates that a resumption did again, asked to stop?
    done: int = 0
    asked: bool = False

    def attempt(self, acts: int, *, ask_at: int | None = None) -> bool:
        """Train on for so many acts (an update, a line, a checkpoint each); True if that brought it to its end."""
        if self.stream:
            self.costs.append((self.done - self.saved, self.asked))
        self.done, self.asked, self.left = self.saved, False, acts
        number = 1 + sum(isinstance(event, Started) for event in self.stream)
        self._event(Started, attempt=number, world_size=1, threads=1, device="cpu", start_up=0.5)
        end = self.rhythm.lines[-1]
        while self.done < end and self._act():
            self.done += 1
            if self.done in self.rhythm.lines and not self._line(ask_at, number):
                return False
        return self.done == end and bool(self.left)

    def _line(self, ask_at: int | None, number: int) -> bool:
        if not self._act():
            return False
        self._event(Measured, attempt=number, images=0, split="train", values={})
        if self.done in self.rhythm.checkpoints[:-1] and not self._checkpoint(number):
            return False
        if ask_at is not None and self.done >= ask_at and self.done < self.rhythm.lines[-1]:
            self.asked = self._checkpoint(number)
            return False
        return True

    def _checkpoint(self, number: int) -> bool:
        """Written first, told then: a kill may come between."""
        if not self._act():
            return False
        self.saved = self.done
        if not self._act():
            return False
        self._event(Saved, attempt=number, what="checkpoint", path="", sha256="")
        return True

    def _act(self) -> bool:
        self.left = max(0, self.left - 1)
        return self.left > 0

    def _event(self, kind, **fields):
        self.stream.append(kind(time=float(len(self.stream)), step=self.done, **fields))


rhythms = st.builds(
    lambda steps, every, stride: Rhythm(
        tuple(sorted({*range(every, steps, every), *range(stride, steps, stride), steps})),
        (0, *range(every, steps, every), steps),
    ),
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 12),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(rhythm=rhythms, lives=st.lists(st.tuples(st.integers(0, 120), st.none() | st.integers(0, 40)), max_size=6))
def test_what_is_proved_bounds_what_was_done_twice_and_the_interval_bounds_both(rhythm, lives):
    worker = Worker(rhythm)
    for acts, ask_at in lives:
        worker.attempt(acts, ask_at=ask_at)
    worker.attempt(10**6)
    found = resumptions(worker.stream, rhythm)
    assert len(found) == len(worker.costs)
    for one, (true, asked) in zip(found, worker.costs, strict=True):
        assert one.repeated <= true <= one.repeated_at_most <= rhythm.interval
        assert not asked or one.repeated_at_most == 0, "asked to stop, nothing is lost, and that is proved"
    blind = resumptions(worker.stream, None)
    assert [one.repeated for one in blind] == [one.repeated for one in found]
    assert all(one.repeated_at_most is None for one in blind)


def test_the_rhythm_is_that_of_the_recipe(tmp_path):
    sets = ["base.budget.generator_updates=200", "base.evaluate.every=70"]
    plan = make_plan(load(studies.write(tmp_path), sets=sets))
    rhythm = Rhythm.of(next(iter(plan.specs.values())).recipe)
    assert rhythm.checkpoints == (0, 70, 140, 200) and rhythm.interval == 70
    assert set(rhythm.lines) == {*range(4, 201, 4), 70, 140, 200}  # 50 readings
    assert [rhythm.after(step) for step in (0, 4, 69, 70, 197, 200)] == [4, 8, 70, 72, 200, 200]


@pytest.mark.parametrize("recipe", [{}, {"budget": 3}, {"data": {"layout": "none"}}])
def test_a_recipe_that_cannot_be_read_has_no_rhythm(recipe):
    assert Rhythm.of(recipe) is None


def test_sums_keep_the_largest_apart_and_count_what_cost_more_than_an_interval():
    rhythm = Rhythm((5, 10, 20), (0, 10, 20))

    def started(attempt, step, start_up):
        return Started(time=0.0, attempt=attempt, step=step, world_size=1, threads=1, device="cpu", start_up=start_up)

    def measured(step):
        return Measured(time=0.0, step=step, images=0, split="train", values={})

    damaged = [started(1, 0, 2.0), measured(20), started(2, 0, 3.0), measured(5), started(3, 0, None),
               Ended(time=0.0, step=20, images=0, status="done")]  # fmt: skip
    found = summed([(resumptions(damaged, rhythm), rhythm), ((), None), (resumptions(damaged[:1], rhythm), rhythm)])
    assert found == Recovery(resumptions=2, trials=1, interval=(10, 10), repeated=25, repeated_at_most=30, largest=20,
                             beyond=1, start_up=(3.0,), away=0.0)  # fmt: skip
    assert summed([]).to_json()["start_up_largest"] is None
