"""How much is sent to whom at once: a slow receiver has few places, so it never holds up the others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

AT_ONCE = 256
EACH_AT_ONCE = 8
SICK_AFTER = 3
"""So many failures in a row make a receiver sick: it is tried by one request at a time, until one gets through."""
SICK_AT_ONCE = AT_ONCE // 2
FORGET_AT = 10_000


@dataclass(slots=True)
class Receiver:
    """One origin as this sender has met it."""

    in_flight: int = 0
    failures: int = 0
    quiet_until: float = 0.0

    @property
    def is_sick(self) -> bool:
        """Say whether it failed so often that it gets less."""
        return self.failures >= SICK_AFTER


class Receivers:
    """Every receiver that something is on its way to, or that did not take what came."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: dict[str, Receiver] = {}
        self.in_flight = 0

    def places(self, origins: Iterable[str]) -> dict[str, int]:
        """Return how many deliveries each of these may be sent now; when there are too many, chance decides."""
        free = AT_ONCE - self.in_flight
        sick_free = SICK_AT_ONCE - sum(one.in_flight for one in self._known.values() if one.is_sick)
        asking = list(origins)
        random.shuffle(asking)
        granted: dict[str, int] = {}
        for origin in asking:
            receiver = self._known.get(origin, Receiver())
            share = (1 if receiver.is_sick else EACH_AT_ONCE) - receiver.in_flight
            share = min(share, free, sick_free if receiver.is_sick else free)
            if share <= 0 or receiver.quiet_until > self._now():
                continue
            granted[origin] = share
            free -= share
            sick_free -= share if receiver.is_sick else 0
        return granted

    def begin(self, origin: str) -> None:
        """Note that a request leaves."""
        self._known.setdefault(origin, Receiver()).in_flight += 1
        self.in_flight += 1

    def end(self, origin: str, *, took_it: bool, quiet_seconds: float | None = None) -> None:
        """Note what came of it; a receiver that asked for quiet gets it."""
        receiver = self._known[origin]
        receiver.in_flight -= 1
        self.in_flight -= 1
        receiver.failures = 0 if took_it else receiver.failures + 1
        if quiet_seconds:
            receiver.quiet_until = self._now() + quiet_seconds
        if not receiver.in_flight and not receiver.failures:
            del self._known[origin]
        elif len(self._known) > FORGET_AT:
            self._forget()

    def _forget(self) -> None:
        """Forget receivers that nothing is on its way to: who is still sick is found out anew."""
        self._known = {origin: one for origin, one in self._known.items() if one.in_flight}
