"""Signals to the driver: the first asks running trials for a checkpoint, any other ends everything at once."""

from __future__ import annotations

import signal
from dataclasses import dataclass


@dataclass
class Interrupt:
    """Signals received. While trials run, the first asks them to checkpoint; any other ends everything at once.

    Where jobs outlive the driver (`lasting`), a lost terminal (SIGHUP) and the end of its machine (SIGTERM) ask it to
    leave them alone: `leave`.
    """

    count: int = 0
    patient: bool = False  # whether there is something that is worth a checkpoint
    lasting: bool = False
    leave: bool = False

    def ends(self, outliving: bool) -> bool:
        """Whether what runs when the driver goes is to be ended: jobs that outlive it when somebody asks for it."""
        return not outliving or (self.count > 0 and not self.leave)

    def install(self) -> None:
        """Take the signals over, but for those that the caller has had ignored (nohup, background jobs)."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def _receive(self, number: int = signal.SIGINT, *_: object) -> None:
        self.count += 1
        if self.lasting and number in (signal.SIGHUP, signal.SIGTERM):
            self.leave = True  # they come in pairs, or after a Ctrl-C
            return
        if self.count > 1 or not self.patient:
            raise KeyboardInterrupt
