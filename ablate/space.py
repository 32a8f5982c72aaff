"""What a study takes on disk, counted from its recipes before anything runs, and whether there is room for it.

Networks are counted parameter by parameter from their options. Where the data are not prepared yet, they are taken to
have two SAR and three optical bands, and their tiles are counted from the sizes of some images; samples and pictures
are taken as if nothing could be compressed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate import events
from ablate.mlflow_store import resolve
from ablate.plan import Plan
from ablate.records import StudyFolder
from ablate.searchplan import foreseen
from trainers.families import DISCRIMINATORS, GENERATORS, LAYOUTS, Family, build, part_name
from trainers.pairs import DataError
from trainers.recipe import Recipe
from trainers.sizes import NUMBER
from trainers.windows import corners

GENERATIONS = 3  # of checkpoints: two, and a third while it is written
MOMENTS = 2  # numbers that Adam keeps for each parameter
BANDS = ("VV", "VH"), ("red", "green", "blue")  # unless they are known
PICTURES = 4  # tiles of a sample
CODE = 2  # bytes of a prepared value, one with the mask's
LINE = 12 * 2**10  # of a line of a stream, with its rows in Optuna's and MLflow's tables (measured: 11 kB)
RESERVE = 200 * 2**20  # for report, stores and logs
LOOKED_AT = 50  # images whose size is read


@dataclass(frozen=True)
class Trial:
    """Bytes that one trial takes: of one checkpoint, and of what it keeps (weights, and samples with all records)."""

    checkpoint: int
    weights: int
    records: int

    @property
    def kept(self) -> int:
        return self.weights + self.records


@dataclass(frozen=True)
class Need:
    """Bytes that a study will still write. None is what can't be known; `free` is what its file system has left."""

    trials: int | None  # kept by the trials that are left
    checkpoints: int | None  # three of each trial that runs at a time, those there are already left out
    branches: int | None  # checkpoints that others go on from, of as many trials as run at a time
    cache: int | None  # prepared data that isn't there yet
    free: int
    number: int  # of trials left
    weights: int  # of the largest generator that is kept
    checkpoint: int  # the largest
    slots: int
    bands_known: bool

    @property
    def known(self) -> int:
        """The sum of what is known."""
        return sum(part or 0 for part in (self.trials, self.checkpoints, self.branches, self.cache))

    @property
    def fits(self) -> bool:
        return not self.number or self.known + RESERVE <= self.free

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "needed": self.known, "reserve": RESERVE, "fits": self.fits}


def need(plan: Plan, runs: Path) -> Need:
    """What is left to write of a plan under `runs`, the arms that a search has yet to draw taken as its base."""
    plan, folder = foreseen(plan), StudyFolder(runs, plan.study.name)
    arms = {cell.trial: cell.arm for cell in reversed(plan.cells)}
    left = [id for id in plan.specs if not isinstance(events.last(folder.trial(id).events), events.Ended)]
    bands = {key: _bands(runs, key, options) for key, options in plan.data.items()}
    local = (resolve(plan.study.tracking.mlflow, folder) or "").startswith("sqlite:")
    sizes: dict[str, Trial | None] = {}
    for id in left:
        if arms[id] not in sizes:
            recipe, kept = plan.arm(arms[id]).resolved.recipe, plan.study.keep == "generator"
            sizes[arms[id]] = of_trial(recipe, bands[plan.specs[id].data][0], kept=kept, pictures=local)
    each = [sizes[arms[id]] for id in left]
    known, slots = [one for one in each if one], min(plan.slots, len(left))
    largest = sorted((one.checkpoint for one in known), reverse=True)[:slots]
    there = sum(_size(folder.trial(id).checkpoints) for id in left)
    branches = _branches(plan, folder, {id: one for id, one in zip(left, each, strict=True) if one})
    return Need(
        trials=sum(one.kept for one in known) if len(known) == len(each) else None,
        checkpoints=max(0, GENERATIONS * sum(largest) - there) if len(known) == len(each) else None,
        branches=sum(branches[:slots]) if len(known) == len(each) else None,
        cache=_unprepared(plan, runs), free=free(runs), number=len(left),
        weights=max((one.weights for one in known), default=0), checkpoint=max(largest, default=0), slots=slots,
        bands_known=all(known for _, known in bands.values()),
    )  # fmt: skip


def _branches(plan: Plan, folder: StudyFolder, left: Mapping[str, Trial]) -> list[int]:
    """Bytes of the branches that each trial that is left has yet to leave for others, the largest first.

    A trial that goes on from one runs before another that will leave some, so that no more trials than run at a time
    keep any.
    """
    points: dict[str, set[int]] = {}
    for id, branch in plan.branches.items():
        if id in left and branch.trunk in left:
            points.setdefault(branch.trunk, set()).add(branch.step)
    sizes = (len(steps) * left[id].checkpoint - _size(folder.trial(id).branches) for id, steps in points.items())
    return sorted((max(0, size) for size in sizes), reverse=True)


def of_trial(recipe: Recipe, bands: tuple[int, int], *, kept: bool = True, pictures: bool = True) -> Trial | None:
    """What a trial of a recipe takes; None where a network can't count its parameters.

    `kept` says whether it keeps its generator, `pictures` whether a local MLflow store has its samples as well.
    """
    tile, (sar, optical) = recipe.data.tile, bands
    generator = _parameters(GENERATORS, recipe.generator, tile=tile, bands_in=sar, bands_out=optical)
    discriminator = _parameters(DISCRIMINATORS, recipe.discriminator, bands=sar + optical)
    if generator is None or discriminator is None:
        return None
    average = generator if recipe.ema.decay else 0
    pixels, evaluations = PICTURES * tile**2, len(recipe.eval_steps)
    sample = pixels * (1 + 3 + 3) + (pixels * 9 * 5 // 4 if pictures else 0)  # the PNG of three columns, its preview
    lines = len({*recipe.eval_steps, *recipe.reading_steps}) + evaluations
    return Trial(
        checkpoint=NUMBER * ((1 + MOMENTS) * (generator + discriminator) + average),
        weights=NUMBER * generator if kept else 0, records=evaluations * sample + lines * LINE,
    )  # fmt: skip


def _parameters(family: Family, part: object, **context: int) -> int | None:
    count = getattr(family.part(part_name(part)), "parameters", None)
    return count(part, **context) if count else None


# -- data -------------------------------------------------------------------------------------------------


def _bands(runs: Path, fingerprint: str, options: Any) -> tuple[tuple[int, int], bool]:
    """SAR and optical bands of a data set, and whether they are known: prepared, or named by its options."""
    try:
        arrays = json.loads((StudyFolder(runs, "").cache / fingerprint / "meta.json").read_text())["arrays"]
        return (arrays["sar"]["shape"][1], arrays["optical"]["shape"][1]), True
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        sar, optical = options.sar.bands, options.optical.bands
        return (len(sar or BANDS[0]), len(optical or BANDS[1])), bool(sar and optical)


def _unprepared(plan: Plan, runs: Path) -> int | None:
    """Bytes of the data sets that are still to be prepared, by the sizes of some images; None for one unreadable."""
    cache = StudyFolder(runs, "").cache
    missing = {key: options for key, options in plan.data.items() if not (cache / key).is_dir()}
    try:
        return sum(_prepared(options, _bands(runs, key, options)[0]) for key, options in missing.items())
    except (DataError, OSError):
        return None  # `ablate run` says what is wrong with it


def _prepared(options: Any, bands: tuple[int, int]) -> int:
    """At most: as if all scenes were cut as densely as those of training, and no tile dropped."""
    source = build(LAYOUTS, options)
    step = max(1, len(source.pairs) // LOOKED_AT)
    seen = [len(corners(source.shape(pair), options.tile, source.stride)) for pair in source.pairs[::step]]
    tiles = sum(seen) * len(source.pairs) / max(1, len(seen))
    return round(tiles * options.tile**2 * (CODE * sum(bands) + 1))


# -- the file system --------------------------------------------------------------------------------------


def free(runs: Path) -> int:
    """Bytes that are free where `runs` lies, or is to lie."""
    there = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def shortage(plan: Plan, runs: Path) -> str:
    """Why the rest of the plan doesn't fit onto the disk, with both numbers; empty where it does, as far as known."""
    found = need(plan, runs)
    if found.fits:
        return ""
    return (f"{runs}: {in_bytes(found.free)} are free, and the study takes about {in_bytes(found.known)} more"
            f" ({in_words(found)}), with {in_bytes(RESERVE)} in reserve for report and stores; make room"
            " (`ablate clean`), name another folder (--runs), keep no weights (--set keep=nothing), or run fewer trials"
            " at a time (--set resources.slots=1)")  # fmt: skip


def in_words(found: Need | Mapping[str, Any]) -> str:
    """What the parts of a need are, comma by comma; a part that isn't known is named as such."""
    facts = vars(found) if isinstance(found, Need) else found
    number, slots = facts["number"], facts["slots"]
    parts = ["what trials keep is not known, since a network of theirs does not count its parameters"]
    if facts["trials"] is not None:
        each = f"{in_bytes(facts['weights'])} of weights each" if facts["weights"] else "no weights"
        those = "the trial that runs" if slots == 1 else f"each of the {slots} trials that run"
        kept = f"{number} trial{'s' * (number != 1)} keep{'s' * (number == 1)} {in_bytes(facts['trials'])} ({each})"
        several = f"{GENERATIONS} checkpoints of {in_bytes(facts['checkpoint'])} for {those}"
        parts = [kept, f"{in_bytes(facts['checkpoints'])} meanwhile ({several})"]
        parts += [f"{in_bytes(facts['branches'])} for others to go on from"] if facts["branches"] else []
    bands = "" if facts["bands_known"] else f", if they have {' + '.join(str(len(bands)) for bands in BANDS)} bands"
    cache = "prepared data of unknown size" if facts["cache"] is None else f"prepared data {in_bytes(facts['cache'])}"
    return ", ".join([*parts, *([] if facts["cache"] == 0 else [cache + bands])])


def in_bytes(number: float) -> str:
    """A size for people: 3 digits, in B, KiB, MiB or GiB."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}" if number < 1000 else f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
