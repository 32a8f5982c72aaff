"""Tiny prepared data, recipes and networks in training for tests that train."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablate.records import TrialFolder, TrialSpec, write_atomically
from trainers.families import DISCRIMINATORS, GENERATORS, LAYOUTS, OBJECTIVES, TERMS
from trainers.ranks import Ranks
from trainers.recipe import Budget, Evaluate, Optimizer, Recipe, Stage, Timing, Updates

TILE, BANDS_SAR, BANDS_OPTICAL = 32, 2, 3
METRICS = ("gmsd", "ssim", "psnr", "mae")


def prepared(folder: Path, *, tiles: int = 24, tile: int = TILE) -> Path:
    """A prepared data set of smooth random tiles, four to a scene, in three splits."""
    from scipy.ndimage import gaussian_filter

    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    optical = gaussian_filter(draw.normal(size=(tiles, BANDS_OPTICAL, tile, tile)), (0, 0, 3, 3))
    optical = np.tanh(optical / optical.std())
    sar = np.clip(optical[:, :BANDS_SAR] + 0.3 * draw.normal(size=(tiles, BANDS_SAR, tile, tile)), -1, 1)
    mask = np.ones((tiles, 1, tile, tile))
    mask[0, :, :5] = 0  # a nodata border in a training tile and in a validation tile
    mask[-6, :, :, :7] = 0
    stated = {}
    for name, array, kind in (("sar", sar, np.float16), ("optical", optical, np.float16), ("mask", mask, np.uint8)):
        np.save(folder / f"{name}.npy", array.astype(kind))
        stated[name] = {"bytes": (folder / f"{name}.npy").stat().st_size, "shape": list(array.shape)}
    splits = ["train" if i < tiles - 8 else "validation" if i < tiles - 4 else "test" for i in range(tiles)]
    rows = {"name": [f"t{i}" for i in range(tiles)], "scene": [f"s{i // 4}" for i in range(tiles)], "split": splits}
    (folder / "meta.json").write_text(json.dumps({"arrays": stated, "tiles": rows}))
    return folder


def recipe(
    *, objective: str = "vanilla", norm: str = "instance", norm_g: str = "instance", terms: tuple[str, ...] = ("l1",),
    steps: int = 6, every: int = 3, batch: int = 4, updates: tuple[int, int] = (1, 1), dropout: float = 0.0,
    tile: int = TILE, scales: int = 1, skip: str = "concat", **parts: Any,
) -> Recipe:  # fmt: skip
    """A recipe of narrow networks at 32 px; `updates` is (generator, discriminator)."""
    fields = {
        "data": LAYOUTS.options("synthetic")(tile=tile),
        "generator": GENERATORS.options("unet")(width=4, norm=norm_g, dropout=dropout, skip=skip),
        "discriminator": DISCRIMINATORS.options("patchgan")(width=4, layers=2, norm=norm, scales=scales),
        "objective": OBJECTIVES.options(objective)(),
        "terms": {name: TERMS.options(name)(weight=10.0) for name in terms},
        "budget": Budget(generator_updates=steps),
        "evaluate": Evaluate(every=every),
        "optimizer": Optimizer(lr=1e-3),
        "updates": Updates(generator=updates[0], discriminator=updates[1]),
        "batch": batch,
    }
    return Recipe(**{**fields, **parts})


def stage(of: Recipe, timing: Timing, *, terms: dict[str, float] | None = None, **changes: Any) -> Stage:
    """A stage of the recipe's own terms, optimizer and adversarial weight, but for what is named."""
    chosen = of.terms if terms is None else {name: TERMS.options(name)(weight=terms[name]) for name in sorted(terms)}
    return replace(Stage(timing, chosen, of.optimizer, of.objective.adv_weight), **changes)


def changed(record: Any, path: str, value: Any) -> Any:
    """The record with the option at a dotted path replaced; mappings and tuples of records are walked into."""
    key, _, rest = path.partition(".")
    if is_dataclass(record):
        assert key in {field.name for field in fields(record)}, path
        return replace(record, **{key: changed(getattr(record, key), rest, value) if rest else value})
    if isinstance(record, tuple):
        index = int(key)
        return (*record[:index], changed(record[index], rest, value) if rest else value, *record[index + 1 :])
    return {**record, key: changed(record[key], rest, value) if rest else value}


def spec(of: Recipe, *, ranks: int = 1, seed: int = 3) -> TrialSpec:
    return TrialSpec(recipe=of.to_document(), seed=seed, ranks=ranks, threads=1, device="cpu", data="tiny")


def training(
    of: Recipe, data: Path, ranks: Ranks | None = None, *, seed: int = 3, start: dict[str, Path] | None = None,
    ways: tuple[str, ...] = (),
):  # fmt: skip
    """The networks of the recipe before their first update, on the prepared data set in a folder."""
    from trainers.tiles import Tiles
    from trainers.training import Training

    ranks = ranks or Ranks()
    return Training(of, spec(of, ranks=ranks.size, seed=seed), Tiles.open(data), ranks, start, ways)


def logged(training) -> dict[str, float]:
    """What was logged since the last time, as a trial reports it."""
    return training.window.close(training.ranks).values(training.steps.objective.threshold)


def tensors(state: Any, at: str = "") -> dict[str, torch.Tensor]:
    """Every number of a nested state, by its path."""
    if isinstance(state, torch.Tensor):
        return {at: state.detach().clone()}
    if isinstance(state, int | float):
        return {at: torch.tensor(state, dtype=torch.float64)}
    pairs = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {path: value for key, item in pairs for path, value in tensors(item, f"{at}/{key}").items()}


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def trial_folder(root: Path, of: TrialSpec, name: str = "trial", metrics: tuple[str, ...] = METRICS) -> TrialFolder:
    """A trial folder under root/trials with its spec.json, and the data set under root/cache."""
    tile = of.recipe["data"]["tile"]
    cache = f"tiny{tile}" if tile != TILE else "tiny"
    if not (root / "cache" / cache).exists():
        prepared(root / "cache" / cache, tile=tile)
    folder = TrialFolder(root / "trials" / name)
    document = {"spec": of.to_json(), "metrics": list(metrics), "cache": f"../../cache/{cache}"}
    write_atomically(folder.spec, json.dumps(document))
    return folder
