"""BigEarthNet with Sentinel-1: patches that `*_labels_metadata.json` links, one file per band and polarisation."""

from __future__ import annotations

import json
import os
import re
from typing import Literal

from trainers.layouts._common import Data, Files
from trainers.layouts._naming import add_once, files_below
from trainers.layouts._recognised import Recognised
from trainers.options import Path, options
from trainers.pairs import DataError, Left, Pair, some

METADATA = "_labels_metadata.json"
LOOKS_LIKE = "patches with *_labels_metadata.json, a file a band"
PATCH = re.compile(r".*_(?P<tile>\d{2}[A-Z]{3})_\d+_\d+")  # S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48

Band = Literal["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]


@options
class Options(Data):
    """`optical_bands` is in the order red, green, blue. B02, B03, B04 and B08 lie on the SAR's 10-m grid; the other
    bands, of 20 or 60 m, need `resample`.

    A scene is a Sentinel-2 tile (33UUP), all dates of it: its patches are neighbours, and later ones show the same
    ground.
    """

    root: Path
    polarisations: tuple[Literal["VV", "VH"], ...] = ("VV", "VH")
    optical_bands: tuple[Band, ...] = ("B04", "B03", "B02")

    def __post_init__(self) -> None:
        for name in ("polarisations", "optical_bands"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; name one at least")


def build(data: Options) -> Files:
    folders = _patches(data.root)
    links = {patch: _link(patch, folders) for patch in sorted(folders) if PATCH.fullmatch(patch)}
    found = [_pair(data, patch, link, folders) for patch, link in links.items()]
    pairs = [one for one in found if isinstance(one, Pair)]
    left = [one for one in found if isinstance(one, Left)]
    if not pairs:
        raise DataError(
            f"{data.root}: no Sentinel-1 patch is linked with a Sentinel-2 patch by its *{METADATA}: "
            f"{some([one.detail for one in left]) or 'there is no Sentinel-1 patch'}"
        )
    alone = sorted(set(folders) - set(links) - {link for link in links.values() if isinstance(link, str)})
    left += [Left(patch, "no_partner", f"{folders[patch]} (no Sentinel-1 patch names it)") for patch in alone]
    return Files(pairs, data, stride=data.tile, left=left)


def _patches(root: str) -> dict[str, str]:
    """Patch -> its folder: one that holds files called PATCH_..."""
    folders: dict[str, str] = {}
    for path in files_below(root):
        folder, file = os.path.split(path)
        patch = os.path.basename(folder)
        if file.startswith(f"{patch}_") and folders.get(patch) != folder:
            add_once(folders, patch, folder)
    return folders


def _link(patch: str, folders: dict[str, str]) -> str | Left:
    """The Sentinel-2 patch of a Sentinel-1 patch."""
    try:
        return _partner(os.path.join(folders[patch], patch + METADATA))
    except DataError as error:
        return Left(patch, "bad_metadata", str(error))


def _pair(data: Options, patch: str, link: str | Left, folders: dict[str, str]) -> Pair | Left:
    if isinstance(link, Left):
        return link
    if link not in folders:
        return Left(patch, "no_partner", f"{folders[patch]} (its Sentinel-2 patch {link} is absent)")
    sar = _files(folders[patch], patch, data.polarisations)
    optical = _files(folders[link], link, data.optical_bands)
    absent = [path for path in (*sar, *optical) if not os.path.isfile(path)]
    if absent:
        return Left(patch, "no_band", f"{absent[0]} (absent)")
    return Pair(patch, PATCH.fullmatch(patch)["tile"], sar, optical)


def _partner(path: str) -> str:
    """The Sentinel-2 patch that a metadata file names. Raises DataError where it names none."""
    try:
        with open(path, encoding="utf-8") as file:
            partner = json.load(file)["corresponding_s2_patch"]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON mapping with corresponding_s2_patch: {error!r}") from None
    if not isinstance(partner, str):
        raise DataError(f"{path}: corresponding_s2_patch is {partner!r}, not the name of a patch")
    return partner


def _files(folder: str, patch: str, bands: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(os.path.join(folder, f"{patch}_{band}.tif") for band in bands)


def recognise(root: str) -> Recognised | None:
    """Whether a Sentinel-1 patch below names its Sentinel-2 patch."""
    for path in files_below(root):
        if path.endswith(METADATA) and PATCH.fullmatch(os.path.basename(path).removesuffix(METADATA)):
            return Recognised({"root": root}, "BigEarthNet patches, linked by their metadata", sure=3)
    return None
