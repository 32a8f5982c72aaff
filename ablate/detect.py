"""Which layout a folder of images has, and what its numbers are: for `ablate init --data` and `ablate data check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainers.domains import NORMALISED, detect_sar
from trainers.families import LAYOUTS, build
from trainers.layouts._common import Data, Source
from trainers.layouts._recognised import Recognised
from trainers.pairs import DataError

LOOKED_AT = 16  # pairs
HEAVY_TAIL = 3.0  # the 99.5 percentile in medians: 4 and more for intensity, about 2 for a picture in [0, 1]
TILES = (256, 128, 64, 32)  # px


@dataclass(frozen=True)
class Detected:
    """Options that read the folder, the source that they give, and what was found, in sentences."""

    data: Data
    source: Source
    options: dict[str, Any]  # as a study writes them, the layout first
    found: tuple[str, ...]
    doubts: tuple[str, ...]


def detect(folder: Path) -> Detected:
    """Raises DataError where no layout is recognised, with what was looked for."""
    if not folder.is_dir():
        raise DataError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    recognised = [(name, found) for name in LAYOUTS.names() if (found := _recognise(name, folder))]
    if not recognised:
        known = "; ".join(f"{name}: {LAYOUTS.part(name).LOOKS_LIKE}" for name in LAYOUTS.names() if _has(name))
        raise DataError(f"{folder}: no layout is recognised. Known are {known}")
    name, best = max(recognised, key=lambda pair: (pair[1].sure, pair[0]))
    options = {"layout": name, **best.options}
    found, doubts = [best.words, *best.found], list(best.doubts)
    source = build(LAYOUTS, LAYOUTS.options(name)(**best.options))
    if differing := _on_other_grids(source):
        options["resample"] = "bilinear"
        doubts.append(f"{differing}: optical images are resampled onto the SAR's; take `resample` out if not meant")
        source = build(LAYOUTS, LAYOUTS.options(name)(**best.options, resample="bilinear"))
    options["tile"] = _tile(source)
    sar, optical = _values(source)
    options |= {key: value for key, value in (("sar", sar[0]), ("optical", optical[0])) if value}
    doubts += [words for words in (sar[1], optical[1]) if words]
    data = LAYOUTS.options(name)(**_typed(name, options))
    scenes = {pair.scene for pair in source.pairs}
    found.append(f"{len(source.pairs)} pairs in {len(scenes)} scenes")
    if source.left:
        doubts.append(f"{len(source.left)} images have no partner; `ablate data check` names them")
    return Detected(data, build(LAYOUTS, data), options, tuple(found), tuple(doubts))


def _values(source: Source) -> tuple[tuple[dict, str], tuple[dict, str]]:
    """What has to be declared of SAR and optical numbers, with a sentence; nothing where they speak for themselves.

    Pairs that can't be read say nothing. Raises DataError where none can, or the two sides seem exchanged.
    """
    kept: tuple[list, list] = ([], [])
    wrong: list[DataError] = []
    for pair in source.pairs[:: max(1, len(source.pairs) // LOOKED_AT)]:
        try:
            images = source.read(pair, shrink=max(1, max(source.shape(pair)) // 256))
        except DataError as error:
            wrong.append(error)
            continue
        for side, image in enumerate(images):
            kept[side].append(image.values[:, image.valid])
    if not kept[0]:
        raise wrong[0]
    sar, optical = (np.concatenate([v for v in values if len(v) == len(values[0])], axis=1) for values in kept)
    if len(sar) >= 3 and sar.min() >= 0 and len(optical) <= 2 and _speaks_db(optical):
        raise DataError(
            f"{source.pairs[0].sar[0]}: what is taken for SAR has {len(sar)} bands and no negative number, and what is "
            "taken for optical holds dB: they seem to be in each other's place; exchange the two folders or columns"
        )
    return _sar(sar, source), _optical(optical, source)


def _speaks_db(values: np.ndarray) -> bool:
    try:
        return detect_sar(values[values != 0].ravel(), values.dtype, example="") == "db"
    except DataError:
        return False


def _sar(values: np.ndarray, source: Source) -> tuple[dict[str, Any], str]:
    try:
        detect_sar(values[values != 0].ravel(), values.dtype, example=source.pairs[0].sar[0])
        return {}, ""
    except DataError:
        low, high = (np.percentile(values.astype(float), share, axis=1) for share in (0.5, 99.5))
        tail = float(np.median(high) / max(float(np.median(values)), 1e-12))
        if float(low.min()) >= 0 and (float(values.max()) > NORMALISED or tail > HEAVY_TAIL):
            return {"domain": "linear"}, (
                "SAR numbers are not negative: taken as intensity (10 log10). If they are amplitudes, set "
                "base.data.sar.domain: amplitude"
            )
        limits = {"low": [round(float(v), 4) for v in low], "high": [round(float(v), 4) for v in high]}
        return {"domain": "display", **limits}, (
            "SAR numbers lie within +-5, as somebody normalised them: taken as they are, from their 0.5 to their 99.5 "
            "percentile. If they are intensities, set base.data.sar: {domain: linear}"
        )


def _optical(values: np.ndarray, source: Source) -> tuple[dict[str, Any], str]:
    if values.dtype.kind != "f" and values.dtype in (np.uint8, np.uint16, np.int16):
        return {}, ""
    top = float(np.percentile(values.astype(float), 99.9))
    high = next((limit for limit in (1.0, 255.0, 10_000.0) if top <= 1.2 * limit), round(top, 4))
    return {"range": [0.0, high]}, f"optical numbers are {values.dtype}: taken as 0..{high:g}"


def _has(name: str) -> bool:
    return hasattr(LAYOUTS.part(name), "recognise")


def _recognise(name: str, folder: Path) -> Recognised | None:
    return LAYOUTS.part(name).recognise(str(folder)) if _has(name) else None


def _on_other_grids(source: Source) -> str:
    """What to say where the first pairs' optical images lie on other grids, and could be resampled; else nothing."""
    for pair in source.pairs[:LOOKED_AT]:
        try:
            source.read(pair, shrink=max(1, max(source.shape(pair)) // 256))
        except DataError as error:
            if "data.resample" in str(error):
                return f"grids differ ({pair.name})"
    return ""


def _tile(source: Source) -> int:
    """The largest of TILES that is the side of most images, or fits into it twice. Raises DataError if none opens."""
    sides = []
    for pair in source.pairs[:: max(1, len(source.pairs) // 50)]:
        try:
            sides.append(min(source.shape(pair)))
        except DataError as error:
            wrong = error
    if not sides:
        raise wrong
    side = sorted(sides)[len(sides) // 4]
    return next((tile for tile in TILES if tile == side or 2 * tile <= side), TILES[-1])


def _typed(name: str, options: dict[str, Any]) -> dict[str, Any]:
    from pydantic import TypeAdapter

    validated = TypeAdapter(LAYOUTS.options(name)).validate_python({k: v for k, v in options.items() if k != "layout"})
    return {field: getattr(validated, field) for field in validated.__dataclass_fields__}
