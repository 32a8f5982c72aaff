"""One document in the many ways in which people write YAML, and text as they break it."""

from __future__ import annotations

import json
import random
import re
from typing import Any

NUMBERS = ("{!r}", "{:.17g}", "{:e}", "{:.3e}", "+{!r}")
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")


class Style:
    """Writes a document, drawing at each place how. `anchors` are the names of values that stand above."""

    def __init__(self, draw: random.Random):
        self.draw, self.anchors = draw, {}

    def document(self, data: dict[str, Any]) -> str:
        """Block style at the top, keys in any order."""
        return "".join(self._entry(key, data[key], 0) for key in self.draw.sample(list(data), len(data)))

    def _entry(self, key: str, value: Any, depth: int) -> str:
        head = " " * depth + self._key(key) + ":"
        if isinstance(value, dict) and value and self.draw.random() < 0.5:
            inner = depth + self.draw.choice((1, 2, 4))
            keys = self.draw.sample(list(value), len(value))
            return head + self._comment() + "\n" + "".join(self._entry(name, value[name], inner) for name in keys)
        if isinstance(value, list) and value and self.draw.random() < 0.3:
            return head + self._comment() + "\n" + "".join(f"{' ' * depth} - {self._flow(item)}\n" for item in value)
        return f"{head} {self._named(value)}{self._comment()}\n" + ("\n" if self.draw.random() < 0.1 else "")

    def _named(self, value: Any) -> str:
        """A value, by its anchor where it stood above, sometimes with a new one."""
        shape = json.dumps(value)
        if shape in self.anchors and self.draw.random() < 0.5:
            return f"*{self.anchors[shape]} "
        if self.draw.random() < 0.2:
            name = self.anchors.setdefault(shape, f"a{len(self.anchors)}")
            return f"&{name} {self._flow(value)}"
        return self._flow(value)

    def _flow(self, value: Any) -> str:
        if isinstance(value, dict):
            keys = self.draw.sample(list(value), len(value))
            return "{" + ", ".join(f"{self._key(key)}: {self._flow(value[key])}" for key in keys) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(self._flow, value)) + "]"
        return self._text(value) if isinstance(value, str) else self._number(value)

    def _number(self, value: float | bool | None) -> str:
        if isinstance(value, bool) or value is None:
            return self.draw.choice({True: ("true", "True"), False: ("false", "FALSE"), None: ("null", "~")}[value])
        written = self.draw.choice(NUMBERS).format(value) if isinstance(value, float) else str(value)
        return written if float(written) == value else repr(value)

    def _text(self, value: str) -> str:
        ways = [json.dumps(value, ensure_ascii=False), "'" + value.replace("'", "''") + "'"]
        return self.draw.choice([*ways, value] if PLAIN.fullmatch(value) else ways)

    def _key(self, key: str) -> str:
        return self.draw.choice((key, f'"{key}"', f"'{key}'"))

    def _comment(self) -> str:
        return self.draw.choice(("", "", "", "  # a word: [here", "   "))


def encoded(text: str, draw: random.Random) -> bytes:
    """With one of three line endings, perhaps behind a byte order mark and a comment."""
    head = draw.choice(("", "# ümlaut\n", "---\n", "\n\n"))
    mark = draw.choice(("", "\ufeff"))
    return (mark + (head + text).replace("\n", draw.choice(("\n", "\r\n", "\r")))).encode()


ODD = [
    "", "~", "null", "true", "no", "-1", "0", "010", "0x1F", "1e999", ".nan", ".inf", "-.inf", "1e-400", "9" * 40,
    "-0.0", "2026-11-26", "12:30:45", "2026-11-26T10:00:00Z", "[]", "{}", "[[[]]]", "{a: {b: {c: 1}}}", "'1'",
    "[1, a, {b: 2}]", '"\\x00"', '"\\ud800"', "!!python/object:os.system x", "!!binary aGVsbG8=", "&x [*x]", "*nobody",
    "<<", "| text", "> text", "[" * 60 + "]" * 60, "base", "..", "../x", "a/b", "hinge", "list", "1_000_000", "@x", "%",
    "18446744073709551616", "`x`",
]  # fmt: skip
NOISE = ":-[]{}#&*!|>'\"%@`,?\t \n\r\0\x1b\x7f\x85\u2028\ufeff\ud7ffä€😀0aZ"


def broken(text: str, draw: random.Random) -> bytes:
    """The text after one to four slips."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        text = draw.choice((_character, _character, _value, _value, _key, _line, _nested))(text, draw)
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw.choice((0, 0, 0, 1, 3))):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data[: draw.randrange(len(data))] if draw.random() < 0.1 else data)


def _character(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text))
    return text[:at] + draw.choice(("", draw.choice(NOISE), draw.choice(NOISE) * 3)) + text[at + draw.choice((0, 1)) :]


def _value(text: str, draw: random.Random) -> str:
    """One value, block or flow, becomes an odd one."""
    found = list(re.finditer(r"(?<=: )[^\n{}\[\],]+", text))
    return _swapped(text, draw.choice(found), draw.choice(ODD)) if found else text


def _key(text: str, draw: random.Random) -> str:
    found = list(re.finditer(r"[A-Za-z_.]+(?=:)", text))
    others = [match[0] for match in found]
    return _swapped(text, draw.choice(found), draw.choice([*others, *ODD])) if found else text


def _line(text: str, draw: random.Random) -> str:
    """A line twice, missing, elsewhere, or moved in."""
    lines = text.splitlines(keepends=True)
    at, line = draw.randrange(len(lines)), draw.choice(lines)
    ways = (lambda: lines.insert(at, line), lambda: lines.pop(at), lambda: lines.insert(0, lines.pop(at)),
            lambda: lines.__setitem__(at, " " * draw.randrange(1, 4) + lines[at]))  # fmt: skip
    draw.choice(ways)()
    return "".join(lines) or "a"


def _nested(text: str, draw: random.Random) -> str:
    depth = draw.choice((5, 39, 41, 500))
    opened, closed = draw.choice((("[", "]"), ("{a: ", "}"), ("[{a: ", "}]")))
    return text + f"k{draw.randrange(9)}: {opened * depth}1{closed * depth}\n"


def _swapped(text: str, match: re.Match, other: str) -> str:
    return text[: match.start()] + other + text[match.end() :]
