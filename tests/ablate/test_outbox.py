"""The queue between a driver and a store: nobody waits, nothing is lost, and a long outage fills no memory."""

from __future__ import annotations

import random
import threading
import time
import tracemalloc

import pytest

from ablate.outbox import Outbox, Patience

IMPATIENT = Patience(attempts=3, first=0.005, longest=0.01)


class Store:
    """Takes calls; `away` it does not answer, `refuses` names what it never takes."""

    def __init__(self):
        self.told: list[object] = []
        self.away, self.refuses, self.seconds = False, set(), 0.0

    def answers(self) -> bool:
        return not self.away

    def tell(self, fact: object) -> None:
        time.sleep(self.seconds)
        if self.away:
            raise ConnectionError("no route")
        if fact in self.refuses:
            raise ValueError("not that one")
        self.told.append(fact)

    def outbox(self, patience: Patience = IMPATIENT) -> Outbox:
        return Outbox("store", answers=self.answers, words=lambda what, error: f"{what}: {error}", patience=patience)


def put(outbox: Outbox, store: Store, fact: object, key: object = None) -> None:
    outbox.put(fact if key is None else key, f"fact {fact}", lambda: store.tell(fact))


def test_calls_arrive_once_in_their_order():
    store = Store()
    outbox = store.outbox()
    for fact in range(100):
        put(outbox, store, fact)
    outbox.close(10)
    assert store.told == list(range(100)) and outbox.unreachable is None


def test_whoever_puts_never_waits_for_a_store_that_hangs():
    store, hung = Store(), threading.Event()
    outbox = store.outbox()
    outbox.put("hang", "hang", lambda: hung.wait(10) and None)
    longest = 0.0
    for fact in range(1000):
        began = time.monotonic()
        put(outbox, store, fact)
        longest = max(longest, time.monotonic() - began)
    hung.set()
    outbox.close(10)
    assert longest < 1 and store.told == list(range(1000))


def test_an_outage_is_outlasted_however_often_a_call_fails_and_is_said_meanwhile():
    store = Store()
    store.away = True
    outbox = store.outbox()
    put(outbox, store, "a")
    put(outbox, store, "b")
    assert not outbox.flush(0.3)  # far more attempts than a refused call gets
    assert outbox.unreachable == "fact a: no route"
    store.away = False
    assert outbox.flush(10) and outbox.unreachable is None and store.told == ["a", "b"]


def test_what_may_rest_gathers_under_its_key_and_is_told_once():
    store = Store()
    outbox = store.outbox()
    for fact in range(100):
        outbox.put("cell", "news", lambda fact=fact: store.tell(fact), rest=600)
    assert len(outbox) == 1 and store.told == []
    assert outbox.flush(10) and store.told == [99]
    outbox.put("cell", "news", lambda: store.tell(100), rest=0.01)
    outbox.put("cell", "news", lambda: store.tell(101), rest=600)  # the first one's time still holds
    end = time.monotonic() + 10
    while store.told == [99] and time.monotonic() < end:
        time.sleep(0.001)
    assert store.told[-1] == 101


def test_what_rests_is_overtaken_by_nothing_and_holds_up_no_end():
    store = Store()
    outbox = store.outbox()
    outbox.put("cell", "news", lambda: store.tell("news"), rest=600)
    put(outbox, store, "closing the runs")
    assert outbox.flush(10) and store.told == ["news", "closing the runs"]
    outbox.put("cell", "news", lambda: store.tell("last"), rest=600)
    outbox.close(10)
    assert store.told[-1] == "last" and outbox.unreachable is None


def test_a_day_without_the_store_waits_in_the_memory_of_one_call_a_key():
    store = Store()
    store.away = True
    outbox = store.outbox()
    tracemalloc.start()
    try:
        for event in range(100_000):
            put(outbox, store, event, key=event % 10)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(outbox) <= 10 and held < 1_000_000
    store.away = False
    outbox.close(10)
    assert sorted(fact for fact in store.told if fact >= 99_990) == list(range(99_990, 100_000))
    assert len(store.told) <= 11  # one was on its way when the others came


def test_a_call_takes_the_place_of_the_one_that_waits_under_its_key():
    store, free = Store(), threading.Event()
    outbox = store.outbox()
    outbox.put("first", "first", lambda: free.wait(10) and None)
    for fact, key in (("a1", "a"), ("b1", "b"), ("a2", "a")):
        put(outbox, store, fact, key)
    free.set()
    outbox.close(10)
    assert store.told == ["a2", "b1"]


def test_a_refused_call_is_given_up_the_others_go_through_and_it_is_forgotten_once_it_is_taken():
    store = Store()
    store.refuses = {"bad"}
    outbox = store.outbox()
    put(outbox, store, "bad", key="cell")
    put(outbox, store, "good")
    assert outbox.flush(10) and store.told == ["good"]
    assert outbox.unreachable == "fact bad: not that one"
    put(outbox, store, "better", key="cell")
    outbox.close(10)
    assert outbox.unreachable is None and store.told == ["good", "better"]


def test_the_end_waits_for_a_slow_store_and_not_for_one_that_is_away():
    slow, away = Store(), Store()
    slow.seconds, away.away = 0.2, True
    outbox = slow.outbox()
    for fact in range(5):
        put(outbox, slow, fact)
    outbox.close(0.1, most=20)  # nothing arrives within the limit, yet the store answers
    assert slow.told == list(range(5)) and outbox.unreachable is None
    outbox = away.outbox(Patience(first=30, longest=30))
    put(outbox, away, "a")
    began = time.monotonic()
    outbox.close(0.1, most=20)
    assert time.monotonic() - began < 10 and outbox.unreachable == "fact a: no route"


def test_the_end_does_not_wait_for_ever_for_a_store_that_is_too_slow():
    store = Store()
    store.seconds = 0.3
    outbox = store.outbox()
    for fact in range(100):
        put(outbox, store, fact)
    outbox.close(0.05, most=0.5)
    assert 0 < len(store.told) < 10 and "calls: still writing" in outbox.unreachable


def test_a_closing_driver_does_not_sit_out_the_pause_between_attempts():
    store = Store()
    store.away = True
    outbox = store.outbox(Patience(first=20, longest=20))
    put(outbox, store, "a")
    while outbox.unreachable is None:
        time.sleep(0.01)
    store.away = False
    began = time.monotonic()
    outbox._patience = Patience(first=0.01)  # what is left of the pause is cut, the next is short
    outbox.close(10)
    assert time.monotonic() - began < 5 and store.told == ["a"] and outbox.unreachable is None


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_store_does_in_between_it_ends_with_the_latest_of_every_cell(seed):
    """Each call tells its cell's newest state, as those of Tracking do; the store comes, goes and loses replies."""
    draw, store, newest, held = random.Random(seed), Store(), {}, {}
    outbox = store.outbox(Patience(attempts=1000, first=0.0005, longest=0.002))
    chance = random.Random(seed + 100)

    def tell(cell: int) -> None:
        fate = chance.random()
        if store.away or fate < 0.2:
            raise ConnectionError("before it arrived")
        held[cell] = newest[cell]
        if fate < 0.4:
            raise ConnectionError("its reply was lost")

    for version in range(2000):
        cell = draw.randrange(7)
        newest[cell] = version
        outbox.put(cell, "cell", lambda cell=cell: tell(cell))
        if draw.random() < 0.02:
            store.away = not store.away
    store.away = False
    outbox.close(20)
    assert outbox.unreachable is None and held == newest
