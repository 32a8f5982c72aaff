"""The two updates, by pix2pix's conventions and the numbers that follow from them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ablate.resolve import resolve
from tests.trainers import tiny
from trainers.families import OBJECTIVES, TERMS
from trainers.masks import fill
from trainers.precision import Arithmetic
from trainers.ranks import Ranks
from trainers.recipe import DEFAULTS, Compute, Timing
from trainers.stages import Course
from trainers.step import Batch, Steps, over_scales
from trainers.window import Window

EXACT = Arithmetic(Compute(), torch.device("cpu"))
ALL_TERMS = tuple(name for name in TERMS.names() if name not in ("ms_ssim", "perceptual"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny.prepared(tmp_path_factory.mktemp("data") / "tiny")


def step_of(data: Path, **options):
    """Networks in training, their first batch and what the generator makes of it."""
    training = tiny.training(tiny.recipe(**options), data)
    batch = training.draws.batch(0)
    return training, batch, training.steps.generate(batch)


def test_pix2pixs_numbers_are_the_defaults():
    document = resolve(DEFAULTS | {"budget": {"generator_updates": 10}, "evaluate": {"every": 5}}, {}).document
    optimizer = document["optimizer"]
    assert (optimizer["lr"], optimizer["lr_ratio"], optimizer["betas"]) == (2e-4, 1.0, [0.5, 0.999])
    assert document["terms"] == {"l1": {"weight": 100.0}} and document["batch"] == 1
    assert document["generator"] | {"name": "unet", "width": 64, "norm": "batch"} == document["generator"]
    assert document["discriminator"] | {"width": 64, "layers": 3, "norm": "batch"} == document["discriminator"]
    assert document["objective"] == {"name": "vanilla", "adv_weight": 1.0, "smoothing": [1.0, 0.0]}


@pytest.mark.parametrize("objective", OBJECTIVES.names())
def test_ds_loss_is_halved_for_the_update_and_logged_whole(data, objective):
    training, batch, fake = step_of(data, objective=objective)
    judged = training.steps.discriminator_loss(batch, fake, lambda: training.draws.epsilon(0))
    values = judged.values
    assert torch.equal(values["loss_d"], values["loss_d_real"] + values["loss_d_fake"])
    torch.testing.assert_close(2 * judged.loss, values["loss_d"] + values.get("loss_d_penalty", 0.0))
    with torch.no_grad():
        on_real, on_fake = (training.discriminator(batch.sar, image) for image in (batch.real, fake))
        objective = training.steps.objective
        whole = over_scales(objective.real, on_real) + over_scales(objective.fake, on_fake)
    torch.testing.assert_close(values["loss_d"], whole)


def test_real_and_fake_pass_the_discriminator_apart(data):
    """One forward of both together is another model under batch norm."""
    training, batch, fake = step_of(data, norm="batch")
    sizes = []
    training.discriminator.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[1])))
    training.steps.discriminator_loss(batch, fake, lambda: None)
    assert sizes == [len(batch.real)] * 2


def test_ds_loss_has_no_way_back_to_the_generator(data):
    training, batch, fake = step_of(data, objective="wgan_gp")
    training.steps.discriminator_loss(batch, fake, lambda: training.draws.epsilon(0)).loss.backward()
    assert all(p.grad is None for p in training.generator.parameters())
    assert all(p.grad is not None for p in training.discriminator.parameters())


@pytest.mark.parametrize("objective", OBJECTIVES.names())
def test_the_pull_at_the_output_is_the_gradient_of_the_whole_loss(data, objective):
    """Against one plain backward of the weighted sum."""
    training, batch, fake = step_of(data, objective=objective, terms=ALL_TERMS, scales=2)
    course = Course(training.recipe)
    pull, values = training.steps.generator_pull(batch, fake, course, 0)
    features = training.discriminator.features(batch.sar, fake)
    with torch.no_grad():
        wanted = training.discriminator.features(batch.sar, batch.real)
    total = over_scales(training.steps.objective.generator, [scale[-1] for scale in features])
    for name, term in training.steps.terms[0].items():
        raw = term.loss(features, wanted) if term.inputs == "features" else term.loss(fake, batch.real, batch.mask)
        total = total + 10.0 * raw.mean()
        torch.testing.assert_close(values[f"weighted/{name}"], 10.0 * raw.mean())
    expected = torch.autograd.grad(total, fake)[0]
    torch.testing.assert_close(pull, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    torch.testing.assert_close(values["loss_g"], total.detach(), check_dtype=False, rtol=1e-5, atol=1e-6)


def test_the_generators_step_leaves_the_discriminator_as_it_was(data):
    training, batch, fake = step_of(data, terms=("l1", "feature_matching"))
    frozen = []
    first = training.discriminator.towers[0][0]
    first.register_forward_hook(lambda layer, *_: frozen.append(not layer.weight.requires_grad))
    pull, _ = training.steps.generator_pull(batch, fake, Course(training.recipe), 0)
    fake.backward(pull)
    assert frozen == [True, True]  # on the generated and on the real image
    assert all(p.grad is None and p.requires_grad for p in training.discriminator.parameters())
    assert all(p.grad is not None for p in training.generator.parameters())


def test_a_term_that_fails_leaves_no_frozen_discriminator_behind(data):
    training, batch, fake = step_of(data)
    broken = replace(training.steps.terms[0]["l1"], loss=lambda *_: 1 / 0)
    training.steps.terms = [{"l1": broken}]
    with pytest.raises(ZeroDivisionError):
        training.steps.generator_pull(batch, fake, Course(training.recipe), 0)
    assert all(p.requires_grad for p in training.discriminator.parameters())


def test_masked_pixels_are_filled_alike_and_pull_nothing(data):
    training, _, _ = step_of(data, terms=ALL_TERMS)
    for number in range(6):
        batch = training.draws.batch(number)
        if not bool(batch.mask.all()):
            break
    fake = training.steps.generate(batch)
    hidden = (batch.mask == 0).expand_as(fake)
    assert hidden.any() and torch.equal(fake[hidden], batch.real[hidden]) and torch.equal(fake, fill(fake, batch.mask))
    pull, _ = training.steps.generator_pull(batch, fake, Course(training.recipe), 0)
    fake.backward(pull)
    weights = [p.grad.clone() for p in training.generator.parameters()]
    training.generator.zero_grad()
    again = training.steps.generate(batch)
    again.backward(torch.where(hidden, 1e6, pull))  # whatever pulls there comes to nothing
    assert all(torch.equal(a, p.grad) for a, p in zip(weights, training.generator.parameters(), strict=True))


class LinearCritic(nn.Module):
    """One logit a patch of 8 px, linear in the image, whose mean over patches has a gradient of norm 1."""

    def __init__(self, bands: int, side: int):
        super().__init__()
        drawn = torch.randn(bands, side, side, generator=torch.Generator().manual_seed(0))
        self.weights = nn.Parameter(drawn / drawn.norm())

    def forward(self, sar, image):
        return [features[-1] for features in self.features(sar, image)]

    def features(self, sar, image):
        patches = (image.shape[-1] // 8) ** 2
        weighted = (image * self.weights).sum(1, keepdim=True)
        return [[patches * nn.functional.avg_pool2d(weighted, 8, divisor_override=1)]]


@pytest.mark.parametrize(("side", "share"), [(64, 1.1), (256, 4.4)])
def test_at_unit_gradient_the_adversarial_share_is_the_root_of_the_pixels_over_lambda(side, share):
    """sqrt(C H W) / lambda_L1: 1.1 at 64 px, 4.4 at 256 px, for three bands and pix2pix's lambda of 100."""
    recipe = tiny.recipe(objective="wgan_gp", tile=side, terms=("l1",))
    recipe = tiny.changed(recipe, "terms.l1.weight", 100.0)
    steps = Steps(recipe, nn.Identity(), LinearCritic(3, side), EXACT)
    draw = torch.Generator().manual_seed(1)
    fake, real = (2 * torch.rand(2, 3, side, side, generator=draw) - 1 for _ in range(2))
    batch = Batch(real[:, :2], real, torch.ones(2, 1, side, side))
    pull, values = steps.generator_pull(batch, fake.requires_grad_(), Course(recipe), 0)
    window = Window()
    window.add(values)
    found = window.close(Ranks()).values(None)["health/adversarial_share"]
    assert found == pytest.approx(math.sqrt(3 * side * side) / 100, rel=1e-4) == pytest.approx(share, abs=0.05)
    assert pull.shape == fake.shape


def test_the_share_is_that_of_an_update_whatever_the_weights_ramp_through(data):
    """The pulls are measured weighted, as they meet at the output."""
    found = {}
    for weight in (1.0, 4.0):
        training, batch, fake = step_of(data)
        recipe = tiny.changed(training.recipe, "objective.adv_weight", weight)
        _, values = training.steps.generator_pull(batch, fake, Course(recipe), 0)
        found[weight] = float(values["square/adversarial"])
    assert found[4.0] == pytest.approx(16 * found[1.0], rel=1e-5)


def test_feature_matching_pulls_on_the_discriminators_side_of_the_share(data):
    """All of its signal comes through D: with it the share is that of both over the terms on images."""
    squares = {}
    for terms in (("l1",), ("l1", "feature_matching"), ("feature_matching",)):
        training, batch, fake = step_of(data, terms=terms)
        features = training.discriminator.features(batch.sar, fake)
        pull, values = training.steps.generator_pull(batch, fake, Course(training.recipe), 0)
        squares[terms] = {key: float(value) for key, value in values.items() if key.startswith("square/")}
        if terms == ("feature_matching",):
            matched = training.steps.terms[0]["feature_matching"].loss(
                features, training.discriminator.features(batch.sar, batch.real)
            )
            adversarial = over_scales(training.steps.objective.generator, [scale[-1] for scale in features])
            both = torch.autograd.grad(adversarial + 10.0 * matched.mean(), fake)[0]
            assert squares[terms]["square/adversarial"] == pytest.approx(float(both.square().sum()), rel=1e-4)
            assert torch.allclose(pull, both, rtol=1e-4, atol=1e-7)
    plain, beside, alone = squares.values()
    assert plain.keys() == {"square/adversarial", "square/terms"}
    assert beside["square/terms"] == plain["square/terms"] and "square/terms" not in alone
    assert beside["square/alone"] == plain["square/adversarial"] == pytest.approx(alone["square/alone"])
    assert beside["square/adversarial"] == alone["square/adversarial"] != plain["square/adversarial"]


def test_while_the_adversarial_part_weighs_nothing_feature_matching_alone_comes_through_the_discriminator(data):
    training, batch, fake = step_of(data, terms=("l1", "feature_matching"))
    recipe = tiny.changed(training.recipe, "objective.adv_weight", 0.0)
    _, values = training.steps.generator_pull(batch, fake, Course(recipe), 0)
    assert values["square/adversarial"] > 0 and "square/alone" not in values


@pytest.mark.parametrize("terms", [("l1",), ("l1", "feature_matching")])
def test_the_way_back_through_the_discriminator_has_the_networks_arithmetic_and_that_through_images_has_not(
    data, terms, monkeypatch
):
    """TF32, where it is asked for, acts in the networks alone."""
    training, batch, fake = step_of(data, terms=terms, compute=Compute(precision="tf32"))
    grad, seen = torch.autograd.grad, []
    monkeypatch.setattr(
        torch.autograd, "grad",
        lambda *a, **k: seen.append(torch.backends.cudnn.allow_tf32) or grad(*a, **k),
    )  # fmt: skip
    training.steps.generator_pull(batch, fake, Course(training.recipe), 0)
    assert seen == [True] * len(terms) + [False]


def test_a_generator_without_terms_has_no_share_and_learns_from_the_discriminator(data):
    training = tiny.training(tiny.recipe(terms=()), data)
    training.advance()
    values = tiny.logged(training)
    assert "health/adversarial_share" not in values and values["loss_g"] == pytest.approx(values["loss_g_adv"])


@pytest.mark.parametrize("updates", [(1, 1), (1, 3), (2, 1)])
def test_every_update_draws_a_new_batch_and_g_learns_from_the_last_of_them(data, updates):
    training = tiny.training(tiny.recipe(updates=updates, objective="wgan_gp"), data)
    drawn, penalised, judged, pulled = [], [], [], []
    draws, steps = training.draws, training.steps
    batch, epsilon, loss, pull = draws.batch, draws.epsilon, steps.discriminator_loss, steps.generator_pull
    draws.batch = lambda number: drawn.append(number) or batch(number)
    draws.epsilon = lambda number: penalised.append(number) or epsilon(number)
    steps.discriminator_loss = lambda *a: judged.append(a[0]) or loss(*a)
    steps.generator_pull = lambda *a: pulled.append(a[0]) or pull(*a)
    for _ in range(4):
        training.advance()
    generator, discriminator = updates
    assert drawn == list(range(4 * discriminator))
    assert penalised == [n for n in drawn if discriminator > 1 or n % generator == 0]
    assert len(judged) == (4 * discriminator if discriminator > 1 else 4 // generator) and len(pulled) == 4
    last = [batch(n).sar for n in drawn[discriminator - 1 :: discriminator]]
    assert all(torch.equal(one.sar, other) for one, other in zip(pulled, last, strict=True))


def test_a_stage_trains_on_its_own_terms(data):
    base = tiny.recipe(steps=4)
    of = replace(base, stages=(tiny.stage(base, Timing(until=0.5)), tiny.stage(base, Timing(), terms={"ssim": 3.0})))
    training = tiny.training(of, data)
    named = []
    for _ in range(4):
        training.advance()
        values = tiny.logged(training)
        named.append(sorted(key for key in values if key.startswith("weighted/")))
    assert named == [["weighted/l1"]] * 2 + [["weighted/ssim"]] * 2
