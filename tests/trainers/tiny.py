"""Tiny prepared data and recipes for tests that train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ablate.records import TrialFolder, TrialSpec, write_atomically
from trainers.families import DISCRIMINATORS, GENERATORS, LAYOUTS, OBJECTIVES, TERMS
from trainers.recipe import Budget, Evaluate, Optimizer, Recipe, Updates

TILE, BANDS_SAR, BANDS_OPTICAL = 32, 2, 3
METRICS = ("gmsd", "ssim", "psnr", "mae")


def prepared(folder: Path, *, tiles: int = 24) -> Path:
    """A prepared data set of smooth random tiles, four to a scene, in three splits."""
    from scipy.ndimage import gaussian_filter

    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    optical = gaussian_filter(draw.normal(size=(tiles, BANDS_OPTICAL, TILE, TILE)), (0, 0, 3, 3))
    optical = np.tanh(optical / optical.std())
    sar = np.clip(optical[:, :BANDS_SAR] + 0.3 * draw.normal(size=(tiles, BANDS_SAR, TILE, TILE)), -1, 1)
    mask = np.ones((tiles, 1, TILE, TILE))
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
    **parts: Any,
) -> Recipe:  # fmt: skip
    """A recipe of narrow networks at 32 px; `updates` is (generator, discriminator)."""
    fields = {
        "data": LAYOUTS.options("synthetic")(tile=TILE),
        "generator": GENERATORS.options("unet")(width=4, norm=norm_g, dropout=dropout),
        "discriminator": DISCRIMINATORS.options("patchgan")(width=4, layers=2, norm=norm),
        "objective": OBJECTIVES.options(objective)(),
        "terms": {name: TERMS.options(name)(weight=10.0) for name in terms},
        "budget": Budget(generator_updates=steps),
        "evaluate": Evaluate(every=every),
        "optimizer": Optimizer(lr=1e-3),
        "updates": Updates(generator=updates[0], discriminator=updates[1]),
        "batch": batch,
    }
    return Recipe(**{**fields, **parts})


def spec(of: Recipe, *, ranks: int = 1, seed: int = 3) -> TrialSpec:
    return TrialSpec(recipe=of.to_document(), seed=seed, ranks=ranks, threads=1, device="cpu", data="tiny")


def trial_folder(root: Path, of: TrialSpec, name: str = "trial") -> TrialFolder:
    """A trial folder under root/trials with its spec.json, and the data set under root/cache."""
    if not (root / "cache" / "tiny").exists():
        prepared(root / "cache" / "tiny")
    folder = TrialFolder(root / "trials" / name)
    document = {"spec": of.to_json(), "metrics": list(METRICS), "cache": "../../cache/tiny"}
    write_atomically(folder.spec, json.dumps(document))
    return folder
