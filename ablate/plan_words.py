"""`ablate plan` for people: arms as a table, what the design can say, what could be found, hours and disk."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from ablate import machine, rayplan, searchplan, slurmplan, space
from ablate.plan import Plan, PlannedArm
from ablate.resources import LOCAL, RAY, SLURM

EXPLORATORY_BELOW = 5  # seeds
EFFECTS_SHOWN = 12
WIDTH = 118
HELD = "\u00a0"  # a space at which no line breaks
ROMAN = {3: "III", 4: "IV", 5: "V", 6: "VI", 7: "VII", 8: "VIII"}


def _where(plan: Plan, cluster: Mapping[str, Any] | None) -> str:
    """What `slots: auto` fills, and how a scheduler is asked; `cluster` is what that has said."""
    asked = plan.study.resources
    if cluster:
        return (rayplan if asked.executor == RAY else slurmplan).describe(cluster)
    return f" (auto, of {machine.room(plan.device)})" if asked.slots == "auto" else ""


def filled(plan: Plan) -> tuple[Plan, dict[str, Any] | None]:
    """The plan with no more slots than a scheduler's nodes have room for, and what that was asked and said."""
    if plan.study.resources.executor == SLURM:
        return slurmplan.filled(plan)
    return rayplan.filled(plan)


def describe(plan: Plan, facts: Mapping[str, Any]) -> str:
    """The plan for people."""
    study, asked = plan.study, plan.study.resources
    lines = [f"{study.name}: {study.question}", "", *_arms(plan), "", *_size(plan), *_once(facts["trained_once"])]
    resources = facts["resources"]
    *fewer, most = resources["ranks"]
    ranks = " or ".join([*map(str, fewer), _count(most, "rank")])
    lines.append(f"equal for all arms: {_budget(plan)}")
    side_by_side = f"{_count(resources['slots'], 'trial')} at a time{_where(plan, resources.get('cluster'))}"
    lines.append(f"on {resources['device']}: {ranks} a trial, {side_by_side}")
    on_gpus = asked.executor == LOCAL and plan.device == "cuda"
    if on_gpus and (each := machine.beside(plan.slots, len(machine.gpus()))) > 1:
        lines.append(f"up to {each} trials share a GPU, and its memory")
    lines += ["", *_design(facts["design"]), *searchplan.describe(plan), *searchplan.describe_race(plan)]
    lines += ["", *_detectable(facts["detectable"], len(study.seeds))]
    lines += ["", _cost(facts["cost"]), *_disk(facts["disk"])]
    notes = [f"{arm.name}: {note}" for arm in plan.arms for note in arm.resolved.notes]
    lines += [f"note: {note}" for note in notes]
    lines += [f"caution: {warning}" for warning in plan.warnings if warning not in notes]
    return "\n".join(lines)


# -- arms -----------------------------------------------------------------------------------------------


def _arms(plan: Plan) -> list[str]:
    """What each arm changes; a combination of levels that have rows of their own is named by those."""
    alone = {pair for arm in plan.arms if len(arm.arm.changes) == 1 for pair in arm.arm.changes.items()}
    rows = [_row(arm, alone) for arm in plan.arms]
    return table(("arm", "what it changes", "G updates", "D updates", "images"), rows)


def _row(arm: PlannedArm, alone: set[tuple[str, str]]) -> tuple[str, ...]:
    counts = map(str, (arm.generator_updates, arm.discriminator_updates, arm.images))
    return arm.name, _changes(arm, alone), *counts


def _changes(arm: PlannedArm, alone: set[tuple[str, str]]) -> str:
    levels = arm.arm.changes.items()
    if arm.twin_of:
        return f"({arm.twin_of} again, with other initial weights, dropout and penalty: must not differ)"
    if len(levels) > 1 and alone.issuperset(levels):
        return ", ".join(f"{factor}={level}" for factor, level in levels)
    changes = [f"{path}: {_value(old)} -> {_value(new)}" for path, (old, new) in arm.differences.items()]
    return "; ".join(change.replace(" ", HELD) for change in changes) or "(the base)"


def _size(plan: Plan) -> Iterator[str]:
    seeds = plan.study.seeds
    named, arms = ", ".join(map(str, seeds)), plan.num_trials // len(seeds)
    yield f"{_count(arms, 'arm')} x {_count(len(seeds), 'seed')} ({named}) = {plan.num_trials} trials"
    if plan.shared:
        yield f"{plan.shared} of them share a trial with an identical recipe: {len(plan.specs)} are run"


def _once(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["updates"]:
        saved, everything = facts["updates"], facts["of"]
        yield (f"{saved} of {everything} updates are made once for all that share them: {saved / everything:.0%} saved"
               f" ({_count(len(facts['trials']), 'trial')} go on from what another has trained)")  # fmt: skip


def _budget(plan: Plan) -> str:
    budget = plan.arms[0].resolved.recipe.budget
    if len({arm.resolved.recipe.budget for arm in plan.arms}) > 1:
        return "nothing: the budget itself differs between them"
    return f"{budget.amount} {budget.unit.replace('_', ' ')}"


def _value(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


# -- design ---------------------------------------------------------------------------------------------


def _design(facts: Mapping[str, Any]) -> list[str]:
    lines = [f"design: {facts['name']}{_resolution(facts)}"]
    lines += _wrapped("says: ", facts["says"]) if facts["says"] else []
    lines += _wrapped("can't say: ", facts["cannot_say"]) if facts["cannot_say"] else []
    if facts["generators"]:
        lines += _wrapped("generators (the base is -, a change is +): ", ", ".join(facts["generators"]))
    lines += _effects(facts["effects"]) + _aliases(facts)
    for cell in facts["refused"]:
        name = ", ".join(f"{factor}={level}" for factor, level in cell["combination"].items())
        lines.append(f"  left out: {name}: {cell['why']}")
    return lines + (_wrapped("in no arm: ", ", ".join(facts["not_run"])) if facts["not_run"] else [])


def _resolution(facts: Mapping[str, Any]) -> str:
    if facts["name"] != "fractional":
        return ""
    if facts["resolution"] is None:
        return ": the full factorial, since no smaller fraction has the resolution; the base is one of its runs"
    share = round(facts["of"] / 2 ** (facts["of"].bit_length() - 1 - len(facts["generators"])))
    roman = ROMAN.get(facts["resolution"], str(facts["resolution"]))
    return f", resolution {roman}: 1/{share} of {facts['of']} combinations; signs are such that the base is one of them"


def _effects(effects: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many arms each effect rests on, and how exact it is beside a single comparison; equal ones together."""
    groups: dict[tuple, list[str]] = {}
    for effect in effects:
        alike = effect["kind"], effect["arms"], round(effect["relative_error"], 3)
        groups.setdefault(alike, []).append(effect["label"])
    lines = []
    for (kind, arms, error), labels in groups.items():
        named = labels if len(labels) <= EFFECTS_SHOWN else [*labels[:EFFECTS_SHOWN], f"{len(labels)} in all"]
        noun = "main effect" if kind == "main" else "interaction"
        told = f"{noun} of {', '.join(named)}: each from {arms} arms, standard error {error:.2f} times that of an arm"
        lines += _wrapped("", f"{told} against the base")
    return lines


def _aliases(facts: Mapping[str, Any]) -> list[str]:
    if facts["name"] != "fractional" or facts["resolution"] is None:
        return []
    if not facts["aliases"]:
        return ["  alias table: no effect of one factor or of a pair can be mistaken for another of these"]
    lines = ["  alias table (effects in one row can't be told apart; those of three and more factors are left out):"]
    return lines + [f"    {' = '.join(group)}" for group in facts["aliases"]]


# -- what could be found --------------------------------------------------------------------------------


def _detectable(facts: Mapping[str, Any], seeds: int) -> list[str]:
    if not facts["by_seeds"]:
        return ["one arm alone: nothing is compared"]
    lines = [f"detectable difference at {100 * facts['power']:.0f} % power, by number of seeds:"]
    rows = [_sizes(f"{facts['compared']} (sd)", facts["by_seeds"], "{:.1f}")]
    rows += [_sizes(_in_unit(facts), facts["in_metric"]["by_seeds"], "{:.3g}")] if facts["in_metric"] else []
    for effect in facts["effects"]:
        noun = "main effect" if effect["kind"] == "main" else "interaction"
        rows.append(_sizes(f"{noun} (sd)", effect["by_seeds"], "{:.1f}"))
        if effect["in_metric"]:
            rows.append(_sizes(f"{noun}, {_in_unit(facts)}", effect["in_metric"]["by_seeds"], "{:.3g}"))
    lines += [f"  {line}" for line in table(("", *(f"{n}" for n in facts["by_seeds"])), rows)]
    lines += _wrapped("", _spread(facts))
    if seeds < 3:
        lines.append(f"  {_count(seeds, 'seed')}: estimates only, no verdicts")
    elif seeds < EXPLORATORY_BELOW:
        lines.append(f"  {seeds} seeds are exploratory: only differences above {_planned(facts)} show")
    return lines + _smallest(facts)


def _smallest(facts: Mapping[str, Any]) -> list[str]:
    """From how many seeds on the smallest effect of interest shows."""
    smallest = facts["smallest_effect"]
    if not smallest or not facts["in_metric"] or facts["sd"]["scale"] == "log":
        return []
    enough = next((n for n, size in facts["in_metric"]["by_seeds"].items() if size <= smallest), None)
    most = max(map(int, facts["by_seeds"]))
    shows = f"shows from {enough} seeds on" if enough else f"needs more than {most} seeds to show"
    return [f"  the smallest effect of interest, {smallest:g}, {shows}"]


def _sizes(name: str, by_seeds: Mapping[str, float], form: str) -> tuple[str, ...]:
    return name, *(form.format(size) for size in by_seeds.values())


def _in_unit(facts: Mapping[str, Any]) -> str:
    metric = facts["metric"]
    if facts["sd"]["scale"] == "log":
        return f"ratio of {metric['label']}"
    return f"in {metric['label']}" + (f" ({metric['unit']})" if metric["unit"] else "")


def _planned(facts: Mapping[str, Any]) -> str:
    sds = f"{facts['planned']:.1f} sd"
    return f"{facts['in_metric']['planned']:.3g} ({sds})" if facts["in_metric"] else f"{sds} of them"


def _spread(facts: Mapping[str, Any]) -> str:
    sd = facts["sd"]
    what = "sd: the residual standard deviation of the metric once arms and seeds are accounted for"
    if sd is None:
        return f"{what}; it is not known yet: give --pilot STUDY or --pilot NUMBER, or look again after two seeds"
    of = "of the logarithm " if sd["scale"] == "log" else ""
    known = f", {sd['df']} degrees of freedom, 95 % interval {sd['low']:.3g} to {sd['high']:.3g}" if sd["df"] else ""
    return f"{what}, here {of}{sd['sd']:.3g}, from {sd['source']}{known}"


# -- hours and disk -------------------------------------------------------------------------------------


def _cost(facts: Mapping[str, Any]) -> str:
    if not facts["trials_left"]:
        return "cost: nothing is left to run"
    if facts["hours_left"] is None:
        return (f"cost: {facts['trials_left']} trials; their time is known once the first has ended,"
                " or with --measure")  # fmt: skip
    hours, charged = facts["hours_left"], facts["device_hours"]
    between = charged_between = ""
    if facts["low"] is not None:
        low, high = facts["low"], facts["high"]
        between = f" ({_hours(hours * low)} to {_hours(hours * high)})"
        charged_between = f" ({charged * low:.3g} to {charged * high:.3g})"
    return (f"cost: {facts['trials_left']} trials left at {facts['seconds_a_trial']:.1f} s each (median):"
            f" about {_hours(hours)}{between} of time, {charged:.3g} {facts['unit']}{charged_between};"
            f" from {facts['source']}")  # fmt: skip


def _hours(hours: float) -> str:
    if hours >= 1.5:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours >= 1.5 / 60 else f"{hours * 3600:.0f} s"


def _disk(facts: Mapping[str, Any]) -> list[str]:
    """What is still to be written, and what is free; a caution where it doesn't fit."""
    total, unfit = space.in_bytes(facts["needed"]), not facts["fits"]
    if not facts["number"]:
        return ["disk: nothing is left to write"]
    lines = [f"disk: about {total} more: {space.in_words(facts)}; {space.in_bytes(facts['free'])} are free"]
    reserve = space.in_bytes(facts["reserve"])
    return lines + [f"caution: this does not fit onto the disk with {reserve} in reserve"] * unfit


# -- layout ---------------------------------------------------------------------------------------------


def table(head: tuple[str, ...], rows: list[tuple[str, ...]], widest: int = 64) -> list[str]:
    """Aligned columns; a long cell goes on below."""
    whole = [line for row in rows for line in _lines(row, widest)]
    widths = [max(map(len, column)) for column in zip(head, *whole, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in (head, *whole)]  # fmt: skip
    return [lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]]


def _lines(row: tuple[str, ...], widest: int) -> Iterator[tuple[str, ...]]:
    cells = [textwrap.wrap(cell, widest, break_on_hyphens=False, break_long_words=False) or [""] for cell in row]
    yield from zip_longest(*([line.replace(HELD, " ") for line in cell] for cell in cells), fillvalue="")


def _wrapped(lead: str, text: str) -> list[str]:
    return textwrap.wrap(lead + text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
