"""Keeps a worker's memory flat: glibc's malloc holds on to what large answers took."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_ARENA_MAX, ARENAS = -8, 2


def bound_malloc() -> None:
    """Have malloc keep few arenas: with one for each thread, large answers leave holes in all of them."""
    with suppress(OSError, AttributeError):  # another C library does without
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def trim_malloc() -> None:
    """Give back what is free; it takes some milliseconds, in which others can go on."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
