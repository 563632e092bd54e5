"""Redis clients whose every call ends soon: a sick Redis is an error within two seconds, never a wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from schemas.errors import RedisFaultError

SyncRedis = redis.Redis
AsyncRedis = redis.asyncio.Redis

HEALTH_CHECK_SECONDS = 15
# No retries: the pools notice closed connections and open new ones, and a retry would double every limit.
_OPTIONS: dict[str, Any] = {
    "socket_keepalive": True,
    "health_check_interval": HEALTH_CHECK_SECONDS,
    "protocol": 2,  # RESP3 gives us nothing, and redis-py then asks for a cloud's maintenance news
    "driver_info": None,  # spares two commands per connection
}

# A call from a thread waits for all three at worst: for a connection of the pool, to connect, for the answer.
POOL_SECONDS = 0.3
CONNECT_SECONDS = 0.7
ANSWER_SECONDS = 0.8
# A call from an event loop has one limit for all of it.
DEADLINE_SECONDS = 1.5


def sync_client(url: str, *, max_connections: int = 32) -> SyncRedis:
    """Return a client for threads, to be used inside `redis_faults`."""
    retry = Retry(NoBackoff(), 0, supported_errors=())
    times = {"timeout": POOL_SECONDS, "socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS}
    return redis.Redis.from_pool(
        redis.BlockingConnectionPool.from_url(url, retry=retry, max_connections=max_connections, **times, **_OPTIONS)
    )


def async_client(url: str, *, max_connections: int = 16) -> AsyncRedis:
    """Return a client for one event loop, to be used inside `redis_deadline`: it has no limit of its own.

    redis-py's limits are made with asyncio.wait_for, which costs a task per command and, before Python 3.12, may
    swallow a cancellation.
    """
    retry = AsyncRetry(NoBackoff(), 0, supported_errors=())
    times = {"timeout": None, "socket_connect_timeout": None, "socket_timeout": None}
    return redis.asyncio.Redis.from_pool(
        redis.asyncio.BlockingConnectionPool.from_url(
            url, retry=retry, max_connections=max_connections, **times, **_OPTIONS
        )
    )


@contextmanager
def redis_faults() -> Iterator[None]:
    """Turn what redis-py raises into RedisFaultError, which keeps it as its cause."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise RedisFaultError from error


@asynccontextmanager
async def redis_deadline() -> AsyncIterator[None]:
    """Turn what redis-py raises, and an answer that does not come in time, into RedisFaultError."""
    with redis_faults():
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield
