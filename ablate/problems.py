"""Problems: what is wrong in a file, where, and what would be right."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

SHOWN = 60  # characters of a found value that a message repeats
LONGEST = 2000  # characters of a line that repeats what a person wrote
_SECRET = re.compile("pass|pwd|token|secret|key", re.IGNORECASE)  # names of query values
# What a terminal obeys or shows in another order: control characters, marks of direction, halves of a pair.
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake. `line` and `column` count from 1; line 0 means that the place has no lines."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        line = safe(": ".join(part for part in (where, self.path, self.message) if part))
        return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


class StudyError(Exception):
    """All mistakes of a study at once, in the order of the file; as text, one line each."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


def printable(text: str, *, keep: str = "") -> str:
    """The text as a terminal may be given it: what would command it is spelled out, but for the characters `keep`."""
    return _COMMANDS.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def safe(text: str, *, keep: str = "") -> str:
    """What may be shown: printable, without the password of any URL."""
    return printable(without_password(text), keep=keep)


def unusable(path: Path) -> str:
    """Why a file can't be read, in words; empty where it can. What is no regular file might never end."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "no such file"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    if stat.S_ISREG(mode):
        return "" if os.access(path, os.R_OK) else "may not be read (permission denied)"
    return "is a folder" if stat.S_ISDIR(mode) else "is not a regular file"


def not_local(place: str) -> str:
    """What is wrong with a path that is none on this machine; empty where it may be one."""
    if "://" in place or place.startswith("/vsi"):
        return f"{quoted(place)} is remote or virtual and is not read"
    return ""


def dotted(path: Iterable[str | int]) -> str:
    """A key path as people write it: `factors.loss.l1`, `seeds[2]`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key if len(key) <= SHOWN else key[:SHOWN] + '...'}"
    return text.removeprefix(".")


def no_such(noun: str, name: object, allowed: Iterable[str]) -> str:
    """`no such objective: 'hinge2'; there are hinge, lsgan, vanilla; did you mean hinge?`"""
    allowed = sorted(allowed)
    there = f"there are {', '.join(allowed)}" if len(allowed) > 1 else f"there is {', '.join(allowed) or 'none'}"
    return f"no such {noun}: {quoted(str(name))}; {there}{did_you_mean(str(name), allowed)}"


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean hinge?`, or nothing where nothing is near."""
    folded = {word.lower(): word for word in allowed}
    near = difflib.get_close_matches(name[:SHOWN].lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]}?" if near else ""


def shown(value: Any) -> str:
    """What was found, in words: `text 'fast'`, `a list`, `nothing`; never a password."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f"text {quoted(value)}"
    if isinstance(value, dict):
        return f"a mapping of {', '.join(map(str, list(value)[:3]))}" if value else "an empty mapping"
    text = ", ".join(item if isinstance(item, str) else shown(item) for item in value)
    return without_password(f"[{text}]") if len(text) <= SHOWN else f"a list of {len(value)}"


def counted(number: int, noun: str) -> str:
    """`1 line`, `2 lines`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def quoted(text: str) -> str:
    text = without_password(text)
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")


def without_password(text: str) -> str:
    """The text with `user:password@` and `password=...` of any URL in it blotted out.

    One slash is enough: an address that was taken for a path has lost the other.
    """
    text = re.sub(r"(?<=:/)[^\s/]+@", "***@", re.sub(r"//\S*@", "//***@", text))
    return re.sub(r"(?i)([?&;]\w*(?:password|passwd|pwd|token|key|secret)=)[^&;\s]*", r"\1***", text)


def redacted(text: str, uri: str = "") -> str:
    """`text` without the secrets that a store's URI can carry (user info, password-like query values)."""
    between = re.search("//(.*)@", uri, re.DOTALL)  # also where the URI can't be read, for what its password holds
    passwords = [between[1].partition(":")[2]] if between else []
    try:
        parts = urlsplit(uri)
        passwords.append(parts.password or "")
        secrets = [value for name, value in parse_qsl(parts.query) if _SECRET.search(name)]
    except ValueError:
        secrets = []
    secrets += [*passwords, *map(unquote, passwords)]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return without_password(text)


def unquoted(error: ValueError) -> str:
    """What is wrong with an address in the words of the error, unless it repeats a part, which may be of a password."""
    return "its host or port can't be read" if "'" in str(error) else str(error)
