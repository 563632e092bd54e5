"""Words for nobody: a request that nobody follows says what it has a few times a second, and not token by token.

Every token that is handed out costs a wake and several objects, whether somebody reads it or not. So whoever has
spoken for nobody is hushed, and a moment later all who are hushed may speak, in the engine's next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasks.audience import Audience

QUIET_SECONDS = 0.2
"""With the way to the event log, whoever begins to follow waits a quarter of a second for the next words."""
EACH, AT_ONCE = 1, 1_000_000
"""How many tokens are handed out together; the first one comes alone, and the last ones with the end."""


class Turn:
    """What one request may say and when; `pace` sets how many tokens its decoder hands out together."""

    def __init__(self, audience: Audience, pace: Callable[[int], None]) -> None:
        self._audience = audience
        self._pace = pace
        self._is_hushed = False

    def rest(self) -> None:
        """Say that it has just spoken."""
        if not (self._is_hushed or self._audience.is_there):
            self._is_hushed = True
            self._pace(AT_ONCE)

    def speak(self) -> None:
        """Let it say what it has, and go on if somebody listens."""
        if self._is_hushed:
            self._is_hushed = False
            self._pace(EACH)


class Pacing:
    """Lets those speak who are hushed."""

    def __init__(self) -> None:
        self._turns: set[Turn] = set()
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def turn(self, audience: Audience, pace: Callable[[int], None]) -> Iterator[Turn]:
        """Take turns for as long as a request runs."""
        turn = Turn(audience, pace)
        audience.on_change = turn.speak
        self._turns.add(turn)
        self._wait()
        try:
            yield turn
        finally:
            self._turns.discard(turn)
            audience.on_change = None

    def _wait(self) -> None:
        if self._timer is None and self._turns:
            self._timer = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._let_speak)

    def _let_speak(self) -> None:
        self._timer = None
        self._wait()
        for turn in self._turns:
            turn.speak()
