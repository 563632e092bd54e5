"""How figures and times are written for people, and how much room text takes."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
THOUSAND = 1000


def harmless(text: str) -> str:
    """Return text without the characters by which it could steer a terminal; what a model says is not ours."""
    return CONTROL.sub("", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Return text on one line."""
    return " ".join(harmless(text).split())


def columns(text: str) -> int:
    """Count the columns that text takes: Hangul and its like take two for each character."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def fit(text: str, width: int) -> str:
    """Return as much of text as there is room for."""
    if columns(text) <= width:
        return text
    kept = ""
    for character in text:
        if columns(kept + character) >= width:
            break
        kept += character
    return f"{kept}…"


def duration(milliseconds: float | None) -> str:
    """Return how long something took."""
    if milliseconds is None:
        return "-"
    if milliseconds < THOUSAND:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / THOUSAND
    return f"{seconds:.1f} s" if seconds < 60 else long_duration(seconds)  # noqa: PLR2004 - seconds in a minute


def long_duration(seconds: float) -> str:
    """Return a time of any length in its two largest units."""
    for unit, smaller, size, part in (("d", "h", 86_400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            return f"{whole:.0f} {unit}" + (f" {rest // part:.0f} {smaller}" if rest >= part else "")
    return f"{max(0.0, seconds):.0f} s"


def age(moment: datetime | None) -> str:
    """Return how long ago something was, in its largest unit."""
    if moment is None:
        return "-"
    words = long_duration((datetime.now(UTC) - moment).total_seconds()).split()
    return " ".join(words[:2])


def size(count: int) -> str:
    """Return a number of bytes."""
    amount, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < THOUSAND:
            break
        amount, unit = amount / THOUSAND, larger
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"


def clock(moment: datetime | None) -> str:
    """Return a time as people here read it."""
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
