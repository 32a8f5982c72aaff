"""Two folders of images: equal names (without suffix) in `sar/` and `optical/` are a pair."""

from __future__ import annotations

import os
import re

from trainers.layouts._common import SUFFIXES, Data, Files
from trainers.options import Path, options
from trainers.pairs import DataError, Pair, some, stem


@options
class Options(Data):
    """`scene_pattern` is a regular expression whose first group, searched in the name, is the scene.

    Without it each file is its own scene: right for whole scenes, a leak for tiles cut beforehand.
    """

    root: Path
    sar_folder: str = "sar"
    optical_folder: str = "optical"
    scene_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.scene_pattern is None:
            return
        try:
            groups = re.compile(self.scene_pattern).groups
        except re.error as error:
            raise ValueError(f"scene_pattern {self.scene_pattern!r} is not a regular expression: {error}") from None
        if not groups:
            raise ValueError(f"scene_pattern {self.scene_pattern!r} has no group; put the scene's part in brackets")


def build(data: Options) -> Files:
    sar = _images(os.path.join(data.root, data.sar_folder))
    optical = _images(os.path.join(data.root, data.optical_folder))
    _refuse_single(data, sorted(set(sar) ^ set(optical)), sar)
    pairs = [Pair(name, _scene(data, name), sar[name], optical[name]) for name in sorted(sar)]
    return Files(pairs, data.sar, data.optical, stride=data.tile)


def _images(folder: str) -> dict[str, str]:
    """Name without suffix -> path of every image below a folder. Raises DataError where there is none."""
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder")
    found: dict[str, str] = {}
    for parent, _, files in os.walk(folder):
        for file in files:
            if file.startswith(".") or not file.lower().endswith(SUFFIXES):
                continue
            path = os.path.join(parent, file)
            name = stem(os.path.relpath(path, folder))
            if name in found:
                raise DataError(f"{path}: the same name as {found[name]}; one image a name")
            found[name] = path
    if not found:
        raise DataError(f"{folder}: holds no image; allowed are {', '.join(SUFFIXES)}")
    return found


def _refuse_single(data: Options, single: list[str], sar: dict[str, str]) -> None:
    if single:
        sides = [f"{name} (only in {data.sar_folder if name in sar else data.optical_folder})" for name in single]
        raise DataError(f"{data.root}: {len(single)} images have no partner of the same name: {some(sides)}")


def _scene(data: Options, name: str) -> str:
    if data.scene_pattern is None:
        return name
    match = re.search(data.scene_pattern, name)
    if not match or match[1] is None:
        raise DataError(f"{data.root}: scene_pattern {data.scene_pattern!r} finds no scene in the name {name!r}")
    return match[1]
