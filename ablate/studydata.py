"""The data of a study, made ready once before its trials: tiles decoded, facts kept, what can't be computed refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablate import startfiles, testreads
from ablate.pairing import unpaired
from ablate.plan import Plan, PlannedArm
from ablate.problems import Problem, StudyError, dotted
from ablate.records import StudyFolder, TrialSpec, write_atomically
from trainers.availability import caution, unavailable
from trainers.pairs import DataError
from trainers.start_rules import band_refusals

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


def prepare_data(plan: Plan, folder: StudyFolder) -> None:
    """Decode the tiles of every data set of the plan once, and keep what the base's are split into."""
    from trainers.prepare import prepare

    prepared = {fingerprint: prepare(options, folder.cache) for fingerprint, options in plan.data.items()}
    check_bands(plan, prepared)
    check_metrics(plan, prepared)
    for arm, spec in specs_of_arms(plan):
        startfiles.keep(arm.resolved.recipe, spec.recipe, folder.cache)
    base = prepared[plan.specs[plan.cells[0].trial].data]
    rows = json.loads((base / "meta.json").read_text())["tiles"]
    facts: dict[str, Any] = {}
    for noun, names in (("tiles", list(range(len(rows["name"])))), ("scenes", rows["scene"])):
        members = {split: {n for n, s in zip(names, rows["split"], strict=True) if s == split} for split in SPLITS}
        facts[noun] = ", ".join(f"{len(found)} {split}" for split, found in members.items())
    facts["splits"] = json.loads((base / "meta.json").read_text())["splits"]  # the scenes by name
    scored = rows["split"].count(plan.study.metric.split)
    if not scored:
        raise DataError(f"the data has no {plan.study.metric.split} scenes, and the arms are ranked by them")
    if len(prepared) > 1:
        facts["tiles"] += f" (of the base's data set; the arms have {len(prepared)})"
    facts["cautions"] = [said for name in plan.metrics if (said := caution(name, images=scored))]
    for said in facts["cautions"]:
        log.warning(said)
    # Those of the data are in the log since they were prepared.
    facts["cautions"] += dict.fromkeys(f"data: {said}" for one in prepared.values() for said in _warnings_of(one))
    if said := unpaired(base):
        log.warning(said)
        facts["cautions"].append(f"data: {said}")
    if (reads := testreads.count(plan, folder)) is not None:
        facts["test_reads"] = reads
    write_atomically(folder.data, json.dumps(facts, indent=1))


def _warnings_of(prepared: Path) -> list[str]:
    return json.loads((prepared / "meta.json").read_text())["warnings"]


def check_metrics(plan: Plan, prepared: Mapping[str, Path]) -> None:
    """Raises DataError for a metric that can't be computed on the bands that the data turned out to have."""
    for folder in prepared.values():
        _, bands, tile, _ = json.loads((folder / "meta.json").read_text())["arrays"]["optical"]["shape"]
        for name in plan.metrics:
            if why := unavailable(name, tile=tile, bands=bands):
                raise DataError(f"metric {name} is unavailable: {why}; take it out of `metric` or `also`")


def specs_of_arms(plan: Plan) -> Iterator[tuple[PlannedArm, TrialSpec]]:
    """Every arm with the specification of one of its trials: they differ in their seeds only."""
    trials = {cell.arm: cell.trial for cell in plan.cells}
    return ((arm, plan.specs[trials[arm.name]]) for arm in plan.arms)


def check_bands(plan: Plan, prepared: Mapping[str, Path]) -> None:
    """Raises StudyError for every file to start from that was made for other bands than the data has."""
    problems: dict[str, Problem] = {}  # sentence -> the first arm that it is true of
    for arm, spec in specs_of_arms(plan):
        arrays = json.loads((prepared[spec.data] / "meta.json").read_text())["arrays"]
        sar, optical = (arrays[name]["shape"][1] for name in ("sar", "optical"))
        for path, message in band_refusals(arm.resolved.recipe, bands_in=sar, bands_out=optical):
            said = f"{dotted(path)}: {message}"
            problems.setdefault(said, Problem(str(plan.study.source), 0, 0, f"arm {arm.name}", said))
    if problems:
        raise StudyError(problems.values())
