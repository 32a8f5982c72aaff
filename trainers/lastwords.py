"""What a rank leaves behind when it dies: its own last words, and whose failure they tell of."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback

from ablate.clock import boot
from ablate.events import CorruptStream
from ablate.records import TrialFolder, write_atomically
from trainers import ways

# gloo raises plain RuntimeErrors; these stand in all that a lost or silent peer causes.
LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Timed out waiting",
    "gloo/transport",
    "Broken pipe",
)
# What torch, its allocators and CUDA's libraries say where memory was refused; not all of it is an OutOfMemoryError.
NO_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory", "ALLOC_FAILED")


class Stalled(RuntimeError):
    """This rank has made no progress for longer than its phase may take."""


def write(paths: TrialFolder, error: BaseException) -> None:
    """Write `error.<rank>.json`: when, whose failure, what was said.

    `monotonic` puts the ranks of one `boot` of a machine in order, also where its wall clock is set meanwhile.
    """
    rank = int(os.environ.get("RANK", "0"))
    spoken = "".join(traceback.format_exception(error))
    document = {
        "time": time.time(), "monotonic": time.monotonic(), "boot": boot(), "rank": rank, "kind": kind_of(error),
        "type": type(error).__name__, "message": message_of(error, paths), "traceback": spoken,
    }  # fmt: skip
    write_atomically(paths.error(rank), json.dumps(document, indent=1))


def kind_of(error: BaseException) -> str:
    """Whose failure an exception is: `data`, `machine` (resumed) or `arm` (an outcome, not retried).

    A collective that fails says that a peer, or the way to it, has gone. Memory that is refused is the
    arm's: the same batch would be refused again; but not where others share the device.
    """
    from torch.distributed import DistError

    from trainers.pairs import DataError

    if isinstance(error, DataError):
        return "data"
    if is_out_of_memory(error) and ways.beside() > 1:
        return "machine"
    if isinstance(error, DistError | OSError | Stalled | CorruptStream):
        return "machine"
    return "machine" if any(sign in str(error) for sign in LOST_PEER) else "arm"


def message_of(error: BaseException, paths: TrialFolder) -> str:
    """What the exception says; where memory was refused, after the batch and the most that this rank has held."""
    if not is_out_of_memory(error):
        return str(error)
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return f"out of memory at {_batch(paths)}; this rank held at most {peak()}; {said}"


def is_out_of_memory(error: BaseException) -> bool:
    refused = isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_MEMORY)
    return isinstance(error, MemoryError) or refused


def peak() -> str:
    """The most memory that this process has held: on its GPU if it has used one, else of the machine."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        held, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties().total_memory
        return f"{held / 2**30:.2f} of the GPU's {total / 2**30:.1f} GiB"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB of memory"


def forget_peak() -> None:
    """What `peak` says of the machine's memory is the most since now, where the kernel can forget (Linux)."""
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return
    os.write(descriptor, b"5")
    os.close(descriptor)


def _batch(paths: TrialFolder) -> str:
    try:
        spec = json.loads(paths.spec.read_text())["spec"]
        return f"batch {spec['recipe']['batch']} on {spec['ranks']} rank{'s' * (spec['ranks'] > 1)}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its batch size"  # of a job that has none
