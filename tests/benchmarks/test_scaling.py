"""The scaling curves: every part runs from end to end, and the page shows what is kept."""

from __future__ import annotations

import json

import pytest

from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling import driver, figures

POINTS = {
    "driver": [{"trials": trials, "readings": readings, "projected": projected, "planned": 0.001 * trials,
                "ran": 0.003 * trials, "processor": 0.002 * trials, "floor": 0.001, "told": 0.0, "before": 30.0,
                "after": 50.0 + trials / 100, "peak": 60.0}
               for trials in (10, 1000) for readings, projected in ((0, False), (50, False), (0, True))],
    "nodes": [{"trials": 100 * at, "nodes": 64, "milliseconds": 6.0 + at, "memory": 60.0 + at, "share": 0.5,
               "again": at, "came_back": 0.2} for at in range(1, 5)],
    "slots": [{"slots": slots, "trials": 8, "updates": 150, "seconds": 60.0 / slots, "share": 0.005, "driver": 300.0,
               "rank": 350.0} for slots in (1, 2, 2, 1)]
             + [{"slots": 2, "trials": 4, "updates": 2000, "seconds": 200.0, "share": 0.001, "driver": 300.0,
                 "rank": 350.0}],
    "step": [{"tile": tile, "batch": batch, "width": 16, "seconds": tile / 1e3 * (1 + batch), "updates": 3,
              "peak": 200.0 + batch * tile} for tile in (64, 128) for batch in (1, 4)],
}  # fmt: skip
SAID = {
    "driver": "4 ms in a study of 10 trials and 4 ms in one of 1,000, of these 2 and 2 ms of the processor, while its "
              "durable writes alone took 1 and 1 ms; each further trial adds 10 kB to its memory, 10 kB "
              "with Optuna's storage and MLflow, 10 kB with 50 readings each.",
    "nodes": "cluster of 64 nodes: 400 trials, 4 of them taken up again after their node was lost or their job "
             "pre-empted, cost it 7.5 ms of the processor each in the first half and 9.5 in the second (medians), 0.5 "
             "% of a core by the cluster's clock (trials of a minute), and 61 to 64 MB. A second driver, which took ",
    "slots": "end 2 times as many an hour as one at a time (960 against 480); the driver takes 0.5 % of one core "
             "beside trials of 8 s (MLflow is being loaded meanwhile), 0.1 % of one core beside trials of 100 "
             "s, and at most",
    "step": "from 1 to 4 1.6 times at 64 px, 1.6 times at 128 px (width 16, one thread); a rank takes 712 MB at 128 px",
}


def test_driver_nodes_and_a_step_are_measured_from_end_to_end(capsys, tmp_path):
    assert scaling.main(["--only", "driver,nodes,step", "--quick", "--out", str(tmp_path)]) == 0
    lines = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines()]
    points = [(part, json.loads(point)) for part, point in lines]
    assert [one["trials"] for part, one in points if part == "driver"] == list(driver.SIZES[:2])
    assert [one["batch"] for part, one in points if part == "step"] == [1, 2]
    assert all(one["ran"] > 0 and one["after"] > one["before"] for part, one in points if part == "driver")
    nodes = [one for part, one in points if part == "nodes"]
    assert nodes[-1]["trials"] == 40 and all(one["milliseconds"] > 0 and one["memory"] > 20 for one in nodes)
    assert not list(tmp_path.iterdir())  # quick figures are not kept


@pytest.mark.slow
def test_slots_are_measured_on_a_real_study(capsys):
    assert scaling.main(["--only", "slots", "--quick"]) == 0
    part, point = capsys.readouterr().out.split(" ", 1)
    found = json.loads(point)
    assert part == "slots" and found["trials"] == 2 and found["rank"] > 0 and 0 <= found["share"] < 1


@pytest.mark.parametrize("part", POINTS)
def test_a_part_is_drawn_the_same_every_time_and_said_in_a_sentence(part):
    picture = figures.draw(part, POINTS[part])
    assert picture.startswith(b"\x89PNG") and picture == figures.draw(part, POINTS[part])
    assert SAID[part] in figures.sentence(part, POINTS[part])


def test_what_is_kept_of_a_part_leaves_the_others_and_comes_onto_the_page(tmp_path):
    for part, points in POINTS.items():
        scaling.keep(part, points, tmp_path)
    scaling.keep("step", POINTS["step"][:2], tmp_path)
    kept = json.loads((tmp_path / "scaling.json").read_text())
    assert {part: len(found["points"]) for part, found in kept.items()} == dict(driver=6, nodes=4, slots=5, step=2)
    assert all(found["machine"]["cores"] and "load" in found for found in kept.values())
    page = tmp_path / "speed.md"
    page.write_text(f"before\n{scaling.MARK}stale\n{scaling.END}\nafter\n")
    scaling.insert(page, tmp_path / "scaling.json")
    said = page.read_text()
    assert said.startswith("before\n") and said.endswith("\nafter\n") and "stale" not in said
    assert all(f"benchmarks/scaling-{part}.png" in said for part in POINTS)
    with pytest.raises(ValueError, match="no place for the figures"):
        (tmp_path / "other.md").write_text("nothing\n")
        scaling.insert(tmp_path / "other.md", tmp_path / "scaling.json")


def test_the_page_shows_the_figures_that_are_kept(tmp_path):
    page = tmp_path / "speed.md"
    page.write_text(scaling.PAGE.read_text())
    scaling.insert(page, scaling.OUT / "scaling.json")
    assert page.read_text() == scaling.PAGE.read_text()
    for part in scaling.PARTS:
        assert (scaling.OUT / f"scaling-{part}.png").read_bytes().startswith(b"\x89PNG")


def test_a_part_that_there_is_not_is_named(capsys):
    assert scaling.main(["--only", "driver,steps"]) == 2
    assert "no such part: steps; there are driver, nodes, slots, step" in capsys.readouterr().err
