"""Results from MLflow and Optuna: what a run's parts mean there, and the same numbers as the study's own report."""

from __future__ import annotations

import json
import math

import optuna
import pytest
from typer.testing import CliRunner

import reports
from ablate.analyse import Question, settle
from ablate.cli import app
from ablate.design import AA
from ablate.ledger import Ledger
from ablate.problems import StudyError
from ablate.readers.experiment import read_experiment
from ablate.readers.sources import Asked, read
from ablate.records import Arm, Cell, Status, TrialResult
from reports.findings import Analysis
from reports.load import load
from reports.scoring import analyse_results
from tests.ablate import stores
from tests.reports.factory import study, table

optuna.logging.set_verbosity(optuna.logging.ERROR)
ARMS = {"base": 17.0, "norm=spectral": 18.0, "norm=batch": 17.1, "objective=hinge": 16.0}
FACTORS = {"norm": ["base", "spectral", "batch"], "objective": ["base", "hinge"]}
SCORES = table(ARMS, 3)


def analysed(found, **asked) -> Analysis:
    settled = settle(found, Question(**asked))
    return reports.analyse(
        settled.frame[settled.frame["arm"] != settled.twin], metric=settled.metric["name"],
        goal=settled.metric["goal"], baseline=settled.baseline, smallest_effect=settled.smallest_effect,
        penalty=settled.penalty,
    )  # fmt: skip


def arm_of(name: str) -> Arm:
    factor, _, level = name.partition("=")
    return Arm(name, {} if name == "base" else {factor: level})


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """optuna.db of a study as `ablate run` leaves it: one trial diverged, one lost and run again, one not begun."""
    path = tmp_path_factory.mktemp("ledger") / "optuna.db"
    cells = [Cell(arm, seed, f"{arm}/{seed}") for seed in (1, 2, 3) for arm in (*ARMS, AA)]
    told = Ledger(path, study_name="remedies", goal="max", metric="psnr", factors=FACTORS,
                  arms=[*(arm_of(name) for name in ARMS), Arm(AA)])  # fmt: skip
    told.reconcile([*cells, Cell("base", 5, "late")])
    lost = Cell("norm=batch", 2, "norm=batch/2")
    told.finish(lost, TrialResult(lost.trial, Status.failed, why="killed"))
    told.retry(lost)
    for cell in cells:
        score = SCORES["base" if cell.arm == AA else cell.arm][cell.seed - 1]
        status = Status.diverged if (cell.arm, cell.seed) == ("objective=hinge", 3) else Status.done
        told.finish(cell, TrialResult(cell.trial, status, {"psnr": score, "gmsd": score / 100}, why=""))
    return path


def test_our_own_ledger_gives_the_numbers_of_the_studys_report(ledger, tmp_path):
    scores = {arm: list(row) for arm, row in SCORES.items()}
    scores["objective=hinge"][2] = "diverged"
    results = load(study(tmp_path, scores, references={"mean_colour": {"psnr": 12.0}}))
    found = read(Asked(str(ledger), tmp_path))
    ours = analysed(found, penalty=12.0, smallest_effect=0.1)
    own = analyse_results(results)
    assert found.goals == {"psnr": "max"} and "1 trials have not ended" in found.cautions[0]
    assert found.name == "remedies" and ours.baseline == "base"
    for effect in own.effects:
        other = ours.effect(effect.arm)
        assert other.verdict == effect.verdict
        assert other.difference == pytest.approx(effect.difference)
        assert (other.low, other.high) == pytest.approx((effect.low, effect.high), abs=0.01)
    assert ours.arms["objective=hinge"].n_failed == 1


def test_the_goal_and_the_exploratory_metrics_come_from_the_study(ledger, tmp_path):
    settled = settle(read(Asked(f"sqlite:///{ledger}", tmp_path)), Question(also=("gmsd",)))
    assert settled.metric["goal"] == "max" and settled.also[0]["label"] == "GMSD"
    assert settled.frame["gmsd"].notna().sum() == 15


def test_the_twin_of_a_ledger_is_no_arm(ledger, tmp_path):
    settled = settle(read(Asked(str(ledger), tmp_path)), Question())
    assert settled.twin == AA and (settled.frame["arm"] == AA).sum() == 3


def sweep(storage, **options):
    """A study of somebody else: seed and options are parameters, one trial pruned, one failed."""
    made = optuna.create_study(storage=storage, study_name="sweep", direction="minimize", **options)
    for norm in ("batch", "instance"):
        for seed in (1, 2, 3):
            made.enqueue_trial({"norm": norm, "seed": seed, "width": 8})
    made.enqueue_trial({"norm": "instance", "seed": 4, "width": 8})
    made.enqueue_trial({"norm": "batch", "seed": 4, "width": 8})

    def objective(trial):
        norm = trial.suggest_categorical("norm", ["batch", "instance"])
        seed, width = trial.suggest_int("seed", 1, 9), trial.suggest_int("width", 4, 16)
        if (norm, seed) == ("instance", 4):
            raise optuna.TrialPruned
        if (norm, seed) == ("batch", 4):
            raise ArithmeticError
        return 0.3 + seed / 100 + width / 1000 + (norm == "batch") / 10 + seed**2 / 1e4 * (norm == "batch")

    made.optimize(objective, n_trials=8, catch=ArithmeticError)
    return made


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_study_of_somebody_else_is_read_by_its_parameters(kind, tmp_path):
    if kind == "sqlite":
        sweep(f"sqlite:///{tmp_path / 'x.db'}")
        found = read(Asked(f"sqlite:///{tmp_path / 'x.db'}", tmp_path, study="sweep"))
    else:
        backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "x.log"))
        sweep(optuna.storages.JournalStorage(backend))
        found = read(Asked(str(tmp_path / "x.log"), tmp_path))
    settled = settle(found, Question(baseline="norm=batch"))
    assert settled.metric == {"name": "value", "label": "value", "unit": "", "goal": "min"}
    assert set(settled.frame["arm"]) == {"norm=batch", "norm=instance"}  # `width` is the same in all
    assert sorted(settled.frame["status"]) == ["done"] * 6 + ["failed", "stopped"]
    assert settled.frame["place"].iloc[0] == "trial 0"
    analysis = analysed(found, baseline="norm=batch")  # what is left of an arm with a pruned run is biased
    assert analysis.effect("norm=instance").verdict == "stopped early, no verdict"
    stopped = analysis.stopped["norm=instance"]
    assert stopped.after == 3 and stopped.mean == pytest.approx(0.3 + 0.02 + 0.008)


def test_which_study_and_which_objective_are_asked_for(tmp_path):
    storage = f"sqlite:///{tmp_path / 'x.db'}"
    sweep(storage)
    two = optuna.create_study(storage=storage, study_name="two", directions=["maximize", "minimize"])
    two.add_trial(optuna.trial.create_trial(values=[1.0, 2.0], user_attrs={"arm": "base", "seed": 1}))
    with pytest.raises(StudyError, match="say --study NAME; there are sweep, two"):
        read(Asked(storage, tmp_path))
    with pytest.raises(StudyError, match="no such study: 'sweeep'; there are sweep, two; did you mean sweep"):
        read(Asked(storage, tmp_path, study="sweeep"))
    found = read(Asked(storage, tmp_path, study="two"))
    with pytest.raises(StudyError, match="say --metric NAME; there are values_0, values_1"):
        settle(found, Question())
    assert settle(found, Question(metric="values_1")).metric["goal"] == "min"


def test_a_database_of_another_kind_is_refused_and_left_as_it_is(tmp_path):
    import sqlite3

    path = tmp_path / "other.db"
    with sqlite3.connect(path) as database:
        database.execute("create table things (name text)")
    before = path.read_bytes()
    for results in (str(path), f"sqlite:///{path}"):
        with pytest.raises(StudyError, match="neither MLflow's nor Optuna's tables"):
            read(Asked(results, tmp_path))
    with pytest.raises(StudyError, match="no such file"):
        read(Asked(f"sqlite:///{tmp_path / 'none.db'}", tmp_path))
    assert path.read_bytes() == before and not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("results", "which"),
    [("http://me:hunter2@127.0.0.1:9", "--experiment"), ("postgresql://me:hunter2@127.0.0.1:9/x", "--study")],
)
def test_no_password_is_shown_where_a_store_does_not_answer(results, which, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = CliRunner().invoke(app, ["analyse", results, "--metric", "psnr", which, "x"])
    assert done.exit_code == 2 and "hunter2" not in done.output + done.stderr, (done.output, done.exception)
    assert "can't be read" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_study_folder_is_sent_to_its_own_report(tmp_path):
    with pytest.raises(StudyError, match="its report is written by `ablate report remedies`"):
        read(Asked(str(study(tmp_path, SCORES)), tmp_path))


# -- MLflow -----------------------------------------------------------------------------------------------


def write_runs(client, experiment: str, scores, *, arm_tag: str = "variant"):
    """Runs of somebody else: a parent, a run per arm and seed with every value of the metric, one still open."""
    id = client.create_experiment(experiment)
    parent = client.create_run(id, run_name="sweep")
    client.set_terminated(parent.info.run_id)
    for arm, row in scores.items():
        for seed, score in enumerate(row, start=1):
            run = client.create_run(id, tags={arm_tag: arm, "mlflow.parentRunId": parent.info.run_id},
                                    run_name=f"{arm}-{seed}")  # fmt: skip
            client.log_param(run.info.run_id, "seed", seed)
            for step, value in enumerate((0.0, score)):
                if not math.isnan(score):
                    client.log_metric(run.info.run_id, "val_psnr", value, step=step)
            client.set_terminated(run.info.run_id, "FAILED" if math.isnan(score) else "FINISHED")
    client.create_run(id, tags={arm_tag: "base"}, run_name="open")


def test_an_experiment_of_somebody_else_is_read_by_tags_and_params(folder, client, tmp_path):
    scores = {arm: list(row[:3]) for arm, row in SCORES.items()}
    scores["norm=batch"][1] = math.nan
    write_runs(client, "theirs", scores)
    found = read(Asked(str(folder.mlflow), tmp_path, experiment="theirs"))
    settled = settle(found, Question(metric="val_psnr", goal="max"))
    assert len(settled.frame) == 12 and settled.baseline == "base"
    assert "1 runs have not ended and are left out." in settled.cautions
    assert "The arm is read from the tag 'variant'." in settled.cautions
    failed = settled.frame[settled.frame["status"] == "failed"]
    assert list(failed["arm"]) == ["norm=batch"] and failed["place"].iloc[0].startswith("run norm=batch-2 (")
    effect = analysed(found, metric="val_psnr", goal="max").effect("norm=spectral")
    pairs = zip(scores["norm=spectral"], scores["base"], strict=True)
    assert effect.difference == pytest.approx(sum(one - other for one, other in pairs) / 3)
    with pytest.raises(StudyError, match="no such experiment: 'their'; there are .*did you mean theirs"):
        read(Asked(str(folder.mlflow), tmp_path, experiment="their"))
    with pytest.raises(StudyError, match="--arm-from: there is no 'modle'"):
        settle(found, Question(metric="val_psnr", goal="max", arm_from="modle"))


def test_our_own_experiment_is_read_by_its_tags(folder, client, tmp_path, monkeypatch):
    runs = stores.connected(folder)
    for cell in stores.CELLS:
        runs.begin(cell, stores.SPECS[cell.trial])
        status = Status.diverged if (cell.arm, cell.seed) == ("base", 2) else Status.done
        stores.write_trial(folder, cell, status)
        runs.mirror(cell, stores.SPECS[cell.trial], stores.result_of(folder, cell))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = read(Asked("mlflow:quick", folder.runs), environment={})
    settled = settle(found, Question(metric="psnr"))
    assert len(settled.frame) == 4 and settled.metric["goal"] == "max"  # the parent is no run
    assert dict(zip(settled.frame["trial"], settled.frame["status"], strict=True)) == {
        cell.trial: "diverged" if (cell.arm, cell.seed) == ("base", 2) else "done" for cell in stores.CELLS
    }  # fmt: skip
    assert found.beside.name == "quick-report"


def test_an_experiment_without_runs_or_a_wrong_filter_is_a_sentence(folder, client, tmp_path):
    client.create_experiment("hollow")
    uri = f"sqlite:///{folder.mlflow}"
    with pytest.raises(StudyError, match="experiment 'hollow' has no runs"):
        read_experiment(uri, "hollow", beside=tmp_path)
    with pytest.raises(StudyError, match="MLflow's store can't be read"):
        read_experiment(uri, "hollow", beside=tmp_path, filter="this is no filter")
    with pytest.raises(StudyError, match="there is no MLflow store at"):
        read(Asked("mlflow:x", tmp_path / "nowhere"), environment={})


@pytest.mark.slow
def test_a_real_study_is_the_same_by_its_report_its_table_its_experiment_and_its_ledger(tmp_path):
    from tests.ablate import studies

    studies.write(tmp_path, studies.STUDY.replace("seeds: 2", "seeds: 3"))
    assert studies.ablate("run", "tiny.yaml", cwd=tmp_path).returncode == 0
    results = load(tmp_path / "runs" / "tiny")
    rows = [f"{run.arm},{run.seed},{run.score('gmsd')!r},{run.outcome}" for run in results.all_runs]
    (tmp_path / "table.csv").write_text("\n".join(["arm,seed,gmsd,status", *rows]) + "\n")
    own = json.loads((tmp_path / "runs" / "tiny" / "report" / "report.json").read_text())["analysis"]["effects"]
    for source in ("table.csv", "mlflow:tiny", "runs/tiny/optuna.db"):
        done = studies.ablate("analyse", source, "--metric", "gmsd", "--smallest-effect", "0.005", "--json", "--out",
                              "found", cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        for effect, other in zip(own, json.loads(done.stdout)["analysis"]["effects"], strict=True):
            assert effect["verdict"] == other["verdict"]
            for key in ("difference", "low", "high", "p_adjusted"):
                assert effect[key] == pytest.approx(other[key], rel=1e-9), (source, key)
