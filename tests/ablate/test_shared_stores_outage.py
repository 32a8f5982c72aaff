"""Optuna on PostgreSQL and a tracking server on PostgreSQL, both away in the middle of a real study: nothing is lost.

Slow: one study of two trials side by side, which is held up by its own updates alone.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from ablate import events
from ablate.records import StudyFolder
from tests.ablate import studies
from tests.ablate.faulty_server import Server
from tests.invariants import violations
from tests.postgres import PASSWORD, QUOTED, Postgres
from tests.projections import Shared

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

STUDY = studies.STUDY.replace("seeds: 2", "seeds: 1").replace("generator_updates: 6", "generator_updates: 8")
STUDY = STUDY.replace("every: 3", "every: 1").replace("ranks: 2", "ranks: 1, slots: 2")
SLOW = {"ABLATE_FAILPOINTS": "step=sleep:5@1+"}  # seconds an update takes, beside its own
AWAY_SECONDS = 30
GAP_SECONDS = 5 + 15  # between two events of a trial that trains, on busy cores: less than anybody is away


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    postgres = Postgres()
    server = Server(tmp_path_factory.mktemp("server"), postgres.url("mlflow"))
    server.start()
    yield postgres, server
    server.send(signal.SIGKILL)
    postgres.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> StudyFolder:
    """The same study at its own pace, with its own stores in files."""
    root = tmp_path_factory.mktemp("undisturbed")
    studies.write(root, STUDY)
    done = studies.ablate("run", "tiny.yaml", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return StudyFolder(root / "runs", "tiny")


@pytest.mark.parametrize("how", ["stopped", pytest.param("frozen", marks=pytest.mark.long)])
def test_both_stores_away_for_30_s_lose_nothing_and_disturb_no_training(stores, undisturbed, tmp_path, how):
    postgres, server = stores
    folder = StudyFolder(tmp_path / "runs", "tiny")
    studies.write(tmp_path, STUDY)
    named = {"ABLATE_OPTUNA_STORAGE": postgres.url(), "MLFLOW_TRACKING_URI": server.url}
    with open(tmp_path / "said", "wb") as said:
        driver = studies.start("run", "tiny.yaml", cwd=tmp_path, into=said, more=named | SLOW)
        studies.wait_until(lambda: len(streams(folder)) == 2 and all(map(measuring, streams(folder))),
                           seconds=120, what="both trials train")  # fmt: skip
        before = studies.measured(folder)
        AWAY[how](postgres, server)
        meanwhile = studies.measured(folder) - before
        code = driver.wait(240)
    print(f"\n{meanwhile} measurements in {AWAY_SECONDS} s, longest gap {longest_gap(folder):.1f} s, exit {code}")
    if code == 3:  # busy cores: a tracking server takes a minute to start, and is waited for half of that
        server.wait()
        assert studies.ablate("sync", "tiny", cwd=tmp_path, more=named).returncode == 0
    assert code in (0, 3), (tmp_path / "said").read_text()
    assert meanwhile >= 6, "training went on while nobody answered"
    assert longest_gap(folder) < GAP_SECONDS
    shared = Shared(postgres.url(), postgres.url("mlflow"), server.folder / "served")
    assert not violations(folder, undisturbed=undisturbed, shared=shared)
    assert f"study tiny-{folder.uid.read_text()[:12]}" in (tmp_path / "said").read_text()
    nothing_more_to_tell(tmp_path, postgres, named)
    nowhere_a_password(tmp_path, postgres, server, named)


def stopped(postgres: Postgres, server: Server) -> None:
    postgres.stop()
    server.send(signal.SIGKILL)
    time.sleep(AWAY_SECONDS)
    postgres.start()
    server.start(wait=False)


def frozen(postgres: Postgres, server: Server) -> None:
    """Connections stay open, and nobody answers; what was asked is done late."""
    server.send(signal.SIGSTOP)
    postgres.freeze()
    time.sleep(AWAY_SECONDS)
    postgres.thaw()
    server.send(signal.SIGCONT)


AWAY = {"stopped": stopped, "frozen": frozen}


def streams(folder: StudyFolder) -> list[Path]:
    return sorted(folder.root.glob("trials/*/events.jsonl"))


def measuring(path: Path) -> bool:
    return any(isinstance(event, events.Measured) for event in events.read(path))


def longest_gap(folder: StudyFolder) -> float:
    """Seconds between two events of a trial, from its first measurement on."""
    gaps = []
    for path in streams(folder):
        times = [event.time for event in events.read(path)[1:]]
        gaps += [later - sooner for sooner, later in zip(times, times[1:], strict=False)]
    return max(gaps)


def nothing_more_to_tell(cwd: Path, postgres: Postgres, named: dict[str, str]) -> None:
    before = {name: postgres.rows(name) for name in ("optuna", "mlflow")}
    again = studies.ablate("sync", "tiny", cwd=cwd, more=named)
    assert again.returncode == 0, again.stdout + again.stderr
    assert {name: postgres.rows(name) for name in before} == before


def nowhere_a_password(cwd: Path, postgres: Postgres, server: Server, named: dict[str, str]) -> None:
    commands = ("status", "tiny", "--json"), ("report", "tiny"), ("doctor", "--json")
    ended = [studies.ablate(*command, cwd=cwd, more=named) for command in commands]
    assert [done.returncode for done in ended] == [0] * 3, [done.stderr for done in ended]
    found = {store["kind"]: store for store in json.loads(ended[-1].stdout)["stores"]}
    assert found["Optuna's storage"]["version"].startswith("PostgreSQL ")
    assert found["MLflow"]["version"].startswith("MLflow ") and found["MLflow"]["milliseconds"] > 0
    told = [done.stdout + done.stderr for done in ended]
    told += [path.read_bytes().decode(errors="replace") for path in cwd.rglob("*") if path.is_file()]
    told += [path.read_bytes().decode(errors="replace") for path in (server.folder / "served").rglob("*.*")]
    told += [str(postgres.rows(name)) for name in ("optuna", "mlflow")]
    assert len(told) > 40 and not [text for text in told if PASSWORD in text or QUOTED in text]
