"""The shell around what messages of Celery only set off: what there is to do stands in SQL."""

from __future__ import annotations

from collections.abc import Callable

from celery import Task


class Call(Task):
    """A task that calls a function, whatever its message says."""

    ignore_result = True

    def __init__(self, name: str, function: Callable[[], object], *, is_shown: bool = True) -> None:
        self.name = name
        self.send_events = is_shown
        self._function = function

    def run(self, *_: object) -> object:
        """Call it; what it returns is for Flower."""
        return self._function()
