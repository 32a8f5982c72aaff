"""Learning over fixed buffers is the plain way, to the bit, and leaves the host nothing to wait for.

On a GPU test_device.py has the same through CUDA graphs.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.trainers import tiny, waits
from trainers import graphs, ondevice
from trainers.families import OBJECTIVES, TERMS
from trainers.graphs import Graphs
from trainers.optimisers import rate_from
from trainers.ranks import Ranks
from trainers.recipe import Compute, Ema, Optimizer, Recipe, Timing
from trainers.similarity import ms_ssim
from trainers.step import Batch
from trainers.tiles import Tiles
from trainers.training import Learning, Training

UPDATES = 4
Row = dict[str, Any]
ON_IMAGES = tuple(name for name in TERMS.names() if name not in ("feature_matching", "ms_ssim", "perceptual"))
FAMILY: dict[str, Row] = {
    **{objective: {"objective": objective} for objective in OBJECTIVES.names()},
    **{f"{norm} in both": {"norm": norm, "norm_g": norm} for norm in ("batch", "none", "sync_batch")},
    "spectral, wgan_gp, two scales": {"norm": "spectral", "objective": "wgan_gp", "scales": 2},
    "all terms": {"terms": (*ON_IMAGES, "feature_matching"), "scales": 2},
    "no term": {"terms": ()},
    "two of G for one of D": {"updates": (2, 1)},
    "three of D for one of G": {"updates": (1, 3), "objective": "wgan_gp"},
    "dropout": {"dropout": 0.5, "tile": 64},
    "gated skips": {"skip": "gated"},
    "average": {"ema": Ema(decay=0.9), "norm_g": "batch"},
    "warm-up": {"optimizer": Optimizer(lr=1e-3, lr_ratio=0.3, warm_up=0.5, decay="cosine")},
    "bf16": {"compute": Compute(precision="bf16"), "norm": "spectral", "norm_g": "batch"},
    "channels last": {"compute": Compute(memory_format="channels_last"), "norm": "batch"},
    "stages": {"stages": 0.0},
    "stages with a ramp": {"stages": 0.5},
}


def recipe(row: Row) -> Recipe:
    made = tiny.recipe(steps=UPDATES, every=UPDATES, **{key: row[key] for key in row if key != "stages"})
    if "stages" not in row:
        return made
    later = tiny.stage(made, Timing(ramp=row["stages"], moments="reset"), terms={"ssim": 5, "feature_matching": 3})
    slower = replace(later, optimizer=replace(made.optimizer, betas=(0.0, 0.9), lr=1e-4))
    return replace(made, stages=(tiny.stage(made, Timing(until=0.5)), slower))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {side: tiny.prepared(folder / str(side), tile=side) for side in (32, 64)}


def begun(of: Recipe, data: dict[int, Path], *ways: str) -> Training:
    """In training the plain way, or from the first update on by `ways`."""
    training = tiny.training(of, data[of.data.tile], ways=ways)
    training.fast.choice.decided = "fast"
    return training


def state(training: Training) -> dict[str, torch.Tensor]:
    return tiny.tensors(training.state_dict())


@pytest.mark.parametrize("ways", [("graph",), ("resident",), ("graph", "resident")])
@pytest.mark.parametrize("name", FAMILY)
def test_each_way_is_the_plain_way_to_the_bit(data, name, ways):
    plain, other = (begun(recipe(FAMILY[name]), data, *asked) for asked in ((), ways))
    assert (other.fast.graphs is not None) == ("graph" in ways)
    assert (other.draws.held is not None) == ("resident" in ways)
    start = state(plain)
    for update in range(UPDATES):
        plain.advance(), other.advance()
        assert tiny.equal(state(plain), state(other)), update
        assert tiny.logged(plain) == tiny.logged(other), update
    assert not tiny.equal(start, state(plain))


@pytest.mark.parametrize("name", ["hinge", "average", "stages", "two of G for one of D"])
def test_a_run_may_change_its_way_and_resume_in_another(data, name):
    of = recipe(FAMILY[name])
    plain, changing = begun(of, data), begun(of, data, "graph")
    for update in range(UPDATES):
        changing.fast.choice.decided = "plain" if update % 2 else "fast"
        if update == UPDATES - 1:
            kept, changing = changing.state_dict(), begun(of, data, "graph", "resident")
            changing.load_state_dict(kept)
        plain.advance(), changing.advance()
    assert tiny.equal(state(plain), state(changing))


def test_a_window_over_several_updates_is_the_same(data):
    plain, other = (begun(recipe(FAMILY["two of G for one of D"]), data, *ways) for ways in ((), ("graph",)))
    for _ in range(UPDATES):
        plain.advance(), other.advance()
    assert tiny.logged(plain) == tiny.logged(other)


def test_an_optimiser_says_the_same_of_itself_afterwards(data):
    plain, other = (begun(recipe({}), data, *ways) for ways in ((), ("graph",)))
    plain.advance(), other.advance()
    for one, two in ((plain.adam_g, other.adam_g), (plain.adam_d, other.adam_d)):
        assert one.state_dict()["param_groups"] == two.state_dict()["param_groups"]


def test_learning_over_buffers_draws_into_the_same_places(data):
    """What a graph would read again must not move."""
    training = begun(recipe({"objective": "wgan_gp"}), data, "graph", "resident")
    places = []
    for _ in range(3):
        training.advance()
        over = training.fast.graphs
        places.append([tensor.data_ptr() for tensor in (*over._inputs, over._epsilon, over._rates)])
    assert places[0] == places[1] == places[2]


def test_a_graph_is_of_its_stage_its_weights_and_who_learns(data):
    """And of nothing that changes from draw to draw: a run has few."""

    def keys(of: Recipe) -> list:
        training, found = begun(of, data, "graph"), []
        for _ in range(of.steps):
            training.advance()
            found.append(frozenset(training.fast.graphs._times))
        return found

    plain = keys(tiny.recipe(steps=8, updates=(2, 1), optimizer=Optimizer(lr=1e-3, warm_up=0.5)))
    assert {key.learning for key in plain[-1]} == {Learning(True, True), Learning(False, True)}
    assert len(plain[-1]) == 2
    base = tiny.recipe(steps=8)
    ramped = tiny.stage(base, Timing(ramp=0.25), terms={"l1": 1.0})
    staged = keys(replace(base, stages=(tiny.stage(base, Timing(until=0.5)), ramped)))
    assert len(staged[3]) == 1 and {key.stage for key in staged[-1]} == {1}
    assert len(staged[-1]) == 3  # two on the ramp, which begins at the old weights, and one after it


# -- what a graph has fixed ---------------------------------------------------------------------


class Recording(TorchDispatchMode):
    """Takes down every operation with the tensors it was given and gave."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = kwargs or {}
        result = function(*args, **given)
        if not function.name().startswith("profiler"):
            self.calls.append((function, args, given, result))
        return result

    @torch.no_grad()
    def again(self) -> None:
        """The same operations on the same tensors, their results put where they stood: all that a graph does."""
        for function, args, given, before in self.calls:
            for old, new in zip(tree_leaves(before), tree_leaves(function(*args, **given)), strict=True):
                if isinstance(old, torch.Tensor) and old.untyped_storage().data_ptr() != _storage(new):
                    old.copy_(new)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class ByRecording:
    """In place of CUDA's graphs. Taking work down does it, other than there: so it is undone."""

    captures = True

    def __init__(self, training: Training):
        self.training, self.taken, self.rooms, self.ends = training, 0, 0, 0

    def run(self, work):
        return work()

    def capture(self, work):
        self.taken += 1
        lasting = [*self.training.generator.state_dict().values(), *self.training.discriminator.state_dict().values()]
        for optimizer in (self.training.adam_g, self.training.adam_d):
            lasting += [value for state in optimizer.state.values() for value in state.values()]
        before = [tensor.clone() for tensor in lasting]
        with Recording() as recording:
            result = work()
        with torch.no_grad():
            for tensor, value in zip(lasting, before, strict=True):
                tensor.copy_(value)
        return recording.again, result

    def make_room(self) -> None:
        self.rooms += 1

    def end(self) -> None:
        self.ends += 1


@pytest.mark.parametrize("ways", [("graph",), ("graph", "resident")])
@pytest.mark.parametrize("name", FAMILY)
def test_what_was_taken_down_once_and_is_done_again_is_the_plain_way_to_the_bit(data, name, ways):
    """Whatever changes from draw to draw lies in a buffer: batch, flips, points, rates, dropout, norms' statistics."""
    of = changed_length(recipe(FAMILY[name]), 14)
    plain, other = (begun(of, data, *asked) for asked in ((), ways))
    other.fast.graphs = Graphs(other, by=ByRecording(other))
    replayed = 0
    for update in range(of.steps):
        plain.advance(), other.advance()
        replayed += other.fast.graphs.steady
        assert tiny.equal(state(plain), state(other)), update
        assert tiny.logged(plain) == tiny.logged(other), update
    assert replayed >= 3 and not other.fast.graphs.broken


def changed_length(of: Recipe, steps: int) -> Recipe:
    return tiny.changed(of, "budget.generator_updates", steps)


def test_a_rate_that_were_fixed_in_a_graph_would_be_seen(data, monkeypatch):
    """That the test above can fail: with the rate of the update that was taken down, weights differ."""
    of = changed_length(recipe({"optimizer": Optimizer(lr=1e-3, constant=0.0)}), 8)
    plain, other = (begun(of, data, *asked) for asked in ((), ("graph",)))
    other.fast.graphs = Graphs(other, by=ByRecording(other))
    monkeypatch.setattr(graphs, "rate_from", lambda optimizer, rate: contextlib.nullcontext())
    found = []
    for _ in range(of.steps):
        plain.advance(), other.advance()
        found.append(tiny.equal(state(plain), state(other)))
    assert found[: graphs.WARM_UP + 1] == [True] * 3 + [False]


def test_a_stage_ends_its_graphs_and_no_ramp_takes_any(data):
    """Emptying memory and waiting for the device cost time: once a stage."""
    base = tiny.recipe(steps=20)
    ramped = tiny.stage(base, Timing(ramp=0.25), terms={"l1": 1.0})
    of = replace(base, stages=(tiny.stage(base, Timing(until=0.5)), ramped))
    training = begun(of, data, "graph")
    by = ByRecording(training)
    training.fast.graphs = Graphs(training, by=by)
    found = []
    for _ in range(of.steps):
        training.advance()
        found.append((by.taken, by.rooms, by.ends))
    first, second = (1, 1, 0), (1, 2, 1)
    assert found[:10] == [(0, 1, 0)] * 2 + [first] * 8
    assert found[10:17] == [second] * 7 and found[17:] == [(2, 2, 1)] * 3  # five updates of ramp, three to warm up


def test_a_capture_that_fails_costs_no_update_and_no_other_way(data):
    class Failing(ByRecording):
        def capture(self, work):
            work_done = super().capture(work)
            if self.taken == 2:
                raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
            return work_done

    of = changed_length(recipe({"updates": (2, 1)}), 10)
    plain, other = (begun(of, data, *asked) for asked in ((), ("graph",)))
    other.fast.graphs = Graphs(other, by=Failing(other))
    for update in range(of.steps):
        plain.advance(), other.advance()
        assert tiny.equal(state(plain), state(other)), update
    assert other.fast.graphs is None
    assert str(other.fast) == "graph: no: no CUDA graph could be made: CUDA out of memory."


# -- nothing to wait for ------------------------------------------------------------------------


def on_meta(training: Training) -> tuple[Batch, torch.Tensor]:
    """The networks without values; a batch and points for them. Adam, which refuses meta, is watched by itself."""
    batch, points = training.draws.batch(0), training.draws.epsilon(0)
    for network in (training.generator, training.discriminator):
        network.to("meta")
    training.adam_g.step = training.adam_d.step = lambda: None
    return Batch(*(images.to("meta") for images in (batch.sar, batch.real, batch.mask))), points.to("meta")


WATCHED = {name: row for name, row in FAMILY.items() if name != "bf16"}
TERMS_ALONE = {f"term {name}": {"terms": (name,)} for name in TERMS.names() if name not in ("ms_ssim", "perceptual")}


@pytest.mark.parametrize("name", WATCHED | TERMS_ALONE)
def test_the_host_waits_for_nothing_in_an_update(data, name, monkeypatch):
    training = begun(recipe((WATCHED | TERMS_ALONE)[name]), data)
    batch, points = on_meta(training)
    parts = {learning for _, learning in training.of_update()} | {Learning(False, True)}
    with waits.meta(monkeypatch):
        for learning in parts:
            training.learn(batch, lambda: points, learning)  # what a first draw makes, and keeps, may be waited for
            with waits.none():
                training.learn(batch, lambda: points, learning)


def test_perceptual_waits_for_nothing_either(monkeypatch):
    part = TERMS.part("perceptual")
    loss = part.build(part.Options(weights="random", layers=("relu1_1", "relu2_1"), bands=(3, 1, 2)))
    fake, real, mask = (torch.zeros(2, bands, 32, 32, device="meta") for bands in (4, 4, 1))
    with waits.meta(monkeypatch):
        loss(fake, real, mask)
        with waits.none():
            loss(fake.requires_grad_(), real, mask).mean().backward()


def test_the_term_that_waits_says_so(data, monkeypatch):
    assert TERMS.part("ms_ssim").WAITS
    fake, real, mask = (torch.zeros(1, bands, 176, 176, device="meta") for bands in (3, 3, 1))
    with waits.meta(monkeypatch), pytest.raises(waits.Wait), waits.none():
        ms_ssim(fake.requires_grad_(), real, mask).mean().backward()
    of = tiny.recipe(tile=176, terms=("l1", "ms_ssim"))
    training = Training(of, tiny.spec(of), Tiles.open(data[32]), Ranks(), ways=("graph",))
    assert training.fast.graphs is None
    assert str(training.fast) == "graph: no: the host waits for the device in ms_ssim"


def test_the_optimiser_steps_by_a_rate_that_lies_on_the_device(data):
    training, seen = begun(recipe({}), data, "graph"), []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function.name())
            return function(*args, **(kwargs or {}))

    training.advance()
    with Names(), rate_from(training.adam_g, torch.tensor(1e-3, dtype=torch.float64)):
        training.adam_g.step()
    assert "aten::_fused_adam_.tensor_lr" in seen and not [name for name in seen if "_local_scalar" in name]


@pytest.mark.parametrize("what", [
    lambda x: x.sum().item(), lambda x: float(x.sum()), lambda x: bool((x > 0).any()), lambda x: x[x > 0],
    lambda x: x.nonzero(), lambda x: x + torch.ones(3), lambda x: torch.tensor(1.0, device=x.device),
    lambda x: x[:, [2, 0]], lambda x: x.cpu(), lambda x: x.new_tensor([1.0]),
])  # fmt: skip
def test_what_would_wait_is_seen(what):
    with pytest.raises(waits.Wait), waits.none():
        what(torch.zeros(3, 3, device="meta"))


# -- what a training says of its ways -----------------------------------------------------------


def test_ranks_that_wait_for_each_other_go_the_plain_way(data):
    of = tiny.recipe()
    training = tiny.training(of, data[32], Ranks(0, 2), ways=("graph", "resident"))
    assert training.fast.graphs is None and training.draws.held is not None
    assert str(training.fast) == "graph: no: ranks of a trial wait for each other; resident: yes: 0.00 GB"


def test_tiles_that_do_not_fit_stay_where_they_were(data, monkeypatch):
    monkeypatch.setattr(ondevice, "room", lambda _: 1000)
    training = tiny.training(tiny.recipe(), data[32], ways=("resident",))
    assert training.draws.held is None and "GB is what they may take" in str(training.fast)
    training.advance()


def test_a_graph_that_can_not_be_made_leaves_the_training_as_it_was(data):
    """At any time: a later stage may need another graph."""
    plain, other = (begun(recipe({}), data, *ways) for ways in ((), ("graph",)))
    for update in range(UPDATES):
        if update == 2:
            other.fast.graphs.broken = "no CUDA graph could be made: out of memory"
        plain.advance(), other.advance()
    assert tiny.equal(state(plain), state(other)) and tiny.logged(plain) == tiny.logged(other)
    assert other.fast.graphs is None
    assert str(other.fast) == "graph: no: no CUDA graph could be made: out of memory"


def test_nothing_asked_for_is_nothing_said(data):
    assert str(tiny.training(tiny.recipe(), data[32]).fast) == ""
