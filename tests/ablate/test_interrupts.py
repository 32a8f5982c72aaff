"""Who is asked for what by which signal, here and where jobs outlive the driver."""

from __future__ import annotations

import signal
from itertools import product

import pytest

from ablate.interrupts import Interrupt

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize(("first", "second"), [*product(SIGNALS, repeat=2)])
def test_here_the_second_signal_ends_everything(first, second):
    interrupt = Interrupt(patient=True)
    interrupt._receive(first)
    assert interrupt.count == 1 and not interrupt.leave and interrupt.ends(outliving=False)
    with pytest.raises(KeyboardInterrupt):
        interrupt._receive(second)


@pytest.mark.parametrize("signals", [*product((signal.SIGTERM, signal.SIGHUP), repeat=2)])
def test_jobs_that_outlive_the_driver_are_left_alone_by_what_comes_with_its_end(signals):
    interrupt = Interrupt(patient=True, lasting=True)
    for number in signals:
        interrupt._receive(number)
    assert interrupt.leave and not interrupt.ends(outliving=True)


def test_a_terminal_that_is_lost_after_an_interruption_ends_nothing():
    interrupt = Interrupt(patient=True, lasting=True)
    interrupt._receive(signal.SIGINT)
    assert interrupt.ends(outliving=True), "it was asked for"
    interrupt._receive(signal.SIGHUP)
    assert interrupt.leave and not interrupt.ends(outliving=True)


def test_a_second_interruption_ends_jobs_anywhere():
    interrupt = Interrupt(patient=True, lasting=True)
    interrupt._receive(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupt._receive(signal.SIGINT)
    assert interrupt.ends(outliving=True)


def test_an_error_of_the_driver_ends_only_what_can_not_go_on_without_it():
    assert Interrupt().ends(outliving=False) and not Interrupt(lasting=True).ends(outliving=True)
