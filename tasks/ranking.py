"""Who goes first: one number per job, fixed when it is submitted; the smallest is claimed first."""

from __future__ import annotations

from schemas.jobs import Priority

HEAD_START_SECONDS = {Priority.HIGH: 3600.0, Priority.NORMAL: 0.0, Priority.LOW: -3600.0}
"""A class is a head start in age: a low job overtaken for hours still gets its turn."""


def rank(priority: Priority, ready_at: float) -> float:
    """Return the rank of a job that may run from `ready_at` on."""
    return ready_at - HEAD_START_SECONDS[priority]
