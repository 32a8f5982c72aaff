"""SEN1-2 and SEN12MS as published: `SEASON_s1_SCENE_pPATCH` and `SEASON_s2_SCENE_pPATCH`, anywhere below one folder."""

from __future__ import annotations

import os
import re

from trainers.layouts._common import Data, Files
from trainers.layouts._naming import add_once, files_below, is_image
from trainers.layouts._recognised import Recognised
from trainers.options import Path, options
from trainers.pairs import DataError, Left, Pair, some, stem

# ROIs1158_spring_s1_1_p30; SEN12MS adds lc (land cover), its companion SEN12MS-CR s2_cloudy.
NAME = re.compile(r"(?P<season>.+)_(?P<kind>s1|s2|lc|s2_cloudy)_(?P<scene>\d+)_p(?P<patch>\d+)")
LOOKS_LIKE = "images called SEASON_s1_SCENE_pPATCH and SEASON_s2_SCENE_pPATCH"


@options
class Options(Data):
    """A scene is a season's scene number: its patches overlap. Land cover and cloudy images are left aside.

    SEN12MS holds VV and VH in dB and 13 bands of reflectance, SEN1-2 8-bit pictures.
    """

    root: Path


def build(data: Options) -> Files:
    sar, optical, scenes, left = {}, {}, {}, []
    for path in filter(is_image, files_below(data.root)):
        match = NAME.fullmatch(os.path.basename(stem(path)))
        if not match:
            name = stem(os.path.relpath(path, data.root))
            left.append(Left(name, "other_name", f"{path} (not called SEASON_s1_SCENE_pPATCH)"))
        elif match["kind"] in ("s1", "s2"):
            scene = f"{match['season']}_{match['scene']}"
            name = f"{scene}_p{match['patch']}"
            scenes[name] = scene
            add_once(sar if match["kind"] == "s1" else optical, name, path)
    pairs = [Pair(name, scenes[name], (sar[name],), (optical[name],)) for name in sorted(set(sar) & set(optical))]
    left += [_single(name, sar, optical) for name in sorted(set(sar) ^ set(optical))]
    if not pairs:
        raise DataError(
            f"{data.root}: no SEASON_s1_SCENE_pPATCH image has its _s2_ partner: "
            f"{some([one.detail for one in left]) or 'there is no image'}"
        )
    return Files(pairs, data, stride=data.tile, left=left)


def _single(name: str, sar: dict[str, str], optical: dict[str, str]) -> Left:
    if name in sar:
        return Left(name, "no_partner", f"{sar[name]} (its s2 image is absent)")
    return Left(name, "no_partner", f"{optical[name]} (its s1 image is absent)")


def recognise(root: str) -> Recognised | None:
    """Whether images of both kinds are called so."""
    kinds: set[str] = set()
    for path in filter(is_image, files_below(root)):
        match = NAME.fullmatch(os.path.basename(stem(path)))
        kinds |= {match["kind"]} if match else set()
        if kinds >= {"s1", "s2"}:
            return Recognised({"root": root}, "SEN1-2 or SEN12MS, by the names of its files", sure=3)
    return None
