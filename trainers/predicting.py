"""How a generator is put to use: by running statistics, or as pix2pix tests."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainers.precision import Arithmetic

DROPOUT_SEED = 0  # the same for every image: a score does not depend on which batch or rank an image was in

Predict = Callable[[Tensor], Tensor]


def by_running_statistics(network: nn.Module, arithmetic: Arithmetic) -> Predict:
    """SAR (B, C, H, W) to optical in [-1, 1], fp32: batch norm by its running statistics, dropout off."""

    @torch.no_grad()
    def predict(sar: Tensor) -> Tensor:
        training = network.training
        network.eval()
        try:
            with arithmetic.forward():
                return network(arithmetic.arrange(sar)).float()
        finally:
            network.train(training)

    return predict


def as_in_the_paper(network: nn.Module, arithmetic: Arithmetic) -> Predict:
    """SAR (B, C, H, W) to optical in [-1, 1], fp32: every image alone, by its own statistics, dropout on.

    Isola et al., 2017, sec. 3.3. It works on a copy: running statistics stay what they were, and ranks
    that share their batch statistics in training need not wait for each other here.
    """
    twin = _alone(copy.deepcopy(network)).train()

    @torch.no_grad()
    def predict(sar: Tensor) -> Tensor:
        return torch.cat([one(image) for image in arithmetic.arrange(sar).split(1)])

    def one(image: Tensor) -> Tensor:
        torch.manual_seed(DROPOUT_SEED)
        with arithmetic.forward():
            return twin(image).float()

    return predict


def _alone(module: nn.Module) -> nn.Module:
    """The module with every batch norm that is synchronised over ranks replaced by a plain one."""
    for name, layer in module.named_children():
        if isinstance(layer, _BatchNorm) and type(layer) is not nn.BatchNorm2d:
            plain = nn.BatchNorm2d(layer.num_features, eps=layer.eps, momentum=layer.momentum)
            plain.load_state_dict(layer.state_dict())
            setattr(module, name, plain.to(layer.weight.device))
        else:
            _alone(layer)
    return module
