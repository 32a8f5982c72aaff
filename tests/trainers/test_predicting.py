"""A prediction is one image's own: it depends neither on its batch nor on the ranks, and leaves no trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainers import tiny
from trainers.evaluate import Scorer
from trainers.families import METRICS
from trainers.norms import SyncBatchNorm
from trainers.predicting import as_in_the_paper
from trainers.recipe import Compute, Evaluate
from trainers.tiles import Tiles

PAPER = Evaluate(every=3, mode="paper")
GENERATORS = {
    "batch norm": {"norm_g": "batch"},
    "sync batch norm": {"norm_g": "sync_batch"},
    "dropout": {"dropout": 0.5, "tile": 64, "norm_g": "batch"},
    "bf16": {"norm_g": "batch", "compute": Compute(precision="bf16")},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[int, Path]:
    root = tmp_path_factory.mktemp("data")
    return {side: tiny.prepared(root / str(side), tile=side) for side in (tiny.TILE, 64)}


def trained(data, mode: str, options: dict):
    of = tiny.recipe(evaluate=Evaluate(every=3, mode=mode), **options)
    training = tiny.training(of, data[of.data.tile])
    for _ in range(3):
        training.advance()
    training.settle()
    return training, Tiles.open(data[of.data.tile])


def scores(training, tiles: Tiles, *, batch: int, ranks: int) -> np.ndarray:
    """Scores of validation and test tiles, as so many ranks find them."""
    metrics = tuple(name for name in ("psnr", "mae", "ssim", "gmsd") if name in METRICS.names())
    indices = np.flatnonzero(np.array(tiles.splits) != "train")
    table = np.full((len(indices), len(metrics)), np.nan)
    for rank in range(ranks):
        scorer = Scorer(tiles, indices, metrics=metrics, batch=batch, rank=rank, ranks=ranks)
        found = scorer.score(training.predictor()).table
        table[rank::ranks] = found[rank::ranks]
    assert np.isfinite(table).all()
    return table


@pytest.mark.parametrize("options", GENERATORS.values(), ids=GENERATORS)
def test_in_paper_mode_scores_are_equal_for_any_batch_and_any_number_of_ranks(data, options):
    training, tiles = trained(data, "paper", options)
    alone = scores(training, tiles, batch=1, ranks=1)
    for batch, ranks in ((3, 1), (16, 1), (1, 2), (5, 2), (2, 3)):
        np.testing.assert_allclose(scores(training, tiles, batch=batch, ranks=ranks), alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("options", GENERATORS.values(), ids=GENERATORS)
def test_in_paper_mode_outputs_are_bit_equal_whatever_stands_beside_an_image(data, options):
    training, _ = trained(data, "paper", options)
    sar = training.draws.batch(0).sar
    together = training.predictor()(sar)
    apart = torch.cat([training.predictor()(image) for image in sar.split(1)])
    assert torch.equal(together, apart)
    assert torch.equal(training.predictor()(sar.flip(0)).flip(0), together)


@pytest.mark.parametrize("mode", ["running", "paper"])
@pytest.mark.parametrize("options", GENERATORS.values(), ids=GENERATORS)
def test_predicting_leaves_statistics_weights_mode_and_the_next_update_as_they_were(data, options, mode):
    one, _ = trained(data, mode, options)
    two, _ = trained(data, mode, options)
    before = tiny.tensors(one.generator.state_dict())
    for _ in range(3):
        one.predictor()(one.draws.batch(0).sar)
    assert tiny.equal(before, tiny.tensors(one.generator.state_dict())) and one.generator.training
    for training in (one, two):
        training.advance()
    assert tiny.equal(tiny.tensors(one.state_dict()), tiny.tensors(two.state_dict()))


def test_the_papers_batch_of_one_is_what_training_at_batch_one_sees(data):
    """Isola et al., sec. 3.3: at test time, statistics of the test batch; at batch 1, those of the image."""
    training, _ = trained(data, "paper", {"norm_g": "batch"})
    image = training.draws.batch(0).sar[:1]
    with torch.no_grad():
        as_trained = training.generator.train()(image)
    assert torch.equal(training.predictor()(image), as_trained)


def test_paper_mode_keeps_dropout_on_and_draws_the_same_for_every_image(data):
    training, _ = trained(data, "paper", GENERATORS["dropout"])
    image = training.draws.batch(0).sar[:1]
    predict = training.predictor()
    assert torch.equal(predict(image), predict(image))
    twice = predict(torch.cat([image, image]))
    assert torch.equal(twice[0], twice[1])
    for layer in training.generator.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    assert not torch.equal(training.predictor()(image), predict(image))


def test_the_copy_for_the_paper_shares_nothing_over_ranks_and_is_the_same_network(data):
    training, _ = trained(data, "paper", {"norm_g": "sync_batch"})
    assert any(isinstance(layer, SyncBatchNorm) for layer in training.generator.modules())
    plain, _ = trained(data, "paper", {"norm_g": "batch"})
    sar = training.draws.batch(0).sar
    assert torch.equal(training.predictor()(sar), plain.predictor()(sar))
    twin = as_in_the_paper(training.generator, training.arithmetic)
    assert not any(isinstance(cell.cell_contents, SyncBatchNorm) for cell in twin.__closure__)


@pytest.mark.parametrize("options", GENERATORS.values(), ids=GENERATORS)
def test_by_running_statistics_an_image_does_not_feel_its_batch(data, options):
    training, tiles = trained(data, "running", options)
    alone = scores(training, tiles, batch=1, ranks=1)
    tolerance = 1e-2 if options.get("compute") else 1e-5
    for batch, ranks in ((16, 1), (3, 2)):
        np.testing.assert_allclose(scores(training, tiles, batch=batch, ranks=ranks), alone, rtol=tolerance, atol=1e-6)
