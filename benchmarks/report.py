"""How long the report of 2,000 trials takes, and how much memory, on study folders as real ones are written.

    python benchmarks/report.py            # 400 arms x 5 seeds, then 40 arms x 50 seeds
    python benchmarks/report.py 40x50

Each trial has 48 readings of 40 training values, 12 evaluations of 7 metrics, 4 pictures and the scores of 60 tiles in
12 scenes; one in fifty has diverged. A report has to take less than 20 s and 1 GB.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
ALSO = ("ssim", "gmsd", "edge_f1", "mae", "sam", "ms_ssim")
READINGS, EVALUATIONS, TILES, SCENES = 48, 12, 60, 12


def write_study(runs: Path, arms: int, seeds: int) -> Path:
    """A study of `arms` x `seeds` trials; every file of a trial that a report reads is there."""
    sys.path.insert(0, str(HERE))
    from ablate.events import Ended, Measured, Started, to_line
    from tests.reports.factory import study, table

    random = np.random.default_rng(0)
    means = {"base": 20.0} | {f"remedy={i:03d}": 20 + random.normal(0, 0.3) for i in range(1, arms)}
    root = study(runs, {arm: [None] * seeds for arm in means}, name=f"{arms}x{seeds}",
                 also=[{"name": name, "label": name.upper(), "goal": "max"} for name in ALSO])  # fmt: skip
    scores = table(means, seeds)
    pictures = _pictures(random)
    for cell in json.loads((root / "plan.json").read_text())["cells"]:
        trial = root / "trials" / cell["trial"]
        (trial / "samples").mkdir(parents=True)
        (trial / "samples" / "000480.npz").write_bytes(pictures)
        final, broken = scores[cell["arm"]][cell["seed"] - 1], random.random() < 0.02 and cell["arm"] != "base"
        versions = {"code": "c", "torch": "2"}
        lines = [to_line(Started(time=0.0, world_size=1, threads=1, device="cpu", versions=versions))]
        for reading in range(1, (READINGS // 2 if broken else READINGS) + 1):
            step = 10 * reading
            values = {f"loss/{i}": float(random.random()) for i in range(24)}
            values |= {f"health/{name}": float(random.random()) for name in HEALTH}
            told = {"time": 60.0 * reading, "step": step, "images": 4 * step}
            lines.append(to_line(Measured(**told, split="train", values=values)))
            if reading % (READINGS // EVALUATIONS) == 0:
                reached = final - 3 * (1 - reading / READINGS)
                also = {name: float(random.random()) for name in ALSO}
                lines.append(to_line(Measured(**told, split="validation", values={"psnr": reached, **also})))
        status = "diverged" if broken else "done"
        lines.append(to_line(Ended(time=60.0 * READINGS, step=480, images=1920, status=status, diagnosis="healthy")))
        (trial / "events.jsonl").write_text("".join(lines))
        if not broken:
            (trial / "scores.csv").write_text(_tiles(random, final))
    return root


HEALTH = (
    "accuracy_real", "accuracy_fake", "loss_d_normalised", "separation", "sign_rate", "adversarial_share",
    "output_variance", "input_use", "probe_l1", "output_change", "gradient_g", "gradient_d", "input_distance",
    "grey_l1", "confidence", "identity",
)  # fmt: skip


def _tiles(random: np.random.Generator, final: float) -> str:
    values = final + random.normal(0, 1, (TILES, 1 + len(ALSO)))
    rows = [
        ",".join((f"scene_{tile % SCENES:02d}:{tile}", f"scene_{tile % SCENES:02d}", *map(repr, map(float, row))))
        for tile, row in enumerate(values)
    ]
    return "\n".join([",".join(("tile", "scene", "psnr", *ALSO)), *rows]) + "\n"


def _pictures(random: np.random.Generator) -> bytes:
    import io

    buffer = io.BytesIO()
    image = random.integers(0, 255, (4, 64, 64, 3)).astype(np.uint8)
    names = np.array([f"scene_{tile:02d}:{tile}" for tile in range(4)])
    np.savez_compressed(buffer, sar=image[..., 0], fake=image, real=image[::-1], names=names)
    return buffer.getvalue()


def report(root: Path) -> None:
    """Writes the report in this process, and prints time and memory by stage."""
    sys.path.insert(0, str(HERE))
    began = time.perf_counter()
    from reports.load import load
    from reports.page import compose
    from reports.scoring import analyse_results
    from reports.writing import files

    marks = [("import", time.process_time())]
    results = load(root)
    marks.append(("read", time.process_time()))
    analysis = analyse_results(results)
    marks.append(("analyse", time.process_time()))
    page = compose(results, analysis)
    marks.append(("draw", time.process_time()))
    written = files(page)
    marks.append(("write", time.process_time()))
    stages, before = [], 0.0
    for name, at in marks:
        stages.append(f"{name} {at - before:.1f}")
        before = at
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = len(written["report.md"]) / 1024
    print(f"{root.name}: {time.perf_counter() - began:.1f} s, {before:.1f} s of CPU ({', '.join(stages)} s), "
          f"{memory:.0f} MB, report.md {size:.0f} kB", flush=True)  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--report"]:
        return report(Path(sys.argv[2]))
    for size in sys.argv[1:] or ("400x5", "40x50"):
        with tempfile.TemporaryDirectory() as folder:
            root = write_study(Path(folder), *map(int, size.split("x")))
            subprocess.run([sys.executable, __file__, "--report", str(root)], check=True)


if __name__ == "__main__":
    main()
