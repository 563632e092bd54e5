"""Which TCP ports of this machine are free."""

import itertools
import random
import socket
from collections.abc import Collection

# Below the ranges that Linux and macOS take for outgoing connections: while a server restarts on its port, no
# client's connection can have been given that port.
FREE_RANGE = range(15_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def claim_port(port: int) -> bool:
    """Take a port for as long as this process lives, among all that ask here; servers need a moment to listen."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as claim:  # UDP's ports have no other use here
        try:
            claim.bind(("127.0.0.1", port))
        except OSError:
            return False
        claim.detach()  # it stays open on purpose
    return True


def free_port(preferred: int | None = None, besides: Collection[int] = ()) -> int:
    """The preferred port when it is free, else any free one; none of those beside it. It is ours then."""
    first = () if preferred is None else (preferred,)
    drawn = (random.choice(FREE_RANGE) for _ in itertools.count())  # noqa: S311 - no secret
    candidates = itertools.chain(first, drawn)
    return next(port for port in candidates if port not in besides and is_free(port) and claim_port(port))
