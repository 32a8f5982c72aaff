"""`python -m trainers run FOLDER`, alone or under `python -m torch.distributed.run`."""

from __future__ import annotations

import argparse

from trainers.entry import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m trainers", description="Run one job in its folder.")
    parser.add_argument(
        "kind", choices=("run", "references"), help="train a trial, or score predictors without training"
    )
    parser.add_argument("folder", help="folder that holds the job's spec.json")
    arguments = parser.parse_args()
    main(arguments.kind, arguments.folder)
