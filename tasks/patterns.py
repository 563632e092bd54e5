"""Whether grammars can say a regular expression, and how large it becomes: they write each repetition out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]  # the only reader of patterns that there is
from typing import Any

REPETITIONS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT)
LOOKS = (_constants.ASSERT, _constants.ASSERT_NOT)
"""A grammar knows only what comes next; the engine's compiler leaves a look ahead out without a word."""


class PatternError(ValueError):
    """It is no regular expression, or none that an answer can be held to."""


def written_out(pattern: str) -> int:
    """Return of how many characters and classes a pattern consists when what repeats is written out."""
    try:
        re.compile(pattern)
        return _size(_parser.parse(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(str(error)) from None


def _size(parsed: Any) -> int:
    return sum(_weight(operation, given) for operation, given in parsed)


def _weight(operation: Any, given: Any) -> int:
    if operation in LOOKS:
        raise PatternError("no answer can be held to what looks ahead or behind, as (?=…), (?!…) and (?<=…) do")
    if operation in REPETITIONS:
        least, most, inner = given
        return int(max(1, least if most is _constants.MAXREPEAT else most)) * _size(inner)
    return max(1, sum(map(_size, _patterns_in(given))))


def _patterns_in(given: Any) -> Iterator[Any]:
    if isinstance(given, _parser.SubPattern):
        yield given
    elif isinstance(given, list | tuple):
        for one in given:
            yield from _patterns_in(one)
