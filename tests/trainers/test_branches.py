"""A trial that goes on from what another has trained ends as one that trained all of it itself, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablate import events
from ablate.artifacts import problems
from ablate.records import TrialFolder, write_atomically
from tests.trainers import jobs, tiny
from trainers import train
from trainers.checkpoint import Checkpoints
from trainers.prefix import branch_point
from trainers.recipe import Budget, Compute, Ema, Evaluate, Optimizer, Recipe, Timing
from trainers.training import Training

STEPS, EVERY = 8, 4
L1, LESS, SSIM = {"l1": 10.0}, {"l1": 3.0, "ssim": 5.0}, {"ssim": 2.0}
Pair = tuple[Recipe, Recipe]


def plain(**options) -> Recipe:
    return tiny.recipe(**{"steps": STEPS, "every": EVERY, **options})


def staged(of: Recipe, *stages: tuple) -> Recipe:
    """Stages of (timing, weights of terms, other changes) after the recipe's own first."""
    return replace(of, stages=tuple(tiny.stage(of, timing, terms=weights, **(more[0] if more else {}))
                                    for timing, weights, *more in stages))  # fmt: skip


def two(of: Recipe, until: float = 0.5, later: Timing | None = None, weights: dict | None = None, **more) -> Recipe:
    return staged(of, (Timing(until=until), L1), (later or Timing(), weights or LESS, more))


def fine_tuned(of: Recipe) -> Pair:
    """One stage, and the same with a second: the usual pair."""
    return of, two(of)


LOWER = Optimizer(lr=3e-4)
PAIRS: dict[str, Pair] = {
    "one stage, then two": fine_tuned(plain()),
    "two stages, then one": (two(plain()), plain()),
    "at an update that is not scored": (plain(), two(plain(), 0.7)),
    "between two readings": (plain(steps=60, every=25), two(plain(steps=60, every=25), 0.55)),
    "at the first reading": (two(plain(), 0.25, weights=SSIM), two(plain(), 0.13, optimizer=LOWER)),
    "a ramp": (two(plain()), two(plain(), later=Timing(ramp=0.3))),
    "moments and schedule": (two(plain()), two(plain(), later=Timing(moments="reset", schedule="reset"))),
    "rates": (two(plain()), two(plain(), optimizer=LOWER, adv_weight=0.5)),
    "another end": (two(plain(), 0.75), two(plain(), 0.5)),
    "a third stage": tuple(
        staged(plain(), (Timing(until=0.3), L1), (Timing(until=0.7, ramp=0.2), LESS), (timing, SSIM))
        for timing in (Timing(), Timing(moments="reset"))
    ),
    "batch norm, an average": fine_tuned(plain(norm="batch", norm_g="batch", ema=Ema(decay=0.9))),
    "spectral, two scales": fine_tuned(plain(norm="spectral", scales=2)),
    "feature matching, later": (plain(), two(plain(), weights={"feature_matching": 2.0, "l1": 3.0})),
    "dropout": fine_tuned(plain(dropout=0.5, tile=64)),
    "two G": fine_tuned(plain(updates=(2, 1))),
    "three D, wgan_gp": fine_tuned(plain(updates=(1, 3), objective="wgan_gp")),
    "warm-up and cosine": fine_tuned(plain(optimizer=Optimizer(lr=1e-3, warm_up=0.3, constant=0.3, decay="cosine"))),
    "bf16, channels last": fine_tuned(plain(compute=Compute(precision="bf16", memory_format="channels_last"))),
    "paper mode": fine_tuned(plain(evaluate=Evaluate(every=EVERY, mode="paper"), norm_g="batch")),
    "images": fine_tuned(plain(budget=Budget(images=30), evaluate=Evaluate(every=7))),
    # Runs of 100 updates or more are judged: an untrained generator that stands still raises flags on the way.
    "warnings": fine_tuned(plain(steps=100, every=40, optimizer=Optimizer(lr=1e-7))),
}  # fmt: skip


def folder_of(root: Path, name: str, of: Recipe, *, ranks: int = 1, **said: Any) -> TrialFolder:
    """A trial, not begun, whose spec.json says more."""
    folder = tiny.trial_folder(root, tiny.spec(of, ranks=ranks), name)
    write_atomically(folder.spec, json.dumps({**json.loads(folder.spec.read_text()), **said}))
    return folder


def leaves(*steps: int) -> dict[str, Any]:
    return {"branches": [{"step": step, "for": ["fork"]} for step in steps]}


def takes(step: int, trunk: str = "trunk") -> dict[str, Any]:
    return {"trunk": {"trial": trunk, "step": step}}


def told(folder: TrialFolder) -> list[tuple]:
    """All that a stream says of the training, in its order and each once."""
    found: dict[tuple, None] = {}
    for event in events.read(folder.events):
        if isinstance(event, events.Measured):
            found[event.kind, event.step, event.images, event.split, event.mode, *map(str, event.values.items())] = None
        elif isinstance(event, events.Warned):
            found[event.kind, event.step, event.message, *map(str, event.evidence.items())] = None
        elif isinstance(event, events.Saved) and event.what not in ("checkpoint", "branch"):
            found[event.kind, event.step, event.what, event.path, event.sha256] = None
        elif isinstance(event, events.Ended):
            ends = (event.status, event.why, event.diagnosis, str(dict(event.evidence)), str(dict(event.findings)))
            found[event.kind, event.step, event.images, *ends] = None
    return list(found)


def updates_of(act: Callable[[], object]) -> int:
    """Generator updates that are made meanwhile."""
    made, advance = [], Training.advance

    def counted(training: Training) -> None:
        advance(training)
        made.append(training.done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "advance", counted)
        act()
    return len(made)


@pytest.mark.parametrize("name", PAIRS)
def test_forked_it_equals_the_straight_run(tmp_path, name):
    trunk_recipe, recipe = PAIRS[name]
    point = branch_point(trunk_recipe, recipe)
    assert point, "the pair has something in common"
    straight = folder_of(tmp_path, "straight", recipe)
    trunk = folder_of(tmp_path, "trunk", trunk_recipe, **leaves(point))
    fork = folder_of(tmp_path, "fork", recipe, **takes(point))
    alone = folder_of(tmp_path, "alone", trunk_recipe)
    for folder in (straight, alone, trunk):
        train.run(folder.root)
    assert updates_of(lambda: train.run(fork.root)) == recipe.steps - point
    assert jobs.facts(fork) == jobs.facts(straight) and told(fork) == told(straight)
    assert jobs.facts(trunk) == jobs.facts(alone) and told(trunk) == told(alone), "to leave a branch changes nothing"
    assert problems(fork) == problems(trunk) == []
    assert any(row[0] == "warned" for row in told(fork)) == (name == "warnings")


def test_the_cases_branch_where_they_say():
    points = {name: branch_point(*pair) for name, pair in PAIRS.items()}
    assert points["at an update that is not scored"] not in PAIRS["rates"][0].eval_steps
    assert points["one stage, then two"] in PAIRS["rates"][0].eval_steps
    assert points["between two readings"] == 32 and points["at the first reading"] == 2
    assert points["a third stage"] == 6


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> tuple:
    """Facts and lines of the usual fork, trained straight."""
    folder = folder_of(tmp_path_factory.mktemp("straight"), "straight", two(plain()))
    train.run(folder.root)
    return jobs.facts(folder), told(folder)


POINT = 4


def pair_in(root: Path, *, trained: bool = True) -> tuple[TrialFolder, TrialFolder]:
    trunk = folder_of(root, "trunk", plain(), **leaves(POINT))
    if trained:
        train.run(trunk.root)
    return trunk, folder_of(root, "fork", two(plain()), **takes(POINT))


def test_a_chain_of_branches_is_as_good_as_one(tmp_path):
    third = staged(plain(), (Timing(until=0.5), L1), (Timing(until=0.8), LESS), (Timing(), SSIM))
    second = two(plain())
    at = branch_point(second, third)
    assert at == 7 > POINT
    trunk = folder_of(tmp_path, "trunk", plain(), **leaves(POINT))
    middle = folder_of(tmp_path, "middle", second, **takes(POINT), **leaves(at))
    last = folder_of(tmp_path, "last", third, **takes(at, "middle"))
    straight = folder_of(tmp_path, "straight", third)
    made = [updates_of(lambda folder=folder: train.run(folder.root)) for folder in (trunk, middle, last, straight)]
    assert made == [8, 4, 1, 8]
    assert jobs.facts(last) == jobs.facts(straight) and told(last) == told(straight)
    spared = [events.fold("", events.read(folder.events)).taken_over for folder in (trunk, middle, last)]
    assert spared[0] == 0 < spared[1] < spared[2], "along the whole chain"


def _no_branch_yet(trunk: TrialFolder) -> None:
    for path in trunk.branches.iterdir():
        path.unlink()


def _torn(trunk: TrialFolder) -> None:
    path = next(trunk.branches.iterdir())
    path.write_bytes(path.read_bytes()[:-1])


def _no_picture(trunk: TrialFolder) -> None:
    (trunk.samples / f"{POINT:06d}.npz").unlink()


def _damaged_stream(trunk: TrialFolder) -> None:
    lines = trunk.events.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace('"step"', '"stop"')
    trunk.events.write_text("".join(lines))


def _other_code(trunk: TrialFolder) -> None:
    stream = events.read(trunk.events)
    stream[0] = replace(stream[0], versions={**stream[0].versions, "torch": "0.1"})
    trunk.events.write_text("".join(map(events.to_line, stream)))


def _other_processor(trunk: TrialFolder) -> None:
    stream = events.read(trunk.events)
    trunk.events.write_text("".join(map(events.to_line, [replace(stream[0], device="another"), *stream[1:]])))


def _gone(trunk: TrialFolder) -> None:
    trunk.root.rename(trunk.root.with_name("trunk.failed-1"))


@pytest.mark.parametrize("harm", [_no_branch_yet, _torn, _no_picture, _damaged_stream, _other_code, _other_processor,
                                  _gone])  # fmt: skip
def test_what_is_not_there_whole_and_alike_the_trial_trains_itself(tmp_path, known, harm):
    trunk, fork = pair_in(tmp_path)
    harm(trunk)
    assert updates_of(lambda: train.run(fork.root)) == STEPS
    assert (jobs.facts(fork), told(fork)) == known


def test_a_trial_with_a_checkpoint_of_its_own_goes_on_from_that(tmp_path, known):
    trunk, fork = pair_in(tmp_path, trained=False)
    fork.stop.touch()
    train.run(fork.root)  # nobody has left anything: it begins by itself, and is stopped at the first reading
    fork.stop.unlink()
    train.run(trunk.root)
    assert updates_of(lambda: train.run(fork.root)) == STEPS - 1
    assert (jobs.facts(fork), told(fork)) == known


def test_what_is_taken_over_is_all_that_is_needed(tmp_path, known):
    trunk, fork = pair_in(tmp_path)
    fork.stop.touch()
    train.run(fork.root)  # takes over, and stops at the next reading
    fork.stop.unlink()
    _gone(trunk)
    assert updates_of(lambda: train.run(fork.root)) == STEPS - POINT - 1
    assert (jobs.facts(fork), told(fork)) == known


def test_the_seconds_of_a_fork_are_its_own_and_it_says_what_it_was_spared(tmp_path):
    trunk, fork = pair_in(tmp_path)
    stream = events.read(trunk.events)
    earlier = [replace(event, time=event.time - 1000 * (at < 2)) for at, event in enumerate(stream)]
    trunk.events.write_text("".join(map(events.to_line, earlier)))
    train.run(fork.root)
    own = events.read(fork.events)
    assert isinstance(own[0], events.Started) and own[0].step == POINT
    result = events.fold("fork", own)
    assert result.seconds < 500 and 1000 < result.taken_over < 1500
    assert result.seconds_alone == result.seconds + result.taken_over
    assert {event.attempt for event in own} == {1}


def test_a_trunk_that_is_interrupted_leaves_its_branch_once(tmp_path, known):
    trunk, fork = pair_in(tmp_path, trained=False)
    trunk.stop.touch()
    for _ in range(STEPS):
        train.run(trunk.root)  # an update each
    assert [event.step for event in events.read(trunk.events)
            if isinstance(event, events.Saved) and event.what == "branch"] == [POINT]  # fmt: skip
    assert updates_of(lambda: train.run(fork.root)) == STEPS - POINT
    assert (jobs.facts(fork), told(fork)) == known


def test_a_branch_that_was_damaged_is_left_again_by_a_trunk_that_comes_by_once_more(tmp_path, known):
    trunk, fork = pair_in(tmp_path, trained=False)
    assert jobs.run(trunk, failpoints=f"step=kill@{POINT + 3}") == [jobs.KILLED]
    _torn(trunk)
    train.run(trunk.root)  # from the checkpoint at the branch; two updates after it are there already
    stream = events.read(trunk.events)
    again = [at for at, event in enumerate(stream) if isinstance(event, events.Saved) and event.what == "branch"]
    assert len(again) == 2 and any(event.step > POINT for event in stream[: again[1]])
    assert updates_of(lambda: train.run(fork.root)) == STEPS - POINT
    assert (jobs.facts(fork), told(fork)) == known


# -- kills ----------------------------------------------------------------------------------------

# A trial of its own passes these; that it passes them too where it takes over is what counts here.
TAKING = ["stream-opened=kill", "file-written=kill@1", "file-replaced=kill@1", "event-appended=kill@1",
          "event-appended=kill@2", "event-appended=kill@5", "event-appended=kill@9", "branch-taken=kill",
          "checkpoint-written=kill", "manifest-written=kill", "checkpoint-told=kill", "step=kill@1"]  # fmt: skip
LEAVING = ["step=kill@4", "checkpoint-told=kill", "branch-saved=kill", "step=kill@5", "event-appended=kill@10",
           "event-appended=kill@11", "disk-write=kill@20"]  # fmt: skip
FAST = {"branch-taken=kill", "branch-saved=kill", "event-appended=kill@5"}


def marked(rules: list[str]) -> list:
    return [pytest.param(rule, marks=[] if rule in FAST else [pytest.mark.slow]) for rule in rules]


@pytest.mark.parametrize("rule", marked(TAKING))
def test_killed_while_it_takes_over_a_trial_takes_over_again(tmp_path, known, rule):
    _, fork = pair_in(tmp_path)
    assert jobs.run(fork, failpoints=rule) == [jobs.KILLED]
    assert updates_of(lambda: train.run(fork.root)) == STEPS - POINT
    assert (jobs.facts(fork), told(fork)) == known
    assert problems(fork) == []
    for number in {event.attempt for event in events.read(fork.events)}:
        own = [event for event in events.read(fork.events) if event.attempt == number]
        steps = [event.step for event in own if isinstance(event, events.Measured)]
        assert isinstance(own[0], events.Started) and steps == sorted(steps)


@pytest.mark.parametrize("rule", marked(LEAVING))
def test_killed_while_it_leaves_a_branch_a_trunk_leaves_it_all_the_same(tmp_path, known, rule):
    trunk, fork = pair_in(tmp_path, trained=False)
    assert jobs.run(trunk, failpoints=rule) == [jobs.KILLED]
    train.run(trunk.root)
    alone = folder_of(tmp_path, "alone", plain())
    train.run(alone.root)
    assert jobs.facts(trunk) == jobs.facts(alone) and problems(trunk) == []
    assert updates_of(lambda: train.run(fork.root)) == STEPS - POINT
    assert (jobs.facts(fork), told(fork)) == known


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rule", ["", "event-appended=kill@5#0", "branch-taken=kill#0", "step=kill@2#1"])
def test_on_two_ranks_it_is_the_same(tmp_path, rule):
    of = plain(norm="batch", norm_g="batch", ema=Ema(decay=0.9))
    straight = folder_of(tmp_path, "straight", two(of), ranks=2)
    trunk = folder_of(tmp_path, "trunk", of, ranks=2, **leaves(POINT))
    fork = folder_of(tmp_path, "fork", two(of), ranks=2, **takes(POINT))
    for folder in (straight, trunk):
        assert jobs.run(folder, ranks=2) == [0, 0], jobs.words(folder)
    if rule:
        assert jobs.KILLED in jobs.run(fork, ranks=2, failpoints=rule)
    assert jobs.run(fork, ranks=2) == [0, 0], jobs.words(fork)
    assert events.read(fork.events)[0].step == POINT
    assert jobs.facts(fork) == jobs.facts(straight) and told(fork) == told(straight)


@pytest.mark.slow
def test_on_two_ranks_a_torn_branch_is_taken_by_none(tmp_path):
    trunk = folder_of(tmp_path, "trunk", plain(), ranks=2, **leaves(POINT))
    fork = folder_of(tmp_path, "fork", two(plain()), ranks=2, **takes(POINT))
    assert jobs.run(trunk, ranks=2) == [0, 0]
    _torn(trunk)
    assert jobs.run(fork, ranks=2) == [0, 0], jobs.words(fork)
    assert events.read(fork.events)[0].step == 0
    assert not Checkpoints(fork.checkpoints).newest()
