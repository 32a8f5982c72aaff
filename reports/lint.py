"""What a report may not say: words that claim more than the protocol supports, and claims without their interval."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from reports import verdicts
from reports.findings import Analysis
from reports.wording import escape

# Words for what the protocol does not show: near misses, equality, causes, certainty.
FORBIDDEN = (
    r"\btrend", r"\bmarginal", r"signific", r"\bstatistically", r"\bno effect", r"±", r"\+/-", r"\bcur(e|ed|es)\b",
    r"\bbecause\b", r"\bcaus(e|es|ed|al)\b", r"\b(due|thanks|owing) to\b", r"\bproves?\b", r"\bproven\b", r"\bwinner",
    r"outperform", r"\bimproves?\b", r"\bboosts?\b", r"\bequal performance\b",
)  # fmt: skip
UNPRINTED = (r"\bnan\b", r"\binf\b", r"\bNone\b", r"\bTrue\b", r"\bFalse\b")  # values of programs, not of people
# Sentences about the scale, counts and definitions, in which the two words compare no arms.
_HARMLESS = re.compile(
    r"(higher|lower|less|more) is better|better on \d+ of \d+ scenes|neither better nor worse|better 5, for verdicts"
    r"|better to the (left|right)",
    re.IGNORECASE,
)
_CLAIM = re.compile(r"\b(better|worse)\b", re.IGNORECASE)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_DIFFERENCE = re.compile(r"\bby [+-]\d[\d.]*")
_INTERVAL = re.compile(r"( [^\s\[`;,.:]+)? \[")  # after a unit
_SHRUNKEN = "selected and estimated on the same seeds"  # a belief, which has no simultaneous interval
_SCOPE = "All of this holds for"


def lint(text: str, *analyses: Analysis, quoted: Iterable[str] = ()) -> tuple[str, ...]:
    """Everything in a report's markdown that breaks the rules of wording, a sentence each; empty for an honest report.

    `analyses` are those that the report tells: of the study, and of its confirmation where there is one. What people
    wrote themselves (a question, a warning) is not the report's word: pass it as `quoted`.
    """
    for own in sorted((word for word in quoted if word), key=len, reverse=True):
        text = text.replace(escape(own), "").replace(own, "")
    return tuple([*_words(text), *_comparisons(text, analyses), *_bare(text, analyses), *_scope(text, analyses)])


def _words(text: str) -> Iterator[str]:
    plain = _SPAN.sub("``", text)
    for pattern in FORBIDDEN:
        for found in re.finditer(pattern, plain, re.IGNORECASE):
            yield f"{found[0]!r} claims more than can be shown: {_around(plain, found.start())!r}"
    for pattern in UNPRINTED:
        for found in re.finditer(pattern, plain):
            yield f"{found[0]!r} is no word: {_around(plain, found.start())!r}"


def _comparisons(text: str, analyses: Iterable[Analysis]) -> Iterator[str]:
    """`better` and `worse` only of arms and factors whose interval excludes 0."""
    resolved = {name for analysis in analyses for name in _resolved(analysis)}
    for line in text.splitlines():
        said = _HARMLESS.sub("", line)
        for claim in re.split(r"(?<=[.!])(?:\*\*)? (?=\*\*|[A-Z]|`)", said):
            if not _CLAIM.search(_SPAN.sub("``", claim)):
                continue
            named = [name for name in _names(claim) if name not in _baselines(analyses)]
            named = named[:1] if line.startswith("|") else named
            if not named:
                yield f"better or worse than what, and which arm? {claim.strip()!r}"
            for name in named:
                if name not in resolved:
                    yield f"{name!r} is called better or worse, and its interval does not exclude 0: {claim.strip()!r}"


def _names(claim: str) -> list[str]:
    return [span.strip().replace("\\|", "|") for _, span in _SPAN.findall(claim)]


def _baselines(analyses: Iterable[Analysis]) -> set[str]:
    return {analysis.baseline for analysis in analyses}


def _resolved(analysis: Analysis) -> Iterator[str]:
    """Arms and effects of factors whose interval is there and excludes 0."""
    for effect in (*analysis.effects, *analysis.factor_effects):
        if effect.low is not None and not effect.low <= 0 <= effect.high:
            yield getattr(effect, "arm", None) or effect.label


def _bare(text: str, analyses: Iterable[Analysis]) -> Iterator[str]:
    """Every difference stands beside its interval."""
    for line in text.splitlines():
        for found in _DIFFERENCE.finditer(line):
            after = line[found.end() :]
            if not _INTERVAL.match(after) and _SHRUNKEN not in after[: len(_SHRUNKEN) + 12]:
                yield f"a difference without its interval: {_around(line, found.start())!r}"
        if line.startswith("|") and any(f"| {verdict} |" in line for verdict in _JUDGED) and "[" not in line:
            yield f"a verdict without its interval: {line!r}"


_JUDGED = (*verdicts.CLAIMS, verdicts.EQUIVALENT, verdicts.UNRESOLVED)


def _scope(text: str, analyses: Iterable[Analysis]) -> Iterator[str]:
    if any(effect.difference is not None for analysis in analyses for effect in analysis.effects):
        if _SCOPE not in text:
            yield "nowhere does it say what its answer holds for"


def _around(text: str, place: int) -> str:
    return " ".join(text[max(0, place - 40) : place + 60].split())
