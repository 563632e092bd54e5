"""How fast this machine is right now, measured by a fixed piece of Python, relative to the reference machine.

The piece does what both peers spend their time on: JSON, dictionaries, calls, small writes to a pipe and reads from
it. `REFERENCE_MS` is its CPU time where the naive peer takes 2.4 CPU-ms for a job, as it did on the reference machine;
it was found by running the two side by side, eleven rounds with little else to do. It shows a slow machine; one that
is crowded by others makes servers, which always wait and wake, dearer than this piece shows.
"""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256

ROUNDS = 2000
REFERENCE_MS = 25.0


def measure_slowness() -> float:
    """Return how many times the reference machine's CPU time the piece takes in this thread."""
    reader, writer = os.pipe()
    began_at = time.thread_time()
    try:
        for number in range(ROUNDS):
            _work(number, reader, writer)
    finally:
        os.close(reader)
        os.close(writer)
    return (time.thread_time() - began_at) * 1000 / REFERENCE_MS


def _work(number: int, reader: int, writer: int) -> None:
    job = {"id": f"job_{number}", "status": "queued", "input": {"prompt": "noop " * 5}, "parts": list(range(20))}
    os.write(writer, json.dumps(job).encode())
    read = json.loads(os.read(reader, 4096))
    read["digest"] = sha256(str(sorted(read.items(), key=str)).encode()).hexdigest()
    assert read["id"] == job["id"]  # noqa: S101 - a piece that computes nonsense measures nothing
