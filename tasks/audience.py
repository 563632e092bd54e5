"""Who follows what a job says while it runs: its story learns it with each write, and its engine may go by it."""

from __future__ import annotations

from collections.abc import Callable


class Audience:
    """Whether somebody follows one attempt's words."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] | None = None
        """Set by an engine that collects words while there is nobody; what it says then has waited already."""
        self._is_there = True

    @property
    def is_there(self) -> bool:
        """Say whether somebody heard the last words at once, or nobody had the chance yet."""
        return self._is_there

    @is_there.setter
    def is_there(self, is_there: bool) -> None:
        """Take the news, and pass it on when it is some."""
        if is_there != self._is_there:
            self._is_there = is_there
            if self.on_change is not None:
                self.on_change()

    @property
    def is_spared(self) -> bool:
        """Say whether words should be collected before they are written: nobody follows, and each comes by itself."""
        return not self._is_there and self.on_change is None
