"""Study: the question, the recipe that every arm changes, and how it is asked; read from YAML.

`load` gives a study only if nothing in it is wrong; otherwise all mistakes at once, each located.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ablate.conditions import Conditions
from ablate.confirm import unfounded
from ablate.design import Design
from ablate.design_keys import read_conditions, read_design, read_full
from ablate.factors import Factors, check_base, check_levels, check_slug, read_factors
from ablate.mlflow_store import unknown_store
from ablate.optuna_storage import VARIABLE
from ablate.postgresql import holds_password, mistake
from ablate.problems import no_such, not_local, shown, without_password
from ablate.race import Race, read_race
from ablate.records import KEPT, StudyFolder
from ablate.resolve import attempt, place_paths
from ablate.resources import Resources
from ablate.search import Search
from ablate.searchfile import Asked, read_search
from ablate.sources import Sources, gather
from ablate.validate import stand_in, validate
from trainers.availability import unavailable
from trainers.families import METRICS
from trainers.options import NonNegative, options

EFFECTS_OF_FACTORS = ("both", "factorial", "fractional")  # designs that estimate them
SEEDS = 5  # where a study says nothing; fewer are exploratory
MAX_SEEDS, MAX_SEED = 1000, 2**31 - 1
# A study's folder lies beside these in the runs folder.
_NO_TRACKING = ("off", "none", "")
_BESIDE = tuple(getattr(StudyFolder(Path(), ""), name).name for name in ("mlflow", "artifacts", "cache", "test_reads"))


@options
class Metric:
    """What ranks the arms. Effects smaller than `smallest_effect` (in the metric's unit) don't matter to you.

    The `test` split is for studies that `ablate confirm` makes.

    `family` is what the confirmatory claims are about; everything else is exploratory.
    """

    name: str
    split: Literal["validation", "test"] = "validation"
    smallest_effect: NonNegative = 0.0
    family: Literal["vs_baseline", "all_pairs", "factor_effects"] = "vs_baseline"


@options
class Failure:
    """What a diverged or collapsed trial is worth in the ranking: that of the mean-colour predictor, or a number."""

    score: Literal["mean_colour"] | float = "mean_colour"


@options
class Confirms:
    """Written by `ablate confirm`: the study, by name and hash of its plan, whose `arms` this one trains anew.

    They were selected on `seeds`, which this study may not use again.
    """

    study: str = ""
    plan: str = ""
    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


@options
class Tracking:
    """MLflow: `auto` (MLFLOW_TRACKING_URI, else sqlite in the runs folder), a tracking URI, or null for none.

    Optuna's storage: `auto` (ABLATE_OPTUNA_STORAGE, else sqlite in the study's folder), or a PostgreSQL URL.
    """

    mlflow: str | None = "auto"
    optuna: str = "auto"


@dataclass(frozen=True)
class Study:
    """A checked study. `base` is complete (resolve it with a level's patch); files in it are absolute."""

    name: str
    question: str
    trainer: str
    base: dict[str, Any]
    factors: Factors  # factor -> level -> patch
    conditions: Conditions
    design: Design
    seeds: tuple[int, ...]
    aa: bool  # the base once more, with other initial weights, dropout and penalty
    metric: Metric
    also: tuple[str, ...]
    failure: Failure
    resources: Resources
    tracking: Tracking
    confirms: Confirms
    sets: tuple[str, ...]
    source: Path
    text: dict[str, Any]  # the merged document: as a file it reads back as this study
    warnings: tuple[str, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)  # metric left out of `also` -> why
    search: Search | None = None  # what the design `search` samples its arms from
    race: Race | None = None
    keep: str = KEPT[0]  # of the networks of a trial that has ended


SECTIONS: dict[str, type] = {"metric": Metric, "failure": Failure, "resources": Resources, "tracking": Tracking,
                             "confirms": Confirms}  # fmt: skip
TRAINERS = ("pix2pix",)
KEYS = (
    "name", "question", "trainer", "extends", "base", "full", "factors", "when", "never", "design",
    "seeds", "aa", "race", "metric", "also", "failure", "resources", "keep", "tracking", "confirms",
)  # fmt: skip


def load(
    path: Path | str, *, sets: Sequence[str] = (), cwd: Path | None = None, runs: Path | None = None
) -> Study:  # fmt: skip
    """The study in the file `path`, with `sets` (`PATH=YAML`) applied; relative paths start from `cwd`.

    What `confirms` names must have run under `runs`, unless that is None. Raises StudyError with every mistake.
    """
    cwd = (cwd or Path.cwd()).absolute()
    sources = gather(path, sets=sets, cwd=cwd)
    _drop_nulls(sources)
    for key in [key for key in sources.data if key not in KEYS]:
        sources.refuse((key,), no_such("key", key, KEYS))
    _make_places_absolute(sources)
    parts = {key: _section(sources, key, cls) for key, cls in SECTIONS.items()}
    base = sources.data["base"]
    if not isinstance(base, Mapping):
        sources.refuse(("base",), f"expected the recipe that every arm changes, found {shown(base)}")
        raise sources.error()
    ranks = parts["resources"].ranks
    reference, factors = check_base(sources, base, ranks=ranks), read_factors(sources)
    conditions = read_conditions(sources, factors)
    warnings = check_levels(sources, factors, base, reference, conditions)
    design, cautions = read_full(sources, factors, read_design(sources, factors), base, ranks=ranks)
    _check_family(sources, parts["metric"], design)
    metric = parts["metric"]
    also, left_out = _available(sources, base, factors, metric=metric.name, also=_also(sources, metric))
    asked = read_search(sources, factors, base, conditions, ranks=ranks, metrics=(metric.name, *also))
    seeds = _seeds(sources, asked)
    study = Study(
        name=_name(sources), question=_question(sources), trainer=_trainer(sources), base=dict(base),
        factors=factors, conditions=conditions, design=design,
        seeds=seeds, aa=_aa(sources), also=also, sets=tuple(sets), search=asked and asked.search,
        race=_race(sources, asked, len(seeds)), keep=_keep(sources),
        source=(cwd / path).resolve(), text=_text(sources.data), warnings=(*warnings, *cautions),
        unavailable=left_out, **parts,
    )  # fmt: skip
    _check_confirms(sources, study, runs)
    if sources.problems:
        raise sources.error()
    return study


def _check_confirms(sources: Sources, study: Study, runs: Path | None) -> None:
    """The test split is spent by looking at it: only a confirmation ranks by it, on seeds that selected nothing."""
    confirms = study.confirms
    if confirms and confirms != Confirms() and runs is not None and study.name:
        for key, message in unfounded(study.name, confirms, runs):
            sources.refuse(("confirms", key), message)
    if study.metric.split == "test" and not (confirms and confirms.study):
        sources.refuse(("metric", "split"), "test scenes are kept for `ablate confirm`, which ranks by them; "
                       "expected validation")  # fmt: skip
    for seed in (seed for seed in study.seeds if confirms and seed in confirms.seeds):
        sources.refuse(("seeds",), f"seed {seed} selected the arms that are confirmed here; take others")


def _drop_nulls(sources: Sources) -> None:
    """A key left empty says nothing; `base` and `factors` without content are mistakes of their own."""
    kept = ("base", "factors")
    sources.data = {key: value for key, value in sources.data.items() if value is not None or key in kept}


def _text(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: data[key] for key in KEYS if key in data}


def _section(sources: Sources, key: str, cls: type) -> Any:
    raw = sources.data.get(key, {})
    if key == "metric" and key not in sources.data:
        sources.refuse((key,), "is missing; expected a mapping such as {name: psnr}")
        return Metric(name="")
    found, errors = validate(cls, raw)
    for path, message in errors:
        sources.refuse((key, *path), message)
    if cls is Metric:
        name_was_read = not any(path[:1] in ((), ("name",)) for path, _ in errors)
        found = found or stand_in(cls, raw, errors) or Metric(name="")
        if name_was_read and found.name not in METRICS.names():
            sources.refuse((key, "name"), no_such("metric", found.name, METRICS.names()))
    if cls is Tracking and found:
        return _tracking(sources, found)
    if cls is Resources and found:
        for option, said in found.refusals():
            sources.refuse((key, option), said)
    return found or stand_in(cls, raw, errors)


def _tracking(sources: Sources, found: Tracking) -> Tracking:
    if found.optuna != "auto" and (wrong := _wrong_storage(found.optuna)):
        sources.refuse(("tracking", "optuna"), wrong)
    if found.mlflow and without_password(found.mlflow) != found.mlflow:
        sources.refuse(
            ("tracking", "mlflow"),
            "the URI holds a user or password, and studies are copied into runs and reports; "
            "write auto and set MLFLOW_TRACKING_URI in the environment",
        )
    elif found.mlflow not in (None, "auto", *_NO_TRACKING) and (wrong := unknown_store(found.mlflow)):
        sources.refuse(("tracking", "mlflow"), wrong)
    return replace(found, mlflow=None) if found.mlflow in _NO_TRACKING else found


def _wrong_storage(url: str) -> str:
    if holds_password(url):
        return (f"the URL holds a password, and studies are copied into runs and reports; write it without one (it is "
                f"looked up in ~/.pgpass and PGPASSWORD), or auto and set {VARIABLE} in the environment")  # fmt: skip
    return mistake(url)


def _name(sources: Sources) -> str:
    name = sources.data.get("name")
    if not isinstance(name, str):
        wrong = "is missing" if name is None else f"expected text, found {shown(name)}"
        sources.refuse(("name",), f"{wrong}; the name of the study, such as loss_terms, names its folder")
        return ""
    check_slug(sources, ("name",), name, reserved=_BESIDE)
    return name


def _question(sources: Sources) -> str:
    question = sources.data.get("question", "")
    if not isinstance(question, str):
        sources.refuse(("question",), f"expected text, found {shown(question)}")
        return ""
    return " ".join(question.split())


def _trainer(sources: Sources) -> str:
    trainer = sources.data.get("trainer", TRAINERS[0])
    if trainer not in TRAINERS:
        sources.refuse(("trainer",), no_such("trainer", trainer, TRAINERS))
    return str(trainer)


def _seeds(sources: Sources, asked: Asked | None) -> tuple[int, ...]:
    """The study's seeds; a search says how many with `seeds_per_arm` or halving, and `seeds` may say which."""
    raw = sources.data.get("seeds", asked.seeds or 1 if asked else SEEDS)
    if asked and asked.seeds and (len(raw) if isinstance(raw, list) else raw) != asked.seeds:
        sources.refuse(("seeds",), f"the search runs each arm on {asked.seeds}; take seeds away, or name as many")
    if _is_whole(raw, low=1, high=MAX_SEEDS):
        return tuple(range(1, raw + 1))
    if not isinstance(raw, list) or not 0 < len(raw) <= MAX_SEEDS:
        allowed = f"a number of seeds from 1 to {MAX_SEEDS}, or a list such as [11, 12, 13]"
        sources.refuse(("seeds",), f"expected {allowed}, found {shown(raw)}")
        return ()
    for at, seed in enumerate(raw):
        if not _is_whole(seed, low=0, high=MAX_SEED):
            sources.refuse(("seeds", at), f"expected a whole number from 0 to {MAX_SEED}, found {shown(seed)}")
        elif seed in raw[:at]:
            sources.refuse(("seeds", at), f"{seed} stands twice; a repeated seed adds no evidence")
    return tuple(seed for seed in raw if _is_whole(seed, low=0, high=MAX_SEED))


def _aa(sources: Sources) -> bool:
    raw = sources.data.get("aa", False)
    if not isinstance(raw, bool):
        sources.refuse(("aa",), f"expected true or false, found {shown(raw)}")
    return raw is True


def _keep(sources: Sources) -> str:
    raw = sources.data.get("keep", KEPT[0])
    if raw not in KEPT:
        sources.refuse(("keep",), no_such("choice", raw, KEPT) if isinstance(raw, str) else
                       f"expected {' or '.join(KEPT)}, found {shown(raw)}")  # fmt: skip
        return KEPT[0]
    return raw


def _check_family(sources: Sources, metric: Metric, design: Design) -> None:
    """Claims about factors need a design that says what a factor does on average over the others."""
    if metric.family == "factor_effects" and design.name not in EFFECTS_OF_FACTORS:
        able = ", ".join(EFFECTS_OF_FACTORS)
        sources.refuse(("metric", "family"), f"factor_effects needs one of the designs {able}; this is {design.name}")


def _race(sources: Sources, asked: Asked | None, seeds: int) -> Race | None:
    """The race that a study asks for, or the halving of its search."""
    race = read_race(sources, seeds)
    if asked and asked.halving and len(asked.halving.seeds) > 1:
        if race:
            sources.refuse(("race",), "the search halves its arms already; take race or halving away")
        race = Race(tuple(asked.halving.seeds[:-1]), asked.halving.keep)
    if asked and race and len(asked.search.objectives) > 1:
        sources.refuse(("race",) if "race" in sources.data else ("design", "search", "halving"),
                       "arms are stopped by one metric, this search has several objectives")  # fmt: skip
    if asked and race and asked.search.pruner != "none" and not asked.halving:
        sources.refuse(("design", "search", "pruner"), "a pruner stops single runs, a race whole arms; take one away")
    return race


def _is_whole(value: Any, *, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _also(sources: Sources, metric: Metric) -> tuple[str, ...]:
    raw = sources.data.get("also", [])
    if not isinstance(raw, list):
        sources.refuse(("also",), f"expected a list of metrics such as [ssim, psnr], found {shown(raw)}")
        return ()
    names = METRICS.names()
    for at, name in enumerate(raw):
        if name not in names:
            sources.refuse(("also", at), no_such("metric", name, names))
        elif name in raw[:at] or name == metric.name:
            sources.refuse(("also", at), f"{name} stands twice" if name != metric.name else f"{name} is the metric")
    return tuple(str(name) for name in raw)


def _available(
    sources: Sources, base: Mapping[str, Any], factors: Factors, *, metric: str, also: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Those of `also` that can be computed here, and why the others can't; refuses the metric itself if it can't."""
    asked = [name for name in (metric, *also) if name in METRICS.names()]
    why: dict[str, str] = {}
    for data in _data(base, factors):
        bands = len(data.optical.bands) if data.optical.bands else None
        reasons = {name: unavailable(name, tile=data.tile, bands=bands) for name in asked if name not in why}
        why |= {name: reason for name, reason in reasons.items() if reason}
    if metric in why:
        sources.refuse(("metric", "name"), f"{metric} is unavailable: {why.pop(metric)}")
    return tuple(name for name in also if name not in why), why


def _data(base: Mapping[str, Any], factors: Factors) -> Iterator[Any]:
    """The data options of the base and of every level that changes them, where they are right."""
    levels = [patch for levels in factors.values() for patch in levels.values()]
    for patch in ({}, *(patch for patch in levels if any(key.split(".")[0] == "data" for key in patch))):
        draft = attempt(base, patch)
        if draft.recipe is not None and "data" not in draft.stood_in:
            yield draft.recipe.data


def _make_places_absolute(sources: Sources) -> None:
    """Files and folders named in the study, from where they were written: a file's folder or the current one."""
    places = place_paths()
    if isinstance(base := sources.data["base"], Mapping):
        sources.data["base"] = _absolute(base, (), ("base",), places, sources)
    for factor, levels in _mapping(sources.data.get("factors")).items():
        for level, patch in _mapping(levels).items():
            for key, value in _mapping(patch).items():
                patch[key] = _absolute(value, tuple(key.split(".")), ("factors", factor, level, key), places, sources)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _absolute(value: Any, path: tuple[str, ...], written: tuple, places: set[tuple], sources: Sources) -> Any:
    if path == ("start",) and isinstance(value, str):
        value = {"generator": value}
    if isinstance(value, Mapping):
        return {k: _absolute(item, (*path, k), (*written, k), places, sources) for k, item in value.items()}
    if path in places and isinstance(value, str):
        if wrong := not_local(value) or ("is empty" if path[0] == "data" and not value.strip() else ""):
            sources.refuse(written, f"{wrong}; expected a local path")
            return value
    if path in places and isinstance(value, str) and value:
        return os.path.normpath(sources.at(written).folder / os.path.expanduser(value))
    return value
