"""Whole reports from study folders: their text, their bytes, and what they may never say."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import reports
from ablate.records import StudyFolder
from reports import writing
from reports.lint import lint
from reports.load import load
from reports.markdown import markdown
from reports.page import Page, compose
from reports.schema import schema
from reports.scoring import analyse_results
from reports.sections.method import SOFTWARE
from reports.sections.provenance import HEADING
from reports.tables import COLUMNS
from reports.wording import Numbers
from reports.writing import files
from tests.reports.cases import CASES
from tests.reports.factory import PSNR, STABILIZER, study, table

GOLDEN = Path(__file__).parent / "golden"
SCHEMA_FILE = Path(reports.__file__).parent / "report.schema.json"
CLAIMS = re.compile(r"^(better|worse)")


class Lazy(dict):
    """Makes a case's value when it is first asked for: a worker of the tests pays for what it runs alone."""

    def __init__(self, make):
        self._make = make

    def __missing__(self, case: str):
        self[case] = self._make(case)
        return self[case]


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Page]:
    """The page of a case, with its figures."""

    def page(case: str) -> Page:
        results = load(CASES[case](tmp_path_factory.mktemp(case)))
        return compose(results, analyse_results(results))

    return Lazy(page)


@pytest.fixture(scope="module")
def written(pages) -> dict[str, dict[str, bytes]]:
    """The report files of a case."""
    return Lazy(lambda case: files(pages[case]))


@pytest.mark.parametrize("case", CASES)
def test_the_text_is_the_golden_text(case, written):
    """`ABLATE_REGENERATE=1 pytest tests/reports` rewrites it; read the difference before keeping it."""
    text, golden = written[case]["report.md"].decode().replace(SOFTWARE, "ablate VERSION"), GOLDEN / f"{case}.md"
    if os.environ.get("ABLATE_REGENERATE"):
        golden.write_text(text)
    assert text == golden.read_text()


def problems(page: Page) -> tuple[str, ...]:
    analyses = [page.analysis]
    if page.results.confirmation:
        analyses.append(analyse_results(page.results.confirmation))
    return lint(markdown(page), *analyses, quoted=(page.results.question, *page.results.warnings))


@pytest.mark.parametrize("case", CASES)
def test_no_report_says_more_than_it_may(case, pages):
    assert problems(pages[case]) == ()


@pytest.mark.parametrize("draw", range(12))
def test_no_report_of_a_random_study_says_more_than_it_may(tmp_path, draw):
    """Random arms, seeds, errors, outcomes, flags and families."""
    random = np.random.default_rng(draw)
    arms = {"base": 17.0} | {f"a={i}": 17 + random.normal(0, 0.5) for i in range(random.integers(1, 12))}
    scores = {arm: list(row) for arm, row in table(arms, int(random.integers(1, 7)), draw=draw).items()}
    ends = ["diverged", "collapsed", "failed", "stopped", "arm", None]
    for row in scores.values():
        for place in range(len(row)):
            row[place] = ends[random.integers(len(ends))] if random.random() < 0.12 else row[place]
    flags = {(arm, 1): ("D dominates: right on 98%", 60) for arm in arms if random.random() < 0.3}
    family = ("vs_baseline", "all_pairs", "vs_baseline")[draw % 3]
    scenes = {f"s{i}": float(random.normal(0, 0.3)) for i in range(6)} if draw % 2 else None
    metric = {**PSNR, "smallest_effect": (None, 0.5)[draw % 2]}
    root = study(tmp_path, scores, flags=flags, family=family, scenes=scenes, metric=metric)
    results = load(root)
    analysis = analyse_results(results)
    assert problems(Page(results, analysis, Numbers.of(results.metric, analysis))) == ()


WRONG = {
    "The arm `a=1` shows a trend.": "claims more",
    "`a=1` is significantly sharper.": "claims more",
    "No effect of `a=1`.": "claims more",
    "It was cured by `a=1`.": "claims more",
    "`a=1` is sharper because of its loss.": "claims more",
    "The mean is 17.1 ± 0.2.": "claims more",
    "The mean is nan.": "is no word",
    "`flat=1` is better than `base`.": "does not exclude 0",
    "| 2 | `flat=1` | +0.1 [-0.2, +0.4] | better |": "does not exclude 0",
    "It is better.": "which arm",
    "`good=1` differs by +0.70 dB.": "without its interval",
    "| 1 | `good=1` | +0.7 | better |": "without its interval",
}


def test_the_lint_finds_each_of_the_wrong_words(tmp_path):
    """On a report that is clean without them."""
    arms = {"base": 17.0, "good=1": 19.0, "flat=1": 17.0}
    results = load(study(tmp_path, table(arms, 5)))
    analysis = analyse_results(results)
    clean = markdown(Page(results, analysis, Numbers.of(results.metric, analysis)))
    assert lint(clean, analysis, quoted=[results.question]) == ()
    for sentence, complaint in WRONG.items():
        found = lint(f"{clean}\n{sentence}\n", analysis, quoted=[results.question])
        assert len(found) == 1 and complaint in found[0], sentence
    assert lint(clean.replace("All of this holds for", "Holds"), analysis, quoted=[results.question])


def test_the_published_schema_is_that_of_the_records():
    """`ABLATE_REGENERATE=1 pytest tests/reports` rewrites it."""
    if os.environ.get("ABLATE_REGENERATE"):
        SCHEMA_FILE.write_text(json.dumps(schema(), indent=1) + "\n")
    assert json.loads(SCHEMA_FILE.read_text()) == schema()


@pytest.mark.parametrize("case", CASES)
def test_the_json_document_keeps_to_its_published_schema(case, written):
    import jsonschema

    published = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator(published).validate(json.loads(written[case]["report.json"]))


def test_a_document_that_breaks_the_schema_is_found(written):
    import jsonschema

    document = json.loads(written["normal"]["report.json"])
    del document["analysis"]["ranking"]
    with pytest.raises(jsonschema.ValidationError, match="ranking"):
        jsonschema.validate(document, schema())


def test_no_letter_of_a_figure_is_smaller_than_seven_points(tmp_path, monkeypatch):
    """In figures of the width of a printed page."""
    from matplotlib.text import Text

    from reports.figures import curves, effects, forest, pareto, pictures, search, slopes, style, ties, worst

    sizes = []

    def measured(figure) -> bytes:
        sizes.extend(text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip())
        return style.png(figure)

    for module in (curves, effects, forest, pareto, pictures, search, slopes, ties, worst):
        monkeypatch.setattr(module, "png", measured)
    for case in (CASES["normal"], CASES["search"], CASES["both_design"]):
        results = load(case(tmp_path / case.__name__))
        compose(results, analyse_results(results))
    assert len(sizes) > 200 and min(sizes) >= 7 and style.WIDTH <= 7.2


@pytest.mark.parametrize("case", CASES)
def test_better_and_worse_stand_only_beside_intervals_that_exclude_zero(case, written):
    for row in csv.DictReader(written[case]["table.csv"].decode().splitlines()):
        if CLAIMS.match(row["verdict"]):
            assert float(row["low"]) > 0 or float(row["high"]) < 0
    claimed = re.search(r"(^|[.:] )\*\*(Better|Worse) than", written[case]["report.md"].decode(), re.MULTILINE)
    rows = json.loads(written[case]["report.json"])["analysis"]["effects"]
    assert bool(claimed) == any(CLAIMS.match(row["verdict"]) for row in rows)


@pytest.mark.parametrize("case", CASES)
def test_the_table_begins_with_the_agreed_columns_and_holds_every_planned_arm(case, written):
    lines = written[case]["table.csv"].decode().splitlines()
    assert tuple(lines[0].split(",")[: len(COLUMNS)]) == COLUMNS
    rows = list(csv.DictReader(lines))
    document = json.loads(written[case]["report.json"])
    assert {row["arm"] for row in rows} >= set(document["analysis"]["arms"])
    assert len({row["arm"] for row in rows}) == len(rows)
    for row, same in zip(rows, document["table"], strict=True):
        for key in ("mean", "difference", "low", "high", "shrunken", "p_adjusted", "p_best"):
            assert row[key] == ("" if same[key] is None else repr(same[key]))


@pytest.mark.parametrize("case", CASES)
def test_the_web_page_holds_its_pictures_and_fetches_nothing(case, written):
    page = written[case]["report.html"].decode()
    assert page.count("data:image/png;base64,") == sum(name.endswith(".png") for name in written[case])
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:)', page)


@pytest.mark.parametrize("case", CASES)
def test_every_picture_of_the_text_exists_and_no_other(case, written):
    named = set(re.findall(r"\]\((figures/[^)]+)\)", written[case]["report.md"].decode()))
    assert named == {name for name in written[case] if name.startswith("figures/")}


def test_writing_twice_and_from_shuffled_cells_gives_the_same_bytes(tmp_path):
    scores = table({"base": 17.0, "a=1": 17.5, "b=2": 16.0, "c=3": 17.1}, 3)
    contents = []
    for folder, shuffle in (("one", None), ("two", 5)):
        root = study(tmp_path / folder, scores, pictures=True, shuffle=shuffle)
        for _ in range(2):
            report = reports.write(root).parent
            contents.append({p.relative_to(report): p.read_bytes() for p in sorted(report.rglob("*")) if p.is_file()})
    assert all(content == contents[0] for content in contents)
    assert Path("figures/forest.png") in contents[0]


def test_only_the_last_section_depends_on_when_and_where(tmp_path):
    scores = table({"base": 17.0, "a=1": 17.5, "b=2": 16.0}, 3)
    texts = []
    for host in ("here", "there"):
        root = study(tmp_path / host, scores, provenance={"host": host, "command": f"ablate run {host}"})
        report = reports.write(root).parent
        texts.append((report / "report.md").read_text())
        assert host in texts[-1].partition(HEADING)[2]
        assert str(tmp_path) not in texts[-1] + (report / "table.csv").read_text()
    assert texts[0].partition(HEADING)[0] == texts[1].partition(HEADING)[0]


def test_a_new_report_replaces_the_old_one_whole(tmp_path):
    root = study(tmp_path, table({"base": 17.0, "a=1": 17.5}, 3))
    target = StudyFolder(tmp_path, root.name).report
    (root / ".report.new").mkdir()  # what a kill while building leaves
    (root / ".report.new" / "half").write_text("x")
    target.mkdir()
    (target / "old.txt").write_text("x")
    assert reports.write(root) == target / "report.md"
    assert not (target / "old.txt").exists() and not (target / "half").exists()
    assert {path.name for path in root.iterdir() if "report" in path.name} == {"report"}


def test_a_kill_while_building_leaves_the_old_report(tmp_path, monkeypatch):
    from reports import writing

    root = study(tmp_path, table({"base": 17.0, "a=1": 17.5}, 3))
    before = reports.write(root).read_bytes()
    monkeypatch.setattr(writing, "_exchange", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        reports.write(root)
    assert StudyFolder(tmp_path, root.name).report.joinpath("report.md").read_bytes() == before


def test_two_that_write_a_report_at_once_take_turns(tmp_path, monkeypatch):
    """A driver, and `ablate report` beside it."""
    half, on = threading.Event(), threading.Event()

    def failpoint(name: str) -> None:
        if name == "report-half-written" and not half.is_set():
            half.set()
            assert on.wait(60)

    monkeypatch.setattr(writing, "failpoint", failpoint)
    contents = [{f"report.{end}": text for end in ("md", "html")} for text in (b"first", b"second")]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(writing.replace_folder, tmp_path / "report", contents[0])
        assert half.wait(60)
        second = pool.submit(writing.replace_folder, tmp_path / "report", contents[1])
        time.sleep(0.2)
        assert not second.done()
        on.set()
        first.result(60), second.result(60)
    assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == contents[1]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_cells_that_share_a_trial_are_one_sample_with_several_names(tmp_path):
    scores = table({"base": 17.0, "a=1": 17.5, "b=2": 16.0, "c=3": 16.5}, 3)
    alone = load(study(tmp_path / "alone", scores))
    shared = load(study(tmp_path / "shared", scores, aliases={"lambda=100": "base", "extra": "a=1"}))
    assert shared.arms[0].names == ("base", "lambda=100") and len(shared.arms) == 4
    assert analyse_results(alone) == analyse_results(shared)


def test_a_plan_without_optional_keys_still_gives_a_report(tmp_path):
    root = study(tmp_path, table({"base": 17.0, "a=1": 17.5}, 3), references={})
    plan = json.loads((root / "plan.json").read_text())
    for key in ("question", "also", "failure", "resources", "warnings", "data", "hash", "trainer", "design"):
        del plan[key]
    plan["arms"] = [{"name": arm["name"]} for arm in plan["arms"]]
    plan["metric"] = {"name": "psnr", "goal": "max"}
    (root / "plan.json").write_text(json.dumps(plan))
    assert "`a=1`" in reports.write(root).read_text()


def test_a_folder_without_a_plan_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no plan here"):
        reports.write(tmp_path / "nothing")


def test_a_finished_run_whose_score_is_not_a_number_is_left_out_and_said(tmp_path):
    scores = {arm: list(row) for arm, row in table({"base": 17.0, "a=1": 17.5, "b=2": 16.0}, 4).items()}
    scores["a=1"][2] = float("nan")
    text = reports.write(study(tmp_path, scores)).read_text()
    assert "Finished without a finite PSNR, left out: `a=1` seed 3." in text


def test_metrics_that_an_arm_was_trained_on_are_marked(tmp_path):
    """`loss=ssim` replaces the base's L1, whose metric is the MAE, by SSIM."""
    scores = table({"base": 17.0, "loss=ssim": 17.5, "b=2": 16.0}, 3)
    also = [{"name": "ssim", "label": "SSIM", "goal": "max"}, {"name": "mae", "label": "MAE", "goal": "min"}]
    values = {"ssim": dict.fromkeys(scores, 0.5), "mae": dict.fromkeys(scores, 0.1)}
    root = study(tmp_path, scores, also=also, values=values, references={})
    plan = json.loads((root / "plan.json").read_text())
    for arm, term in zip(plan["arms"], ("l1", "ssim", "l1"), strict=True):
        arm["terms"] = [term]
    (root / "plan.json").write_text(json.dumps(plan))
    text = reports.write(root).read_text().partition("### Other metrics")[2]
    rows = re.findall(r"^\| `(\S+)` \| ([\d.]+ ?†?) \| ([\d.]+ ?†?) \|$", text, re.MULTILINE)
    assert {arm: ("†" in ssim, "†" in mae) for arm, ssim, mae in rows} == {
        "base": (False, True),
        "loss=ssim": (True, False),
        "b=2": (False, True),
    }


@pytest.mark.parametrize(("values", "seed"), [((3.0, 1.0, 2.0), 3), ((4.0, 1.0, 2.0, 3.0), 3), (("diverged", 9.0), 2)])
def test_the_picture_of_an_arm_is_of_its_median_seed(tmp_path, values, seed):
    from reports.figures.pictures import median_run

    results = load(study(tmp_path, {"base": list(values)}, pictures=True))
    assert median_run(results, "base").seed == seed


def test_the_stabilizer_with_a_failure_is_readable_and_quick(tmp_path):
    """22 arms, 3 seeds, every figure: the size of the demo."""
    import time

    scores = {arm: list(row) for arm, row in table(STABILIZER, 3).items()}
    scores["objective=wgan_gp"][1] = "diverged"
    root = study(tmp_path, scores, pictures=True)
    started = time.process_time()
    report = reports.write(root).parent
    assert time.process_time() - started < 20
    names = {path.name for path in (report / "figures").iterdir()}
    assert names == {"forest.png", "ties.png", "slopes.png", "curves.png", "pareto.png", "pictures.png"}


def test_another_process_writes_the_same_bytes_without_driver_or_worker(tmp_path):
    """Other hash seed, own matplotlib settings; and the import rule over a whole report."""
    scores = table({"base": 17.0, "a=1": 17.5, "b=2": 16.0, "c=3": 17.1}, 3)
    here, there = study(tmp_path / "here", scores), study(tmp_path / "there", scores)
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.grid: True\n")
    code = (
        "import sys, pathlib, reports\n"
        "assert not {'numpy', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "reports.write(pathlib.Path(sys.argv[1]))\n"
        "banned = {'torch', 'optuna', 'mlflow', 'trainers'} & {name.split('.')[0] for name in sys.modules}\n"
        "assert not banned, banned\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, str(there)], check=True, cwd=Path(__file__).parents[2], env=environment)
    report = reports.write(here).parent
    for path in filter(Path.is_file, report.rglob("*")):
        assert (there / "report" / path.relative_to(report)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("case", CASES)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(case, written):
    width = None
    for line in written[case]["report.md"].decode().splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else None
        assert cells is None or width is None or cells == width, line
        width = cells


HOSTILE = "<script>alert(1)</script> | `x` \n\n# Title\n- [a](javascript:b) ![i](http://x/y.png) *b* $m$ <img src=x>"


def test_text_from_users_is_shown_and_never_obeyed(tmp_path):
    scores = table({"base": 17.0, "a=1": 17.5, "b=2": 16.0}, 3)
    root = study(tmp_path, scores, question=HOSTILE, warnings=[HOSTILE], provenance={"command": HOSTILE})
    plan = json.loads((root / "plan.json").read_text())
    plan["arms"][1] |= {"notes": [HOSTILE], "differences": {"terms.x": [None, HOSTILE]}}
    plan["metric"]["label"] = plan["data"]["layout"] = HOSTILE
    (root / "plan.json").write_text(json.dumps(plan))
    report = reports.write(root).parent
    page, text = (report / "report.html").read_text(), (report / "report.md").read_text()
    body = page.partition("<body>")[2]
    assert "<script" not in body and "javascript:b)" in body and 'href="javascript' not in body
    assert body.count("<img") == body.count('src="data:image/png') == len(list((report / "figures").iterdir()))
    assert body.count("<h1>") == 1 and not re.search("^# Title", text, re.MULTILINE)


def test_the_detectable_difference_needs_no_scipy_and_is_quick():
    code = (
        "import sys, time, reports\n"
        "import numpy\n"
        "start = time.process_time()\n"
        "reports.detectable(22, 3)\n"
        "assert time.process_time() - start < 0.6\n"
        "assert 'scipy' not in sys.modules and 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
