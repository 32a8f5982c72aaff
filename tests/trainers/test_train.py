"""One trial from its folder: what it leaves behind, and what damage to it is survived."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ablate import artifacts, events
from ablate.records import Status
from tests.trainers import tiny
from trainers import train
from trainers.checkpoint import FINAL, Checkpoints, read
from trainers.families import OBJECTIVES
from trainers.training import Training


def finish(root, of, **options):
    folder = tiny.trial_folder(root, tiny.spec(of, **options))
    train.run(folder.root)
    return folder


def result(folder) -> events.TrialResult:
    return events.fold("trial", events.read(folder.events))


def test_a_trial_leaves_curves_samples_scores_and_its_generator(tmp_path):
    folder = finish(tmp_path, tiny.recipe())
    found = result(folder)
    assert (found.status, found.steps, found.images) == (Status.done, 6, 24)
    assert set(found.scores) == set(tiny.METRICS)
    assert [row[0] for row in found.curves["validation", "psnr"]] == [3, 6]
    assert sorted(path.name for path in folder.samples.iterdir()) == ["000003.npz", "000006.npz"]
    assert folder.scores.read_text().splitlines()[0] == "tile,scene," + ",".join(tiny.METRICS)
    assert set(read(folder.checkpoints / FINAL)) == {"generator", "recipe", "bands", "tile"}
    assert [path.name for path in folder.checkpoints.iterdir()] == [FINAL]


def test_losses_are_logged_raw_and_weighted_under_different_names(tmp_path):
    curves = result(finish(tmp_path, tiny.recipe())).curves
    raw, weighted = curves["train", "term/l1"], curves["train", "weighted/l1"]
    assert [row[2] * 10.0 for row in raw] == pytest.approx([row[2] for row in weighted])


def test_a_finished_trial_is_not_trained_again(tmp_path):
    folder = finish(tmp_path, tiny.recipe())
    before = folder.events.read_bytes()
    train.run(folder.root)
    assert folder.events.read_bytes() == before


def test_equal_seeds_give_equal_numbers_and_another_seed_others(tmp_path):
    first, again = (result(finish(tmp_path / name, tiny.recipe())) for name in ("a", "b"))
    other = result(finish(tmp_path / "c", tiny.recipe(), seed=4))
    assert first.curves == again.curves
    assert first.scores != other.scores


def interrupt_after(step: int, folder) -> None:
    """Run the trial with its stop flag raised once `step` updates are done."""
    advance = Training.advance

    def counted(training):
        advance(training)
        if training.done == step:
            folder.stop.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "advance", counted)
        train.run(folder.root)
    assert not any(isinstance(event, events.Ended) for event in events.read(folder.events))


def test_killed_between_a_checkpoint_and_its_events_the_stream_still_has_each_value_once(tmp_path):
    of = tiny.recipe(steps=6, every=3)
    whole, folder = finish(tmp_path / "whole", of), tiny.trial_folder(tmp_path / "cut", tiny.spec(of))
    interrupt_after(4, folder)
    lines = folder.events.read_bytes()
    folder.events.write_bytes(lines + b'{"event":"measured","torn')  # a write that a kill cut short
    folder.stop.unlink()
    train.run(folder.root)
    assert result(folder).curves == result(whole).curves


def test_a_flipped_byte_in_the_newest_checkpoint_sends_the_trial_to_the_one_before(tmp_path):
    of = tiny.recipe(steps=9, every=3)
    whole, folder = finish(tmp_path / "whole", of), tiny.trial_folder(tmp_path / "cut", tiny.spec(of))
    interrupt_after(7, folder)
    newest = sorted(folder.checkpoints.glob("step-*.pt"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    assert Checkpoints(folder.checkpoints).newest()["step"] == 6
    folder.stop.unlink()
    train.run(folder.root)
    assert result(folder).curves == result(whole).curves


def test_a_trial_may_keep_nothing_of_its_networks_and_is_the_same_trial(tmp_path):
    spec = tiny.spec(tiny.recipe(steps=4, every=2))
    bare = replace(spec, keep="nothing")
    assert bare.id == spec.id and bare != spec
    folders = [tiny.trial_folder(tmp_path / one.keep, one) for one in (spec, bare)]
    for folder in folders:
        train.run(folder.root)
        assert artifacts.problems(folder) == []
    kept, left = ([artifact.what for artifact in artifacts.listed(events.read(one.events))] for one in folders)
    assert kept == ["generator", *left] and not list(folders[1].checkpoints.iterdir())
    one, two = (result(folder) for folder in folders)
    assert (one.curves, one.scores, one.status) == (two.curves, two.scores, two.status)


def test_a_trial_that_blows_up_ends_as_diverged_and_says_where(tmp_path):
    from trainers.recipe import Optimizer

    of = tiny.recipe(
        objective="lsgan", norm="none", norm_g="none", steps=60, every=30, optimizer=Optimizer(lr=1.0, lr_ratio=100.0)
    )
    found = result(finish(tmp_path, of))
    assert found.status is Status.diverged
    assert "not finite" in found.why and "at update" in found.why


@pytest.mark.parametrize("objective", OBJECTIVES.names())
def test_every_objective_trains_to_the_end(tmp_path, objective):
    assert result(finish(tmp_path, tiny.recipe(objective=objective, steps=4, every=2))).status is Status.done


def test_an_image_budget_gives_the_same_images_whatever_the_batch(tmp_path):
    from trainers.recipe import Budget, Evaluate

    for batch, steps in ((2, 12), (4, 6), (8, 3)):
        of = tiny.recipe(batch=batch, budget=Budget(images=24), evaluate=Evaluate(every=24))
        assert (of.steps, of.eval_steps) == (steps, (steps,))


def test_a_wrong_number_of_ranks_is_refused_with_both_numbers(tmp_path):
    folder = tiny.trial_folder(tmp_path, tiny.spec(tiny.recipe(), ranks=2))
    with pytest.raises(RuntimeError, match="states 2 ranks, but 1"):
        train.run(folder.root)


def test_the_spec_on_disk_is_all_that_a_trial_reads_besides_its_data(tmp_path):
    folder = tiny.trial_folder(tmp_path, tiny.spec(tiny.recipe()))
    assert set(json.loads(folder.spec.read_text())) == {"spec", "metrics", "cache"}
