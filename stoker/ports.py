"""Which TCP ports of this machine are free."""

import fcntl
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Collection
from pathlib import Path

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
    path = Path(tempfile.gettempdir()) / f"stoker-{os.getuid()}-port-{port}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True  # the descriptor stays open on purpose


def free_port(preferred: int | None = None, besides: Collection[int] = ()) -> int:
    """The preferred port when it is free, which makes it ours, else any free one; none of those beside it."""
    if preferred is not None and preferred not in besides and is_free(preferred) and claim_port(preferred):
        return preferred
    drawn = (random.choice(FREE_RANGE) for _ in itertools.count())  # noqa: S311 - no secret
    return next(port for port in drawn if port not in besides and is_free(port))
