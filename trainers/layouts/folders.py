"""Two folders of images: equal names (without suffix) in `sar/` and `optical/` are a pair."""

from __future__ import annotations

import os

from trainers.layouts._common import Data, Files
from trainers.layouts._naming import add_once, check_pattern, images, part_of
from trainers.layouts._recognised import Recognised, scene_pattern
from trainers.options import Path, options
from trainers.pairs import DataError, Left, Pair, some

# Words in a folder's name, from the most telling on.
SAR_WORDS = ("sar", "s1", "sentinel1", "sentinel-1", "radar", "vv", "traina")
OPTICAL_WORDS = ("optical", "rgb", "opt", "s2", "sentinel2", "sentinel-2", "eo", "trainb")
NAME_PATTERNS = (r"^(.+?)[_-][sS][12]",)  # Spain_7370579_S1Hand, Spain_7370579_S2Hand
LOOKS_LIKE = "two folders of images with equal names, such as sar/ and optical/"


@options
class Options(Data):
    """`scene_pattern` is a regular expression whose first group, searched in the name, is the scene.

    Without it each file is its own scene: right for whole scenes, a leak for tiles cut beforehand.

    `name_pattern` likewise finds what the two names of a pair share (`(.*)_S[12]Hand`); by default all.
    """

    root: Path
    sar_folder: str = "sar"
    optical_folder: str = "optical"
    name_pattern: str | None = None
    scene_pattern: str | None = None

    def __post_init__(self) -> None:
        check_pattern("name_pattern", self.name_pattern)
        check_pattern("scene_pattern", self.scene_pattern)


def build(data: Options) -> Files:
    pairs, left = pair_up(data)
    return Files(pairs, data, stride=data.tile, left=left)


def pair_up(data: Options) -> tuple[list[Pair], list[Left]]:
    """Pairs of equal names, and images that have no partner. Raises DataError where no image has one."""
    sar, optical = (_named(data, os.path.join(data.root, folder)) for folder in (data.sar_folder, data.optical_folder))
    both = sorted(set(sar) & set(optical))
    if not both:
        raise DataError(
            f"{data.root}: no image has a partner of the same name; {data.sar_folder} holds {some(sorted(sar))}, "
            f"{data.optical_folder} holds {some(sorted(optical))}"
        )
    pairs = [Pair(name, _scene(data, name), (sar[name],), (optical[name],)) for name in both]
    return pairs, [_single(data, name, sar) for name in sorted(set(sar) ^ set(optical))]


def _named(data: Options, folder: str) -> dict[str, str]:
    """What the names of a pair share -> path, of every image below a folder."""
    found: dict[str, str] = {}
    for name, path in images(folder).items():
        add_once(found, part_of(name, data.name_pattern, option="name_pattern", where=folder), path)
    return found


def _scene(data: Options, name: str) -> str:
    return part_of(name, data.scene_pattern, option="scene_pattern", where=data.root)


def _single(data: Options, name: str, sar: dict[str, str]) -> Left:
    """An image without a partner of the same name."""
    here = data.sar_folder if name in sar else data.optical_folder
    return Left(name, "no_partner", f"{name} (only in {os.path.join(data.root, here)})")


def recognise(root: str) -> Recognised | None:
    """Two folders side by side whose images have names in common, and which of them is SAR."""
    return next(filter(None, (_recognised(root, pattern) for pattern in (None, *NAME_PATTERNS))), None)


def _recognised(root: str, name_pattern: str | None) -> Recognised | None:
    found = _folders_of_images(root, name_pattern)
    ranked = [
        (_word(sar, SAR_WORDS), _word(optical, OPTICAL_WORDS), sar, optical)
        for sar in found for optical in found
        if sar != optical and 2 * len(found[sar] & found[optical]) > min(len(found[sar]), len(found[optical]))
    ]  # fmt: skip
    named = sorted(pair for pair in ranked if pair[0] < len(SAR_WORDS) and pair[1] < len(OPTICAL_WORDS))
    if not named:
        return None
    *_, sar, optical = named[0]
    options = {"root": root, **({"name_pattern": name_pattern} if name_pattern else {})}
    options |= {} if (sar, optical) == ("sar", "optical") else {"sar_folder": sar, "optical_folder": optical}
    pattern = scene_pattern(sorted(found[sar] & found[optical]))
    options |= {"scene_pattern": pattern} if pattern else {}
    scenes = f"scenes by the names of files ({pattern})" if pattern else "every file is a scene"
    doubts = () if pattern else ("every file counts as a scene: if they are tiles of larger ones, set scene_pattern",)
    return Recognised(options, f"folders {sar}/ and {optical}/, equal names pair up", 2, (scenes,), doubts)


def _folders_of_images(root: str, name_pattern: str | None) -> dict[str, set[str]]:
    """Folder -> names of the images in it, or what the pattern finds in them."""
    found = {}
    for entry in sorted(os.listdir(root)):
        if not entry.startswith(".") and os.path.isdir(os.path.join(root, entry)):
            try:
                folder = os.path.join(root, entry)
                names = images(folder)
                found[entry] = {part_of(name, name_pattern, option="name_pattern", where=folder) for name in names}
            except DataError:
                continue
    return found


def _word(folder: str, words: tuple[str, ...]) -> int:
    """The place of the first word that the folder's name holds; their number where it holds none."""
    return next((place for place, word in enumerate(words) if word in folder.lower()), len(words))
