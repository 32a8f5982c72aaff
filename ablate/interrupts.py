"""Signals to the driver: the first asks running trials for a checkpoint, any other ends everything at once."""

from __future__ import annotations

import signal
from dataclasses import dataclass


@dataclass
class Interrupt:
    """Signals received. While trials run, the first asks them to checkpoint; any other ends everything at once.

    Where jobs outlive the driver (`lasting`), a lost terminal (SIGHUP) asks it to leave them alone: `leave`.
    """

    count: int = 0
    patient: bool = False  # whether there is something that is worth a checkpoint
    lasting: bool = False
    leave: bool = False

    def install(self) -> None:
        """Take the signals over, but for those that the caller has had ignored (nohup, background jobs)."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def _receive(self, number: int = signal.SIGINT, *_: object) -> None:
        self.count += 1
        if number == signal.SIGHUP and self.lasting and self.count == 1:
            self.leave = True
            return
        if self.count > 1 or not self.patient:
            raise KeyboardInterrupt
