"""`ablate plan --measure`: what is read from a stream, and one real measurement."""

from __future__ import annotations

import json

import pytest

from ablate import events
from ablate.measure import Timing, _enough, cost_key, timing
from ablate.plan import make_plan
from ablate.study import load
from tests.ablate import studies

STRIDE, CYCLE = 4, 12


def stream(*, update, reading, evaluation, updates, warm_up=5.0):
    """Events of a run in which each thing takes exactly that long, and the first updates longer."""
    now = 100.0 + warm_up
    found = [events.Started(time=99.0, attempt=1, world_size=1, threads=1, device="", versions={})]
    for step in range(1, updates + 1):
        now += update
        reads, scores = step % STRIDE == 0, step % (CYCLE // 2) == 0
        if reads or scores:
            now += reading * reads
            found.append(measured(now, step, "train"))
        if scores:
            found.append(measured(now + evaluation / 2, step, "validation"))
            now += evaluation
            found.append(events.Saved(time=now, attempt=1, step=step, what="checkpoint", path="", sha256=""))
    return found


def measured(now, step, split):
    return events.Measured(time=now, attempt=1, step=step, images=step, split=split, values={}, mode="")


def test_what_an_update_a_reading_and_an_evaluation_take_is_told_apart():
    found = timing(stream(update=0.2, reading=0.7, evaluation=3.0, updates=24), stride=STRIDE)
    assert (found.update, found.reading, found.evaluation) == pytest.approx((0.2, 0.7, 3.0))
    assert found.updates == 20


def test_a_whole_trial_is_its_updates_readings_and_evaluations(tmp_path):
    recipe = make_plan(load(studies.write(tmp_path))).arms[0].resolved.recipe
    found = Timing(update=2.0, reading=0.5, evaluation=10.0, updates=1, factor=2.0, covariance=(0.01, 0.0, 0.0))
    assert found.seconds(recipe) == 6 * 2.0 + 6 * 0.5 + 2 * 10.0
    assert found.margin(recipe) == pytest.approx(2.0 * 6 * 0.1)
    assert Timing(2.0, 0.5, 10.0, 1).margin(recipe) is None


def test_a_run_too_short_to_tell_readings_apart_gives_the_time_of_an_update_alone():
    found = timing(stream(update=0.2, reading=0.7, evaluation=3.0, updates=6), stride=STRIDE)
    assert found.update == pytest.approx(0.2) and found.reading == 0 and found.factor is None


def test_enough_is_known_after_two_cycles_or_after_one_that_took_long():
    quick = stream(update=0.3, reading=0.1, evaluation=0.1, updates=24)
    assert _enough(quick, CYCLE) and not _enough([e for e in quick if getattr(e, "step", 0) < 24], CYCLE)
    assert _enough(stream(update=2.0, reading=0.1, evaluation=0.1, updates=12), CYCLE)
    assert not _enough([], CYCLE) and not _enough(stream(update=1e-4, reading=0, evaluation=0, updates=24), CYCLE)


MORE = """\
  loss: {ssim: {terms.ssim: 10}, weight: {terms.l1: 50}}
  smoothing: {soft: {objective.smoothing: [0.9, 0.0]}}
  norm: {spectral: {discriminator.norm: spectral}}
  batch: {two: {batch: 2}}
"""


def test_arms_that_differ_in_weights_and_rates_alone_cost_the_same(tmp_path):
    text = studies.STUDY.replace("design: one", f"{MORE}design: one")
    keys = {arm.name: cost_key(arm) for arm in make_plan(load(studies.write(tmp_path, text))).arms}
    base = keys.pop("base")
    assert [name for name, key in keys.items() if key == base] == ["lr_ratio=half", "loss=weight", "smoothing=soft"]
    assert len({*keys.values()}) == 4


@pytest.mark.slow
def test_a_few_real_updates_give_hours_and_disk_and_leave_only_the_prepared_data(tmp_path):
    studies.write(tmp_path)
    done = studies.ablate("plan", "tiny.yaml", "--measure", "--json", "--set", "resources.ranks=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cost"]["hours_left"] > 0 and found["cost"]["trials_left"] == 4
    assert all(arm["update"] > 0 and arm["evaluation"] > 0 for arm in found["cost"]["arms"].values())
    assert found["disk"]["needed"] > 10_000 and found["disk"]["cache"] == 0, "it has just been prepared"
    assert "timing base (and 1 that cost the same)" in done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cache"]


@pytest.mark.slow
def test_an_arm_that_cannot_be_timed_is_a_sentence(tmp_path):
    studies.write(tmp_path)
    done = studies.ablate("plan", "tiny.yaml", "--measure", "--set", "base.terms.l1=1e30", cwd=tmp_path)
    assert done.returncode == 2 and "arm base: not timed: it ended too soon" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
