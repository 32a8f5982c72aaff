"""Importing torchvision beside any build of torch."""

from __future__ import annotations

from types import ModuleType


def import_torchvision() -> ModuleType:
    """The torchvision package.

    The package index's torchvision is built for CUDA; beside a CPU-only torch its compiled operators
    do not load, and its import fails with "operator torchvision::nms does not exist". Models and
    transforms need only the operators' schemas, so these are defined first where they are missing.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in (
        ("nms", "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
        ("qnms", "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ):
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _kept.append(library)  # a library that is collected takes its definitions along
    import torchvision

    return torchvision


_kept: list[object] = []
