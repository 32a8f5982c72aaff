"""Where real pairs lie, for tests that read them: `ABLATE_REAL_DATA`, or `shared/data` beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def real_data(name: str) -> Path:
    """The folder of one real data set; skips the test, with the reason, where it is absent."""
    root = Path(os.environ.get("ABLATE_REAL_DATA") or BESIDE)
    if not (root / name).is_dir():
        pytest.skip(f"no real data: {root / name} is absent; set ABLATE_REAL_DATA to the folder that holds {name}")
    return root / name
