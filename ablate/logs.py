"""Prose of a run: all of it into the study's log, what a person should see also onto the terminal."""

from __future__ import annotations

import logging
from pathlib import Path

from ablate.problems import safe

CHATTY = ("mlflow", "alembic", "optuna", "sqlalchemy", "matplotlib", "rasterio", "PIL", "urllib3", "git")


LOG_ONLY = {"log_only": True}  # `extra` of a record that nobody need see on the terminal

_log: Path | None = None


class Plain(logging.Formatter):
    """Names and reasons come from files: what of them would command a terminal is spelled out."""

    def format(self, record: logging.LogRecord) -> str:
        return safe(super().format(record), keep="\n\t")


def log_into(path: Path) -> None:
    """Send log records to `path`, warnings also to stderr; libraries only where they warn."""
    global _log
    into_file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    into_file.setFormatter(Plain("%(asctime)s %(name)s %(levelname)s %(message)s"))
    onto_terminal = logging.StreamHandler()
    onto_terminal.setLevel(logging.WARNING)
    onto_terminal.addFilter(lambda record: not getattr(record, "log_only", False))
    onto_terminal.setFormatter(Plain("%(message)s"))
    logging.raiseExceptions = False  # a log that can't be written (a full disk) is no reason to say more than is known
    logging.basicConfig(level=logging.INFO, handlers=[into_file, onto_terminal], force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    _log = path


def keep_traceback(error: BaseException) -> Path | None:
    """Write what ended a command, with its traceback, into the log alone; the log's path, None where there is none."""
    if _log is not None:
        said = f"ended by {type(error).__name__}"
        logging.getLogger(__name__).error(said, exc_info=error, extra=LOG_ONLY)
    return _log
