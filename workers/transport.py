"""How hints come out of Redis: kombu's transport, which survives garbage and keeps no copies of what it delivers."""

from __future__ import annotations

from queue import Empty
from typing import Any

from kombu.transport.redis import Channel, Transport

from tasks.logs import get_logger

OPTIONS = {
    "ack_emulation": False,  # a hint may be lost: copies in Redis of those under way cost more than the hints
    "priority_steps": [0],  # SQL knows what is urgent, so each queue is one list
}

log = get_logger(__name__)


class HintChannel(Channel):
    """Drops what is not JSON; the stock channel would end the worker."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu is half typed
        except ValueError as error:
            _say_dropped(error)
            raise Empty from None


class HintTransport(Transport):
    """Drops what is not laid out as a message; the stock transport would take it for a lost connection."""

    Channel = HintChannel

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]  # as above
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            _say_dropped(error)


def _say_dropped(error: Exception) -> None:
    log.warning("Something that is no message was dropped from a queue.", why=repr(error))
