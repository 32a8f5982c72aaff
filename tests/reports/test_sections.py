"""What single sections say, on studies made to provoke it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import reports
from ablate import events as ablate_events
from ablate.records import Status, TrialResult
from reports.agreement import agreement
from reports.findings import FactorEffect, SceneEffect, Stopped, TwinCheck
from reports.html import html
from reports.lint import lint
from reports.load import Metric, PlannedArm, Results, Run, load
from reports.markdown import markdown
from reports.page import Page, change, compose
from reports.scoring import analyse_results
from reports.stability import stability
from reports.tables import table_csv
from reports.wording import Numbers, among
from tests.reports.factory import GMSD, REFERENCES, SSIM, study, table

ARMS = {"base": 17.0, "a=1": 17.5, "b=2": 16.0, "c=3": 17.1, "d=4": 16.6, "e=5": 17.3}


def arm(name: str, **differences: tuple) -> PlannedArm:
    paths = {path.replace("__", "."): pair for path, pair in differences.items()}
    return PlannedArm(name, {}, paths, None, None, ())


def spaced(text: str) -> str:
    """With plain spaces where a table keeps an interval on one line."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def written(root: Path) -> str:
    """The report's text, without the time that its figures take."""
    results = load(root)
    analysis = analyse_results(results)
    return markdown(Page(results, analysis, Numbers.of(results.metric, analysis)))


def answer(root: Path) -> str:
    return written(root).partition("## Ranking")[0]


def set_finals(root: Path, metric: str, finals: dict[str, float]) -> None:
    """Another metric's final value of every run, by arm: the last reading of the events, edited."""
    plan = json.loads((root / "plan.json").read_text())
    for cell in plan["cells"]:
        path = root / "trials" / cell["trial"] / "events.jsonl"
        events = [json.loads(line) for line in path.read_text().splitlines()]
        last = [event for event in events if event.get("split") == "validation"][-1]
        last["values"][metric] = finals[cell["arm"]]
        path.write_text("".join(json.dumps(event) + "\n" for event in events))


WGAN = {
    "objective__name": ("vanilla", "wgan_gp"),
    "objective__smoothing": ([1.0, 0.0], None),
    "objective__penalty_weight": (None, 10.0),
    "optimizer__betas": ([0.5, 0.999], [0.0, 0.9]),
}


def test_options_that_come_and_go_with_a_part_are_left_out_of_a_change():
    wgan = arm("wgan", **WGAN)
    charbonnier = arm("c", terms__l1__weight=(100.0, None), terms__charbonnier__weight=(None, 100.0),
                      terms__charbonnier__eps=(None, 0.001))  # fmt: skip
    both = (wgan, charbonnier, arm("smooth", objective__smoothing=([1.0, 0.0], [0.9, 0.0])))
    assert change(wgan, both) == (
        "`objective`: `vanilla` → `wgan_gp`, `optimizer.betas`: `[0.5, 0.999]` → `[0.0, 0.9]`"
    )
    assert change(charbonnier, both) == "`l1`: `100` → none, `charbonnier`: none → `100`"


def test_an_option_that_tells_two_arms_apart_stays_in_their_changes():
    strong = arm("strong", **(WGAN | {"objective__penalty_weight": (None, 50.0)}))
    weak = arm("weak", **WGAN)
    changes = {change(each, (strong, weak)) for each in (strong, weak)}
    assert len(changes) == 2
    assert all("`objective.penalty_weight`: none → " in text for text in changes)


def test_an_option_that_is_itself_the_change_is_always_said():
    smooth = arm("smooth", objective__smoothing=(None, [0.9, 0.0]))
    assert change(smooth, (smooth,)) == "`objective.smoothing`: none → `[0.9, 0.0]`"


def test_the_agreement_of_metrics_is_spearmans_signed_by_their_goals(tmp_path):
    from scipy.stats import spearmanr

    scores = table(ARMS, 3)
    root = study(tmp_path, scores, also=(GMSD, SSIM))
    values = dict(zip(ARMS, [0.3, 0.5, 0.4, 0.4, 0.2, 0.6], strict=True))  # with a tie
    set_finals(root, "ssim", values)
    set_finals(root, "gmsd", values)
    found = agreement(load(root))
    oracle = spearmanr([np.mean(row) for row in scores.values()], list(values.values())).statistic
    assert found["ssim"] == pytest.approx(oracle)
    assert found["gmsd"] == pytest.approx(-oracle)


@pytest.mark.parametrize("sign", [1, -1])
def test_metrics_that_order_the_arms_in_reverse_are_named_in_the_answer(tmp_path, sign):
    scores = table(ARMS, 3)
    root = study(tmp_path, scores, also=(SSIM,))
    set_finals(root, "ssim", {name: sign * float(np.mean(row)) for name, row in scores.items()})
    assert ("Metrics disagree" in answer(root)) == (sign == -1)


def test_four_arms_or_a_constant_metric_support_no_word_on_agreement(tmp_path):
    few = study(tmp_path / "few", table(dict(list(ARMS.items())[:4]), 3))
    flat = study(tmp_path / "flat", table(ARMS, 3), also=(SSIM,))
    set_finals(flat, "ssim", dict.fromkeys(ARMS, 0.5))
    assert agreement(load(few)) == agreement(load(flat)) == {}


def test_a_predictor_that_no_arm_beats_is_said_with_the_metrics_on_which_arms_do(tmp_path):
    references = REFERENCES | {"linear_map": {"psnr": 30.0, "gmsd": 0.1, "ssim": 0.4}}
    root = study(tmp_path, table(ARMS, 3), references=references, also=(GMSD, SSIM))
    set_finals(root, "ssim", dict(zip(ARMS, [0.3, 0.5, 0.45, 0.41, 0.2, 0.6], strict=True)))
    text = answer(root)
    assert "**No arm beats the linear map (30.00), a predictor without training, on PSNR.**" in text
    assert "By their means, it is beaten by 4 of 6 arms on SSIM; by 0 of 6 arms on GMSD." in text


def test_a_best_set_of_nearly_all_arms_is_told_by_those_left_out(tmp_path):
    arms = {"base": 17.0} | {f"a={i}": 17.0 for i in range(8)} | {"bad=1": 10.0}
    text = answer(study(tmp_path, table(arms, 3, draw=2)))
    assert "cannot separate 9 of the 10 arms as the best (starred below): all but `bad=1`." in text


def test_the_smallest_effect_is_set_against_what_could_be_found(tmp_path):
    noisy = answer(study(tmp_path / "noisy", table(ARMS, 3)))
    quiet = answer(study(tmp_path / "quiet", table(ARMS, 3, spread=0.01)))
    assert "even above the smallest effect of interest (0.1 dB)" in noisy
    assert "smallest effect of interest" not in quiet and "smaller ones may hide." in quiet


def test_what_could_be_found_is_also_said_in_the_unit_of_the_plan(tmp_path):
    text = answer(study(tmp_path, table(ARMS, 3)))
    said = re.search(r"from `base` \(([\d.]+) residual standard deviations\)", text)
    assert float(said[1]) == pytest.approx(reports.detectable(len(ARMS), 3), abs=0.05)


def test_an_arm_that_holds_most_of_the_error_is_named(tmp_path):
    scores = {name: list(row) for name, row in table(ARMS, 3).items()}
    assert "residual variance" not in written(study(tmp_path / "even", scores)).partition("Method")[0]
    scores["b=2"] = [16.0, 19.0, 13.0]
    text = written(study(tmp_path / "uneven", scores))
    assert re.search(r"`b=2` holds \d\d % of the residual variance of all 6 arms", text)


def test_a_pathology_that_an_arm_gives_no_reading_for_is_not_counted_as_absent(tmp_path):
    root = study(tmp_path, table(ARMS, 3), flags={("base", 1): ("D dominates: right on 98%", 60)})
    other = '"health/auc"'
    rewritten(root, "a=1", lambda event: json.loads(json.dumps(event).replace('"health/accuracy_real"', other)))
    text = written(root)
    assert "`a=1` not measured" in text.partition("**D dominates**")[2]
    assert "in 1 of 3 runs of `base` and in 0 of 12 runs of the other arms" in text  # 4 others, without a=1


def rewritten(root: Path, arm: str, change) -> None:
    """Every event of an arm's runs through `change`."""
    for cell in json.loads((root / "plan.json").read_text())["cells"]:
        if cell["arm"] == arm:
            path = root / "trials" / cell["trial"] / "events.jsonl"
            events = [change(json.loads(line)) for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(event) + "\n" for event in events))


def health_of(root: Path) -> str:
    return written(root).partition("## Health\n")[2].partition("\n## ")[0]


def test_each_runs_diagnosis_stands_by_arm_and_seed(tmp_path):
    flags = {("base", 1): ("D dominates: right on 98%", 60), ("base", 3): ("D dominates: right on 99%", 60)}
    section = health_of(study(tmp_path, table(ARMS, 3), flags=flags))
    assert "| `base` | D dominates: 1, 3; healthy: 2 |" in section
    assert (
        "- **D dominates**: `base` 2 of 3 seeds (seeds 1, 3); " in section and "First flagged at update 60." in section
    )
    (others,) = [line for line in section.splitlines() if line.endswith("| healthy: 1, 2, 3 |")]
    assert all(f"`{arm}`" in others for arm in ARMS if arm != "base")


def test_a_run_too_short_to_be_judged_counts_neither_way(tmp_path):
    root = study(tmp_path, table(ARMS, 3), flags={("base", 1): ("D dominates: right on 98%", 60)})
    rewritten(root, "a=1", lambda event: event | ({"diagnosis": "unjudged"} if event["event"] == "ended" else {}))
    section = health_of(root)
    assert "| `a=1` | unjudged: 1, 2, 3 |" in section
    assert "`a=1` not measured" in section.partition("**D dominates**")[2]


def test_a_flag_that_passed_is_counted_and_is_not_the_diagnosis(tmp_path):
    root = study(tmp_path, table(ARMS, 3), flags={("base", 1): ("D dominates: right on 98%", 60)})
    assert "may have passed" not in health_of(root)
    rewritten(root, "base", lambda event: event | ({"diagnosis": "healthy"} if event["event"] == "ended" else {}))
    section = health_of(root)
    assert "**D dominates**: `base` 1 of 3 seeds (seed 1);" in section and "A flag may have passed" in section
    assert "D dominates: 1" not in section


def test_a_run_whose_last_stage_was_not_judged_says_so(tmp_path):
    root = study(tmp_path, table(ARMS, 3))
    why = {"diagnosis": "unjudged", "findings": {"unjudged": "Its last stage was not judged: it began at 90%"}}
    rewritten(root, "a=1", lambda event: event | (why if event["event"] == "ended" else {}))
    section = health_of(root)
    assert "| `a=1` | Its last stage was not judged: 1, 2, 3 |" in section
    assert "flagged in 15 runs; 3 more were not judged to their end" in section


def test_a_study_of_which_no_run_was_judged_counts_no_run_without_a_flag(tmp_path):
    root = study(tmp_path, table(ARMS, 3))
    for arm in ARMS:
        rewritten(root, arm, lambda event: event | ({"diagnosis": "unjudged"} if event["event"] == "ended" else {}))
    section = health_of(root)
    assert "No run was judged to its end, so that none could be flagged." in section and "0 runs" not in section


def test_streams_of_before_there_were_diagnoses_make_a_report(tmp_path):
    root = study(tmp_path, table(ARMS, 3))
    for arm in ARMS:
        rewritten(root, arm, lambda event: {k: v for k, v in event.items() if k not in ("diagnosis", "findings")})
    section = health_of(root)
    assert "No pathology was flagged in 18 runs." in section and "diagnosis" not in section


def test_a_collapsed_run_is_an_outcome_of_its_arm_like_a_diverged_one(tmp_path):
    texts = {}
    for outcome in ("diverged", "collapsed"):
        scores = {name: list(row) for name, row in table(ARMS, 3).items()}
        scores["b=2"][1] = outcome
        root = study(tmp_path / outcome, scores)
        texts[outcome] = (root.parent, written(root))
        assert f"seed 2 {outcome}: " in texts[outcome][1]
    rankings = [text.partition("## Ranking")[2].partition("\n## ")[0] for _, text in texts.values()]
    assert rankings[0] == rankings[1] and "2/3" in rankings[0].replace(" ", "")
    assert "`b=2` 1 of 3 (seed 2; p = 1.00: not a claim)" in texts["collapsed"][1].partition("**G has collapsed**")[2]


def test_nothing_is_ever_called_cured(tmp_path):
    flags = {("base", seed): ("D dominates: right on 98%", 60) for seed in (1, 2, 3)}
    assert "cure" not in written(study(tmp_path, table(ARMS, 3), flags=flags)).lower().replace("secure", "")


def test_budgets_are_told_once_for_each_kind(tmp_path):
    root = study(tmp_path, table({f"a={i}": 17.0 + i for i in range(9)}, 3))
    plan = json.loads((root / "plan.json").read_text())
    plan["arms"][3]["images"] = 960
    (root / "plan.json").write_text(json.dumps(plan))
    section = written(root).partition("## Budget\n")[2].partition("\n## ")[0]
    assert "- 120 generator updates, 480 images seen: the other 8 arms" in section
    assert "- 120 generator updates, 960 images seen: `a=3`" in section


@pytest.mark.parametrize(
    ("number", "total", "words"),
    [(0, 3, "0 of 3 arms"), (2, 3, "2 of 3 arms"), (3, 3, "all 3 arms"), (2, 2, "both arms"), (1, 1, "1 of 1 arm")],
)
def test_shares_of_arms_are_read_aloud(number, total, words):
    assert among(number, total) == words


def test_runs_of_different_code_are_said_with_their_numbers(tmp_path):
    from ablate.events import EventWriter, Measured, Started
    from reports import write
    from tests.reports import cases

    folder = cases.normal(tmp_path)
    notes = "states of the training code"
    assert notes not in write(folder).read_text()
    streams = sorted(folder.glob("trials/*/events.jsonl"))
    for stream, code, measures in zip(streams, ("aaa", "bbb", "ccc"), (True, True, False), strict=False):
        writer = EventWriter(stream, attempt=2, clock=lambda: 9e9)
        writer.append(Started, world_size=1, threads=1, device="cpu", versions={"code": code, "torch": "2"})
        if measures:
            writer.append(Measured, step=120, images=480, split="train", values={"loss_d": 1.0})
        writer.close()
    text = write(folder).read_text()
    said = next(line for line in text.splitlines() if notes in line)
    assert f"({len(streams) - 2} trials under ?, torch 2.13; 1 trial under ?, torch 2.13 and then aaa, torch 2" in said
    assert "1 trial under ?, torch 2.13 and then bbb, torch 2)" in said and "ccc" not in text


def test_a_metric_that_could_not_be_computed_is_named_with_its_reason(tmp_path):
    why = "the weights a_b.pth are missing: put that file into /some/folder"
    left_out = [{"name": "lpips", "label": "LPIPS", "unit": "", "goal": "min", "why": why}]
    root = study(tmp_path, table(ARMS, 5), unavailable=left_out)
    text = written(root)
    assert "LPIPS: unavailable: the weights a\\_b.pth are missing: put that file into /some/folder" in text
    assert text.count("LPIPS") == 1
    assert "unavailable" not in written(study(tmp_path / "whole", table(ARMS, 5)))


def test_what_the_data_say_about_a_metric_is_a_note(tmp_path):
    root = study(tmp_path, table(ARMS, 5))
    facts = {"tiles": "96 train", "cautions": ["FID is of 96 images, fewer than 2,048"]}
    (root / "data.json").write_text(json.dumps(facts))
    notes = written(root).partition("## Notes")[2]
    assert "- FID is of 96 images, fewer than 2,048" in notes


def test_it_says_when_each_run_entered_a_later_stage(tmp_path):
    from ablate.events import EventWriter, Measured

    root = study(tmp_path, table(ARMS, 2))
    results = load(root)
    began = {("a=1", 1): 60, ("a=1", 2): 60, ("b=2", 1): 40, ("b=2", 2): 55, ("c=3", 2): 30}
    for (name, seed), updates in began.items():
        writer = EventWriter(root / "trials" / results.runs[name, seed].trial / "events.jsonl", attempt=2)
        values = {"stage": 2.0, "stage_began": float(updates)}
        writer.append(Measured, step=96, images=384, split="train", values=values)
        writer.close()
    notes = written(root).partition("## Notes")[2]
    assert "- `a=1`: stage 2 began after this many generator updates: 60.\n" in notes
    assert "- `b=2`: stage 2 began after this many generator updates: 40 (seed 1), 55 (seed 2).\n" in notes
    assert "- `c=3`: stage 2 began after this many generator updates: 30 (seed 2).\n" in notes
    assert notes.count("stage 2 began") == 3


def test_pathologies_are_told_as_counts_with_their_exact_p(tmp_path):
    flags = {("base", seed): ("D dominates: right on 98%", 60) for seed in (1, 2, 3)}
    section = health_of(study(tmp_path, table({"base": 17.0, "spectral": 17.2}, 3), flags=flags))
    assert "- **D dominates**: `base` 3 of 3 seeds; `spectral` 0 of 3 (p = 0.10: not a claim)." in section


def page_of(root: Path, **analysis) -> Page:
    """The page of a study of which the analysis says something else."""
    results = load(root)
    found = replace(analyse_results(results), **analysis)
    return Page(results, found, Numbers.of(results.metric, found))


def main_effect(**options) -> FactorEffect:
    return FactorEffect(**{"kind": "main", "label": "a=1", "factors": ("a",), "difference": 0.5, "low": 0.1,
                           "high": 0.9, "p_adjusted": 0.01, "verdict": "better"} | options)  # fmt: skip


def test_effects_of_factors_carry_the_claims_only_where_the_family_says_so(tmp_path):
    root = study(tmp_path, table(ARMS, 5))
    for family, role in (("factor_effects", "these are the claims of the study"), ("vs_baseline", "exploratory: the")):
        text = spaced(markdown(page_of(root, family=family, factor_effects=(main_effect(),))))
        section = text.partition("## Factor effects")[2].partition("\n## ")[0]
        assert role in section and "| `a=1` | main | +0.50 [+0.10, +0.90] | 0.010 | better |" in section
        first = text.partition("## Ranking")[0]
        assert ("Arms, exploratory: " in first) == (family == "factor_effects")


def test_an_effect_names_those_that_it_cannot_be_told_from(tmp_path):
    aliased = main_effect(aliased=("b : c",))
    text = spaced(markdown(page_of(study(tmp_path, table(ARMS, 5)), factor_effects=(aliased,))))
    assert "| `a=1` | main | +0.50 [+0.10, +0.90] | 0.010 | better | `b : c` |" in text
    assert "its size is the sum of all of them" in text


def test_which_partner_is_not_said_under_both(tmp_path):
    root = study(tmp_path, table(ARMS, 5), design="both")
    said = "which partner it is of cannot be said"
    assert said in markdown(page_of(root, factor_effects=(main_effect(),)))
    assert said not in markdown(page_of(root))


def test_a_twin_that_differs_is_the_first_thing_in_the_report(tmp_path):
    root = study(tmp_path, table(ARMS, 5))
    alarm = markdown(page_of(root, twin=TwinCheck(1.0, 0.5, 1.5, 0.001, 5, differs=True)))
    warning = "> **WARNING: `base` differs from its own A/A twin by +1.00 dB [+0.50, +1.50]"
    assert alarm.startswith(f"# remedies\n\n{warning}")
    assert '<blockquote class="alarm" role="alert">' in html(alarm, {}, title="x")
    quiet = markdown(page_of(root, twin=TwinCheck(0.1, -0.4, 0.6, 0.6, 5, differs=False)))
    assert "WARNING" not in quiet and "+0.10 dB [-0.40, +0.60] (p = 0.60, 5 seeds): no alarm" in quiet
    assert "A/A" not in markdown(page_of(root))


def test_scenes_are_counted_and_have_an_interval_of_their_own(tmp_path):
    found = SceneEffect("a=1", better_on=3, scenes=5, difference=0.4, low=-0.1, high=0.9)
    text = spaced(markdown(page_of(study(tmp_path, table(ARMS, 5)), scenes={"a=1": found})))
    assert re.search(r"\| `a=1` \| better on 3 of 5 scenes \| \+0.40 \[-0.10, \+0.90\] \| [+-]", text)


def test_an_arm_that_was_stopped_is_a_tier_of_its_own_and_counts_nowhere_else(tmp_path):
    scores = {name: list(row) for name, row in table(ARMS, 5).items()}
    scores["b=2"][3:] = [None, None]
    stopped = {"b=2": Stopped("b=2", 3, 16.0, "left the best set at look 1 of 3")}
    page = page_of(study(tmp_path, scores), stopped=stopped)
    page = replace(page, analysis=replace(page.analysis, ranking=tuple(a for a in page.order if a != "b=2")))
    text = markdown(page)
    assert "| `b=2` | stopped after n=3, biased low | 16.00 |" in text and "Incomplete" not in text
    assert "of 5 arms" in text and "2 spared by the race" in text
    assert (
        len(re.findall(r"^\| (?:\d+ .*\| )?`b=2`", text.partition("### Other metrics")[2].partition("## ")[0], re.M))
        == 0
    )


def test_the_end_of_training_is_told_by_the_probe_or_else_by_the_primary_metric(tmp_path):
    root = study(tmp_path, table(ARMS, 3))
    found = stability(load(root))
    readings = [value for *_, value in load(root).runs["a=1", 1].curve("train", "health/probe_l1")]
    assert found.reading == "probe L1" and len(readings) == 15
    runs = [load(root).runs["a=1", seed] for seed in (1, 2, 3)]
    last = [[value for *_, value in run.curve("train", "health/probe_l1")][-3:] for run in runs]
    assert found.arms["a=1"] == pytest.approx(np.mean([np.std(row, ddof=1) for row in last]))
    for arm in ARMS:
        rewritten(root, arm, lambda event: json.loads(json.dumps(event).replace("health/probe_l1", "health/else")))
    assert stability(load(root)) is None  # five readings of the metric are too few for a last fifth


def test_results_of_another_trainer_give_no_empty_headings():
    """A table of numbers: no events, health, budget, pictures, scenes, plan or machine."""
    runs = {}
    for name, row in table(ARMS, 4).items():
        for seed, score in enumerate(row, start=1):
            result = TrialResult("", Status.done, scores={"psnr": score}, curves={("", "psnr"): ((0, 0, score),)})
            runs[name, seed] = Run(name, seed, "", "done", result, split="")
    arms = tuple(PlannedArm(name, {}, {}, None, None, ()) for name in ARMS)
    metric = Metric("psnr", "PSNR", "dB", "max")
    results = Results("mine", "", "", "list", metric, "", None, (), 0.0, (1, 2, 3, 4), arms, runs, len(runs), {}, {},
                      (), {}, "", {})  # fmt: skip
    analysis = analyse_results(results)
    text = markdown(compose(results, analysis))
    headings = re.findall("^## (.+)$", text, re.MULTILINE)
    assert headings == ["Answer", "Ranking", "Failures", "Figures", "Method and scope", "Reproducibility"]
    assert not re.search(r"^## [^\n]+\n+(?=## |\Z)|^### [^\n]+\n+(?=#|\Z)", text, re.MULTILINE)
    assert "All of this holds for the runs that were given" in text and lint(text, analysis) == ()


def test_a_report_of_very_many_arms_is_folded_and_table_csv_is_not(tmp_path):
    arms = {"base": 17.0} | {f"a={i:03d}": 17 + i / 100 for i in range(90)}
    page = page_of(study(tmp_path, table(arms, 3)))
    text = markdown(page)
    ranked = text.partition("## Ranking")[2].partition("\n## ")[0].partition("\n### ")[0]
    rows = re.findall(r"^\| \d.*?`(base|a=\d+)`", ranked, re.MULTILINE)
    assert len(rows) <= 60 and "base" in rows and rows == [arm for arm in page.order if arm in rows]
    assert rows[0] == page.order[0] and rows[-1] == page.order[-1]
    assert f"{91 - len(rows)} arms of the middle ranks are left out here" in ranked
    assert len(table_csv(page).splitlines()) == 92


def test_hours_of_training_leave_pauses_out():
    from ablate.events import Measured
    from reports.streams import elapsed

    def scored(time: float, attempt: int, step: int) -> Measured:
        return Measured(time=time, attempt=attempt, step=step, images=0, split="validation", values={})

    events = [scored(0, 1, 1), scored(3600, 1, 2), scored(90_000, 2, 3), scored(93_600, 2, 4)]
    assert elapsed(events, "validation") == {1: 0, 2: 1, 3: 1, 4: 2}


def test_hours_of_a_run_that_went_on_from_another_begin_with_those_of_the_other():
    from ablate.events import Measured, Started
    from reports.streams import elapsed

    def scored(time, step):
        return Measured(time=time, step=step, images=step, split="validation", values={})

    begun = Started(time=0.0, world_size=1, threads=1, device="", step=2, taken_over=7200.0)
    events = [begun, scored(1.0, 1), scored(1.0, 2), scored(3600.0, 3), scored(7200.0, 4)]
    assert elapsed(events, "validation") == {3: 3, 4: 4}


def test_what_runs_have_taken_over_from_others_is_said_beside_the_hours(tmp_path):
    root = study(tmp_path, table({"base": 17.0, "a=1": 18.0, "a=2": 19.0}, 3), tick=60.0)
    assert "went on from what another had trained" not in markdown(page_of(root))
    alone = [run.result for run in page_of(root).results.all_runs]
    for path in sorted(root.glob("trials/*/events.jsonl"))[:2]:
        first, *rest = ablate_events.read(path)
        begun = replace(first, step=60, taken_over=1800.0)
        path.write_text("".join(map(ablate_events.to_line, [begun, *rest])))
    page = page_of(root)
    hours = sum(result.seconds for result in alone) / 3600
    said = f"Training time of all trials: {hours:.3g} h, of which 0 h in runs that did not finish."
    said = f"{said} 1 h more were not spent"
    assert f"{said}, as 2 runs went on from what another had trained" in markdown(page)
    longer = {run.trial: run.result.seconds_alone - run.result.seconds for run in page.results.all_runs}
    assert sorted(longer.values()) == [0] * 7 + [1800.0] * 2


def test_the_expected_best_is_that_of_all_draws_with_replacement():
    from itertools import product

    from reports.sampling import best_so_far, expected_best

    scores = [3.0, 1.0, 2.0]
    for goal, pick in (("max", max), ("min", min)):
        exact = [np.mean([pick(draw) for draw in product(scores, repeat=n)]) for n in (1, 2, 3)]
        assert expected_best(scores, goal) == pytest.approx(exact)
    assert best_so_far([None, 2.0, 1.0, 3.0], "max")[1:].tolist() == [2, 2, 3]


def test_the_front_holds_what_nothing_beats_in_both():
    from reports.figures.pareto import front

    points = {"a": (1.0, 1.0), "b": (2.0, 2.0), "c": (0.5, 1.5), "d": (2.0, 3.0), "e": (3.0, 9.0)}
    assert front(points, "max") == ("a", "b", "e")
    assert front(points, "min") == ("a", "c")


def test_a_tile_without_a_value_is_never_the_worst(tmp_path):
    from reports.figures.worst import worst

    scenes = {"scene_00": float("nan"), "scene_01": -2.0, "scene_02": 0.0, "scene_03": 0.5}
    root = study(tmp_path, table({"base": 17.0, "a=1": 17.5}, 3), scenes=scenes, pictures=True)
    shown = worst(load(root), ("base", "a=1")).tiles
    assert {one.tile for one in shown.values()} == {"scene_01/tile_1"}
    assert all(one.kept == 3 and one.scored == 18 for one in shown.values())


def test_an_arm_that_was_cut_in_every_run_is_not_said_to_have_finished_any(tmp_path):
    text = written(study(tmp_path, table(ARMS, 3) | {"f=6": ["stopped"] * 3, "g=7": [15.0, "stopped", "stopped"]}))
    assert "| `f=6` | stopped before any run ended | – |" in text
    assert "| `g=7` | stopped after n=1, biased low | 15.00 |" in text
