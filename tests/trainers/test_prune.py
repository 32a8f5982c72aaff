"""What no study uses is removed from the cache; what somebody builds or may be about to read stays."""

import multiprocessing
import time
from dataclasses import replace

from trainers.layouts.synthetic import Options as Synthetic
from trainers.prepare import fingerprint, prepare, prune
from trainers.tiles import damage

SMALL = Synthetic(scenes=4, size=64, tile=32)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _prepare_long(cache):
    prepare(Synthetic(scenes=200, size=128), cache)


def numbered(seed: int) -> Synthetic:
    return replace(SMALL, seed=seed)


def test_what_nobody_uses_is_removed_and_its_bytes_are_counted(tmp_path):
    sets = [prepare(numbered(seed), tmp_path) for seed in range(3)]
    size = sum(len(content) for content in contents(sets[1]).values())
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "network.pt").write_bytes(b"of a study")
    assert prune(tmp_path, keep={sets[0].name, sets[2].name}) == {sets[1].name: size}
    visible = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert visible == sorted([sets[0].name, sets[2].name, "start"])
    assert damage(sets[0]) is None and damage(sets[2]) is None
    assert prune(tmp_path, keep={path.name for path in sets}) == {}


def test_a_pruned_set_is_built_again_when_it_is_needed(tmp_path):
    folder = prepare(SMALL, tmp_path)
    before = contents(folder)
    assert folder.name in prune(tmp_path, keep=())
    assert not folder.exists() and contents(prepare(SMALL, tmp_path)) == before


def test_damaged_sets_and_leftovers_of_dead_writers_go_too(tmp_path):
    folder = prepare(SMALL, tmp_path)
    (folder / "meta.json").unlink()
    (tmp_path / "0123456789ab.partial").mkdir()
    assert list(prune(tmp_path, keep=())) == [folder.name]
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_an_absent_cache_has_nothing_to_prune(tmp_path):
    assert prune(tmp_path / "none", keep=()) == {} and not (tmp_path / "none").exists()


def _hold(cache, ready, done):
    prepare(SMALL, cache)
    ready.set()
    done.wait()


def test_a_set_that_a_living_process_has_prepared_stays(tmp_path):
    """A study's later trials have not said yet what they will read."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    worker = context.Process(target=_hold, args=(tmp_path, ready, done))
    worker.start()
    ready.wait()
    assert prune(tmp_path, keep=()) == {} and damage(tmp_path / fingerprint(SMALL)) is None
    done.set()
    worker.join()
    assert list(prune(tmp_path, keep=())) == [fingerprint(SMALL)]


def test_a_set_that_is_being_built_stays(tmp_path):
    worker = multiprocessing.get_context("spawn").Process(target=_prepare_long, args=(tmp_path,))
    worker.start()
    while not list(tmp_path.glob("*.partial/sar.npy")):
        assert worker.is_alive()
        time.sleep(0.01)
    assert prune(tmp_path, keep=()) == {}
    assert list(tmp_path.glob("*.partial/sar.npy"))
    worker.kill()
    worker.join()
