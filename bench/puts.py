"""What one small object put costs the process that puts it, measured apart so that it can be subtracted."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from storage.objects.s3 import S3ObjectStore
from tests.services import S3Server

PUTS = 600
THREADS = 8
CONTENT = b'{"text":"' + b"x" * 80 + b'"}'


def put_cpu_ms(server: S3Server) -> float:
    """Return the CPU milliseconds of a put, made as workers make them: from threads, through our own store."""
    store = S3ObjectStore(
        server.bucket, endpoint=server.endpoint, access_key=server.access_key, secret_key=server.secret_key
    )
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda number: _put(store, number), range(THREADS * 2)))  # connections
        before = time.process_time()
        list(threads.map(lambda number: _put(store, number), range(PUTS)))
        return (time.process_time() - before) * 1000 / PUTS


def _put(store: S3ObjectStore, number: int) -> None:
    store.put(f"bench/{number}.json", CONTENT, "application/json")
