"""Which TCP ports of this machine are free."""

import itertools
import random
import socket

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


def free_port(preferred: int | None = None) -> int:
    """The preferred port when it is free, else any free one."""
    if preferred is not None and is_free(preferred):
        return preferred
    drawn = (random.choice(FREE_RANGE) for _ in itertools.count())  # noqa: S311 - no secret
    return next(port for port in drawn if is_free(port))
