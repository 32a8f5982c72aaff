"""The display: lines are exact, time is a number handed in."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from ablate.display import Display, _duration
from ablate.events import Measured
from ablate.records import Cell, Status, TrialResult

CELLS = [Cell(arm, seed, f"{arm}{seed}") for seed in (1, 2) for arm in ("base", "lr_ratio=half")]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def result_of(cell: Cell, status: Status = Status.done, *, seconds: float = 6.1, why: str = "") -> TrialResult:
    return TrialResult(cell.trial, status, {"gmsd": 0.123456}, seconds=seconds, why=why)


def plain(total: int = 4, **options) -> tuple[Display, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    return Display(total, metric="gmsd", clock=clock, stream=stream, **options), stream, clock


def measured(split: str, **values: float) -> Measured:
    return Measured(
        time=0, step=24, images=96, split=split, values={k.replace("__", "/"): v for k, v in values.items()}
    )


def test_without_a_terminal_a_trial_is_a_line_at_its_start_and_one_at_its_end():
    display, stream, _ = plain(total=66)
    with display:
        display.started(CELLS[3], 120)
        display.measured(CELLS[3], measured("train", loss_d=0.7))
        display.ended(CELLS[3], result_of(CELLS[3]))
        display.note("disk: 1.2 GB left")
    assert stream.getvalue().splitlines() == [
        "[ 0/66] lr_ratio=half · seed 2  started, 120 steps",
        "[ 1/66] lr_ratio=half · seed 2  done  gmsd 0.1235  6.1 s  (about 7 min left)",
        "disk: 1.2 GB left",
    ]


def test_a_trial_that_waits_for_a_node_has_not_started():
    display, stream, clock = plain(total=2, slots=2)
    for cell in CELLS[:2]:
        display.submitted(cell, 120)
    assert display.headline() == "0/2 trials · running 0 · waiting 2"
    clock.now += 1000
    display.started(CELLS[0], 120)
    assert display.headline() == "0/2 trials · running 1 · waiting 1"
    display.ended(CELLS[0], result_of(CELLS[0], seconds=10.0))
    assert display.seconds_left() == 10.0 / 2, "waiting is no work"
    display.ended(CELLS[1], result_of(CELLS[1], Status.failed, why="machine: its job failed"))
    assert stream.getvalue().splitlines() == [
        "[0/2] base · seed 1  submitted, 120 steps",
        "[0/2] lr_ratio=half · seed 1  submitted, 120 steps",
        "[0/2] base · seed 1  started, 120 steps",
        "[1/2] base · seed 1  done  gmsd 0.1235  10.0 s  (about 5 s left)",
        "[2/2] lr_ratio=half · seed 1  failed  gmsd 0.1235  6.1 s  machine: its job failed",
    ]


def test_a_finished_trial_says_what_it_suffered_from():
    display, stream, _ = plain(total=1)
    display.started(CELLS[0], 120)
    found = {"d_dominant": "D dominates: right on 98% of patches"}
    display.ended(CELLS[0], replace(result_of(CELLS[0]), diagnosis="d_dominant", findings=found))
    assert stream.getvalue().splitlines()[-1] == "[1/1] base · seed 1  done  gmsd 0.1235  6.1 s  (D dominates)"


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.done])
def test_an_outcome_other_than_done_says_why(status):
    display, stream, _ = plain()
    display.started(CELLS[0], 120)
    display.ended(CELLS[0], result_of(CELLS[0], status, why="discriminator loss is not finite"))
    assert f"  {status}  " in stream.getvalue() and "discriminator loss is not finite" in stream.getvalue()


def test_outcomes_of_an_earlier_run_are_counted_and_told_once():
    display, stream, _ = plain()
    for cell in CELLS[:2]:
        display.ended(cell, result_of(cell))
    display.started(CELLS[2], 120)
    display.ended(CELLS[2], result_of(CELLS[2]))
    display.started(CELLS[3], 120)
    assert stream.getvalue().splitlines() == [
        "2 of 4 trials ended in an earlier run",
        "[2/4] base · seed 2  started, 120 steps",
        "[3/4] base · seed 2  done  gmsd 0.1235  6.1 s  (about 6 s left)",
        "[3/4] lr_ratio=half · seed 2  started, 120 steps",
    ]


def test_time_left_is_the_median_trial_times_what_remains_less_what_has_run():
    display, _, clock = plain(total=7, slots=2)
    assert display.seconds_left() is None
    for cell, seconds in zip(CELLS[:3], (10.0, 20.0, 1000.0), strict=True):
        display.ended(cell, result_of(cell, seconds=seconds))
    assert display.seconds_left() == 4 * 20 / 2
    display.started(CELLS[3], 120)
    clock.now += 5
    assert display.seconds_left() == (4 * 20 - 5) / 2
    clock.now += 500  # a trial over its time counts as about to end
    assert display.seconds_left() == 3 * 20 / 2


def test_the_headline_counts_every_status_and_sums_to_the_total():
    display, _, _ = plain(total=9)
    for cell, status in zip(CELLS, (Status.done, Status.done, Status.diverged, Status.failed), strict=True):
        display.ended(cell, result_of(cell, status, seconds=0.0))
    display.started(CELLS[0], 10)
    assert display.headline() == "4/9 trials · done 2 · diverged 1 · failed 1 · running 1 · waiting 4"


def test_a_trial_taken_up_again_is_one_trial():
    display, _, _ = plain()
    display.started(CELLS[0], 10)
    display.started(CELLS[0], 10)
    assert "running 1 · waiting 3" in display.headline()


def test_on_a_terminal_the_running_trials_show_step_losses_score_and_time():
    display, stream, clock = plain(live=True)
    with display:
        display.started(Cell("odd[bold]arm", 1, "x"), 120)
        display.measured(
            Cell("odd[bold]arm", 1, "x"), measured("train", loss_d=0.71, loss_g_adv=1.5, term__l1=0.25, health__d=9.0)
        )
        display.measured(Cell("odd[bold]arm", 1, "x"), measured("validation", gmsd=0.3, psnr=11.0))
        clock.now += 65
        display.note("a note")
    shown = stream.getvalue()
    for part in ("odd[bold]arm · seed 1", "24/120", "d 0.71  g_adv 1.5  l1 0.25", "0.3", "65 s", "a note"):
        assert part in shown
    assert "11" not in shown and "health" not in shown
    assert "started" not in shown


@pytest.mark.parametrize(("seconds", "text"), [(40.2, "40 s"), (300, "5 min"), (7800, "2 h 10 min")])
def test_durations_read_as_people_say_them(seconds, text):
    assert _duration(seconds) == text
