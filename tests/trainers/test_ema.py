"""The generator's average, against its definition in double precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainers import tiny
from trainers.ema import Average
from trainers.recipe import Ema, Evaluate

UPDATES = 15


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny.prepared(tmp_path_factory.mktemp("data") / "tiny")


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_it_is_the_recursion_in_double_precision(data, decay):
    training = tiny.training(tiny.recipe(steps=UPDATES, ema=Ema(decay=decay), norm_g="batch"), data)
    expected = [p.detach().double().clone() for p in training.generator.parameters()]
    for n in range(UPDATES):
        training.advance()
        used = min(decay, (1 + n) / (10 + n))
        for mine, new in zip(expected, training.generator.parameters(), strict=True):
            mine.mul_(used).add_(new.detach().double(), alpha=1 - used)
    for mine, theirs in zip(expected, training.result.parameters(), strict=True):
        torch.testing.assert_close(theirs.double(), mine, rtol=1e-6, atol=1e-8)


def test_a_weighted_sum_of_all_weights_that_were(data):
    """Unrolled: weights of the past fall geometrically once the decay has risen to its value."""
    training = tiny.training(tiny.recipe(steps=UPDATES, ema=Ema(decay=0.2)), data)
    past = [next(training.generator.parameters()).detach().double().clone()]
    for _ in range(UPDATES):
        training.advance()
        past.append(next(training.generator.parameters()).detach().double().clone())
    shares = [1.0]
    for n in range(UPDATES):
        used = min(0.2, (1 + n) / (10 + n))
        shares = [share * used for share in shares] + [1 - used]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * weights for share, weights in zip(shares, past, strict=True))
    torch.testing.assert_close(next(training.result.parameters()).double(), expected, rtol=1e-6, atol=1e-8)


def test_it_is_scored_by_running_statistics_of_the_generator_in_training(data):
    training = tiny.training(tiny.recipe(ema=Ema(decay=0.9), norm_g="batch"), data)
    for _ in range(3):
        training.advance()
    training.settle()
    pairs = list(zip(training.result.buffers(), training.generator.buffers(), strict=True))
    assert pairs and all(torch.equal(a, b) for a, b in pairs)
    sar = training.draws.batch(0).sar
    with torch.no_grad():
        by_average = training.result.eval()(sar)
    training.result.train()
    assert torch.equal(training.predictor()(sar), by_average)
    assert not torch.equal(training.predict(sar), by_average), "health is read from the generator in training"


def test_training_is_the_same_with_an_average_and_without(data):
    states = []
    for ema in (Ema(), Ema(decay=0.9)):
        training = tiny.training(tiny.recipe(ema=ema, norm_g="batch", evaluate=Evaluate(every=3)), data)
        for _ in range(4):
            training.advance()
            training.settle()
        states.append(tiny.tensors([training.generator.state_dict(), training.discriminator.state_dict()]))
    assert tiny.equal(*states)


def test_it_holds_no_gradient_and_follows_no_graph(data):
    source = tiny.training(tiny.recipe(), data).generator
    average = Average(source, Ema(decay=0.5))
    assert not any(p.requires_grad for p in average.network.parameters())
    average.update()
    assert all(p.grad_fn is None for p in average.network.parameters())
