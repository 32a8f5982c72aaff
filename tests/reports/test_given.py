"""From a study to a table of its runs and back: the same differences, intervals, verdicts and ranks."""

from __future__ import annotations

import pandas
import pytest

import reports
from reports.given import Asked, page_of, write_page
from reports.load import Metric, load
from reports.scoring import analyse_results
from reports.tables import rows
from reports.writing import files
from tests.reports.cases import CASES
from tests.reports.factory import study, table

SAME = ("rank", "n_ok", "n_planned", "n_failed", "verdict", "best_set")
CLOSE = ("mean", "sd", "difference", "low", "high", "shrunken", "p_adjusted", "p_best", "p_beats", "score", "worst")


def exported(results) -> pandas.DataFrame:
    """The table that a person would keep of a study: one row per run that has an outcome."""
    names = [results.metric.name, *(metric.name for metric in results.also)]
    return pandas.DataFrame(
        {"arm": run.arm, "seed": run.seed, "status": run.outcome, "why": run.result.why if run.result else "",
         **{name: run.score(name) for name in names}}
        for run in results.all_runs
        if run.outcome in ("done", "diverged", "collapsed", "stopped", "failed")
    )  # fmt: skip


def asked_of(results) -> Asked:
    penalty = results.references.get("mean_colour", {}).get(results.metric.name)
    return Asked(results.name, results.metric, results.baseline, also=results.also,
                 smallest_effect=results.smallest_effect, penalty=penalty, family=results.family)  # fmt: skip


@pytest.mark.parametrize("case", [case for case in CASES if case != "not_begun"])
def test_a_study_exported_to_a_table_has_the_same_numbers(case, tmp_path):
    results = load(CASES[case](tmp_path))
    page = page_of(exported(results), asked_of(results))
    ours = {row["arm"]: row for row in rows(page)}
    analysis = analyse_results(results)
    assert page.analysis.blocks == analysis.blocks and page.analysis.scale == analysis.scale
    for arm in results.arms:
        effect, own = analysis.effect(arm.name), ours[arm.name]
        assert own["mean"] == pytest.approx(analysis.arms[arm.name].mean)
        assert own["n_ok"] == analysis.arms[arm.name].n_ok and own["n_failed"] == analysis.arms[arm.name].n_failed
        if effect:
            assert own["verdict"] == effect.verdict
            # Quasi-random draws: the order of arms enters the multiplier where runs are missing.
            width = 0.0 if effect.low is None else effect.high - effect.low
            assert own["difference"] == pytest.approx(effect.difference, abs=1e-9)
            assert [own["low"] is None, own["high"] is None] == [effect.low is None, effect.high is None]
            if width:
                assert (own["low"], own["high"]) == pytest.approx((effect.low, effect.high), abs=5e-3 * width)
    assert page.analysis.best_set == tuple(sorted(analysis.best_set, key=lambda arm: (arm != results.baseline, arm)))


def test_a_balanced_study_exported_to_a_table_has_equal_numbers_to_the_last_digits(tmp_path):
    arms = {"base": 17.0, "a": 17.9, "b": 17.6, "c": 16.2, "d": 17.1}  # in the order in which a table has them
    results = load(study(tmp_path, table(arms, 5)))
    page = page_of(exported(results), asked_of(results))
    found, own = page.analysis, analyse_results(results)
    for effect in own.effects:
        for key in ("difference", "low", "high", "p_adjusted", "shrunken"):
            assert getattr(found.effect(effect.arm), key) == pytest.approx(getattr(effect, key), rel=1e-9)
    assert found.ranking == own.ranking


@pytest.mark.parametrize("case", ["normal", "failures", "ratios"])
def test_the_python_call_gives_the_numbers_of_the_report(case, tmp_path):
    results = load(CASES[case](tmp_path))
    frame = exported(results).drop(columns="why")
    frame = frame[~((frame["arm"] == "batch=8") & (frame["status"] == "failed"))]  # one is the arm's own: said in `why`
    asked = asked_of(results)
    found = reports.analyse(frame, metric=asked.metric.name, goal=asked.metric.goal, baseline=asked.baseline,
                            smallest_effect=asked.smallest_effect, penalty=asked.penalty)  # fmt: skip
    assert page_of(frame, asked).analysis == found


def test_the_report_of_a_table_is_written_and_replaced(tmp_path):
    results = load(CASES["failures"](tmp_path / "runs"))
    page = page_of(exported(results), asked_of(results))
    contents = files(page)
    for _ in range(2):
        assert write_page(page, tmp_path / "out", contents).read_bytes() == contents["report.md"]
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == set(contents)


def test_arms_that_share_their_trials_are_one_arm_with_two_names():
    rows = [{"arm": arm, "seed": seed, "status": "done", "psnr": base + seed / 7, "trial": f"{trial}{seed}"}
            for arm, base, trial in (("base", 1, "t"), ("same", 1, "t"), ("other", 2, "u"))
            for seed in range(3)]  # fmt: skip
    page = page_of(pandas.DataFrame(rows), Asked("x", Metric("psnr", "PSNR", "dB", "max"), "base"))
    assert [arm.names for arm in page.results.arms] == [("base", "same"), ("other",)]
    assert set(page.analysis.arms) == {"base", "other"}


def test_levels_of_factors_are_what_an_arm_changes(tmp_path):
    rows = [{"arm": f"{norm}{loss}", "seed": seed, "status": "done", "psnr": seed / 7 + len(norm), "norm": norm,
             "loss": loss} for norm in "ab" for loss in "xy" for seed in range(3)]  # fmt: skip
    frame, metric = pandas.DataFrame(rows), Metric("psnr", "PSNR", "dB", "max")
    from reports.given import results_of

    results = results_of(frame, Asked("x", metric, "ax", factors=("norm", "loss")))
    assert results.factors == {"norm": ("a", "b"), "loss": ("x", "y")} and results.design == "factorial"
    assert {arm.name: dict(arm.changes) for arm in results.arms}["by"] == {"norm": "b", "loss": "y"}
    frame.loc[0, "norm"] = "b"
    with pytest.raises(ValueError, match="arm 'ax' has more than one level"):
        results_of(frame, Asked("x", metric, "ax", factors=("norm", "loss")))
