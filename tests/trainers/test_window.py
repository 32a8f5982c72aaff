"""What was logged over several windows is what one window over all of it holds."""

from __future__ import annotations

import json

import pytest
import torch

from trainers.health import logit_sums
from trainers.ranks import Ranks
from trainers.window import Totals, Window


def fill(window: Window, updates: range) -> Window:
    for update in updates:
        draw = torch.Generator().manual_seed(update)
        window.add({"loss_g": torch.rand((), generator=draw), "square/terms": torch.rand((), generator=draw),
                    "square/adversarial": torch.rand((), generator=draw)})  # fmt: skip
        if update % 3 == 0:  # D is updated less often
            loss_d = torch.rand((), generator=draw)
            real, fake = ([torch.randn(2, 1, 4, 4, generator=draw)] for _ in range(2))
            window.add({"loss_d": loss_d}, logit_sums(real, fake, 0.0))
    return window


@pytest.mark.parametrize("cuts", [(0, 4, 10), (0, 1, 2, 9, 10), (0, 10)])
def test_windows_add_up_whatever_the_cuts_also_through_json(cuts):
    window, total = Window(), Totals()
    for start, end in zip(cuts, cuts[1:], strict=False):
        total += Totals.of_state(json.loads(json.dumps(fill(window, range(start, end)).close(Ranks()).state_dict())))
    whole = fill(Window(), range(10)).close(Ranks()).values(0.0)
    assert total.values(0.0) == pytest.approx(whole, rel=1e-12)
    assert {"loss_g", "loss_d", "health/adversarial_share", "health/auc"} <= whole.keys()


def test_nothing_logged_has_no_values():
    assert Totals().values(0.0) == {}
