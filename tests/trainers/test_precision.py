"""Where bf16 reaches and where it does not; memory formats are one network."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainers import tiny
from trainers.families import OBJECTIVES, TERMS
from trainers.precision import Arithmetic
from trainers.recipe import Compute, Optimizer

BF16, CHANNELS_LAST = Compute(precision="bf16"), Compute(memory_format="channels_last")
IMAGE_TERMS = tuple(name for name in TERMS.names() if name not in ("ms_ssim", "perceptual"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny.prepared(tmp_path_factory.mktemp("data") / "tiny")


def still(**options):
    return tiny.recipe(optimizer=Optimizer(lr=0.0), **options)


def is_autocast() -> bool:
    return torch.is_autocast_enabled("cpu")


def spied(training) -> dict[str, list]:
    """What terms, objective and penalty receive and give, and whether autocast is on where they are computed."""
    steps, seen = training.steps, {}

    def spy(name, function):
        def called(*arguments):
            result = function(*arguments)
            inputs = [a.dtype for a in arguments if isinstance(a, torch.Tensor)]
            seen.setdefault(name, []).append((inputs, result.dtype, is_autocast()))
            return result

        return called

    steps.terms = [{name: replace(term, loss=spy(name, term.loss)) for name, term in stage.items()}
                   for stage in steps.terms]  # fmt: skip

    class Objective:
        def __getattr__(self, name):
            found = getattr(real, name)
            return spy(name, found) if callable(found) else found

    real, steps.objective = steps.objective, Objective()
    return seen


@pytest.mark.parametrize("objective", OBJECTIVES.names())
def test_bf16_reaches_the_networks_and_neither_terms_nor_objective_nor_penalty(data, objective):
    training = tiny.training(tiny.recipe(objective=objective, terms=IMAGE_TERMS, compute=BF16), data)
    seen = spied(training)
    inside = []
    for network in (training.generator, training.discriminator):
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                layer.register_forward_hook(lambda _, __, output: inside.append(output.dtype))
    training.advance()
    assert torch.bfloat16 in inside, "the networks compute in bf16"
    assert {*IMAGE_TERMS, "real", "fake", "generator"} <= set(seen)
    for name, calls in seen.items():
        for inputs, result, autocast in calls:
            assert result == torch.float32 and not autocast, name
            if name in IMAGE_TERMS or name == "penalty":
                assert set(inputs) <= {torch.float32}, name
    assert ("penalty" in seen) == (objective == "wgan_gp")
    parameters = [*training.generator.parameters(), *training.discriminator.parameters()]
    assert {p.dtype for p in parameters} == {p.grad.dtype for p in parameters} == {torch.float32}


def test_the_penaltys_critic_runs_in_fp32_also_where_d_runs_in_bf16(data):
    training = tiny.training(tiny.recipe(objective="wgan_gp", norm="spectral", compute=BF16), data)
    dtypes = []
    training.discriminator.register_forward_hook(lambda _, __, maps: dtypes.extend(m.dtype for m in maps))
    batch = training.draws.batch(0)
    training.steps.discriminator_loss(batch, training.steps.generate(batch), lambda: training.draws.epsilon(0))
    assert dtypes == [torch.bfloat16, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("options", [{}, {"objective": "wgan_gp"}, {"norm": "spectral", "scales": 2}, {"norm": "batch"},
                                     {"terms": ("l1", "feature_matching")}], ids=str)  # fmt: skip
def test_a_step_in_bf16_is_that_in_fp32_up_to_its_rounding(data, options):
    found = {}
    for precision in ("fp32", "bf16"):
        training = tiny.training(still(compute=Compute(precision=precision), **options), data)
        training.advance()
        gradients = [p.grad.flatten() for p in training.generator.parameters()]
        found[precision] = torch.cat(gradients), tiny.logged(training)
    (exact, values), (rounded, others) = found["fp32"], found["bf16"]
    assert not torch.equal(exact, rounded)
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.99
    for key in ("loss_g", "loss_d", "term/l1"):
        assert others[key] == pytest.approx(values[key], rel=2e-2, abs=2e-2), key


def largest_singular_value(layer: torch.nn.Conv2d) -> float:
    return float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1).double(), ord=2))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_spectral_norm_divides_by_the_largest_singular_value_whatever_the_precision(data, precision):
    """u and v stay fp32, and so does sigma: a power iteration in bf16 would be off by up to 2^-8."""
    training = tiny.training(still(norm="spectral", compute=Compute(precision=precision)), data)
    for _ in range(30):
        training.advance()  # at rate 0: the iteration alone goes on
    exact = [layer for layer in training.discriminator.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert {buffer.dtype for buffer in training.discriminator.buffers()} == {torch.float32}
    with training.arithmetic.forward():
        under = [layer.weight.dtype for layer in exact]
    assert set(under) == {torch.float32}
    training.discriminator.eval()
    for layer in exact:
        with training.arithmetic.forward():
            weight = layer.weight.detach()
        inside = float(torch.linalg.matrix_norm(weight.flatten(1).double(), ord=2))
        assert inside == pytest.approx(1.0, abs=1e-3)
        assert inside == pytest.approx(largest_singular_value(layer), rel=1e-6)


def test_the_power_iteration_of_spectral_norm_runs_outside_of_autocast(data):
    """On CUDA autocast would round its products; a CPU leaves them alone, hence only this can be seen here."""
    training = tiny.training(still(norm="spectral", compute=BF16), data)
    seen = []
    for layer in training.discriminator.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.parametrizations.weight[0].register_forward_pre_hook(lambda *_: seen.append(is_autocast()))
    training.advance()
    assert seen and not any(seen)


@pytest.mark.parametrize("options", [{}, {"norm": "batch", "norm_g": "batch", "skip": "gated"},
                                     {"norm": "spectral", "objective": "wgan_gp"}], ids=str)  # fmt: skip
def test_channels_last_is_the_same_network_to_rounding(data, options):
    found = []
    for compute in (Compute(), CHANNELS_LAST):
        training = tiny.training(tiny.recipe(compute=compute, **options), data)
        weights = [p for p in training.generator.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
        laid_out = [p.is_contiguous(memory_format=torch.channels_last) for p in weights]
        assert all(laid_out) if compute is CHANNELS_LAST else not any(laid_out)
        training.advance()
        found.append([tiny.logged(training), training])
    (values, one), (others, two) = found
    for key in values:
        assert others[key] == pytest.approx(values[key], rel=1e-3, abs=1e-5), key
    for a, b in zip(one.generator.parameters(), two.generator.parameters(), strict=True):
        largest = max(float(p.grad.abs().max()) for p in one.generator.parameters())
        torch.testing.assert_close(b.grad, a.grad, rtol=0, atol=1e-4 * largest)
    twin = copy.deepcopy(two.generator)
    assert tiny.equal(tiny.tensors(twin.state_dict()), tiny.tensors(two.generator.state_dict()))


def test_images_come_in_the_networks_memory_format():
    images = torch.zeros(2, 3, 8, 8)
    arranged = Arithmetic(CHANNELS_LAST, torch.device("cpu")).arrange(images)
    assert arranged.is_contiguous(memory_format=torch.channels_last) and torch.equal(arranged, images)


def test_tf32_is_allowed_in_the_networks_alone(data):
    """The flags, as a GPU would see them: on for the networks, forward and back; off for losses and metrics."""
    training = tiny.training(tiny.recipe(compute=Compute(precision="tf32"), terms=("l1", "ssim")), data)
    seen: dict[str, set[bool]] = {}

    def note(name: str) -> None:
        seen.setdefault(name, set()).add(torch.backends.cudnn.allow_tf32)

    for name, network in (("generator", training.generator), ("discriminator", training.discriminator)):
        network.register_forward_hook(lambda *_, name=name: note(name))
        next(network.parameters()).register_hook(lambda _, name=name: note(f"{name}, back"))
    terms = training.steps.terms[0]
    for name, term in terms.items():
        def loss(*inputs, name=name, term=term):
            note(name)
            return term.loss(*inputs)
        terms[name] = replace(term, loss=loss)
    training.advance()
    assert seen == {
        "generator": {True}, "generator, back": {True}, "discriminator": {True}, "discriminator, back": {True},
        "l1": {False}, "ssim": {False},
    }  # fmt: skip
    assert not torch.backends.cudnn.allow_tf32
