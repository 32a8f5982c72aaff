"""`ablate analyse` on tables: what it takes for granted, what it asks for, and where it writes."""

from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from ablate.analyse import Question, known_metric, settle
from ablate.cli import app
from ablate.problems import StudyError
from ablate.readers.tables import read_table
from tests.reports.factory import table

ARMS = {"base": 17.0, "spectral": 18.0, "hinge": 17.1, "wgan_gp": 16.0}
SCORES = table(ARMS, 4)


def lines(scores=SCORES, *, head: str = "arm,seed,psnr", row=lambda arm, seed, score: f"{arm},{seed},{score!r}") -> str:
    rows = [row(arm, seed, score) for arm, values in scores.items() for seed, score in enumerate(values, start=1)]
    return "\n".join([head, *rows]) + "\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes results.csv into the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str = lines()):
        (tmp_path / "results.csv").write_text(text)
        return tmp_path / "results.csv"

    return write


def ask(path, **asked):
    return settle(read_table(path), Question(**({"metric": "psnr"} | asked)))


def run(*arguments: object):
    return CliRunner().invoke(app, ["analyse", *map(str, arguments)])


def refused(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 2 and done.stdout == "", (done.output, done.exception)
    return done.stderr


# -- what it writes and prints -----------------------------------------------------------------------


def test_the_report_lies_beside_the_results_and_its_answer_is_printed(write):
    path = write()
    done = run("results.csv", "--metric", "psnr")
    assert done.exit_code == 0, done.stderr
    assert {p.name for p in (path.parent / "results-report").iterdir()} >= {
        "report.md", "report.html", "report.json", "table.csv", "figures",
    }  # fmt: skip
    assert "Better than base" in done.stdout and "report: results-report/report.md" in done.stdout
    assert "**" not in done.stdout and "`" not in done.stdout
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_the_same_table_gives_the_same_report_in_any_order_of_rows(write):
    texts = []
    for number, text in enumerate((lines(), "\n".join([lines().split("\n")[0], *reversed(lines().split("\n")[1:])]))):
        path = write(text)
        assert run("results.csv", "--metric", "psnr", "--out", f"report{number}").exit_code == 0
        texts.append((path.parent / f"report{number}" / "table.csv").read_text())
    assert texts[0] == texts[1]


def test_json_is_one_document_that_names_the_report(write):
    write()
    done = run("results.csv", "--metric", "psnr", "--json")
    document = json.loads(done.stdout)
    assert {"report", "cautions", "schema", "analysis", "table", "runs"} <= set(document)
    assert document["report"] == "results-report/report.md"
    assert {row["trial"] for row in document["runs"][:1]} == {"results.csv:2"}


def test_a_report_is_replaced_and_anything_else_is_left_alone(write):
    folder = write().parent / "results-report"
    assert run("results.csv", "--metric", "psnr").exit_code == 0
    assert run("results.csv", "--metric", "psnr", "--name", "again").exit_code == 0
    assert json.loads((folder / "report.json").read_text())["study"] == "again"
    (folder / "notes.txt").write_text("mine")
    assert "holds what is not a report of ablate (notes.txt)" in refused("results.csv", "--metric", "psnr")
    assert json.loads((folder / "report.json").read_text())["study"] == "again"
    (folder.parent / "full").mkdir()
    (folder.parent / "full" / "report.json").write_text("{}")
    assert "not a report of ablate" in refused("results.csv", "--metric", "psnr", "--out", "full")
    assert "is a file" in refused("results.csv", "--metric", "psnr", "--out", "results.csv")


def test_no_text_of_the_report_holds_the_place_of_the_results(write):
    path = write()
    assert run(path, "--metric", "psnr").exit_code == 0
    report = (path.parent / "results-report" / "report.md").read_text()
    assert str(path.parent) not in report.partition("## Provenance")[0]


def test_the_page_has_no_section_on_what_a_table_does_not_tell(write):
    """Sections of a study that need trial folders: an absent fact gives no sentence."""
    path = write()
    run("results.csv", "--metric", "psnr")
    text = (path.parent / "results-report" / "report.md").read_text()
    for words in ("Budget", "base recipe", "initial weights", "Learning"):
        assert words not in text, words


# -- what is asked for, and what is guessed ----------------------------------------------------------


def test_columns_are_found_by_case_and_usual_names_and_that_is_said(write):
    found = ask(write(lines(head="Method,Random_Seed,PSNR")), metric="PSNR")
    assert found.metric == {"name": "psnr", "label": "PSNR", "unit": "dB", "goal": "max"}
    assert found.baseline == "base" and sorted(set(found.frame["arm"])) == sorted(ARMS)
    assert "The arm is read from the column 'Method'." in found.cautions
    assert "The seed is read from the column 'Random_Seed'." in found.cautions


@pytest.mark.parametrize(
    ("head", "asked", "words"),
    [
        ("arm,seed,psnr", {"metric": "ssim"}, "--metric: there is no 'ssim'; there are arm, seed, psnr"),
        ("arm,seed,psnr", {"metric": "pnsr"}, "did you mean psnr"),
        ("arm,seed,psnr", {"metric": None}, "say --metric NAME; there are psnr"),
        ("armm,seed,psnr", {}, r"which variant a run is of \(arm\).*there are armm, seed, psnr; did you mean armm"),
        ("arm,sede,psnr", {}, r"which repetition a run is \(seed\).*did you mean sede"),
        ("arm,seed,score", {"metric": "score"}, "--goal: is a higher score better"),
        ("arm,seed,psnr", {"baseline": "bass"}, "no arm 'bass'; there are base, hinge.*did you mean base"),
        ("arm,seed,psnr", {"twin": "copy"}, "--twin: there is no arm 'copy'"),
        ("arm,seed,psnr", {"twin": "base"}, "--twin: base is the baseline itself"),
        ("arm,seed,psnr", {"also": ("ssim",)}, "--also: there is no 'ssim'"),
        ("arm,seed,psnr", {"factors": ("norm",)}, "--factors: there is no 'norm'"),
    ],
)  # fmt: skip
def test_what_is_missing_is_answered_with_what_there_is(write, head, asked, words):
    with pytest.raises(StudyError, match=words):
        ask(write(lines(head=head)), **asked)


def test_all_missing_columns_are_named_at_once(write):
    with pytest.raises(StudyError) as error:
        ask(write(lines(head="a,b,c")))
    assert len(str(error.value).splitlines()) == 3


def test_without_an_arm_called_base_the_baseline_is_asked_for(write):
    path = write(lines({arm.replace("base", "ours"): row for arm, row in SCORES.items()}))
    with pytest.raises(StudyError, match="say --baseline ARM; there are hinge, ours, spectral, wgan_gp"):
        ask(path)
    assert ask(path, baseline="ours").baseline == "ours"


def test_the_goal_of_a_known_metric_is_known_and_a_contradiction_is_said():
    assert known_metric("validation/GMSD")["goal"] == "min" and known_metric("FID")["name"] == "fid"
    assert known_metric("my score") == {"name": "my score", "label": "my score", "unit": "", "goal": ""}


def test_a_goal_against_the_usual_one_is_obeyed_and_said(write):
    found = ask(write(), goal="min")
    assert found.metric["goal"] == "min"
    assert any("usually read the other way round" in said for said in found.cautions)


def test_also_takes_a_goal_with_it_where_none_is_known(write):
    path = write(lines(head="arm,seed,psnr,sharp", row=lambda arm, seed, score: f"{arm},{seed},{score!r},{score / 2}"))
    assert ask(path, also=("sharp:min",)).also[0]["goal"] == "min"
    with pytest.raises(StudyError, match="sharp:max"):
        ask(path, also=("sharp",))


# -- rows ------------------------------------------------------------------------------------------------


def test_a_run_listed_twice_is_named_with_its_lines(write):
    with pytest.raises(StudyError, match=r"arm base, seed 1 is listed 2 times: results.csv:2, results.csv:18"):
        ask(write(lines() + "base,1,17.0\n"))


def test_arms_that_differ_by_case_or_spaces_are_pointed_out(write):
    found = ask(write(lines() + " Spectral,1,17.0\nspectral ,5,17.0\n"))
    assert any("'spectral' (results.csv:6) and 'Spectral' (results.csv:18)" in said for said in found.cautions)
    assert len(set(found.frame["arm"])) == 5


def test_outcomes_are_read_by_their_usual_words_and_others_refused(write):
    head, words = "arm,seed,psnr,status", iter(["Done", "finished", "", "DIVERGED", "stopped"] + ["ok"] * 11)
    path = write(lines(head=head, row=lambda arm, seed, score: f"{arm},{seed},{score!r},{next(words)}"))
    assert list(ask(path).frame["status"][:5]) == ["done", "done", "done", "diverged", "stopped"]
    path = write(lines(head=head, row=lambda arm, seed, score: f"{arm},{seed},{score!r},exploded"))
    with pytest.raises(StudyError, match="results.csv:2: status: 'exploded' is unknown; there are done, diverged"):
        ask(path)


def test_a_lost_run_that_was_run_again_counts_by_what_came_of_it(write):
    head = "arm,seed,psnr,status"
    text = lines(head=head, row=lambda arm, seed, score: f"{arm},{seed},{score!r},done") + "base,1,,failed\n"
    found = ask(write(text))
    assert len(found.frame) == 16 and any("run again with the same seed" in said for said in found.cautions)


def test_holes_and_copies_are_pointed_out(write):
    scores = {**SCORES, "copy": SCORES["hinge"], "short": SCORES["hinge"][:2]}
    found = ask(write(lines(scores)))
    assert any(said.startswith("No row for short seed 3, short seed 4:") for said in found.cautions)
    assert any(said.startswith("copy and hinge have equal values for every seed") for said in found.cautions)


@pytest.mark.parametrize(("row", "words"), [(",1,17\n", "results.csv:18: arm is empty"), ("a,,17\n", "seed is empty")])
def test_a_row_without_arm_or_seed_is_named(write, row, words):
    with pytest.raises(StudyError, match=words):
        ask(write(lines() + row))


def test_scenes_of_a_run_are_its_rows_and_enter_by_their_mean(write):
    from reports.given import Asked, results_of
    from reports.load import Metric

    rows = "".join(
        f"{arm},{seed},{scene},{score + shift!r}\n"
        for arm, values in SCORES.items()
        for seed, score in enumerate(values, start=1)
        for scene, shift in (("north", -1.0), ("south", 1.0))
    )
    found = ask(write("arm,seed,scene,psnr\n" + rows))
    assert found.scenes and len(found.frame) == 32
    results = results_of(found.frame, Asked("x", Metric.of(found.metric), "base"))
    assert results.runs["hinge", 2].score("psnr") == pytest.approx(SCORES["hinge"][1])
    with pytest.raises(StudyError, match="--scene-from"):
        ask(write("arm,seed,place,psnr\n" + rows))


def test_factors_name_the_arms_where_no_column_does(write):
    rows = "".join(
        f"{norm},{loss},{seed},{17 + seed / 10 + (norm == 'batch')}\n"
        for norm in ("instance", "batch") for loss in ("l1", "ssim") for seed in (1, 2, 3)
    )  # fmt: skip
    path = write("norm,loss,seed,psnr\n" + rows)
    found = ask(path, factors=("norm", "loss"), baseline="norm=instance+loss=l1")
    assert set(found.frame["arm"]) == {f"norm={n}+loss={one}" for n in ("instance", "batch") for one in ("l1", "ssim")}
    with pytest.raises(StudyError, match="there are norm=batch.loss=l1"):
        ask(path, factors=("norm", "loss"))


def test_a_hundred_thousand_rows_are_analysed_in_seconds(write):
    """Twenty arms, five seeds, a thousand scenes."""
    rows = "".join(f"arm{n % 20},{n // 20 % 5},s{n // 100},{(n * 7919 % 1000) / 100}\n" for n in range(100_000))
    path = write("arm,seed,scene,psnr\n" + rows)
    started = time.process_time()
    found = ask(path, baseline="arm0")
    assert len(found.frame) == 100_000
    assert time.process_time() - started < 6
