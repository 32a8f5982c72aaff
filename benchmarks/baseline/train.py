"""One trial as a script under torchrun: DDP, PNG pairs through Pillow, an MLflow call every step.

    torchrun --standalone --nproc-per-node 2 -m benchmarks.baseline.train TRIAL.json

TRIAL.json names the recipe, seed, folders and the tracking store (see benchmarks.baseline.study). Rank 0 logs,
evaluates, saves a checkpoint and a sample picture at every evaluation, and writes `result.json` beside TRIAL.json.
Metrics are those of trainers/metrics, so that both sides of a comparison score by the same code.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from benchmarks.baseline.step import Pix2Pix, networks
from trainers.families import METRICS

SHOWN = 4  # tiles of a sample picture


class Pairs(Dataset):
    """PNG files of equal names under sar/ and optical/, decoded at every access: (C, H, W) in [-1, 1]."""

    def __init__(self, folder: Path, *, flip: bool):
        self.folder, self.flip = folder, flip
        self.names = sorted(path.name for path in (folder / "sar").iterdir())

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sar, optical = (self._read(side, self.names[index]) for side in ("sar", "optical"))
        if self.flip and torch.rand(()) < 0.5:
            sar, optical = sar.flip(-1), optical.flip(-1)
        return sar, optical

    def _read(self, side: str, name: str) -> Tensor:
        with Image.open(self.folder / side / name) as picture:
            values = np.asarray(picture, np.float32)
        return torch.from_numpy(values.reshape(*values.shape[:2], -1)).permute(2, 0, 1) / 127.5 - 1


def endless(pairs: Pairs, batch: int, seed: int):
    """This rank's batches, epoch after epoch."""
    sampler = DistributedSampler(pairs, seed=seed, drop_last=True)
    loader = DataLoader(pairs, batch_size=batch // dist.get_world_size(), sampler=sampler, drop_last=True)
    epoch = 0
    while True:
        sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


@torch.no_grad()
def evaluate(generator: nn.Module, pairs: Pairs, names: list[str]) -> dict[str, float]:
    """Mean scores of all tiles."""
    generator.eval()
    functions = {name: METRICS.part(name).build() for name in names}
    scores: dict[str, list[Tensor]] = {name: [] for name in names}
    for sar, real in DataLoader(pairs, batch_size=16):
        fake = (generator(sar) + 1) / 2
        mask = torch.ones_like(fake[:, :1])
        for name, function in functions.items():
            scores[name].append(function(fake, (real + 1) / 2, mask))
    generator.train()
    return {name: torch.cat(values).mean().item() for name, values in scores.items()}


@torch.no_grad()
def save_sample(path: Path, generator: nn.Module, pairs: Pairs) -> None:
    rows = [torch.cat([generator(sar[None])[0], real], 1) for sar, real in map(pairs.__getitem__, range(SHOWN))]
    picture = (torch.cat(rows, 2)[:3].permute(1, 2, 0) * 127.5 + 127.5).clamp(0, 255)
    Image.fromarray(picture.numpy().astype(np.uint8)).save(path)


def train(trial: dict[str, Any], folder: Path) -> None:
    recipe, rank = trial["recipe"], dist.get_rank()
    torch.set_num_threads(trial["threads"])
    torch.manual_seed(trial["seed"])
    data = Path(trial["data"])
    pairs = Pairs(data / "train", flip=recipe["data"]["flip"] == "horizontal")
    validation = Pairs(data / "validation", flip=False)
    bands_in, bands_out = (len(image) for image in pairs[0])
    generator, discriminator = networks(recipe, bands_in, bands_out)
    # Buffers are not broadcast: between D's two passes that breaks the backward pass of batch norm.
    wrapped = [DistributedDataParallel(network, broadcast_buffers=False) for network in (generator, discriminator)]
    model = Pix2Pix(recipe, *wrapped)
    steps, every = recipe["budget"]["generator_updates"], recipe["evaluate"]["every"]
    scores: dict[int, dict[str, float]] = {}
    if rank == 0:
        mlflow.set_tracking_uri(trial["tracking"])
        if mlflow.get_experiment_by_name(trial["experiment"]) is None:
            mlflow.create_experiment(trial["experiment"], artifact_location=str(folder.parent / "artifacts"))
        mlflow.set_experiment(trial["experiment"])
        mlflow.start_run(run_name=f"{trial['arm']}/{trial['seed']}")
        mlflow.log_params({"arm": trial["arm"], "seed": trial["seed"], "batch": recipe["batch"], **recipe["optimizer"]})
    for sar, real in endless(pairs, recipe["batch"], trial["seed"]):
        losses = model.update(sar, real)
        if rank == 0:
            mlflow.log_metrics(losses, step=model.done)
        if model.done % every == 0 or model.done == steps:
            if rank == 0:
                scores[model.done] = evaluate(generator, validation, trial["metrics"])
                mlflow.log_metrics(scores[model.done], step=model.done)
                state = {"generator": generator.state_dict(), "discriminator": discriminator.state_dict(),
                         "adam_g": model.adam_g.state_dict(), "adam_d": model.adam_d.state_dict()}  # fmt: skip
                torch.save(state, folder / "checkpoint.pt")
                save_sample(folder / f"{model.done:06d}.png", generator, validation)
                mlflow.log_artifact(str(folder / f"{model.done:06d}.png"))
            dist.barrier()
        if model.done == steps:
            break
    if rank == 0:
        mlflow.end_run()
        (folder / "result.json").write_text(json.dumps({"scores": scores, "losses": losses}))


def main() -> None:
    path = Path(sys.argv[1])
    dist.init_process_group("gloo")
    train(json.loads(path.read_text()), path.parent)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
