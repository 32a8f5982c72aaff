"""Reading a pix2pix loss log: what it shows, what it can't, and which levels are meant to help."""

from __future__ import annotations

import json
import math
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.diagnose import Diagnosis, Verdict, diagnose
from ablate.diagnose_words import AIMS, describe, document, levels, study_levels
from ablate.logits import (
    Objective,
    floor_and_blind,
    least_fake_loss,
    logit_of_fake,
    logit_of_real,
    mean_fake_logit,
)
from ablate.losslog import LossLog, parse_loss_log
from ablate.problems import StudyError
from tests.ablate import studies

HEADER = "================ Training Loss (Sun Mar  3 10:11:12 2024) ================\n"
OLD = "(epoch: {epoch}, iters: {iters}, time: 0.123, data: 0.456) {losses} \n"
NEW = "[Rank 0] (epoch: {epoch}, iters: {iters}, time: 0.123, data: 0.456) , {losses}\n"
SYMPTOM = {"G_GAN": 7.612, "G_L1": 31.120, "D_real": 0.002, "D_fake": 0.000}
HEALTHY = {"G_GAN": 1.1, "G_L1": 11.0, "D_real": 0.55, "D_fake": 0.5}
BLIND = {"G_GAN": 0.693, "G_L1": 11.0, "D_real": 0.693, "D_fake": 0.694}


def line(losses: dict[str, float], epoch: int = 1, iters: int = 100, style: str = OLD) -> str:
    between = ", " if style is NEW else " "
    return style.format(epoch=epoch, iters=iters, losses=between.join(f"{k}: {v:.3f}" for k, v in losses.items()))


def log(losses: dict[str, float], n: int = 200, *, cv: float = 0.0, slope: float = 0.0, style: str = OLD) -> str:
    """A header and `n` lines, ten per epoch; G_L1 varies by a CV and changes by `slope` times itself over the log."""
    draw, text = random.Random(5), HEADER
    for i in range(n):
        factor = (1 + slope * i / n) * math.exp(draw.gauss(0, math.sqrt(math.log1p(cv * cv))))
        text += line({**losses, "G_L1": losses["G_L1"] * factor}, 1 + i // 10, 100 * (1 + i % 10), style)
    return text


def read(text: str, **options) -> Diagnosis:
    return diagnose(parse_loss_log(text), **options)


def test_the_users_symptom_gets_what_the_field_knows_about_it():
    found = read(log(SYMPTOM, cv=0.35))
    d, r, said = found.discriminator, found.reconstruction, " ".join(describe(found).split())
    assert found.verdict is Verdict.dominant
    assert d.real_logit == pytest.approx(6.2136, abs=1e-3)
    assert d.real_logit_at_least == pytest.approx(5.990, abs=1e-3)
    assert d.fake_logit_at_most == pytest.approx(-7.6007, abs=1e-3)
    assert d.fake_logit == pytest.approx(-7.612)
    assert d.normalised < 0.002 < d.normalised_at_most < 0.0025
    assert d.logit_gradient_at_least > 0.999
    assert r.direction == "none" and 0.2 < r.cv < 0.6
    for phrase in (
        "D dominant", "at least 5.99 as printed", "at most -7.60 as printed", "at most 0.002 as printed",
        "about -1", "can't be decided from losses", "tiles alone", "mean colour alone costs 12.3",
        "a random partner 18.1", "1/2/4 px adds about 2/3.5/5", "points to range", "dates", "adversarial share",
        "lr_ratio=half, lr_ratio=quarter, lr_ratio=tenth", "smoothing=both, smoothing=real_only", "norm_d=spectral",
        "updates=two_g", "objective=hinge, objective=wgan_gp", "lambda_l1=10",
    ):  # fmt: skip
        assert phrase in said, phrase


def test_a_weighted_l1_of_31_12_is_0_311_on_the_tanh_range_and_39_7_of_255():
    found = read(log(SYMPTOM)).reconstruction
    assert found.raw == pytest.approx(0.3112, abs=1e-6)
    assert found.of_255 == pytest.approx(39.678, abs=1e-3)
    at_ten = read(log(SYMPTOM), lambda_l1=10)
    assert at_ten.reconstruction.raw == pytest.approx(3.112)
    assert "can't be above 2" in describe(at_ten)
    assert "mean colour alone costs 1.23, a random partner 1.81" in " ".join(describe(at_ten).split())


@pytest.mark.parametrize(
    ("losses", "options", "verdict"),
    [
        (SYMPTOM, {}, Verdict.dominant),
        (HEALTHY, {}, Verdict.balanced),
        (BLIND, {}, Verdict.blind),
        ({**BLIND, "D_real": 2.5, "D_fake": 1.9, "G_GAN": 0.2}, {}, Verdict.blind),
        ({**HEALTHY, "G_L1": math.nan}, {}, Verdict.diverged),
        ({**HEALTHY, "D_real": 0.25, "D_fake": 0.25, "G_GAN": 0.25}, {"objective": Objective.lsgan}, Verdict.blind),
        ({**HEALTHY, "D_real": 0.01, "D_fake": 0.01, "G_GAN": 0.98}, {"objective": Objective.lsgan}, Verdict.dominant),
        ({**HEALTHY, "D_real": 0.25, "D_fake": 0.25, "G_GAN": 0.25}, {}, Verdict.undecided),
        (SYMPTOM, {"objective": Objective.lsgan}, Verdict.undecided),
        ({**HEALTHY, "D_real": -31.2, "D_fake": 24.0}, {}, Verdict.undecided),
        ({"G_GAN": 1.0, "G_L1": 12.0}, {}, Verdict.undecided),
        ({"D_real": 0.001, "D_fake": 0.001, "G_L1": 12.0}, {}, Verdict.dominant),
    ],
)
@pytest.mark.parametrize("style", [OLD, NEW])
def test_each_kind_of_training_gets_its_verdict_in_both_formats(losses, options, verdict, style):
    found = read(log(losses, style=style), **options)
    assert found.verdict is verdict
    assert describe(found).startswith(str(verdict))
    assert json.loads(json.dumps(document(found), allow_nan=False))["verdict"] == verdict


def test_a_win_takes_three_windows_and_not_one_line():
    spike = log(SYMPTOM, 197) + "".join(line({**HEALTHY, "D_real": 1.0}, 21, 100 * (1 + i)) for i in range(3))
    assert read(spike).verdict is Verdict.balanced
    assert "2 of them below 0.05" in read(spike).why and "none of them" in read(log(HEALTHY)).why


def test_losses_that_stop_being_finite_are_a_divergence_with_its_place_and_one_spike_is_not():
    broken = log(HEALTHY, 50) + "".join(line({**HEALTHY, "G_GAN": math.nan}, 6, 100 * (1 + i)) for i in range(5))
    found = read(broken)
    assert found.verdict is Verdict.diverged
    assert found.why == "G_GAN not finite from line 52, epoch 6, iteration 100 to the end"
    assert found.discriminator.d_real == pytest.approx(HEALTHY["D_real"])
    spike = read(log(HEALTHY, 50) + line({**HEALTHY, "G_GAN": math.inf}, 6, 100) + line(HEALTHY, 6, 200))
    assert spike.verdict is Verdict.balanced
    assert "later ones are finite" in describe(spike)


def test_an_l1_that_leaves_its_best_for_good_is_a_divergence_and_tile_sampling_is_not():
    risen = log(HEALTHY, 120, cv=0.3) + "".join(line({**HEALTHY, "G_L1": 40.0}, 13 + i // 10, 1 + i) for i in range(80))
    assert read(risen).verdict is Verdict.diverged
    assert {read(log(HEALTHY, n, cv=0.6)).verdict for n in (30, 120, 200, 1000)} == {Verdict.balanced}


@pytest.mark.parametrize(("slope", "direction"), [(-0.8, "falls"), (0.0, "none"), (0.4, "rises")])
def test_the_trend_is_told_from_the_noise_of_tiles(slope, direction):
    found = read(log(HEALTHY, 1000, cv=0.2, slope=slope)).reconstruction
    assert found.direction == direction
    low, middle, high = found.trend
    assert low < middle < high


def test_the_trend_agrees_with_scipy():
    from scipy.stats import theilslopes

    from ablate.diagnose import _trend

    values = np.random.default_rng(3).gamma(4, 5, 83) + 0.1 * np.arange(83)
    slope, _, low, high = theilslopes(values)
    expected = np.array([low, slope, high]) * 82 / np.median(values) * 100
    assert _trend(values)[1] == pytest.approx(expected[1])
    assert np.allclose(_trend(values), expected, rtol=0.05)


def test_a_fluctuation_is_blamed_on_tiles_only_where_tiles_can_explain_it():
    assert "explained by the choice of tiles alone" in " ".join(describe(read(log(SYMPTOM, cv=0.4))).split())
    assert "more than the choice of tiles explains" in " ".join(describe(read(log(SYMPTOM, 1000, cv=1.5))).split())


logits = st.lists(st.floats(-12, 12), min_size=1, max_size=30)


@given(real=logits, fake=logits, objective=st.sampled_from(Objective))
def test_bounds_hold_for_any_logits(real, fake, objective):
    real, fake = np.array(real), np.array(fake)
    if objective is Objective.vanilla:
        d_real, d_fake, g_gan = (np.logaddexp(0, s).mean() for s in (-real, fake, -fake))
        gradient = (1 / (1 + np.exp(fake))).mean()
    else:
        d_real, d_fake, g_gan = (np.square(s).mean() for s in (real - 1, fake, fake - 1))
        gradient = 2 * np.abs(fake - 1).mean()
    slack = 1e-9
    assert real.mean() >= logit_of_real(d_real, objective) - slack
    assert fake.mean() <= logit_of_fake(d_fake, objective) + slack
    assert fake.mean() == pytest.approx(mean_fake_logit(d_fake, g_gan, objective), abs=1e-9)
    text = log({"G_GAN": g_gan, "G_L1": 10.0, "D_real": d_real, "D_fake": d_fake}, 3)
    found = diagnose(parse_loss_log(text), objective=objective)
    assert found.verdict is not Verdict.undecided
    assert found.discriminator.real_logit_at_least <= real.mean() + slack
    assert found.discriminator.fake_logit_at_most >= fake.mean() - slack
    assert found.discriminator.logit_gradient_at_least <= gradient + slack


@given(
    real=logits, fake=logits, objective=st.sampled_from(Objective),
    smoothing=st.sampled_from([(1.0, 0.0), (0.9, 0.0), (0.9, 0.1), (1.0, 0.2), (0.7, 0.3)]),
)  # fmt: skip
@settings(deadline=None)  # the first call loads torch
def test_losses_of_smoothed_labels_are_read_by_their_own_floor_and_blind_value(real, fake, objective, smoothing):
    """The floor and the blind value are those that training uses; the mean logit on fakes stays exact."""
    import torch

    from trainers.families import OBJECTIVES, build

    trained = build(OBJECTIVES, OBJECTIVES.options(str(objective))(smoothing=smoothing))
    assert floor_and_blind(objective, smoothing) == pytest.approx((trained.floor, trained.blind))
    on_real, on_fake = (torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1) for values in (real, fake))
    d_real, d_fake, g_gan = (float(loss) for loss in
                             (trained.real(on_real), trained.fake(on_fake), trained.generator(on_fake)))  # fmt: skip
    assert np.mean(fake) == pytest.approx(mean_fake_logit(d_fake, g_gan, objective, smoothing[1]), abs=1e-6)
    assert d_fake >= least_fake_loss(np.mean(fake), objective, smoothing[1]) - 1e-6
    text = log({"G_GAN": g_gan, "G_L1": 10.0, "D_real": d_real, "D_fake": d_fake}, 3)
    found = diagnose(parse_loss_log(text), objective=objective, smoothing=smoothing)
    assert found.verdict is not Verdict.undecided
    expected = (d_real + d_fake - trained.floor) / (trained.blind - trained.floor)
    assert found.discriminator.normalised == pytest.approx(expected, abs=0.002 / (trained.blind - trained.floor))
    assert (found.discriminator.real_logit_at_least is None) is (smoothing[0] < 1)
    assert (found.discriminator.fake_logit_at_most is None) is (smoothing[1] > 0)
    assert describe(found)


SMOOTHED = {"G_GAN": 7.6, "G_L1": 31.0, "D_real": 0.327, "D_fake": 0.001}  # a certain D, targets 0.9 and 0


def test_a_certain_d_with_smoothed_labels_is_dominant_once_it_is_told_so():
    plain, told = read(log(SMOOTHED)), read(log(SMOOTHED), smoothing=(0.9, 0.0))
    assert plain.verdict is Verdict.balanced
    assert "If labels were smoothed, say so: --smoothing 0.9 0" in " ".join(describe(plain).split())
    assert told.verdict is Verdict.dominant and told.discriminator.normalised < 0.01
    said = " ".join(describe(told).split())
    assert "labels smoothed to 0.9 and 0" in said and "D_real 0.327, of a smoothed target" in said
    assert "If labels were smoothed" not in said
    assert document(told)["smoothing"] == [0.9, 0.0] or document(told)["smoothing"] == (0.9, 0.0)


@pytest.mark.parametrize("losses", [HEALTHY, BLIND, SYMPTOM, {**SMOOTHED, "G_GAN": 1.0}, {**SMOOTHED, "D_fake": 0.4}])
def test_other_logs_get_no_word_of_smoothing(losses):
    assert not any("smoothed" in caution for caution in read(log(losses)).cautions)


def test_losses_below_the_floor_of_the_smoothing_that_was_named_are_not_read():
    found = read(log(SYMPTOM), smoothing=(0.9, 0.1))
    assert found.verdict is Verdict.undecided
    assert "D_real + D_fake is 0.002, and can't be below 0.650 with targets 0.9 and 0.1" in found.why


@pytest.mark.parametrize("smoothing", [(0.0, 1.0), (0.5, 0.5), (1.1, 0.0), (1.0, -0.1)])
def test_targets_that_can_be_none_are_refused(smoothing):
    with pytest.raises(StudyError, match="targets for real and fake"):
        read(log(SYMPTOM), smoothing=smoothing)


def test_torn_and_foreign_lines_are_left_out_and_counted():
    whole = log(HEALTHY, 40)
    torn = line(HEALTHY, 5, 100).rstrip()
    cuts = [torn[:-1], torn[:-3], torn[: torn.index(" D_fake")], torn[:30], torn[:-4] + HEADER.rstrip()]
    text = "----- options -----\nbatch_size: 1\n\n" + whole + "End of epoch 1 / 200 \t Time Taken: 54 sec\n"
    found = parse_loss_log(text + "\n".join(cuts) + "\n")
    assert (len(found.lines), found.torn, found.foreign, found.first_left_out) == (40, 5, 3, 1)
    assert "8 lines left out (5 torn, 3 of something else; first: line 1)" in " ".join(
        describe(diagnose(found)).split()
    )


@given(st.data())
def test_a_log_cut_anywhere_after_its_first_line_reads_as_its_whole_lines(data):
    text = log(SYMPTOM, 12)
    ends = [at for at, letter in enumerate(text) if letter == "\n"][1:]  # each behind a blank
    cut = data.draw(st.integers(ends[0] - 1, len(text)))
    found = parse_loss_log(text[:cut]).lines
    assert found == parse_loss_log(text).lines[: sum(cut >= end - 1 for end in ends)]


def test_a_training_that_went_on_is_one_run_and_one_that_began_anew_is_another():
    first, on = log(SYMPTOM, 50), HEADER + line(HEALTHY, 6, 100) * 1
    assert len(parse_loss_log(first + on).lines) == 51
    anew = parse_loss_log(first + log(HEALTHY, 40))
    assert (len(anew.lines), anew.earlier_runs, anew.earlier_lines, anew.headers) == (40, 1, 50, 2)
    assert diagnose(anew).verdict is Verdict.balanced
    assert "50 lines of 1 earlier run left out" in " ".join(describe(diagnose(anew)).split())


def test_a_single_line_is_read_with_a_caution():
    found = read(line(SYMPTOM))
    assert found.verdict is Verdict.dominant and found.reconstruction.cv is None
    assert "The last part has 1 line," in describe(found) and "too few lines" in describe(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "found 0 other lines"),
        ("step,loss\n1,0.5\n", "found 2 other lines"),
        (HEADER, "expected lines such as"),
        ("(epoch: 1, iters: 100, time: 0.1, data", "1 loss line, all torn"),
        ("(epoch: 1, iters: 100, time: 0.1, data: 0.1) D_A: 0.3 G_A: 0.4 cycle_A: 1.0\n", "D_A, G_A, cycle_A"),
        ("\x00\x01\x02\n" * 3, "no loss log of pix2pix"),
    ],
)
def test_what_is_no_loss_log_is_refused_in_a_sentence(text, says):
    with pytest.raises(StudyError, match="loss_log.txt: ") as refused:
        parse_loss_log(text)
    assert says in str(refused.value) and len(refused.value.problems) == 1


def test_every_named_level_exists_in_the_shipped_study():
    known = study_levels()
    for verdict in Verdict:
        for aim in AIMS[verdict]:
            assert aim.levels and set(aim.levels) <= set(known[aim.factor]), aim
    named = {name for name, _, _ in levels(Verdict.dominant)}
    assert {"lr_ratio=tenth", "smoothing=real_only", "norm_d=spectral", "updates=two_g", "objective=hinge"} <= named


@pytest.mark.parametrize("losses", [SYMPTOM, HEALTHY, BLIND, {**HEALTHY, "G_L1": math.nan}])
def test_no_diagnosis_promises_anything(losses):
    said = describe(read(log(losses))).lower()
    assert not re.search(
        r"\b(cure|fix|fixes|guarantee|will|solve|should|recommend|best choice)", said.replace("fixed", "")
    )


def test_the_command_answers_in_words_and_in_json_and_refuses_with_exit_2(tmp_path):
    (tmp_path / "loss_log.txt").write_bytes(log(SYMPTOM).encode("utf-16"))
    (tmp_path / "other.txt").write_text("nothing of the kind\n")
    words = studies.ablate("diagnose", "loss_log.txt", cwd=tmp_path)
    assert words.returncode == 0 and words.stdout.startswith("D dominant") and words.stderr == ""
    found = json.loads(studies.ablate("diagnose", "loss_log.txt", "--json", "--lambda-l1", "50", cwd=tmp_path).stdout)
    assert found["verdict"] == "D dominant" and found["reconstruction"]["raw"] == pytest.approx(0.6224)
    for arguments, says in (
        (["other.txt"], "other.txt: no loss log"),
        (["missing.txt"], "no such file"),
        (["."], "is a folder; the log in it is loss_log.txt"),
        (["loss_log.txt", "--objective", "lsgna"], "did you mean lsgan?"),
        (["loss_log.txt", "--lambda-l1", "0"], "expected a number above 0"),
        (["loss_log.txt", "--smoothing", "0", "1"], "expected the targets for real and fake"),
    ):
        done = studies.ablate("diagnose", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and done.stdout == "" and says in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_log_of_a_hundred_thousand_lines_is_read_whole():
    found: LossLog = parse_loss_log(HEADER + "".join(line(HEALTHY, 1 + i // 100, 1 + i % 100) for i in range(100_000)))
    assert len(found.lines) == 100_000
    assert diagnose(found).part == 25_000
