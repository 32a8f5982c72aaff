"""Batch norm over ranks equals batch norm over the whole batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import distributed as dist
from torch import nn

from tests.trainers.two_ranks import on_two_ranks
from trainers.norms import SyncBatchNorm, needs_bias, norm_layer

CHANNELS = 3


def test_every_norm_keeps_the_shape():
    images = torch.randn(2, CHANNELS, 4, 4)
    for kind in ("batch", "instance", "none", "sync_batch"):
        assert norm_layer(kind, CHANNELS)(images).shape == images.shape


def test_only_norms_with_a_bias_of_their_own_spare_the_convolution_its_bias():
    for kind in ("batch", "instance", "none", "sync_batch"):
        own = [name for name, _ in norm_layer(kind, CHANNELS).named_parameters()]
        assert needs_bias(kind) == ("bias" not in own)


def test_on_one_process_sync_batch_is_batch_norm():
    torch.manual_seed(0)
    ours, theirs = SyncBatchNorm(CHANNELS), nn.BatchNorm2d(CHANNELS)
    for _ in range(3):
        images = 5 + 2 * torch.randn(4, CHANNELS, 5, 5)
        assert torch.equal(ours(images), theirs(images))
    ours.eval(), theirs.eval()
    assert torch.equal(ours(images), theirs(images))
    assert set(ours.state_dict()) == set(theirs.state_dict())


def case(dtype: torch.dtype, shares: tuple[int, int]) -> dict:
    """Images of both ranks, the gradient that comes back, and a norm with weights of its own."""
    draw = torch.Generator().manual_seed(7)
    shape = (sum(shares), CHANNELS, 4, 5)
    norm = nn.BatchNorm2d(CHANNELS).to(dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(CHANNELS, generator=draw)), norm.bias.copy_(torch.randn(CHANNELS, generator=draw))
    images, gradient = (torch.randn(shape, generator=draw, dtype=dtype) for _ in range(2))
    return {"images": 3 + 2 * images, "gradient": gradient, "norm": norm, "shares": shares}


CASES = {
    "float64": case(torch.float64, (3, 3)),
    "float32": case(torch.float32, (3, 3)),
    "uneven": case(torch.float64, (1, 3)),
    "one image a rank": case(torch.float64, (1, 1)),
}


def outcome(norm: nn.Module, images: torch.Tensor, gradient: torch.Tensor) -> dict[str, torch.Tensor]:
    """Two forwards (the second meets moved statistics) and the backward of the second."""
    images = images.clone().requires_grad_()
    norm(images)
    value = norm(images)
    value.backward(gradient)
    return {
        "value": value.detach(), "images": images.grad, "weight": norm.weight.grad, "bias": norm.bias.grad,
        "mean": norm.running_mean, "var": norm.running_var, "batches": norm.num_batches_tracked,
    }  # fmt: skip


def job(rank: int) -> dict[str, dict]:
    """Every case on this rank's share."""
    results = {}
    for name, this in CASES.items():
        norm = SyncBatchNorm(CHANNELS).to(this["images"].dtype)
        norm.load_state_dict(this["norm"].state_dict())
        mine = slice(0, this["shares"][0]) if rank == 0 else slice(this["shares"][0], None)
        results[name] = outcome(norm, this["images"][mine], this["gradient"][mine])
    results["half"] = {"value": SyncBatchNorm(CHANNELS)(half_images().chunk(2)[rank]).detach()}
    results["ddp"] = ddp_step(rank)
    return results


def half_images() -> torch.Tensor:
    """Far from zero, so that bf16 cannot hold their variance."""
    return (30 + CASES["float32"]["images"]).bfloat16()


def small_network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(CHANNELS, 4, 3), SyncBatchNorm(4), nn.ReLU(), nn.Conv2d(4, 1, 1)).double()


def ddp_step(rank: int) -> dict[str, torch.Tensor]:
    """Gradients of one step of a network with sync_batch inside DDP, whose buckets use the same group."""
    network = small_network()
    wrapped = nn.parallel.DistributedDataParallel(network, bucket_cap_mb=0.00001)
    share = CASES["float64"]["images"].chunk(dist.get_world_size())[rank]
    wrapped(share).square().mean().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_two_ranks(job, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_give_the_value_gradient_and_statistics_of_the_whole_batch(ranks, name):
    this = CASES[name]
    tolerance = {"rtol": 0, "atol": 1e-5 if this["images"].dtype == torch.float32 else 1e-11}
    expected = outcome(copy.deepcopy(this["norm"]), this["images"], this["gradient"])
    for key in ("value", "images"):
        torch.testing.assert_close(torch.cat([rank[name][key] for rank in ranks]), expected[key], **tolerance)
    for key in ("weight", "bias"):
        torch.testing.assert_close(sum(rank[name][key] for rank in ranks), expected[key], **tolerance)
    for key in ("mean", "var", "batches"):
        for rank in ranks:
            torch.testing.assert_close(rank[name][key], expected[key], **tolerance)


def test_half_precision_is_normalised_in_fp32_and_returned_as_it_came(ranks):
    value = torch.cat([rank["half"]["value"] for rank in ranks])
    assert value.dtype == torch.bfloat16
    expected = nn.BatchNorm2d(CHANNELS)(half_images().float())
    torch.testing.assert_close(value.float(), expected, rtol=2**-8, atol=1e-5)


def test_inside_ddp_every_rank_holds_the_gradient_of_the_whole_batch(ranks):
    network = small_network()
    network(CASES["float64"]["images"]).square().mean().backward()
    for name, parameter in network.named_parameters():
        for rank in ranks:
            torch.testing.assert_close(rank["ddp"][name], parameter.grad, rtol=0, atol=1e-12)
