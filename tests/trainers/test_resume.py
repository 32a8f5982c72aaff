"""An interruption leaves no trace in the numbers: interrupted at any reading and resumed equals uninterrupted."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ablate import events
from tests.trainers import tiny
from tests.trainers.two_ranks import on_two_ranks
from trainers import train
from trainers.checkpoint import FINAL, Checkpoints, read
from trainers.ranks import Ranks
from trainers.recipe import Compute, Ema, Evaluate, Optimizer, Plateau, Recipe, Timing
from trainers.training import Training

STEPS, EVERY = 8, 4


def staged(first: Timing, second: Timing, **options) -> Recipe:
    base = tiny.recipe(steps=STEPS, every=EVERY, **options)
    later = tiny.stage(base, second, terms={"l1": 3.0, "ssim": 5.0}, optimizer=replace(base.optimizer, lr=3e-4))
    return replace(base, stages=(tiny.stage(base, first), later))


def plain(**options) -> Recipe:
    return tiny.recipe(**{"steps": STEPS, "every": EVERY, **options})


# Every option that carries state from one update to the next, or from one reading to the next.
STATEFUL: dict[str, Recipe] = {
    "batch norm": plain(norm="batch", norm_g="batch"),
    "sync batch": plain(norm="sync_batch", norm_g="sync_batch"),
    "spectral, two scales": plain(norm="spectral", scales=2),
    "dropout": plain(dropout=0.5, tile=64),
    "two G": plain(updates=(2, 1)),
    "three D": plain(updates=(1, 3)),
    "wgan_gp": plain(objective="wgan_gp", optimizer=Optimizer(lr=1e-3, betas=(0.0, 0.9))),
    "average": plain(ema=Ema(decay=0.9), norm_g="batch"),
    "ramp": staged(Timing(until=0.4), Timing(ramp=0.4)),
    "moments and schedule reset": staged(Timing(until=0.4), Timing(moments="reset", schedule="reset")),
    "plateau": staged(Timing(until=Plateau(plateau=2, at_most=0.9, improvement=0.5)), Timing(moments="reset")),
    "warm-up and cosine": plain(optimizer=Optimizer(lr=1e-3, warm_up=0.3, constant=0.3, decay="cosine")),
    "bf16": plain(compute=Compute(precision="bf16"), norm="spectral"),
    "channels last": plain(compute=Compute(memory_format="channels_last"), norm="batch"),
    "paper mode": plain(evaluate=Evaluate(every=EVERY, mode="paper"), norm_g="batch"),
    "feature matching": plain(terms=("l1", "feature_matching"), scales=2, norm="batch"),
    "gated and flipped": plain(skip="gated", objective="lsgan"),
    # Runs of 100 updates or more are judged: an untrained generator that stands still raises flags on the way.
    "warnings": plain(steps=100, every=100, optimizer=Optimizer(lr=1e-7)),
}  # fmt: skip


def reading_to_stop_at(name: str, of: Recipe) -> int:
    """Any but the last; another for each case, and always the same."""
    return random.Random(zlib.crc32(name.encode())).choice(of.reading_steps[:-1])


def run(folder, of: Recipe, ranks: Ranks, stop_after: int | None = None) -> None:
    """A process that trains the trial in `folder`; its stop flag is raised during update number `stop_after`."""
    advance = Training.advance

    def counted(training: Training) -> None:
        advance(training)
        if training.done == stop_after and ranks.first:
            folder.stop.touch()

    cache = folder.root.parents[1] / "cache" / ("tiny" if of.data.tile == tiny.TILE else f"tiny{of.data.tile}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "advance", counted)
        train.Trial(folder, tiny.spec(of, ranks=ranks.size), tiny.METRICS, cache, ranks).run()


def whole_and_cut(root: Path, name: str, of: Recipe, ranks: Ranks) -> int:
    """Train `of` in one go and in two; the reading at which the second was cut."""
    ranks.agree(True)
    whole, cut = (tiny.TrialFolder(root / "trials" / f"{kind} {name}") for kind in ("whole", "cut"))
    run(whole, of, ranks)
    at = reading_to_stop_at(name, of)
    run(cut, of, ranks, stop_after=at)
    ranks.agree(True)
    if ranks.first:
        assert Checkpoints(cut.checkpoints).newest()["step"] == at
        assert not any(isinstance(event, events.Ended) for event in events.read(cut.events))
        cut.stop.unlink()
    ranks.agree(True)
    run(cut, of, ranks)
    return at


def check(root: Path, name: str) -> None:
    one, two = (tiny.TrialFolder(root / "trials" / f"{kind} {name}") for kind in ("whole", "cut"))
    networks = [tiny.tensors(read(folder.checkpoints / FINAL)["generator"]) for folder in (one, two)]
    assert tiny.equal(*networks)
    streams = [events.read(folder.events) for folder in (one, two)]
    first, second = (events.fold(name, stream) for stream in streams)
    assert first.curves == second.curves and first.scores == second.scores and first.status == second.status
    warned = [[(event.step, event.message, dict(event.evidence)) for event in stream
               if isinstance(event, events.Warned)] for stream in streams]  # fmt: skip
    assert warned[0] == warned[1]
    assert bool(warned[0]) == (name == "warnings")
    assert one.scores.read_bytes() == two.scores.read_bytes()
    samples = [sorted((path.name, path.read_bytes()) for path in folder.samples.iterdir()) for folder in (one, two)]
    assert samples[0] == samples[1]


def prepared(root: Path, recipes: dict[str, Recipe], ranks: int) -> None:
    for name, of in recipes.items():
        for kind in ("whole", "cut"):
            tiny.trial_folder(root, tiny.spec(of, ranks=ranks), f"{kind} {name}")


@pytest.mark.parametrize("name", STATEFUL)
def test_on_one_rank_it_is_equal_bit_for_bit(tmp_path, name):
    prepared(tmp_path, {name: STATEFUL[name]}, 1)
    whole_and_cut(tmp_path, name, STATEFUL[name], Ranks())
    check(tmp_path, name)


def job(rank: int, root: str, names: list[str]) -> None:
    for name in names:
        whole_and_cut(Path(root), name, STATEFUL[name], Ranks(rank, 2))


def on_two(root: Path, names: list[str]) -> None:
    prepared(root, {name: STATEFUL[name] for name in names}, 2)
    on_two_ranks(job, root, str(root), names)
    for name in names:
        check(root, name)


def test_on_two_ranks_it_is_equal_bit_for_bit(tmp_path):
    on_two(tmp_path, ["batch norm", "plateau"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_on_two_ranks_every_option_that_carries_state_is_equal_bit_for_bit(tmp_path):
    on_two(tmp_path, list(STATEFUL))


def test_each_case_carries_what_it_says(tmp_path):
    """Dropout draws, the average lags, plateaus end, statistics move: none of the cases is idle."""
    of = STATEFUL["dropout"]
    training = tiny.training(of, tiny.prepared(tmp_path / "64", tile=64))
    assert any(isinstance(layer, torch.nn.Dropout) for layer in training.generator.modules())
    data = tiny.prepared(tmp_path / "32")
    for name in ("plateau", "ramp", "moments and schedule reset"):
        training = tiny.training(STATEFUL[name], data)
        for _ in range(STEPS):
            training.advance()
            training.course.read(1.0)
        assert training.course.index == 1, name
    training = tiny.training(STATEFUL["average"], data)
    for _ in range(STEPS):
        training.advance()
    pairs = zip(training.result.parameters(), training.generator.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_a_checkpoint_is_all_that_the_next_update_depends_on(tmp_path):
    """A second process that starts from another seed's networks and global random state goes on as the first."""
    data = tiny.prepared(tmp_path / "data")
    for of in (STATEFUL["average"], STATEFUL["ramp"], STATEFUL["spectral, two scales"], STATEFUL["bf16"]):
        one = tiny.training(of, data)
        for _ in range(3):
            one.advance()
        one.settle()
        torch.save(one.state_dict(), tmp_path / "state.pt")
        two = tiny.training(of, data)
        for parameter in [*two.generator.parameters(), *two.discriminator.parameters(), *two.result.parameters()]:
            parameter.data.fill_(7.0)
        two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        for training in (one, two):
            torch.manual_seed(id(training))
            tiny.logged(training) if training.window.logged else None
            for _ in range(3):
                training.advance()
            training.settle()
        assert tiny.equal(tiny.tensors(one.state_dict()), tiny.tensors(two.state_dict()))


def test_another_number_of_ranks_is_another_trial_and_is_refused():
    of = plain()
    specs = [tiny.spec(of, ranks=ranks) for ranks in (1, 2)]
    assert specs[0].id != specs[1].id
    assert {spec.ranks for spec in specs} == {1, 2}


def test_a_trial_that_states_two_ranks_does_not_run_on_one(tmp_path):
    folder = tiny.trial_folder(tmp_path, tiny.spec(plain(), ranks=2))
    with pytest.raises(RuntimeError, match="states 2 ranks, but 1 were started"):
        train.run(folder.root)


def test_a_checkpoint_of_another_number_of_ranks_is_refused_with_both(tmp_path):
    of = plain()
    folder = tiny.trial_folder(tmp_path, tiny.spec(of))
    run(folder, of, Ranks(), stop_after=2)
    checkpoints = Checkpoints(folder.checkpoints)
    checkpoints.save(2, {**checkpoints.newest(), "world_size": 2})
    folder.stop.unlink(missing_ok=True)
    with pytest.raises(RuntimeError, match="of 2 ranks, these are 1"):
        train.run(folder.root)


def test_how_often_it_is_scored_moves_no_plateau_no_weight_and_no_diagnosis(tmp_path):
    of = staged(Timing(until=Plateau(plateau=2, at_most=0.9, improvement=0.5)), Timing(moments="reset"))
    of = replace(of, budget=replace(of.budget, generator_updates=110))  # a reading every third update
    of, ends = replace(of, updates=replace(of.updates, generator=2)), []
    for name, interval in (("rarely", 110), ("often", 7)):
        folder = tiny.trial_folder(tmp_path / name, tiny.spec(replace(of, evaluate=Evaluate(every=interval))))
        train.run(folder.root)
        ended = events.read(folder.events)[-1]
        evidence = {key: pytest.approx(value, rel=1e-9) for key, value in ended.evidence.items()}
        ends.append((read(folder.checkpoints / FINAL)["generator"], (ended.diagnosis, evidence, ended.findings)))
    (one, _), (two, diagnosis) = ends
    assert all(torch.equal(one[key], two[key]) for key in one)
    last = events.read(tmp_path / "rarely" / "trials" / "trial" / "events.jsonl")[-1]
    assert (last.diagnosis, last.evidence, last.findings) == diagnosis
