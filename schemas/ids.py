"""Identifiers: a prefix that says what the thing is, then time, then chance, so that ids sort by age."""

from __future__ import annotations

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
TIME_CHARACTERS = 11
RANDOM_CHARACTERS = 12
PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
SHIFTS = range(50, -1, -10)


def new_id(prefix: str) -> str:
    """Return a new id such as `job_01j…`: 55 bits of microseconds, then 60 random bits."""
    microseconds = time.time_ns() // 1000
    return f"{prefix}_{_encode(microseconds, TIME_CHARACTERS)}{_encode(secrets.randbits(60), RANDOM_CHARACTERS)}"


def _encode(number: int, width: int) -> str:
    return "".join([PAIRS[number >> shift & 1023] for shift in SHIFTS])[-width:]
