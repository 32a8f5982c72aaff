"""Which scenes train, validate and test: each whole, since neighbouring tiles of one scene show the same ground."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from trainers.layouts._common import Data, Source
from trainers.pairs import DataError, Pair, some
from trainers.streams import numpy_generator

SPLITS = ("train", "validation", "test")


def split_of_pairs(data: Data, source: Source, pairs: Sequence[Pair]) -> dict[str, str]:
    """The split of every pair by name: the data set's own where it brings one, else whole scenes by share and seed.

    Raises DataError where scenes are too few, or a scene stands in two of the data set's own splits.
    """
    if source.splits is not None:
        own = {pair.name: source.splits[pair.name] for pair in pairs}
        if not data.allow_leak:
            _refuse_torn_scenes(own, pairs)
        return own
    groups = scene_groups(data, source, pairs)
    chosen = {key: value for key, value in asdict(data.split).items() if key != "guard"}
    parts = split_scenes([groups[pair.scene] for pair in pairs], **chosen)
    split = {group: name for name, members in parts.items() for group in members}
    return {pair.name: split[groups[pair.scene]] for pair in pairs}


def _refuse_torn_scenes(own: Mapping[str, str], pairs: Sequence[Pair]) -> None:
    for said in torn_scenes(pairs, own):
        raise DataError(
            f"{said}; tiles of one scene show neighbouring ground. Split by scene, or set data.allow_leak: true, which "
            "the report prints"
        )


def torn_scenes(pairs: Sequence[Pair], splits: Mapping[str, str]) -> list[str]:
    """A sentence about scenes that have pairs in two splits, if there are any."""
    seen: dict[str, set[str]] = {}
    for pair in pairs:
        seen.setdefault(pair.scene, set()).add(splits[pair.name])
    torn = [f"{scene} ({', '.join(sorted(parts))})" for scene, parts in sorted(seen.items()) if len(parts) > 1]
    return [f"{len(torn)} scenes stand in two of the data set's own splits: {some(torn)}"] if torn else []


def scene_groups(data: Data, source: Source, pairs: Sequence[Pair]) -> dict[str, str]:
    """Scene -> the group that is kept whole with it: images nearer than `split.guard` px join their scenes.

    A group is called by its first scene. Without a guard, or a georeference, every scene is its own group.
    """
    scenes = sorted({pair.scene for pair in pairs})
    if not data.split.guard:
        return dict(zip(scenes, scenes, strict=True))
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from trainers.checks.examination import footprint
    from trainers.checks.leaks import near_pairs

    places = {scene: place for place, scene in enumerate(scenes)}
    of_pair = [places[pair.scene] for pair in pairs]
    links = [(of_pair[i], of_pair[j]) for i, j in near_pairs([footprint(pair) for pair in pairs], data.split.guard)]
    one, other = zip(*links, strict=True) if links else ((), ())
    graph = coo_array(([1] * len(links), (one, other)), shape=(len(scenes), len(scenes)))
    _, labels = connected_components(graph, directed=False)
    first = {label: scenes[place] for place, label in reversed(list(enumerate(labels)))}
    return {scene: first[labels[place]] for scene, place in places.items()}


def split_scenes(scenes: Sequence[str], *, validation: float, test: float, seed: int) -> dict[str, tuple[str, ...]]:
    """Scenes of train, validation and test, each whole; `scenes` names the scene of every pair.

    In a seeded order each scene goes where the largest share is still missing and it fits; one that fits nowhere
    goes where the most pairs are missing, so that one large scene among many small ones lands in training.
    Each part gets a scene at least; two scenes are train and validation.
    Raises DataError with fewer than two.
    """
    sizes = Counter(scenes)
    if len(sizes) < 2:
        raise DataError(
            f"the data set has {len(sizes)} scene ({some(sorted(sizes))}), and validation needs scenes unseen in "
            "training: at least two; add scenes, or name finer ones (column group, option scene_pattern)"
        )
    shares = {"train": 1 - validation - test, "validation": validation, "test": test if len(sizes) > 2 else 0.0}
    wanted = {split: share * len(scenes) for split, share in shares.items() if share > 0}
    missing = dict(wanted)
    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    order = [sorted(sizes)[index] for index in numpy_generator(seed, "split").permutation(len(sizes))]
    for left, scene in zip(range(len(order), 0, -1), order, strict=True):
        empty = [split for split in wanted if not parts[split]]
        open_to = empty if left <= len(empty) else list(wanted)
        fitting = [split for split in open_to if missing[split] >= sizes[scene]]
        if fitting:
            split = max(fitting, key=lambda each: missing[each] / wanted[each])
        else:
            split = max(open_to, key=missing.__getitem__)
        parts[split].append(scene)
        missing[split] -= sizes[scene]
    return {split: tuple(sorted(part)) for split, part in parts.items()}
