"""Named random streams: each purpose draws from its own, so that changing one leaves the others alone.

The order of the data, for example, does not shift when an arm changes the architecture: runs
with one seed are real pairs.
"""

from __future__ import annotations

import zlib

import numpy as np

INIT_G, INIT_D, ORDER, AUGMENT, DROPOUT, PENALTY = "init_g", "init_d", "order", "augment", "dropout", "penalty"

# An A/A twin (replica 1) repeats the baseline with these streams changed and the data order kept.
REPLICA_STREAMS = frozenset({INIT_G, INIT_D, DROPOUT, PENALTY})


def sequence(seed: int, stream: str, *keys: int, replica: int = 0) -> np.random.SeedSequence:
    """The seed sequence of (trial seed, stream, keys); keys are counters such as epoch or step."""
    twin = replica if stream in REPLICA_STREAMS else 0
    return np.random.SeedSequence([seed, zlib.crc32(stream.encode()), twin, *keys])


def numpy_generator(seed: int, stream: str, *keys: int, replica: int = 0) -> np.random.Generator:
    """A fresh generator of that stream; equal arguments give equal draws."""
    return np.random.Generator(np.random.Philox(sequence(seed, stream, *keys, replica=replica)))


def torch_seed(seed: int, stream: str, *keys: int, replica: int = 0) -> int:
    """A seed for `torch.Generator.manual_seed`, in [0, 2**63)."""
    return int(sequence(seed, stream, *keys, replica=replica).generate_state(1, np.uint64)[0] >> 1)
