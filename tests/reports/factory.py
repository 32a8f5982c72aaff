"""Study folders for tests, written with the real writer from plain tables of numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np

from ablate.events import Ended, EventWriter, Measured, Started, Warned
from ablate.records import StudyFolder, TrialFolder, digest

PSNR = {"name": "psnr", "label": "PSNR", "unit": "dB", "goal": "max", "split": "validation", "smallest_effect": 0.1}
GMSD = {"name": "gmsd", "label": "GMSD", "unit": "", "goal": "min"}
SSIM = {"name": "ssim", "label": "SSIM", "unit": "", "goal": "max"}
REFERENCES = {
    "mean_colour": {"psnr": 15.0, "gmsd": 0.31},
    "linear_map": {"psnr": 16.5, "gmsd": 0.29},
    "random_partner": {"psnr": 12.0, "gmsd": 0.33},
}


def table(arms: Mapping[str, float], seeds: int, *, spread: float = 0.2, block: float = 0.5, draw: int = 0):
    """Scores {arm: (value per seed)} with the given true means, residual sd and sd over seeds."""
    random = np.random.default_rng(draw)
    shared = random.normal(0, block, seeds)
    return {
        arm: tuple(float(x) for x in np.round(mean + shared + random.normal(0, spread, seeds), 6))
        for arm, mean in arms.items()
    }


def study(
    runs: Path,
    scores: Mapping[str, Sequence[float | str | None]],
    *,
    name: str = "remedies",
    metric: Mapping = PSNR,
    also: Sequence[Mapping] = (GMSD,),
    references: Mapping[str, Mapping[str, float]] = REFERENCES,
    flags: Mapping[tuple[str, int], tuple[str, int]] | None = None,
    aliases: Mapping[str, str] | None = None,
    pictures: bool = False,
    shuffle: int | None = None,
    provenance: Mapping | None = None,
    scenes: Mapping[str, float] | None = None,
    readings: int = 15,
    values: Mapping[str, Mapping[str, float]] | None = None,
    tick: float = 0.0,
    twin: Sequence[float] | None = None,
    data: Mapping | None = None,
    terms: Mapping[str, Sequence[str]] | None = None,
    drawn: Mapping[str, Mapping] | None = None,
    looks: Sequence[Mapping] | None = None,
    **plan,
) -> Path:
    """Write a study; each score is a number, None (not run), or "diverged", "failed", "running", ...

    `aliases` maps further arm names to the arm whose trials they share. `scenes` maps a scene to what its tiles score
    above the mean (NaN: no valid pixel). `values` gives further final values by metric and arm. `tick` is the time
    in seconds from one event to the next. `twin` are the scores of the A/A arm. `data` is what data.json adds,
    `terms` the loss terms of an arm, `drawn` what a search drew for it, `looks` those of a race.
    """
    folder = StudyFolder(runs, name)
    seeds = list(range(1, 1 + max(len(row) for row in scores.values())))
    cells = [
        {"arm": arm, "seed": seed, "trial": digest([owner, seed])}
        for arm, owner in [(arm, arm) for arm in scores] + list((aliases or {}).items())
        for seed in seeds
    ]
    if twin is not None:
        cells += [{"arm": TWIN, "seed": seed, "trial": digest([TWIN, seed])} for seed in seeds]
    document = {
        "schema": 1, "name": name, "question": "Which remedies sharpen a Pix2Pix for SAR -> optical?",
        "trainer": "pix2pix", "design": "one_at_a_time", "metric": dict(metric), "also": [dict(m) for m in also],
        "failure": {"score": "mean_colour"}, "seeds": seeds,
        "arms": [_arm(arm) for arm in [*scores, *(aliases or {})]]
        + ([_arm(TWIN) | {"changes": {}, "twin_of": "base"}] if twin is not None else []),
        "cells": cells, "resources": {"ranks": 2, "threads": 1, "device": "cpu"}, "warnings": [],
        "data": {"fingerprint": "5f2a9c", "layout": "synthetic"}, "hash": "0123456789ab", **plan,
    }  # fmt: skip
    for arm in document["arms"]:
        arm |= {"terms": list(terms.get(arm["name"], ["l1"]))} if terms else {}
        if arm["name"] in (drawn or {}):
            own = drawn[arm["name"]]
            arm |= {"sampled": dict(own), "changes": {key: str(value) for key, value in own.items()}}
            arm["differences"] = {key: [None, value] for key, value in own.items()}
    if shuffle is not None:
        np.random.default_rng(shuffle).shuffle(document["cells"])
    folder.root.mkdir(parents=True)
    folder.plan.write_text(json.dumps(document))
    if looks is not None:
        folder.race.write_text(json.dumps({"looks": looks}))
    if data is not None:
        folder.data.write_text(json.dumps(data))
    if provenance is not None:
        folder.provenance.write_text(json.dumps(provenance))
    rows = {**scores, **({TWIN: twin} if twin is not None else {})}
    for arm, row in rows.items():
        for seed, score in zip(seeds, row, strict=True):
            if score is not None:
                trial = folder.trial(digest([arm, seed]))
                more = {name: row[arm] for name, row in (values or {}).items() if arm in row}
                _trial(trial, score, metric, (flags or {}).get((arm, seed)), seed=seed, more=more,
                       readings=readings, tick=tick)  # fmt: skip
                if scenes and not isinstance(score, str):
                    _scores(trial.scores, metric["name"], score, scenes, [seed, len(arm), *arm.encode()])
                if pictures and not isinstance(score, str):
                    _pictures(trial.samples, seed)
    _references(folder, references, metric.get("split", "validation"))
    return folder.root


TWIN = "base again (A/A)"


def _arm(name: str) -> dict:
    pairs = [part.partition("=") for part in name.split("+")] if name != "base" else []
    changes = {factor: level or "on" for factor, _, level in pairs}
    return {
        "name": name, "changes": changes,
        "differences": {f"optimizer.{factor}": ["default", level] for factor, level in changes.items()},
        "generator_updates": 120, "images": 480, "notes": [],
    }  # fmt: skip


KINDS = {"D dominates": "d_dominant", "Training diverged": "diverged", "G has collapsed": "collapsed"}
ENDS = {
    "diverged": "Training diverged: not finite: loss_g",
    "collapsed": "G has collapsed: its output varies over tiles by 1.0% of the truth's, for 3 windows in a row",
}


def _trial(trial: TrialFolder, score, metric: Mapping, flag, *, seed: int, more, readings: int, tick: float) -> None:
    trial.root.mkdir(parents=True)
    if score == "spared":  # by a race: the driver writes the end of what never starts
        writer = EventWriter(trial.events, clock=lambda: 0.0)
        writer.append(Ended, step=0, images=0, status="stopped", why="race: left the best set")
        return writer.close()
    times = count(0.0, tick)
    writer = EventWriter(trial.events, clock=lambda: next(times))
    writer.append(Started, world_size=2, threads=1, device="cpu", versions={"torch": "2.13"})
    goes, metric, split = not isinstance(score, str), metric["name"], metric.get("split", "validation")
    final = score if goes else 14.0
    scored = (24, 48, 72, 96, 120)
    read = sorted({*scored, *(round(120 * (index + 1) / readings) for index in range(readings))})
    restless = np.random.default_rng(seed).normal(0, 0.002, len(read))
    for step, shift in zip(read, restless, strict=True):
        if not goes and step > 48:
            break
        share = step / 120
        writer.append(Measured, step=step, images=4 * step, split="train", values={
            "loss_d": 1.4 - share, "loss_g_adv": 0.7 + share, "health/accuracy_real": 0.6 + 0.3 * share,
            "health/accuracy_fake": 0.5 + 0.4 * share, "health/output_variance": 0.1 + 0.5 * share,
            "health/probe_l1": 0.5 - 0.2 * share + float(shift) * (final if math.isfinite(final) else 1) / 17,
        })  # fmt: skip
        if step in scored and (split == "validation" or share == 1):
            writer.append(Measured, step=step, images=4 * step, split=split, values={
                metric: final - (1 - share) * abs(final) * 0.2, "gmsd": 0.3 - 0.02 * share - 0.001 * (final - 17)}
                | ({metric: final, **more} if share == 1 else {}))  # fmt: skip
    message = flag[0] if flag else ENDS.get(score, "") if isinstance(score, str) else ""
    if message:
        writer.append(Warned, step=flag[1] if flag else 48, message=message)
    kind = KINDS.get(message.partition(":")[0], "healthy")
    health = {"diagnosis": kind, "findings": {kind: message} if message else {}}
    if goes:
        writer.append(Ended, step=120, images=480, status="done", seconds=5.0, **health)
    elif score == "broken":
        (trial.root / "error.0.json").write_text(json.dumps({"message": "killed"}))
    elif score != "running":
        why = {
            "diverged": "not finite at update 48: loss_g",
            "failed": "rank 1 was ended by SIGKILL; resumed 5 times",
            "arm": "arm: OutOfMemoryError at batch 8",
        }.get(score, message)
        status = "failed" if score == "arm" else score
        health = {} if status == "failed" else health  # an end that the driver wrote
        writer.append(Ended, step=48, images=192, status=status, why=why, seconds=2.0, **health)
    writer.close()


def _scores(path: Path, metric: str, score: float, scenes: Mapping[str, float], seed: list[int]) -> None:
    """A row a tile, six tiles a scene; the mean over scenes of their finite means is near the run's score."""
    random = np.random.default_rng(seed)
    lines = [f"tile,scene,{metric}"]
    for scene, shift in scenes.items():
        shift += random.normal(0, 0.15)
        lines += [f"{scene}/tile_{t},{scene},{float(score + shift + random.normal(0, 0.1))!r}" for t in range(6)]
    path.write_text("\n".join(lines) + "\n")


def _pictures(folder: Path, seed: int, *, tiles: int = 4, size: int = 64) -> None:
    folder.mkdir(parents=True)
    row, column = np.mgrid[0:size, 0:size]
    real = np.stack([np.stack([row * 3, column * 3, (row + column + 20 * t) % 255], -1) for t in range(tiles)])
    noise = np.random.default_rng(seed).normal(0, 25, real.shape)
    np.savez_compressed(
        folder / "000120.npz",
        sar=real[..., 0].astype(np.uint8), fake=np.clip(real + noise, 0, 255).astype(np.uint8),
        real=real.astype(np.uint8), names=np.array([f"scene_{t:02d}/tile_{t}" for t in range(tiles)]),
    )  # fmt: skip


def _references(folder: StudyFolder, references: Mapping[str, Mapping[str, float]], split: str) -> None:
    if not references:
        return
    writer = EventWriter(folder.references.events, clock=lambda: 0.0)
    values = {f"{name}/{metric}": value for name, row in references.items() for metric, value in row.items()}
    writer.append(Measured, step=0, images=0, split=split, values=values)
    writer.append(Ended, step=0, images=0, status="done")
    writer.close()


STABILIZER = {
    "base": 17.0, "loss=ssim": 15.9, "loss=charbonnier": 17.0, "loss=l1_ssim": 17.15, "loss=charbonnier_ssim": 17.1,
    "loss=l1_gradient": 17.05, "lambda=10": 16.4, "lambda=50": 16.9, "lambda=200": 17.1, "lr_ratio=half": 17.2,
    "lr_ratio=quarter": 17.3, "lr_ratio=tenth": 17.9, "smoothing=one_sided": 17.05, "smoothing=two_sided": 17.0,
    "batch=2": 16.6, "batch=8": 17.5, "objective=hinge": 17.1, "objective=wgan_gp": 16.2, "norm=batch": 17.0,
    "norm=sync_batch": 17.05, "norm=spectral": 17.4, "updates=two_g": 17.1,
}  # fmt: skip
