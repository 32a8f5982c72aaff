"""Faster ways to train on CUDA: all of them, or those that the environment names (`ABLATE_CUDA=graph,resident`).

They compute the same update of the same numbers; on CUDA sums may come in another order, as they may from run to run
of the plain way. So they belong to no trial's identity, and each trial says which it was asked for and which it took.
`ABLATE_CUDA=plain` asks for none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "ABLATE_CUDA"
GRAPH, RESIDENT = "graph", "resident"
KNOWN = (GRAPH, RESIDENT)
PLAIN = "plain"
BESIDE = "ABLATE_BESIDE"  # set by the executor


def asked(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What is asked for, in alphabetical order. Raises ValueError for what there is not."""
    stated = environment.get(VARIABLE, ",".join(KNOWN))
    words = {word.strip() for word in stated.split(",")} - {""}
    if words == {PLAIN}:
        return ()
    if unknown := sorted(words - set(KNOWN)):
        raise ValueError(
            f"{VARIABLE}={stated}: no such way: {', '.join(map(repr, unknown))}; there are {', '.join(KNOWN)}, "
            f"joined by commas, or {PLAIN} alone"
        )
    return tuple(sorted(words))


def beside(environment: Mapping[str, str] = os.environ) -> int:
    """Trials that this one's device may hold at a time, itself included."""
    return int(environment.get(BESIDE) or 1)
