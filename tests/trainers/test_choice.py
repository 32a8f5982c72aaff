"""The faster of two ways is found by updates that count, and a way that can't be gone is left."""

from __future__ import annotations

import time

import pytest

from trainers.choice import SKIPPED, UPDATES, Choice, Refused


class Clock:
    """Time passes by what is done, and by nothing else."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def choice(clock: Clock, *, plain: float, fast: float, prepares: int = 0, refused_at: int = -1, **options):
    """Ways that take so many seconds; in its first updates the fast one prepares itself, a hundred times slower."""
    done: list[str] = []

    def by_plain() -> None:
        clock.now += plain
        done.append("plain")

    def by_fast() -> bool:
        if done.count("fast") == refused_at:
            raise Refused("it broke")
        ready = done.count("fast") >= prepares
        clock.now += fast if ready else 100 * fast
        done.append("fast")
        return ready

    return Choice(by_plain, by_fast, clock=clock, **options), done


@pytest.mark.parametrize(("plain", "fast", "chosen"), [
    (1.0, 0.3, "fast"), (1.0, 0.999, "fast"), (1.0, 1.001, "plain"), (1.0, 7.0, "plain"),
])  # fmt: skip
def test_the_faster_way_does_all_updates_after_a_few_of_both(plain, fast, chosen):
    chooses, done = choice(Clock(), plain=plain, fast=fast, prepares=4)
    for _ in range(100):
        chooses()
    measured = SKIPPED + UPDATES + 4 + UPDATES
    assert done[: SKIPPED + UPDATES] == ["plain"] * (SKIPPED + UPDATES)
    assert done[SKIPPED + UPDATES : measured] == ["fast"] * (4 + UPDATES)
    assert len(done) == 100 and set(done[measured:]) == {chosen} == {chooses.decided}
    assert chooses.why == f"measured over {UPDATES} updates, {plain / fast:.2f} times as fast as the plain way"


def test_every_call_is_one_update():
    chooses, done = choice(Clock(), plain=1.0, fast=0.5, prepares=2)
    for count in range(1, 80):
        chooses()
        assert len(done) == count


@pytest.mark.parametrize("at", [0, 3, UPDATES, 60])
def test_a_way_that_is_refused_leaves_its_update_to_the_plain_one(at):
    chooses, done = choice(Clock(), plain=1.0, fast=0.5, refused_at=at)
    for _ in range(120):
        chooses()
    assert done.count("fast") == at and len(done) == 120 and done[-1] == "plain"
    assert (chooses.decided, chooses.why) == ("plain", "it broke")


def test_updates_that_differ_in_turn_are_measured_in_whole_turns():
    """Three updates of G for one of D: every third costs more, the same for both ways."""
    clock = Clock()
    costs = [5.0, 1.0, 1.0]
    count = {"plain": 0, "fast": 0}

    def way(name: str, factor: float) -> bool:
        place = sum(count.values())
        count[name] += 1
        clock.now += factor * costs[place % 3]
        return True

    chooses = Choice(lambda: way("plain", 1.0), lambda: way("fast", 0.99), clock=clock, period=3)
    for _ in range(60):
        chooses()
    assert chooses.updates == 21 and chooses.decided == "fast" and "1.01 times" in chooses.why


def test_the_device_is_waited_for_around_each_update_under_the_clock_and_no_more_after_it():
    waits: list[int] = []
    clock = Clock()
    chooses, done = choice(clock, plain=1.0, fast=0.5, wait=lambda: waits.append(1))
    for _ in range(SKIPPED):
        chooses()
    assert not waits
    for _ in range(2 * UPDATES):
        chooses()
    assert len(waits) == 4 * UPDATES and chooses.decided
    chooses()
    assert len(waits) == 4 * UPDATES


def test_by_the_real_clock_too():
    def spin(seconds: float) -> bool:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass
        return True

    chooses = Choice(lambda: spin(2e-3) and None, lambda: spin(2e-4))
    while not chooses.decided:
        chooses()
    assert chooses.decided == "fast"
