"""Where the `ablate` command begins: what it needs of its process, before it loads what takes time to load."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # what shells say of a command that Ctrl-C ended


def main() -> None:
    """Run the command; a Ctrl-C before it has begun ends it without a word. Raises SystemExit."""
    whole = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # it may be ignored (nohup, background jobs)
    if whole:
        signal.signal(signal.SIGINT, _end)
    open_streams()
    from ablate import cli

    if whole:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


def _end(number: int, frame: FrameType | None) -> None:
    """Nothing has been begun. An exception would be taken for a failure by some module that is being loaded."""
    os._exit(INTERRUPTED)


def open_streams() -> None:
    """See that input and outputs are there, and that an output takes every character.

    A closed descriptor (`>&-`) would be given to the next file that is opened, a database perhaps, and what is printed
    would go into that.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()
