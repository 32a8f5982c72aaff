"""Ranks that stay: nothing of a trial reaches the next one, and what may not stay does not."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ablate import events
from ablate.executor import CannotLaunch, LocalExecutor, Outcome
from ablate.outcome import Next, settle
from ablate.processes import speaking_into
from ablate.records import TrialFolder
from tests.processes import alive
from tests.trainers import jobs
from trainers import entry, lastwords, pool, pristine, resident
from trainers.pool import Job, Pool
from trainers.recipe import Compute, Ema

SIZE = {"steps": 4, "every": 2}
# Trials that have little in common, and what each is of.
UNLIKE: dict[str, dict] = {
    "batch norm, hinge, dropout": {"objective": "hinge", "norm": "batch", "norm_g": "batch", "dropout": 0.5},
    "penalty, two D, batch of eight": {"objective": "wgan_gp", "updates": (1, 2), "batch": 8},
    "spectral, two scales, bf16": {"norm": "spectral", "scales": 2, "compute": Compute(precision="bf16")},
    "tile of 64, average, sync_batch": {"tile": 64, "ema": Ema(decay=0.5), "norm": "sync_batch"},
    "channels_last, all terms": {
        "compute": Compute(memory_format="channels_last"), "terms": ("l1", "ssim", "gradient", "feature_matching"),
    },
}  # fmt: skip


@pytest.fixture
def kept() -> Iterator[Pool]:
    """Of ranks that stay."""
    pool = Pool(jobs.CONTEXT)
    yield pool
    pool.close()


def run(pool: Pool, folder: TrialFolder, ranks: int = 1) -> dict[int, int]:
    return pool.run(Job("run", str(folder.root), ranks, 1))


def asking_for(monkeypatch, **variables: str) -> None:
    """Ranks that are started from now on have these in their environment."""
    plain = pool._environment
    monkeypatch.setattr(pool, "_environment", lambda *given: {**plain(*given), **variables})


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)


# -- numbers ----------------------------------------------------------------------------------------


def same_first_and_last(kept: Pool, root: Path, ranks: int, between: list[str]) -> None:
    """A fresh team's trial and those of one that stays, the first and the one after all others, bit by bit."""
    fresh, folder = Pool(jobs.CONTEXT), jobs.alone(root, "fresh", ranks=ranks, dropout=0.5, **SIZE)
    try:
        assert run(fresh, folder, ranks) == {}, folder.log.read_text()
    finally:
        fresh.close()
    expected = jobs.facts(folder)
    first = jobs.alone(root, "first", ranks=ranks, dropout=0.5, **SIZE)
    assert run(kept, first, ranks) == {} and jobs.facts(first) == expected
    pids = kept.pids
    for number, name in enumerate(between):
        other = jobs.alone(root, f"other-{number}", ranks=ranks, **SIZE | UNLIKE[name])
        assert run(kept, other, ranks) == {}, other.log.read_text()
    last = jobs.alone(root, "last", ranks=ranks, dropout=0.5, **SIZE)
    assert run(kept, last, ranks) == {} and jobs.facts(last) == expected
    assert kept.pids == pids and len(pids) == ranks


def test_a_trial_after_unlike_ones_is_bit_equal_with_a_fresh_processs(kept, tmp_path):
    same_first_and_last(kept, tmp_path, 1, [*UNLIKE])


def test_on_two_ranks_too(kept, tmp_path):
    same_first_and_last(kept, tmp_path, 2, [*UNLIKE][1:4:2])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_fiftieth_trial_is_bit_equal_with_a_fresh_processs(kept, tmp_path, ranks):
    same_first_and_last(kept, tmp_path, ranks, (list(UNLIKE) * 10)[:48])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_rank_does_not_grow_over_two_hundred_trials(kept, tmp_path):
    sizes = []
    for number in range(200):
        name = [*UNLIKE][number % len(UNLIKE)]
        assert run(kept, jobs.alone(tmp_path, f"t{number}", **{"steps": 2, "every": 2} | UNLIKE[name])) == {}
        sizes.append(stated(kept.pids[0], "VmRSS"))
    print(f"MiB after 20, 100, 200 trials: {[round(sizes[n - 1] / 1024, 1) for n in (20, 100, 200)]}")
    assert max(sizes[-20:]) < max(sizes[10:30]) + 8 * 1024


def stated(pid: int, what: str) -> int:
    """KiB of a process, as the kernel states them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1])


# -- what else could leak ---------------------------------------------------------------------------

SPOILT: dict[str, Callable[[], object]] = {
    "environment": lambda: os.environ.update(ABLATE_TEST="1") or os.environ.pop("PATH"),
    "working folder": lambda: os.chdir("/"),
    "garbage collection": gc.disable,
    "random": lambda: random.seed(5),
    "numpy's random": lambda: np.random.seed(5),
    "torch's random": lambda: torch.manual_seed(5),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "gradients": lambda: torch.set_grad_enabled(False),
    "default number format": lambda: torch.set_default_dtype(torch.float64),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "anomalies": lambda: torch.set_anomaly_enabled(True),
    "deterministic algorithms": lambda: torch.set_deterministic_debug_mode(1),
    "SIGUSR1": lambda: signal.signal(signal.SIGUSR1, lambda *_: None),
}


def test_every_setting_that_is_put_back_is_tried():
    assert SPOILT.keys() == pristine.SETTINGS.keys()


@pytest.mark.parametrize("name", SPOILT)
def test_what_a_job_sets_is_put_back(name):
    before = shown(name)
    with pristine.unchanged():
        SPOILT[name]()
        assert shown(name) != before
    assert shown(name) == before


def shown(name: str) -> str:
    found = pristine.SETTINGS[name][0]()
    return str(sorted(found.items()) if isinstance(found, dict) else found)


def test_a_peak_is_of_the_job_alone():
    held = bytearray(256 * 2**20)
    before = lastwords.peak()
    del held
    lastwords.forget_peak()
    assert gib(lastwords.peak()) < gib(before) - 0.2


def test_each_trial_of_a_rank_has_a_peak_of_its_own(kept, tmp_path):
    peaks = []
    for name, options in (("large", {"tile": 128, "batch": 16}), ("small", {})):
        assert run(kept, jobs.alone(tmp_path, name, **{"steps": 2, "every": 2} | options)) == {}
        peaks.append(stated(kept.pids[0], "VmHWM"))
    assert peaks[1] < 0.95 * peaks[0]


def gib(said: str) -> float:
    return float(said.split()[0])


def test_a_rank_in_which_a_job_has_left_a_thread_is_not_used_again(monkeypatch, tmp_path):
    over = threading.Event()
    monkeypatch.setattr(entry, "work", lambda *_: threading.Thread(target=over.wait, daemon=True).start())
    assert resident._do("run", str(tmp_path)) == resident.SPENT
    over.set()
    monkeypatch.setattr(entry, "work", lambda *_: None)
    assert resident._do("run", str(tmp_path)) == resident.DONE


def test_faults_are_counted_anew_for_each_trial(kept, tmp_path, monkeypatch):
    asking_for(monkeypatch, ABLATE_FAILPOINTS="step=warn@2")
    for name in ("one", "two"):
        folder = jobs.alone(tmp_path, name, steps=6, every=2)
        assert run(kept, folder) == {} and folder.stop.exists()
        saved = [event.step for event in events.read(folder.events) if isinstance(event, events.Saved)]
        assert saved[-1] == 2


def test_an_idle_rank_speaks_into_no_trial_and_a_warning_of_the_end_passes_it_by(kept, tmp_path):
    folder = jobs.alone(tmp_path, **SIZE)
    assert run(kept, folder) == {} and folder.log.exists()
    assert [*speaking_into(tmp_path)] == []
    os.kill(kept.pids[0], signal.SIGUSR1)
    pids, again, handed = kept.pids, jobs.alone(tmp_path, "again", **SIZE), time.time()
    assert run(kept, again) == {} and kept.pids == pids
    started = events.read(again.events)[0]
    assert 0 < started.start_up <= started.time - handed + 0.05, "of the trial, not of the process"
    assert jobs.facts(again) == jobs.facts(folder) and not folder.stop.exists() and not again.stop.exists()


# -- ranks that go ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_idle_rank_that_is_killed_or_stopped_costs_nothing(kept, tmp_path, monkeypatch, number):
    monkeypatch.setattr(pool, "AWAKE_SECONDS", 1)
    assert run(kept, jobs.alone(tmp_path, "before", ranks=2, **SIZE), 2) == {}
    pids = kept.pids
    os.kill(pids[1], number)
    folder = jobs.alone(tmp_path, "after", ranks=2, **SIZE)
    assert run(kept, folder, 2) == {}
    assert not {*pids} & {*kept.pids} and not alive({*pids})
    assert {event.attempt for event in events.read(folder.events)} == {1}


@pytest.mark.parametrize(("rule", "codes"), [("step=raise@2#1", {1: 1}), ("step=kill@2#0", {0: -9})])
def test_a_rank_that_fails_ends_its_peer_and_the_next_trial_has_fresh_ranks(
    kept, tmp_path, monkeypatch, rule, codes
):
    asking_for(monkeypatch, ABLATE_FAILPOINTS=rule, ABLATE_FAILPOINTS_ONCE=str(tmp_path))
    folder = jobs.alone(tmp_path, ranks=2, **SIZE)
    failures = run(kept, folder, 2)
    assert failures.items() >= codes.items() and next(iter(failures)) == next(iter(codes))
    assert kept.pids == () and not alive({*speaking_into(tmp_path)})
    assert run(kept, jobs.alone(tmp_path, "next", ranks=2, **SIZE), 2) == {}


def test_a_rank_that_leaves_without_an_answer_is_not_used_again_and_the_trial_goes_on(kept, tmp_path, monkeypatch):
    asking_for(monkeypatch, ABLATE_FAILPOINTS="step=exit@2", ABLATE_FAILPOINTS_ONCE=str(tmp_path))
    folder = jobs.alone(tmp_path, **SIZE)
    failures = run(kept, folder)
    assert failures == {} and kept.pids == ()
    assert settle("trial", folder, Outcome(failures), attempts=1).next is Next.resume
    assert run(kept, folder) == {} and events.fold("trial", events.read(folder.events)).status == "done"


def test_another_shape_gets_another_team_and_the_one_before_ends(kept, tmp_path):
    assert run(kept, jobs.alone(tmp_path, "one", **SIZE)) == {}
    one = kept.pids
    assert run(kept, jobs.alone(tmp_path, "two", ranks=2, **SIZE), 2) == {}
    assert len(kept.pids) == 2 and not alive({*one})


@pytest.mark.slow
def test_a_launcher_whose_driver_has_gone_before_it_began_loads_nothing():
    done = subprocess.run([sys.executable, "-P", "-m", "trainers.launcher"], stdin=subprocess.DEVNULL, timeout=60,
                          capture_output=True, check=True)  # fmt: skip
    assert b"ready" in done.stdout  # its driver is there, and asks for nothing
    ours, theirs = os.pipe()
    os.close(theirs)
    done = subprocess.run([sys.executable, "-P", "-m", "trainers.launcher"], stdin=ours, timeout=60,
                          capture_output=True, check=True)  # fmt: skip
    os.close(ours)
    assert done.stdout == b""


@pytest.mark.slow
def test_ranks_go_when_their_launcher_dies(tmp_path):
    code = (
        "import sys, time\nfrom trainers.pool import Job, Pool\nfrom tests.trainers import jobs\n"
        "if __name__ == '__main__':\n"
        "    pool = Pool(jobs.CONTEXT)\n    assert pool.run(Job('run', sys.argv[1], 1, 1)) == {}\n"
        "    print(*pool.pids, flush=True)\n    time.sleep(600)\n"
    )
    folder, script = jobs.alone(tmp_path, **SIZE), tmp_path / "launcher.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder.root)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},  # of a script elsewhere, no `tests` is found
    )  # fmt: skip
    pids = {int(pid) for pid in process.stdout.readline().split()}
    assert len(pids) == 1 and alive(pids) == pids
    process.kill()
    process.communicate()
    wait_until(lambda: not alive(pids), "its rank goes", seconds=20)


# -- which may stay ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "workers", "stays"), [
    ("cpu", "", True), ("cpu", "fresh", False), ("cuda", "", False),
])  # fmt: skip
def test_ranks_stay_on_a_cpu_unless_they_are_asked_to_be_fresh(tmp_path, monkeypatch, device, workers, stays):
    folder = jobs.alone(tmp_path)
    document = json.loads(folder.spec.read_text())
    document["spec"]["device"] = device
    folder.spec.write_text(json.dumps(document))
    monkeypatch.setenv("ABLATE_WORKERS", workers)
    assert Job("run", str(folder.root), 1, 1).may_stay is stays


@pytest.mark.parametrize("spec", [None, "", "[]", "{}", '{"spec": 1}'])
def test_ranks_of_a_trial_whose_spec_cannot_be_read_do_not_stay(tmp_path, spec):
    if spec is not None:
        (tmp_path / "spec.json").write_text(spec)
    assert not Job("run", str(tmp_path), 1, 1).may_stay and Job("references", str(tmp_path), 1, 1).may_stay


def test_fresh_ranks_are_asked_for_by_the_environment(kept, tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATE_WORKERS", "fresh")
    assert run(kept, jobs.alone(tmp_path, **SIZE)) == {} and kept.pids == ()


@pytest.mark.parametrize(("variable", "value", "said"), [
    ("ABLATE_WORKERS", "quick", "ABLATE_WORKERS: 'quick': expected fresh, or nothing"),
    ("ABLATE_LIMITS", "steps=3", "ABLATE_LIMITS: 'steps=3': expected one of start, step, evaluation, checkpoint"),
])  # fmt: skip
def test_a_mistake_in_the_environment_is_said_and_nothing_runs(tmp_path, monkeypatch, variable, value, said):
    monkeypatch.setenv(variable, value)
    executor, folder = LocalExecutor(1, tmp_path / "driver.log"), jobs.alone(tmp_path)
    try:
        handle = executor.start("run", folder.root, ranks=1, threads=1)
        with pytest.raises(CannotLaunch, match=said):
            wait_until(handle.poll, "the launcher says so")
    finally:
        executor.close()
    assert not folder.events.exists()


def test_the_launcher_never_loads_torch():
    code = "import sys, trainers.launcher; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
