"""A runs folder that was moved or copied: its MLflow store finds pictures and reports where they lie now.

MLflow keeps absolute addresses of files: an experiment's for runs to come (`experiments.artifact_location`) and each
run's own (`runs.artifact_uri`), which ends in `<run id>/artifacts`.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ablate.records import StudyFolder

WAIT_SECONDS = 20  # for a writer that is at work, as MLflow does
EXPERIMENTS = """
    update experiments set artifact_location = :here where name = :study and artifact_location != :here
"""
# MLflow gives every store an experiment 0, and that the folder from which the store was made.
DEFAULT = """
    update experiments set artifact_location = :here || '/0'
    where experiment_id = 0 and artifact_location != :here || '/0'
    and not exists (select 1 from runs where experiment_id = 0)
"""
RUNS = """
    update runs set artifact_uri = :here || '/' || run_uuid || '/artifacts'
    where artifact_uri != :here || '/' || run_uuid || '/artifacts'
    and run_uuid in (select run_uuid from tags where key = 'ablate.uid' and value = :uid)
"""


def bring_along(folder: StudyFolder) -> int:
    """Correct the addresses in the store under the runs folder, in one transaction; number of those that changed.

    Only what belongs to a study of this runs folder, by name and uid, or to nobody is touched: others may share it. The
    caller holds the store's lock. Raises sqlite3.Error where the file can't be read or written.
    """
    here = folder.artifacts.absolute().as_uri()
    uids = {path.parent.name: path.read_text().strip() for path in sorted(folder.runs.glob("*/uid"))}
    with closing(_opened(folder.mlflow)) as database, database:
        database.execute("begin immediate")
        changed = database.execute(DEFAULT, {"here": here}).rowcount
        for study, uid in uids.items():
            facts = {"here": here, "study": study, "uid": uid}
            changed += database.execute(EXPERIMENTS, facts).rowcount + database.execute(RUNS, facts).rowcount
    return changed


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=WAIT_SECONDS, isolation_level=None)
