"""One trial: `spec.json` in, `events.jsonl` out, `stop` obeyed at window boundaries."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ablate.events import Ended, EventWriter, Measured, Saved, Started, Warned, read
from ablate.records import Status, TrialFolder, TrialSpec
from trainers import checkpoint, streams
from trainers.evaluate import scene_mean, score
from trainers.families import DISCRIMINATORS, GENERATORS, build
from trainers.health import DominanceWatch, normalised_loss
from trainers.masks import fill
from trainers.optimisers import adam, gradient_norm, rate_factor, set_rates
from trainers.ranks import Ranks, bare, join
from trainers.recipe import Recipe
from trainers.samples import save_sample
from trainers.step import Batch, Steps
from trainers.tiles import Order, Tiles, rank_slice
from trainers.window import Window

CURVE_POINTS = 40  # training points a run, at most; evaluations come on top
EVAL_BATCH = 16


def run(folder: Path) -> None:
    """Train the trial in `folder` to its end, from its newest checkpoint if it has one."""
    paths = TrialFolder(folder)
    document = json.loads(paths.spec.read_text())
    spec = TrialSpec.from_json(document["spec"])
    torch.set_num_threads(spec.threads)
    with join(spec.device) as ranks:
        if ranks.size != spec.ranks:
            raise RuntimeError(f"the trial states {spec.ranks} ranks, but {ranks.size} were started")
        Trial(paths, spec, tuple(document["metrics"]), folder / document["cache"], ranks).run()


class Trial:
    """The state of one training run on one rank."""

    def __init__(self, paths: TrialFolder, spec: TrialSpec, metrics: tuple[str, ...], cache: Path, ranks: Ranks):
        self.paths, self.spec, self.metrics, self.ranks = paths, spec, metrics, ranks
        self.recipe = Recipe.from_document(spec.recipe)
        self.tiles = Tiles.open(cache)
        self.validation = self.tiles.split("validation")
        flip = self.recipe.data.flip == "horizontal"
        self.order = Order(self.tiles.split("train"), seed=spec.seed, batch=self.recipe.batch, flip=flip)
        generator = self._network(streams.INIT_G, GENERATORS, self.recipe.generator, tile=self.tiles.tile,
                                  bands_in=self.tiles.sar_bands, bands_out=self.tiles.optical_bands)  # fmt: skip
        discriminator = self._network(streams.INIT_D, DISCRIMINATORS, self.recipe.discriminator,
                                      bands=self.tiles.sar_bands + self.tiles.optical_bands)  # fmt: skip
        optimizer = self.recipe.optimizer
        self.adam_g = adam(generator, optimizer.lr, optimizer.betas)
        self.adam_d = adam(discriminator, optimizer.lr * optimizer.lr_ratio, optimizer.betas)
        self.steps = Steps(self.recipe, ranks.wrap(generator), ranks.wrap(discriminator))
        self.window = Window(self.steps.objective.threshold)
        self.watch = DominanceWatch()
        self.step = 0  # generator updates done

    def _network(self, stream: str, family, part, **context) -> torch.nn.Module:
        seed = streams.torch_seed(self.spec.seed, stream, replica=self.spec.replica)
        network = build(family, part, generator=torch.Generator().manual_seed(seed), **context)
        return network.to(self.ranks.device)

    # -- the loop -------------------------------------------------------------------------------

    def run(self) -> None:
        self.began = time.monotonic()
        self.writer = EventWriter(self.paths.events) if self.ranks.first else None
        self.ranks.agree(True)  # nobody reads before rank 0 holds the stream
        before = read(self.paths.events)
        if any(isinstance(event, Ended) for event in before):
            return self._close()
        if self.writer:
            self.writer.attempt = 1 + sum(isinstance(event, Started) for event in before)
        self._restore()
        self._event(Started, world_size=self.ranks.size, threads=self.spec.threads,
                    device=self._device_name(), versions=_versions(), step=self.step)  # fmt: skip
        evals, boundaries = set(self.recipe.eval_steps), self._boundaries()
        while self.step < self.recipe.steps:
            self._update()
            self.step += 1
            if self.step not in boundaries:
                continue
            why = self._close_window()
            if why:
                return self._end(Status.diverged, why)
            if self.step in evals:
                self._evaluate(final=self.step == self.recipe.steps)
            if self.step < self.recipe.steps and self.ranks.agree(self.ranks.first and self.paths.stop.exists()):
                self._save_checkpoint()
                return self._close()
        self._end(Status.done)

    def _boundaries(self) -> set[int]:
        """Updates after which a window closes: evenly spaced, and wherever a checkpoint is taken."""
        stride = max(1, -(-self.recipe.steps // CURVE_POINTS))
        return set(range(stride, self.recipe.steps + 1, stride)) | set(self.recipe.eval_steps)

    def _update(self) -> None:
        """One generator update with the discriminator updates that belong to it."""
        updates, step = self.recipe.updates, self.step
        set_rates(self.adam_g, self.adam_d, self.recipe.optimizer,
                  rate_factor(step, self.recipe.steps, self.recipe.optimizer.constant))  # fmt: skip
        first = step * updates.discriminator
        for extra in range(updates.discriminator - 1):
            draw = first + extra
            batch = self._batch(draw)
            with torch.no_grad():
                self._seed_dropout(draw)
                fake = self.steps.generate(batch)
            self._update_discriminator(batch, fake, draw)
        draw = first + updates.discriminator - 1
        batch = self._batch(draw)
        self._seed_dropout(draw)
        fake = self.steps.generate(batch)
        if step % updates.generator == 0:
            self._update_discriminator(batch, fake, draw)
        self._update_generator(batch, fake)

    def _update_discriminator(self, batch: Batch, fake: Tensor, draw: int) -> None:
        loss, values = self.steps.discriminator_loss(batch, fake, self._epsilon(draw))
        self.adam_d.zero_grad(set_to_none=True)
        loss.backward()
        values["health/gradient_d"] = gradient_norm(self.steps.discriminator)
        self.adam_d.step()
        self.window.add_logits(values.pop("logits/real"), values.pop("logits/fake"))
        self.window.add(values)

    def _update_generator(self, batch: Batch, fake: Tensor) -> None:
        loss, values = self.steps.generator_loss(batch, fake)
        self.adam_g.zero_grad(set_to_none=True)
        loss.backward()
        values["health/gradient_g"] = gradient_norm(self.steps.generator)
        self.adam_g.step()
        self.window.add(values)

    # -- what an update draws -------------------------------------------------------------------

    def _batch(self, draw: int) -> Batch:
        mine = rank_slice(self.recipe.batch, self.ranks.rank, self.ranks.size)
        indices, flips = self.order.batch_at(draw)
        arrays = self.tiles.read(indices[mine], flips[mine])
        sar, real, mask = (torch.from_numpy(array).to(self.ranks.device) for array in arrays)
        return Batch(sar, fill(real, mask), mask)

    def _epsilon(self, draw: int) -> Tensor:
        """Drawn for the global batch on every rank, so that the rank count does not change it."""
        if self.steps.objective.penalty is None:
            return torch.zeros(())
        generator = streams.numpy_generator(self.spec.seed, streams.PENALTY, draw, replica=self.spec.replica)
        epsilon = generator.random((self.recipe.batch, 1, 1, 1), dtype=np.float32)
        mine = rank_slice(self.recipe.batch, self.ranks.rank, self.ranks.size)
        return torch.from_numpy(epsilon[mine]).to(self.ranks.device)

    def _seed_dropout(self, draw: int) -> None:
        """Dropout draws from torch's global generator: seeded per draw, a resume needs no state of it."""
        seed = streams.torch_seed(self.spec.seed, streams.DROPOUT, draw, self.ranks.rank, replica=self.spec.replica)
        torch.manual_seed(seed)

    # -- what leaves the loop -------------------------------------------------------------------

    def _event(self, kind, **fields: Any) -> None:
        if self.writer:
            self.writer.append(kind, **fields)

    def _measured(self, split: str, values: dict[str, float]) -> None:
        self._event(Measured, step=self.step, images=self.step * self.recipe.batch, split=split, values=values)

    def _close_window(self) -> str | None:
        """Report the window's means; a sentence if training has diverged.

        Running statistics are averaged over ranks here: evaluation and checkpoints then see one
        network, and, the average being linear, its result does not depend on how often it is taken.
        """
        for network in (self.steps.generator, self.steps.discriminator):
            self.ranks.average_(bare(network).buffers())
        values = self.window.close(self.ranks)
        objective = self.steps.objective
        if "loss_d" in values:
            values |= normalised_loss(values["loss_d"], floor=objective.floor, blind=objective.blind)
        values["lr"] = self.adam_g.param_groups[0]["lr"]
        self._measured("train", values)
        message = self.watch.read(values, progress=self.step / self.recipe.steps)
        if message:
            self._event(Warned, step=self.step, message=message, evidence={
                key: values[key] for key in ("health/accuracy_real", "health/accuracy_fake")})  # fmt: skip
        broken = sorted(key for key, value in values.items() if not math.isfinite(value))
        return f"not finite at update {self.step}: {', '.join(broken)}" if broken else None

    def _evaluate(self, *, final: bool) -> None:
        generator = bare(self.steps.generator)
        generator.eval()
        table = score(self._predict, self.tiles, self.validation, metrics=self.metrics, batch=EVAL_BATCH,
                      rank=self.ranks.rank, ranks=self.ranks.size, device=self.ranks.device)  # fmt: skip
        scenes = [self.tiles.scenes[index] for index in self.validation]
        self._measured("validation", scene_mean(table, scenes, self.metrics))
        if self.ranks.first:
            path, sha = save_sample(self.paths.samples, self.step, self._predict, self.tiles, self.ranks.device)
            self._event(Saved, step=self.step, what="sample", path=self._relative(path), sha256=sha)
            if final:
                self._save_final(table)
        generator.train()
        if not final:
            self._save_checkpoint()
        elif self.writer:
            self.writer.sync()

    @torch.no_grad()
    def _predict(self, sar: Tensor) -> Tensor:
        return bare(self.steps.generator)(sar)

    def _save_final(self, table: np.ndarray) -> None:
        lines = [",".join(("tile", "scene", *self.metrics))]
        for index, scores in zip(self.validation, table, strict=True):
            lines.append(",".join((self.tiles.names[index], self.tiles.scenes[index], *map(repr, map(float, scores)))))
        checkpoint.write_atomically(self.paths.scores, "\n".join(lines) + "\n")
        state = {
            "generator": bare(self.steps.generator).state_dict(), "recipe": dict(self.spec.recipe),
            "bands": [self.tiles.sar_bands, self.tiles.optical_bands], "tile": self.tiles.tile,
        }  # fmt: skip
        path = self.paths.checkpoints / checkpoint.FINAL
        sha = checkpoint.write(path, state)
        self._event(Saved, step=self.step, what="generator", path=self._relative(path), sha256=sha)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.paths.root).as_posix()

    def _end(self, status: Status, why: str = "") -> None:
        self._event(Ended, step=self.step, images=self.step * self.recipe.batch, status=status.value, why=why,
                    seconds=time.monotonic() - self.began)  # fmt: skip
        self._close()
        if self.ranks.first:
            checkpoint.Checkpoints(self.paths.checkpoints).clear()

    def _close(self) -> None:
        if self.writer:
            self.writer.close()

    # -- resume ---------------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        if not self.ranks.first:
            return
        state = {
            "step": self.step, "world_size": self.ranks.size,
            "generator": bare(self.steps.generator).state_dict(), "adam_g": self.adam_g.state_dict(),
            "discriminator": bare(self.steps.discriminator).state_dict(), "adam_d": self.adam_d.state_dict(),
            "watch": {"streak": self.watch.streak, "flagged": self.watch.flagged},
        }  # fmt: skip
        path, sha = checkpoint.Checkpoints(self.paths.checkpoints).save(self.step, state)
        self._event(Saved, step=self.step, what="checkpoint", path=self._relative(path), sha256=sha)
        self.writer.sync()

    def _restore(self) -> None:
        """Take up the newest checkpoint; every rank reads the same file."""
        state = checkpoint.Checkpoints(self.paths.checkpoints).newest()
        if state is None:
            return
        bare(self.steps.generator).load_state_dict(state["generator"])
        bare(self.steps.discriminator).load_state_dict(state["discriminator"])
        self.adam_g.load_state_dict(state["adam_g"])
        self.adam_d.load_state_dict(state["adam_d"])
        self.watch = DominanceWatch(**state["watch"])
        self.step = state["step"]

    def _device_name(self) -> str:
        if self.ranks.device.type == "cuda":
            return torch.cuda.get_device_name(self.ranks.device)
        return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    """Versions that numbers can depend on; `code` is a digest of this package's sources."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    return {
        "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__, "code": code,
    }  # fmt: skip
