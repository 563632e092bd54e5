"""What one small object put costs the process that puts it, measured apart so that it can be subtracted."""

from __future__ import annotations

import asyncio
import time

import uvloop

from storage.objects.s3 import S3ObjectStore
from tests.services import S3Server

PUTS = 2000
TOGETHER = 8
CONTENT = b'{"text":"' + b"x" * 80 + b'"}'


def put_cpu_ms(server: S3Server) -> float:
    """Return the CPU milliseconds of a put, made as workers make them: in an event loop, through our own store."""
    store = S3ObjectStore(
        server.bucket, endpoint=server.endpoint, access_key=server.access_key, secret_key=server.secret_key
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_put(store, range(TOGETHER * 2)))  # connections
        before = time.process_time()
        runner.run(_put(store, range(PUTS)))
        took = time.process_time() - before
        runner.run(store.aclose())
        return took * 1000 / PUTS


async def _put(store: S3ObjectStore, which: range) -> None:
    numbers = iter(which)

    async def put_one_after_the_other() -> None:
        for number in numbers:
            await store.aput(f"bench/{number}.json", CONTENT, "application/json")

    await asyncio.gather(*(put_one_after_the_other() for _ in range(TOGETHER)))
