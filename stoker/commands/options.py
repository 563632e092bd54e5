"""How commands are declared and the values of options read: what is wrong is told before anything else happens."""

from __future__ import annotations

import argparse
from datetime import datetime
from math import isfinite
from typing import Any


def add_command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Add a command, or an action of one."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="JSON, for scripts")
    return parser


def pair(text: str) -> tuple[str, str]:
    """Return `key=value` as two, for argparse."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"'{text}' must look like key=value")
    return name, value


def seconds(text: str) -> float:
    """Return a number of seconds, for argparse."""
    return _amount(text, "seconds")


def days(text: str) -> float:
    """Return a number of days, for argparse."""
    return _amount(text, "days")


def _amount(text: str, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not isfinite(number) or number < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of {unit}")
    return number


def moment(text: str) -> str:
    """Return a time with its time zone, this machine's when none is said; for argparse."""
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 2026-11-21T18:30:00Z") from None


def once_key(text: str) -> str:
    """Return an idempotency key, for argparse."""
    if not (text and text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError("it takes printable ASCII characters; a UUID will do")
    return text


def adapter_use(text: str) -> tuple[str, float | None]:
    """Return `NAME` or `NAME:STRENGTH` as two, for argparse."""
    name, colon, strength = text.partition(":")
    if not name:
        raise argparse.ArgumentTypeError(f"'{text}' must look like NAME or NAME:STRENGTH")
    return name, _strength(text, strength) if colon else None


def _strength(text: str, said: str) -> float:
    try:
        strength = float(said)
    except ValueError:
        strength = -1.0
    if not isfinite(strength) or strength < 0:
        raise argparse.ArgumentTypeError(f"'{text}' must look like NAME:0.5, with a number from 0")
    return strength
