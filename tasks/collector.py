"""Python's garbage collector, told what stays: a start leaves a million objects that need not be looked through."""

from __future__ import annotations

import gc


def spare_what_stays() -> None:
    """Keep what is here now out of all collections, each of which would stop everybody for 100 ms.

    The last call sees next to nothing, but tells the collector how much that is: full collections wait until a quarter
    of what was there is new, and else would wait for a quarter of a million objects and all memory that hangs on them.
    """
    gc.collect()
    gc.freeze()
    gc.collect()
