"""What a study takes on disk: counted before, and found to be so after."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ablate import doctor, events, space
from ablate.plan import make_plan
from ablate.plan_words import describe
from ablate.planning import document
from ablate.records import StudyFolder, write_atomically
from ablate.study import load
from reports import foresight
from tests.ablate import commands, studies
from trainers.families import DISCRIMINATORS, GENERATORS
from trainers.recipe import Ema

HUGE = ("--set", "base.generator.width=4096", "--set", "seeds=300")  # 600 trials of 55 GiB


@pytest.fixture
def make(tmp_path, monkeypatch):
    """The tiny study's plan with settings; its runs folder is `runs`."""
    monkeypatch.chdir(tmp_path)

    def making(*sets: str):
        return make_plan(load(studies.write(tmp_path), sets=sets))

    return making


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


# -- against real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_real_trial_leaves_what_was_counted(average, norm, tmp_path):
    from tests.trainers import tiny
    from trainers import train

    of = tiny.recipe(
        steps=4, every=2, generator=GENERATORS.options("unet")(width=16, norm=norm),
        discriminator=DISCRIMINATORS.options("patchgan")(width=16, layers=2, norm=norm),
        **({"ema": Ema(decay=0.9)} if average else {}),
    )  # fmt: skip
    found = space.of_trial(of, (tiny.BANDS_SAR, tiny.BANDS_OPTICAL), pictures=False)
    folder = tiny.trial_folder(tmp_path, tiny.spec(of))
    folder.stop.touch()
    train.run(folder.root)
    generation = next(folder.checkpoints.glob("step-*.pt")).stat().st_size
    assert found.checkpoint < generation < 1.02 * found.checkpoint + 100_000, "names and buffers come on top"
    folder.stop.unlink()
    train.run(folder.root)
    weights = (folder.checkpoints / "generator.pt").stat().st_size
    assert found.weights < weights < 1.02 * found.weights + 50_000
    others = sum(path.stat().st_size for path in folder.root.rglob("*") if path.is_file()) - weights
    assert others < found.records


def test_prepared_data_take_at_most_what_was_counted(make, runs):
    from trainers.prepare import prepare

    for sets in ([], ["base.data.size=200", "base.data.tile=64", "base.data.scenes=6"], ["base.data.sar={bands: [1]}"]):
        plan = make(*sets)
        counted = space.need(plan, runs).cache
        for options in plan.data.values():
            folder = prepare(options, runs / "cache")
        taken = sum(path.stat().st_size for path in folder.glob("*.npy"))
        assert taken / 2 < counted and taken < counted + 1000, (taken, counted)  # of three splits, one is cut densely
        assert space.need(plan, runs).cache == 0


# -- what is left -----------------------------------------------------------------------------------------


def end(folder: StudyFolder, id: str) -> None:
    writer = events.EventWriter(folder.trial(id).events)
    writer.append(events.Ended, step=6, images=24, status="done")
    writer.close()


def test_what_has_ended_needs_nothing_more_and_checkpoints_that_are_there_are_counted_once(make, runs):
    plan = make("resources.slots=3")
    folder, ids = StudyFolder(runs, "tiny"), list(plan.specs)
    before = space.need(plan, runs)
    each = before.trials // 4
    assert before.number == 4 and before.checkpoints == 3 * 3 * before.checkpoint
    there = folder.trial(ids[1]).checkpoints / "step-00000003.pt"
    there.parent.mkdir(parents=True)
    there.write_bytes(bytes(1000))
    assert space.need(plan, runs).checkpoints == before.checkpoints - 1000
    for at, id in enumerate(ids, start=1):
        end(folder, id)
        found = space.need(plan, runs)
        assert found.number == 4 - at and found.trials == (4 - at) * each
        assert found.checkpoints in (max(0, 3 * min(3, 4 - at) * before.checkpoint - kept) for kept in (0, 1000))
    assert space.need(plan, runs).fits and space.need(plan, runs).known == before.cache


def test_keeping_nothing_takes_the_weights_away_and_nothing_else(make, runs):
    one, two = (space.need(make(f"keep={keep}"), runs) for keep in ("generator", "nothing"))
    assert one.trials - two.trials == 4 * one.weights > 0 == two.weights
    assert replace(one, trials=0, weights=0) == replace(two, trials=0, free=one.free)


def test_a_search_is_counted_with_the_arms_that_it_has_yet_to_draw(make, runs):
    search = "design={search: {trials: 10, space: {optimizer.lr: {low: 1e-4, high: 1e-3, log: true}}}}"
    assert space.need(make(search, "seeds=1"), runs).number == 11


def test_the_side_by_side_trials_of_the_largest_arms_are_what_runs_at_a_time(make, runs):
    wide = "factors.width={wide: {generator.width: 8}}"
    one, both = (space.need(make("resources.slots=2", *sets), runs) for sets in ((), (wide,)))
    assert both.checkpoint > one.checkpoint and both.checkpoints == 2 * 3 * both.checkpoint
    assert space.need(make("resources.slots=100", wide), runs).slots == 6


def test_a_network_that_does_not_count_its_parameters_is_said(make, runs, monkeypatch):
    from trainers.generators import unet

    monkeypatch.delattr(unet, "parameters")
    found = space.need(make(), runs)
    assert (found.trials, found.checkpoints) == (None, None) and found.fits
    assert "a network of theirs does not count its parameters" in space.in_words(found)


def test_bands_are_those_of_the_prepared_data_once_there_are_any(make, runs):
    plan = make("base.data.sar={bands: [1]}", "base.data.optical={bands: [1]}")
    assert space.need(plan, runs).bands_known and not space.need(make(), runs).bands_known
    assert space.need(plan, runs).checkpoint < space.need(make(), runs).checkpoint
    other = make()
    meta = {"arrays": {"sar": {"shape": [9, 12, 32, 32]}, "optical": {"shape": [9, 3, 32, 32]}}}
    write_atomically(runs / "cache" / next(iter(other.data)) / "meta.json", json.dumps(meta))
    found = space.need(other, runs)
    assert found.bands_known and found.checkpoint > space.need(plan, runs).checkpoint


# -- as a person meets it -----------------------------------------------------------------------------------


def test_run_refuses_what_does_not_fit_with_both_numbers_and_starts_nothing(make, runs):
    make()
    ended = commands.ablate("run", "tiny.yaml", *HUGE)
    assert ended.code == 4 and "Traceback" not in ended.err
    assert "GiB are free, and the study takes about" in ended.err and "(600 trials keep" in ended.err, ended.err
    assert "keep no weights (--set keep=nothing)" in ended.err
    assert not list(runs.iterdir())
    less = commands.ablate("run", "tiny.yaml", *HUGE, "--set", "keep=nothing")
    assert less.code == 4 and "600 trials keep" in less.err and "(no weights)" in less.err


def test_a_plan_says_what_it_takes_and_whether_it_fits(make, runs):
    plan = make()
    text = describe(plan, document(plan, runs, foresight))
    assert "disk: about" in text and "4 trials keep" in text and "3 checkpoints of" in text and "are free" in text
    assert "prepared data" in text and "if they have 2 + 3 bands" in text and "does not fit" not in text
    huge = make(*HUGE[1::2])
    assert "caution: this does not fit onto the disk with 200 MiB in reserve" in describe(
        huge, document(huge, runs, foresight)
    )
    for id in plan.specs:
        end(StudyFolder(runs, "tiny"), id)
    assert "disk: nothing is left to write" in describe(plan, document(plan, runs, foresight))


def test_doctor_looks_at_the_studies_that_have_work_left(make, runs):
    make()
    assert doctor._too_little_space(runs) == []
    folder = StudyFolder(runs, "tiny")
    huge = studies.STUDY.replace("seeds: 2", "seeds: 300").replace("width: 4,", "width: 4096,", 1)
    write_atomically(folder.study, huge)
    said = doctor._too_little_space(runs)
    assert len(said) == 1 and "are free, and the study takes about" in said[0]
    write_atomically(folder.study, "a: [")
    assert doctor._too_little_space(runs) == [], "what can't be read is for other commands to say"


@pytest.mark.parametrize(("number", "text"), [
    (0, "0 B"), (999, "999 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (10**6, "977 KiB"),
    (3 * 2**30, "3.0 GiB"), (5 * 2**40, "5120.0 GiB"),
])  # fmt: skip
def test_sizes_are_read_by_people(number, text):
    assert space.in_bytes(number) == text
