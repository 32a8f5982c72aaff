"""`ablate analyse`: from rows that others recorded to the table that the analysis takes.

What is asked is looked up, checked and said in full before anything is computed: a wrong column, a run listed twice
or a word that is no number ends in a sentence with its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablate.analyse_rows import check_rows, outcomes
from ablate.problems import Problem, StudyError, did_you_mean, quoted
from ablate.readers.found import Found, Key, few

if TYPE_CHECKING:
    import pandas

# Names under which people keep them; the first that is there is taken.
ARM_NAMES = ("arm", "ablate.arm", "variant", "method", "model", "config")
SEED_NAMES = ("seed", "ablate.seed", "random_seed", "random_state", "manual_seed", "rng_seed")
BASELINES = ("base", "baseline")
MEASURED = ("column", "value", "metric", "attr")
LABELS = ("column", "tag", "attr", "param")
RESERVED = ("arm", "seed", "scene", "status", "place", "trial", "why")  # names of the frame's own columns


@dataclass(frozen=True)
class Question:
    """What is asked of the results; None and empty where it is left to what the results say."""

    metric: str | None = None
    baseline: str | None = None
    goal: str | None = None  # max or min
    also: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    smallest_effect: float | None = None
    penalty: float | None = None
    family: str = "vs_baseline"
    name: str | None = None
    twin: str | None = None  # the arm that repeats the baseline (A/A)
    arm_from: str | None = None
    seed_from: str | None = None
    scene_from: str | None = None


@dataclass(frozen=True)
class Settled:
    """The question with every gap filled, and the runs it is asked of.

    `frame` has a row per run, or per scene of a run, with the columns arm, seed, status, place, trial, why, perhaps
    scene, then metrics and factors under their own names. `metric` and `also` are name, label, unit and goal each.
    """

    frame: pandas.DataFrame
    name: str
    metric: dict[str, str]
    also: tuple[dict[str, str], ...]
    baseline: str
    factors: tuple[str, ...]
    twin: str | None
    smallest_effect: float | None
    penalty: float | None
    family: str
    facts: dict[str, Any]  # of the source
    cautions: tuple[str, ...]

    @property
    def scenes(self) -> bool:
        return "scene" in self.frame.columns


def settle(found: Found, question: Question) -> Settled:
    """The table that answers the question. Raises StudyError with every mistake that can be told at once."""
    keys, problems = _columns(found, question)
    if problems:
        raise StudyError(problems)
    cautions = [*found.cautions, *_guesses(keys, question)]
    metric = _metric(found, keys["metric"], question.goal)
    also = tuple(_exploratory(found, key, goal) for key, goal in keys["also"].items())
    frame, said = _frame(found, keys, metric["name"], [one["name"] for one in also], question)
    frame, checked = check_rows(found, frame, measured=[metric["name"], *(one["name"] for one in also)])
    twin = question.twin or _twin(frame)
    baseline = _baseline(found, question.baseline, sorted(set(frame["arm"]) - {_twin(frame)}))
    problems = [*_twin_problems(found, question.twin, set(frame["arm"]), baseline)]
    if problems:
        raise StudyError(problems)
    return Settled(
        frame=frame, name=question.name or found.name, metric=metric, also=also, baseline=baseline,
        factors=tuple(key[1] for key in keys["factors"]), twin=twin, smallest_effect=question.smallest_effect,
        penalty=question.penalty, family=question.family, facts=dict(found.facts),
        cautions=tuple(dict.fromkeys([*cautions, *said, *checked, *_contradiction(metric)])),
    )  # fmt: skip


# -- which column is which --------------------------------------------------------------------------


def _columns(found: Found, question: Question) -> tuple[dict[str, Any], list[Problem]]:
    """The columns by what they are for, and what could not be found."""
    problems: list[Problem] = []

    def asked(noun: str, name: str, kinds: Sequence[str]) -> Key | None:
        if (key := found.key(name, kinds)) is None:
            problems.append(found.no_column(noun, name, kinds))
        return key

    keys: dict[str, Any] = {"factors": [asked("--factors", name, LABELS) for name in question.factors]}
    for noun, given, usual in (("arm", question.arm_from, ARM_NAMES), ("seed", question.seed_from, SEED_NAMES),
                               ("scene", question.scene_from, ("scene",))):  # fmt: skip
        keys[noun] = asked(f"--{noun}-from", given, LABELS) if given else _first(found, usual)
    if keys["arm"] is None and not question.arm_from:
        keys["composed"] = keys["factors"] or _varying(found, keys["seed"])
        if not keys["composed"]:
            problems.append(_missing(found, "arm", "which variant a run is of", "--arm-from or --factors", ARM_NAMES))
    if keys["seed"] is None and not question.seed_from:
        problems.append(_missing(found, "seed", "which repetition a run is", "--seed-from", SEED_NAMES))
    keys["metric"] = _metric_key(found, question, problems)
    goals = [_with_goal(found, text) for text in question.also]
    also = {asked("--also", name, MEASURED): goal for name, goal in goals}
    keys["also"] = {key: goal for key, goal in also.items() if key != keys["metric"]}
    reserved = [key[1] for key in keys["factors"] if key and key[1] in RESERVED]
    problems += [found.problem(f"--factors: {name} says something else of a run") for name in reserved]
    return keys, problems


def _first(found: Found, names: Iterable[str]) -> Key | None:
    return next((key for name in names if (key := found.key(name, LABELS))), None)


def _varying(found: Found, seed: Key | None) -> list[Key]:
    """The columns that make up arms, less those that are the same in every row."""
    keys = [("param", name) for name in found.composed if ("param", name) != seed]
    return [key for key in keys if len(set(map(str, found.columns[key]))) > 1] or keys


def _missing(found: Found, noun: str, meaning: str, option: str, names: Sequence[str]) -> Problem:
    there = found.names(LABELS)
    near = next(filter(None, (did_you_mean(name, there) for name in names)), "")
    return found.problem(f"no column says {meaning} ({noun}); say {option}; there are {few(there)}{near}")


def _metric_key(found: Found, question: Question, problems: list[Problem]) -> Key | None:
    if question.metric is not None:
        key = found.key(question.metric, MEASURED)
        if key is None:
            problems.append(found.no_column("--metric", question.metric, MEASURED))
        return key
    objectives = [key for key in found.columns if key[0] == "value"]
    if len(objectives) == 1:
        return objectives[0]
    there = [name for name in found.names(MEASURED) if name not in (*ARM_NAMES, *SEED_NAMES, *RESERVED)]
    problems.append(found.problem(f"which metric ranks the arms? say --metric NAME; there are {few(there)}"))
    return None


def _guesses(keys: dict[str, Any], question: Question) -> list[str]:
    """Columns that were taken by a name other than their own."""
    said = []
    for noun, given in (("arm", question.arm_from), ("seed", question.seed_from)):
        key = keys[noun]
        if key and not given and key[1].lower() not in (noun, f"ablate.{noun}"):
            said.append(f"The {noun} is read from the {key[0]} {key[1]!r}.")
    if keys.get("composed"):
        said.append(f"No column names the arms: they are named by {', '.join(name for _, name in keys['composed'])}.")
    return said


# -- the metric --------------------------------------------------------------------------------------


def _metric(found: Found, key: Key, goal: str | None) -> dict[str, str]:
    """Name, label, unit and goal: asked for, the source's own, or known of the metric."""
    facts = known_metric(key[1])
    goal = goal or (found.goals.get(key[1]) if key[0] == "value" else None) or facts["goal"]
    if not goal:
        raise found.refusal(f"--goal: is a higher {key[1]} better (--goal max) or a lower one (--goal min)?")
    return {**facts, "goal": goal}


def _exploratory(found: Found, key: Key, goal: str) -> dict[str, str]:
    facts = known_metric(key[1])
    goal = goal or (found.goals.get(key[1], "") if key[0] == "value" else "") or facts["goal"]
    if not goal:
        raise found.refusal(f"--also: is a higher {key[1]} better ({key[1]}:max) or a lower one ({key[1]}:min)?")
    return {**facts, "goal": goal}


def _with_goal(found: Found, text: str) -> tuple[str, str]:
    """`NAME:max` as name and goal; the goal is empty where none is given."""
    name, _, goal = text.rpartition(":")
    return (name, goal) if goal in ("max", "min") and found.key(text, MEASURED) is None else (text, "")


def known_metric(name: str) -> dict[str, str]:
    """What is known of a metric by its name, `PSNR` and `validation/psnr` included; goal empty where nothing is.

    A known metric takes ablate's own name, which fixes the scale that it is analysed on.
    """
    from ablate.plan import metric_facts

    plain = name.rpartition("/")[2].strip().lower()
    if plain in _metric_names():
        return metric_facts(plain)
    return {"name": name, "label": name, "unit": "", "goal": ""}


def _metric_names() -> list[str]:
    from trainers.families import METRICS

    return sorted(METRICS.names())


def _contradiction(metric: dict[str, str]) -> list[str]:
    usual = known_metric(metric["name"])["goal"]
    if usual in ("", metric["goal"]):
        return []
    return [f"{metric['label']} is taken as better where it is {'higher' if metric['goal'] == 'max' else 'lower'}, "
            "as asked; it is usually read the other way round."]  # fmt: skip


# -- the rows ----------------------------------------------------------------------------------------


def _frame(found: Found, keys: dict[str, Any], metric: str, also: list[str], question: Question):
    """The runs as a pandas frame, and what has to be said of it."""
    import pandas

    problems: list[Problem] = []
    columns: dict[str, Any] = {"arm": _arms(found, keys, problems), "seed": _seeds(found, keys["seed"], problems)}
    columns["status"], said = outcomes(found, problems)
    columns |= {"place": found.places}
    for name in ("trial", "why"):
        columns[name] = found.columns.get(("fact", name)) or [None] * len(found.places)
    columns["twin"] = found.columns.get(("fact", "twin")) or [False] * len(found.places)
    if keys["scene"]:
        columns["scene"] = _labels(found, keys["scene"], "scene", problems)
    for name, key in zip([metric, *also], [keys["metric"], *keys["also"]], strict=True):
        try:
            columns[name] = found.numbers(key)
        except StudyError as error:
            problems += error.problems
    for key in keys["factors"]:
        columns[key[1]] = _labels(found, key, key[1], problems)
    if problems:
        raise StudyError(problems)
    return pandas.DataFrame(columns), said


def _arms(found: Found, keys: dict[str, Any], problems: list[Problem]) -> list[str]:
    if keys["arm"] is not None:
        return _labels(found, keys["arm"], "arm", problems)
    parts = [(name, [shown_level(value) for value in found.columns[kind, name]]) for kind, name in keys["composed"]]
    rows = zip(*(levels for _, levels in parts), strict=True)
    names = [name for name, _ in parts]
    return ["+".join(f"{name}={level}" for name, level in zip(names, row, strict=True)) for row in rows]


def shown_level(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value).strip()


def _labels(found: Found, key: Key, noun: str, problems: list[Problem]) -> list[str]:
    """The column as text without outer spaces; an empty one is a mistake."""
    texts = ["" if value is None else shown_level(value) for value in found.columns[key]]
    empty = [place for text, place in zip(texts, found.places, strict=True) if not text]
    problems += [found.problem(f"{noun} is empty", place) for place in empty[:3]]
    if len(empty) > 3:
        problems.append(found.problem(f"{noun} is empty in {len(empty) - 3} more rows"))
    return texts


def _seeds(found: Found, key: Key, problems: list[Problem]) -> list[Any]:
    """Whole numbers where all are, else text."""
    texts = _labels(found, key, "seed", problems)
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return texts
    return [int(number) for number in numbers] if all(map(float.is_integer, numbers)) else texts


def _baseline(found: Found, asked: str | None, arms: Sequence[str]) -> str:
    if asked is not None and asked in arms:
        return asked
    if asked is None:
        named = [arm for name in BASELINES for arm in arms if arm.lower() == name]
        if named:
            return named[0]
    shown = few(arms)
    if asked is None:
        raise found.refusal(f"which arm are the others compared with? say --baseline ARM; there are {shown}")
    raise found.refusal(f"--baseline: there is no arm {quoted(asked)}; there are {shown}{did_you_mean(asked, arms)}")


def _twin(frame: pandas.DataFrame) -> str | None:
    """The arm that the source itself marks as the baseline's repetition."""
    marked = sorted(set(frame["arm"][frame["twin"].astype(bool)]))
    return marked[0] if marked else None


def _twin_problems(found: Found, asked: str | None, arms: set[str], baseline: str) -> list[Problem]:
    if asked is None:
        return []
    if asked not in arms:
        there = ", ".join(sorted(arms))
        return [found.problem(f"--twin: there is no arm {quoted(asked)}; there are {there}{did_you_mean(asked, arms)}")]
    return [found.problem(f"--twin: {asked} is the baseline itself")] if asked == baseline else []
