"""pix2pix's `loss_log.txt` as records: loss lines of the last run, and how much was left out.

The format is `util/visualizer.py` of https://github.com/junyanz/pytorch-CycleGAN-and-pix2pix: a header
per start of the training, then a line per 100 iterations with the losses of one minibatch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from ablate.problems import Problem, StudyError, counted, unusable

KNOWN = ("D_real", "D_fake", "G_GAN", "G_L1")
_HEADER = re.compile(r"=+ *Training Loss\b")
_START = re.compile(r"\s*(?:\[rank\s*\d+\]\s*)?\(epoch:", re.IGNORECASE)
_LINE = re.compile(
    r"\s*(?:\[rank\s*\d+\]\s*)?\(epoch:\s*(?P<epoch>\d{1,9}),\s*iters:\s*(?P<iters>\d{1,12})(?:[,/][^()]*)?\)",
    re.IGNORECASE,
)
_LOSS = re.compile(
    r"[\s,]*([A-Za-z_][\w./-]*)\s*:\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:nan|inf)\b)(?=[\s,]|$)",
    re.IGNORECASE,
)
_FIXED = 0.9  # a log prints a fixed number of decimals if this share of its values has it


@dataclass(frozen=True)
class Line:
    """The losses of one minibatch, as printed. `number` counts the file's lines from 1."""

    number: int
    epoch: int
    iters: int
    losses: Mapping[str, float]

    @property
    def finite(self) -> bool:
        return all(map(isfinite, self.losses.values()))


@dataclass(frozen=True)
class LossLog:
    """The lines of the last run, in order, at least one.

    A run goes on over a header if its epochs do; where they begin anew, another run begins.
    `decimals` is how many of them the losses are printed with: each is off by half the last at most.
    """

    lines: tuple[Line, ...]
    earlier_runs: int
    earlier_lines: int
    headers: int
    torn: int  # loss lines that are cut or lack a loss that half of them have
    foreign: int  # anything else that is not blank
    first_left_out: int | None  # line number
    decimals: int


@dataclass(frozen=True)
class _Read:
    line: Line
    texts: tuple[str, ...]  # the values as printed
    after_header: bool


def read_loss_log(path: Path) -> LossLog:
    """The log in a file. Raises StudyError, in a sentence, where there is none."""
    if found := unusable(path):
        inside = path / "loss_log.txt"
        there = f"the log in it is {inside}" if inside.is_file() else "expected pix2pix's loss_log.txt"
        raise _refusal(path, f"{found}; {there}")
    return parse_loss_log(_decoded(path.read_bytes()), name=str(path))


def parse_loss_log(text: str, *, name: str = "loss_log.txt") -> LossLog:
    """The log in a text. Raises StudyError if no line is a whole loss line, or none has a loss of pix2pix."""
    read, torn, foreign, headers = _lines(text)
    whole = _whole(read)
    torn = sorted({*torn, *(one.line.number for one in read)} - {one.line.number for one in whole})
    if not whole:
        line = "(epoch: 1, iters: 100, time: 0.123, data: 0.456) G_GAN: 1.000 G_L1: 20.000 D_real: 0.500 D_fake: 0.500"
        found = f"{counted(len(torn), 'loss line')}, all torn" if torn else counted(len(foreign), "other line")
        raise _refusal(name, f"no loss log of pix2pix: found {found}; expected lines such as: {line}")
    names = {key for one in whole for key in one.line.losses}
    if not names & set(KNOWN):
        raise _refusal(name, f"losses {_listed(names)}; a diagnosis reads pix2pix's: {', '.join(KNOWN)}")
    runs = _runs(whole)
    return LossLog(
        lines=tuple(runs[-1]), earlier_runs=len(runs) - 1, earlier_lines=sum(map(len, runs[:-1])), headers=headers,
        torn=len(torn), foreign=len(foreign), first_left_out=min([*torn, *foreign], default=None),
        decimals=_decimals(whole)[0],
    )  # fmt: skip


def _lines(text: str) -> tuple[list[_Read], list[int], list[int], int]:
    """Loss lines, the numbers of torn and of foreign lines, and how many headers there are."""
    read: list[_Read] = []
    torn: list[int] = []
    foreign: list[int] = []
    headers, fresh = 0, True
    for number, line in enumerate(text.splitlines(), 1):
        if _HEADER.match(line.strip()):
            headers, fresh = headers + 1, True
        elif (one := _loss_line(line, number, fresh)) is not None:
            read.append(one)
            fresh = False
        elif line.strip():
            fresh = fresh or _HEADER.search(line) is not None  # a header behind a cut line
            (torn if _START.match(line) else foreign).append(number)
    return read, torn, foreign, headers


def _loss_line(line: str, number: int, after_header: bool) -> _Read | None:
    """What a line says, or None if it is anything but one position followed by losses to its end."""
    begun = _LINE.match(line)
    if begun is None:
        return None
    losses, texts, position = {}, [], begun.end()
    while found := _LOSS.match(line, position):
        losses[found[1]] = float(found[2])
        texts.append(found[2])
        position = found.end()
    if not losses or line[position:].strip(" ,\t"):
        return None
    return _Read(Line(number, int(begun["epoch"]), int(begun["iters"]), losses), tuple(texts), after_header)


def _whole(read: list[_Read]) -> list[_Read]:
    """Lines that have every loss that half of them have, and no value with digits cut off."""
    seen = Counter(key for one in read for key in one.line.losses)
    needed = {key for key, number in seen.items() if 2 * number >= len(read)}
    decimals, fixed = _decimals(read)
    short = range(decimals) if fixed else range(0)
    return [
        one
        for one in read
        if needed <= one.line.losses.keys() and not (isfinite(float(one.texts[-1])) and _places(one.texts[-1]) in short)
    ]


def _decimals(read: Iterable[_Read]) -> tuple[int, bool]:
    """The usual number of printed decimals, and whether (nearly) all values have it.

    The last value of a line has no vote: it may be cut.
    """
    counts = Counter(_places(text) for one in read for text in one.texts[:-1] or one.texts if isfinite(float(text)))
    if not counts:
        return 3, False
    places, number = counts.most_common(1)[0]
    return places, number >= _FIXED * counts.total()


def _places(text: str) -> int:
    return len(text.lower().split("e")[0].partition(".")[2])


def _runs(read: list[_Read]) -> list[list[Line]]:
    runs: list[list[Line]] = [[read[0].line]]
    for one in read[1:]:
        last, now = runs[-1][-1], one.line
        back = (now.epoch, now.iters) <= (last.epoch, last.iters) if one.after_header else now.epoch < last.epoch
        if back:
            runs.append([])
        runs[-1].append(now)
    return runs


def _decoded(data: bytes) -> str:
    # PowerShell writes redirected output in UTF-16.
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return data.decode(encoding, errors="replace")


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = sorted(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _refusal(name: object, message: str) -> StudyError:
    return StudyError([Problem(str(name), 0, 0, "", message)])
