"""The first thing that a launcher's forkserver loads: from then on it ends with its launcher.

It would see that from what it serves, but not in the seconds in which it loads torch.
"""

from __future__ import annotations

import multiprocessing.forkserver
import os
import sys

from trainers.entry import end_with_parent

if getattr(sys.modules["__main__"], "main", None) is multiprocessing.forkserver.main:
    end_with_parent()
    if os.getppid() == 1:  # it has died already
        os._exit(0)
