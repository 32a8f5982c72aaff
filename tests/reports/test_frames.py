"""`reports.analyse` on tables of all kinds: what it takes, what it refuses, and that no field breaks."""

from __future__ import annotations

import dataclasses
import doctest
import math
from itertools import product
from pathlib import Path

import numpy as np
import pandas
import pytest

import reports
from reports import frames
from tests.reports.factory import table
from tests.reports.test_analyse import EFFECTS, analyse, frame

ASK = {"metric": "psnr", "goal": "max", "baseline": "base"}


def test_the_example_of_the_documentation_runs():
    assert doctest.testmod(frames).attempted >= 4
    assert doctest.testmod(frames).failed == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "everything"}, "family: no such family 'everything'; there are vs_baseline, all_pairs"),
        ({"alpha": 5}, "alpha: 5 is no level"),
        ({"penalty": math.nan}, "penalty: nan is not a finite number"),
        ({"smallest_effect": 0.0}, "smallest_effect: 0.0 is not above 0"),
        ({"twin": "double"}, "twin: no arm 'double'; there are bad, base"),
        ({"twin": "base"}, "twin: 'base' is the baseline itself"),
        ({"factors": ["loss"]}, "factors: no column loss"),
    ],
)
def test_a_wrong_request_says_what_was_asked_and_what_is_allowed(change, words):
    with pytest.raises(ValueError, match=words):
        analyse(table(EFFECTS, 3), **change)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("arm", None, "row 3 has no arm"),
        ("arm", math.nan, "row 3 has no arm"),
        ("seed", None, "row 3 has no seed"),
        ("seed", "", "row 3 has no seed"),
        ("status", None, "row 3 has no status"),
        ("psnr", "high", "row 3: psnr: 'high' is not a number"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named_by_its_row(column, value, words):
    rows = frame(table(EFFECTS, 3)).astype({column: object})
    rows.loc[2, column] = value
    with pytest.raises(ValueError, match=words):
        reports.analyse(rows, **ASK)


def test_an_empty_table_or_two_columns_of_one_name_are_refused():
    rows = frame(table(EFFECTS, 3))
    with pytest.raises(ValueError, match="the table has no rows"):
        reports.analyse(rows[:0], **ASK)
    with pytest.raises(ValueError, match="more than one column psnr"):
        reports.analyse(pandas.concat([rows, rows[["psnr"]]], axis=1), **ASK)


@pytest.mark.parametrize("name", [str, lambda seed: f"s{seed}", float, np.int64, lambda seed: [7, "x", 2.5][seed]])
def test_seeds_and_arms_may_be_of_any_type(name):
    rows = frame(table(EFFECTS, 3))
    expected = reports.analyse(rows, **ASK)
    found = reports.analyse(rows.assign(seed=[name(seed) for seed in rows["seed"]]).astype({"seed": object}), **ASK)
    for ours, theirs in zip(found.effects, expected.effects, strict=True):
        assert (ours.arm, ours.verdict) == (theirs.arm, theirs.verdict)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_arms_that_are_numbers_are_called_by_them():
    rows = frame(table({"0": 20.0, "1": 23.0, "2": 20.0}, 4))
    found = reports.analyse(rows.assign(arm=rows["arm"].astype(int)), metric="psnr", goal="max", baseline=0)
    assert found.baseline == "0" and found.effect("1").verdict == "better"


def test_numbers_written_as_text_are_numbers():
    rows = frame(table(EFFECTS, 4))
    assert reports.analyse(rows.assign(psnr=rows["psnr"].map(str)), **ASK) == reports.analyse(rows, **ASK)


def test_a_run_without_a_finite_value_is_left_out_and_named():
    rows = frame(table(EFFECTS, 5))
    rows.loc[(rows["arm"] == "good") & (rows["seed"] == 2), "psnr"] = np.inf
    found = reports.analyse(rows, **ASK)
    assert found.arms["good"].n_ok == 4 and found.arms["good"].n_failed == 0
    assert "Finished without a finite psnr, left out: good seed 2." in found.notes


# -- families ---------------------------------------------------------------------------------------


def test_with_all_pairs_verdicts_and_letters_agree():
    disagreeing = 0
    for draw in range(12):
        scores = table({f"a{i}": i / 3 for i in range(6)} | {"base": 0.7}, 4, draw=draw)
        found = analyse(scores, family="all_pairs")
        for effect in found.effects:
            apart = not set(found.letters[effect.arm]) & set(found.letters["base"])
            assert apart == effect.verdict.startswith(("better", "worse"))
        default = analyse(scores)
        assert default.letters == found.letters
        disagreeing += default.effects != found.effects
    assert disagreeing == 12  # its intervals are wider than the default family's


def test_all_pairs_cost_width():
    scores = table(EFFECTS, 5)
    one, all_ = analyse(scores), analyse(scores, family="all_pairs")
    assert all_.effect("good").high - all_.effect("good").low > one.effect("good").high - one.effect("good").low
    assert all_.detectable > one.detectable and all_.family == "all_pairs"


def test_the_level_sets_the_width():
    wide, narrow = (analyse(table(EFFECTS, 5), alpha=alpha).effect("fair") for alpha in (0.01, 0.2))
    assert wide.high - wide.low > narrow.high - narrow.low
    assert wide.p_adjusted == narrow.p_adjusted


def factor_frame(worth, seeds: int = 5) -> pandas.DataFrame:
    random = np.random.default_rng(0)
    shared = random.normal(size=seeds)
    rows = []
    for loss, norm in product(("l1", "ssim"), ("batch", "spectral")):
        for seed in range(seeds):
            value = worth(loss, norm) + shared[seed] + random.normal(0, 0.2)
            rows.append({"arm": f"{loss} {norm}", "seed": seed, "psnr": value, "loss": loss, "norm": norm})
    return pandas.DataFrame(rows)


def test_factor_columns_give_effects_of_factors_with_the_baselines_levels_as_the_base():
    rows = factor_frame(lambda loss, norm: 2.0 * (loss == "ssim"))
    ask = {"metric": "psnr", "goal": "max", "factors": ["loss", "norm"], "family": "factor_effects"}
    found = reports.analyse(rows, baseline="l1 batch", **ask)
    effects = {(effect.kind, effect.label): effect for effect in found.factor_effects}
    assert effects["main", "loss=ssim"].verdict == "better"
    assert effects["main", "norm=spectral"].verdict == "unresolved"
    assert effects["main", "loss=ssim"].difference == pytest.approx(2.0, abs=0.3)
    assert any("read as the design factorial" in note for note in found.notes)
    turned = reports.analyse(rows, baseline="ssim batch", **ask)
    assert turned.factor_effects[0].label == "loss=l1" and turned.factor_effects[0].verdict == "worse"


@pytest.mark.parametrize(
    ("keep", "design"),
    [
        (lambda a, b, c, d: True, "factorial"),
        (lambda *on: sum(on) in (0, 1), "one_at_a_time"),
        (lambda *on: sum(on) in (0, 3, 4), "leave_one_out"),
        (lambda *on: sum(on) in (0, 1, 3, 4), "both"),
        (lambda *on: sum(on) in (0, 2, 4), "fractional"),
        (lambda *on: sum(on) in (0, 1, 2), "factorial"),  # with holes
    ],
)
def test_the_design_is_read_from_the_levels(keep, design):
    from reports.inferred import infer

    names = "abcd"
    combinations = [dict(zip(names, on, strict=True)) for on in product((0, 1), repeat=4) if keep(*on)]
    changed = {str(i): {f: "on" for f, on in c.items() if on} for i, c in enumerate(combinations)}
    assert infer({name: ("off", "on") for name in names}, changed) == design


def test_factor_columns_that_contradict_themselves_are_refused():
    rows = factor_frame(lambda loss, norm: 0.0)
    ask = {"metric": "psnr", "goal": "max", "baseline": "l1 batch"}
    with pytest.raises(ValueError, match="'l1 batch' and 'l1 spectral' have the same level of every factor"):
        reports.analyse(rows, factors=["loss"], **ask)
    rows.loc[1, "loss"] = "ssim"
    with pytest.raises(ValueError, match="arm 'l1 batch' has two levels of loss: l1, ssim"):
        reports.analyse(rows, factors=["loss", "norm"], **ask)


# -- outcomes ---------------------------------------------------------------------------------------


def test_a_stopped_arm_is_a_tier_of_its_own_and_leaves_the_rest_as_it_was():
    scores = {arm: list(row) for arm, row in table(EFFECTS, 5).items()}
    without = analyse({arm: row for arm, row in scores.items() if arm != "good"})
    scores["good"][3:] = ["stopped", "stopped"]
    found = analyse(scores)
    assert found.sigma == pytest.approx(without.sigma) and found.df == without.df
    assert found.effect("good").verdict == "stopped early, no verdict" and found.effect("good").difference is None
    assert found.stopped["good"].after == 3
    assert found.stopped["good"].mean == pytest.approx(np.mean(scores["good"][:3]))
    assert found.ranking[-1] == "good" and "good" not in found.best_set and "good" not in found.letters
    for other in without.effects:
        effect = found.effect(other.arm)
        assert (effect.verdict, effect.pairs) == (other.verdict, other.pairs)
        assert (effect.low, effect.high, effect.shrunken) == pytest.approx((other.low, other.high, other.shrunken))


def test_half_or_double_the_penalty_may_change_the_order_without_changing_the_leader():
    scores = {arm: list(row) for arm, row in table(EFFECTS, 5).items()}
    scores["good"][2] = "diverged"
    assert analyse(scores, penalty=5.0).leader_matters  # half of it keeps `good` first
    scores = {arm: list(row) for arm, row in table(EFFECTS, 5).items()}
    scores["fair"][2] = "diverged"
    found = analyse(scores, penalty=19.0)
    assert found.leader_matters is False
    assert analyse(table(EFFECTS, 5)).leader_matters is None


def test_the_twin_stands_outside_and_is_compared():
    arms = table(EFFECTS | {"again": 20.0}, 5)
    alone, found = analyse({a: row for a, row in arms.items() if a != "again"}), analyse(arms, twin="again")
    assert dataclasses.replace(found, twin=None) == alone
    assert found.twin.pairs == 5 and not found.twin.differs and found.twin.low < 0 < found.twin.high
    assert analyse(table(EFFECTS | {"again": 23.0}, 5), twin="again").twin.differs


def test_a_twin_falsely_differs_no_more_often_than_promised():
    random = np.random.default_rng(6)
    alarms = 0
    for _ in range(300):
        values = random.normal(size=(6, 3)) + random.normal(size=3)
        scores = {("base", "again", "a", "b", "c", "d")[i]: tuple(row) for i, row in enumerate(values)}
        alarms += analyse(scores, twin="again").twin.differs
    assert alarms / 300 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


# -- scenes -----------------------------------------------------------------------------------------


def scene_frame(effects: dict[str, list[float]], seeds: int = 4) -> pandas.DataFrame:
    """Each arm's true value per scene, with a little noise."""
    random = np.random.default_rng(1)
    rows = [
        {"arm": arm, "seed": seed, "scene": f"s{place}", "psnr": value + 10 * place + random.normal(0, 0.05)}
        for arm, row in effects.items()
        for seed in range(seeds)
        for place, value in enumerate(row)
    ]
    return pandas.DataFrame(rows)


SCENES = {"base": [20.0] * 5, "even": [21.0] * 5, "one": [25.0, 20.0, 20.0, 20.0, 20.0], "x": [20.0] * 5}


def test_scenes_enter_the_fit_by_their_mean_and_give_an_interval_of_their_own():
    from scipy.stats import ttest_1samp

    rows = scene_frame(SCENES)
    found = reports.analyse(rows, **ASK)
    means = rows.groupby(["arm", "seed"])["psnr"].mean().reset_index()
    assert found.effect("one").difference == pytest.approx(reports.analyse(means, **ASK).effect("one").difference)
    per_scene = rows.groupby(["arm", "scene"])["psnr"].mean()
    oracle = ttest_1samp(per_scene["one"] - per_scene["base"], 0).confidence_interval()
    scene = found.scenes["one"]
    assert (scene.low, scene.high) == pytest.approx((oracle.low, oracle.high))
    assert scene.scenes == 5 and found.scenes["even"].better_on == 5


def test_a_gain_on_one_scene_is_better_over_seeds_and_open_over_scenes():
    found = reports.analyse(scene_frame(SCENES), **ASK)
    assert found.effect("one").verdict == "better" and found.scenes["one"].low < 0 < found.scenes["one"].high
    assert found.effect("even").verdict == "better" and found.scenes["even"].low > 0


def test_lower_is_better_counts_scenes_the_other_way():
    found = reports.analyse(scene_frame(SCENES), metric="psnr", goal="min", baseline="base")
    assert found.scenes["even"].better_on == 0


def test_a_run_that_lacks_a_scene_has_no_mean_and_is_named():
    rows = scene_frame(SCENES)
    rows = rows[~((rows["arm"] == "one") & (rows["seed"] == 1) & (rows["scene"] == "s2"))]
    found = reports.analyse(rows, **ASK)
    assert found.arms["one"].n_ok == 3
    assert "Finished without a finite psnr in every one of the 5 scenes, left out: one seed 1." in found.notes


def test_a_scene_listed_twice_or_with_another_status_is_refused():
    rows = scene_frame(SCENES).assign(status="done")
    with pytest.raises(ValueError, match="seed 0 and scene 's0' is listed more than once"):
        reports.analyse(pandas.concat([rows, rows[:1]]), **ASK)
    rows.loc[1, "status"] = "diverged"
    with pytest.raises(ValueError, match="row 2: arm 'base' with seed 0 is diverged here and done before"):
        reports.analyse(rows, **ASK)


# -- whatever comes ---------------------------------------------------------------------------------


def numbers(value):
    """Every number in a record, however deep."""
    if dataclasses.is_dataclass(value):
        value = [getattr(value, entry.name) for entry in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, float) else []


NAN = math.nan
TABLES = {
    "constant": {"base": [1.0] * 4, "x": [1.0] * 4, "y": [1.0] * 4, "z": [2.0] * 4},
    "one arm": {"base": [1.0, 2.0, 3.0]},
    "two arms": {"base": [1.0, 2.0, 3.0], "x": [1.5, 2.0, 3.5]},
    "one seed": {"base": [1.0], "x": [2.0]},
    "two seeds": {"base": [1.0, 2.0], "x": [2.0, 4.0], "y": [0.0, 1.0]},
    "baseline lost": {"base": [NAN] * 4, "x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 3.0, 3.0, 5.0]},
    "nothing finished": {"base": [NAN] * 3, "x": [NAN] * 3},
    "all diverged": {"base": ["diverged"] * 3, "x": ["diverged"] * 3},
    "missing block": {"base": [1.0, NAN, 3.0, 2.0], "x": [1.5, 2.0, 3.5, NAN], "y": [0.0, NAN, NAN, 1.0]},
    "islands": {"base": [1.0, 2.0, NAN, NAN], "x": [1.5, 2.6, NAN, NAN], "y": [NAN, NAN, 3.0, 4.0]},
    "no shared seed": {"base": [1.0, NAN, 2.0, NAN], "x": [NAN, 1.0, NAN, 2.0]},
    "huge": {"base": [1e90, 2e90, 3e90], "x": [1.5e90, 1e90, 2e90], "y": [1e90, 3e90, 1e90]},
    "sentinel": {"base": [1.0, 2.0, 1e300], "x": [1.5, 2.5, 1.0], "y": [2.0, 1.0, -1e308]},
    "tiny": {"base": [1e-300, 2e-300, 3e-300], "x": [1.5e-300, 1e-300, 2e-300], "y": [0.0, 0.0, 1e-300]},
    "one stopped": {"base": [1.0, 2.0, 3.0], "x": [1.0, "stopped", "stopped"], "y": [2.0, 1.0, 1.0]},
}


@pytest.mark.parametrize("family", ["vs_baseline", "all_pairs", "factor_effects"])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.filterwarnings("error")
def test_every_table_gives_finite_numbers_or_none(name, family):
    rows = frame(TABLES[name])
    found = reports.analyse(rows, **ASK, family=family)
    assert all(map(math.isfinite, numbers(found))), found
    assert len(found.to_frame()) == len(TABLES[name])
    for effect in found.effects:
        assert (effect.low is None) == (effect.high is None) == (effect.p_adjusted is None)
        if effect.verdict.startswith(("better", "worse")):
            assert effect.low > 0 or effect.high < 0


def test_the_ranked_table_as_a_frame():
    found = analyse(table(EFFECTS, 5))
    rows = found.to_frame()
    assert list(rows["arm"]) == list(found.ranking)
    assert rows.set_index("arm").loc["good", "verdict"] == "better"
    assert rows.set_index("arm").loc["base", "verdict"] == "baseline"
    assert rows.set_index("arm")["best_set"].sum() == 1


def test_the_code_in_the_documentation_runs():
    page = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    printed: list[str] = []
    exec(code, {"print": lambda *values: printed.append(" ".join(map(str, values)))})
    promised = [line.rpartition("# ")[2] for line in code.splitlines() if "  # " in line]
    assert len(promised) == 2 and printed[:2] == promised
