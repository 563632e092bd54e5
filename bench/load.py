"""The load, in a process of its own so that its CPU counts for nobody: `python -m bench.load`, a task on stdin."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from bench.wire import Connection

POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Target:
    """How to talk to a peer."""

    port: int
    headers: dict[str, str]
    submit_path: str
    body: Any
    """What is submitted; `{n}` in its JSON becomes a number."""
    wait_header: str
    """A header line that makes a submit wait for the end, where the peer has one; else its status is polled."""
    status_path: str
    """`{id}` in it becomes the job's id."""
    done_status: str


@dataclass(frozen=True)
class Task:
    """What to do: submit many jobs by some clients, or follow single jobs to their result."""

    target: Target
    jobs: int
    clients: int
    follow: bool = False


@dataclass(frozen=True)
class Timings:
    """When it began (monotonic), and the milliseconds of each submit, or of each way from submit to result."""

    began_at: float
    milliseconds: list[float]


async def run(task: Task) -> Timings:
    """Do it with one connection per client."""
    target = task.target
    numbers = iter(range(task.jobs))
    connections = await asyncio.gather(*(Connection.open(target.port, target.headers) for _ in range(task.clients)))
    one = _follow if task.follow else _submit
    milliseconds: list[float] = []
    began_at = time.monotonic()

    async def client(connection: Connection) -> None:
        for number in numbers:
            began = time.perf_counter()
            await one(connection, target, number)
            milliseconds.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(client(connection) for connection in connections))
    for connection in connections:
        connection.close()
    return Timings(began_at, milliseconds)


async def _submit(connection: Connection, target: Target, number: int, extra: str = "") -> Any:
    body = json.loads(json.dumps(target.body).replace("{n}", str(number)))
    answer = await connection.request("POST", target.submit_path, body, extra)
    if answer.status not in {200, 202}:
        raise RuntimeError(f"a submit was answered with {answer.status}: {answer.body}")
    return answer.body


async def _follow(connection: Connection, target: Target, number: int) -> None:
    job = await _submit(connection, target, number, target.wait_header)
    while job["status"] != target.done_status:
        await asyncio.sleep(POLL_SECONDS)
        job = (await connection.request("GET", target.status_path.replace("{id}", job["id"]))).body


def main() -> None:
    """Read a task, do it, write what it took."""
    said = json.load(sys.stdin)
    task = Task(**(said | {"target": Target(**said["target"])}))
    json.dump(asdict(asyncio.run(run(task))), sys.stdout)


if __name__ == "__main__":
    main()
