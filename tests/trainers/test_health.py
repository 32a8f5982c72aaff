"""Indicators from logits, against numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainers.families import OBJECTIVES, build
from trainers.health import indicators, logit_sums, normalised_loss


def maps(seed: int, shift: float, *, batch: int = 4) -> list[torch.Tensor]:
    """Logits of a discriminator with two scales."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 1, size, size, generator=draw) + shift for size in (6, 3)]


def flat(logits: list[torch.Tensor]) -> np.ndarray:
    return torch.cat([m.flatten() for m in logits]).double().numpy()


def read(real, fake, threshold=0.0) -> dict[str, float]:
    found = indicators(logit_sums(real, fake, threshold), threshold=threshold)
    return {key.removeprefix("health/"): value for key, value in found.items()}


@pytest.mark.parametrize("threshold", [0.0, 0.45])
def test_indicators_are_what_their_names_say(threshold):
    real, fake = maps(1, 1.0), maps(2, -0.5)
    found, r, f = read(real, fake, threshold), flat(real), flat(fake)
    assert found["accuracy_real"] == pytest.approx(np.mean(r > threshold))
    assert found["accuracy_fake"] == pytest.approx(np.mean(f < threshold))
    assert found["sign_rate"] == pytest.approx(np.mean(np.sign(r - threshold)))
    assert found["separation"] == pytest.approx((r.mean() - f.mean()) / np.sqrt((r.var() + f.var()) / 2))
    assert (found["logit_real"], found["logit_fake"]) == pytest.approx((r.mean(), f.mean()))


def test_the_auc_is_the_mann_whitney_statistic_of_each_image():
    from scipy.stats import mannwhitneyu

    real, fake = maps(3, 0.7), maps(4, 0.0)
    real[0][0, 0, 0, :3] = fake[0][0, 0, 0, :3]  # ties
    shares = [
        (mannwhitneyu(r.flatten(), f.flatten()).statistic / r.numel() ** 2, r.numel())
        for scale_real, scale_fake in zip(real, fake, strict=True)
        for r, f in zip(scale_real.double().numpy(), scale_fake.double().numpy(), strict=True)
        for r, f in [(torch.from_numpy(r), torch.from_numpy(f))]
    ]
    weights = np.array([count for _, count in shares])
    assert read(real, fake)["auc"] == pytest.approx(np.average([share for share, _ in shares], weights=weights))


def test_without_a_decision_point_separation_and_auc_remain():
    assert set(read(maps(1, 1.0), maps(2, 0.0), None)) == {"separation", "auc", "logit_real", "logit_fake"}


def test_sums_of_two_halves_of_a_batch_are_those_of_the_whole():
    real, fake = maps(5, 1.0), maps(6, 0.0)
    halves = [
        logit_sums([m[part] for m in real], [m[part] for m in fake], 0.0) for part in (slice(0, 1), slice(1, 4))
    ]
    whole = logit_sums(real, fake, 0.0)
    assert torch.allclose(sum(halves), whole, rtol=1e-12)


@pytest.mark.parametrize(
    ("real", "fake", "auc", "separated"),
    [(1.0, -1.0, 1.0, True), (-1.0, 1.0, 0.0, False), (0.0, 0.0, 0.5, False)],
)
def test_constant_logits_are_read_without_a_division_by_zero(real, fake, auc, separated):
    found = read([torch.full((2, 1, 3, 3), real)], [torch.full((2, 1, 3, 3), fake)])
    assert found["auc"] == auc and (found["separation"] > 4) == separated


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_the_normalised_loss_is_zero_at_the_floor_and_one_for_a_blind_discriminator(name):
    objective = build(OBJECTIVES, OBJECTIVES.options(name)())
    bounds = {"floor": objective.floor, "blind": objective.blind}
    if objective.floor is None:
        assert normalised_loss(1.0, **bounds) == {}
        return
    assert normalised_loss(objective.floor, **bounds) == {"health/loss_d_normalised": 0.0}
    assert normalised_loss(objective.blind, **bounds) == {"health/loss_d_normalised": pytest.approx(1.0)}
