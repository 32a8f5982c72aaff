"""A trial that the machine fails rests longer each time, and has its budget again once it gets on."""

from __future__ import annotations

from ablate.attempts import LONGEST_REST, PREEMPTIONS, Attempts


def fail(attempts: Attempts, now: float = 0.0) -> float:
    attempts.begin("a")
    return attempts.rest("a", now)


def test_rests_double_up_to_a_limit():
    attempts = Attempts()
    assert [fail(attempts) for _ in range(8)] == [1, 2, 4, 8, 16, 32, LONGEST_REST, LONGEST_REST]
    assert attempts.of("a") == 8 and attempts.of("b") == 0


def test_a_trial_rests_until_its_time_and_is_then_given_out_once():
    attempts = Attempts()
    fail(attempts, now=10.0)
    assert attempts.rested(10.9) == [] and attempts.resting == {"a"}
    assert attempts.rested(11.0) == ["a"] and attempts.resting == set() and attempts.rested(99.0) == []


def test_a_new_checkpoint_gives_the_budget_back_and_an_old_one_that_is_read_again_does_not():
    attempts = Attempts()
    for _ in range(3):
        fail(attempts)
    attempts.saved("a", 10)
    assert attempts.of("a") == 1
    fail(attempts)
    attempts.saved("a", 10)
    assert attempts.of("a") == 2


def test_what_was_stopped_from_outside_goes_on_at_once_and_does_not_count():
    attempts = Attempts()
    fail(attempts)
    attempts.begin("a")
    attempts.uncounted("a", 5.0)
    assert attempts.of("a") == 0 and "a" in attempts.rested(5.0)


def test_what_a_scheduler_takes_away_goes_on_at_once_and_not_for_ever_without_progress():
    attempts = Attempts()
    for _ in range(PREEMPTIONS):
        attempts.begin("a")
        assert attempts.preempted("a", now=5.0) and attempts.rested(5.0) == ["a"] and attempts.of("a") == 0
    attempts.saved("a", 10)
    assert all(attempts.preempted("a", now=6.0) for _ in range(PREEMPTIONS)), "it has got on"
    assert not attempts.preempted("a", now=7.0)
