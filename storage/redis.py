"""Redis clients whose every call ends soon: a sick Redis is an error within two seconds, never a wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from schemas.errors import RedisFaultError

SyncRedis = redis.Redis
AsyncRedis = redis.asyncio.Redis

CONNECT_SECONDS = 0.8
ANSWER_SECONDS = 0.8
POOL_WAIT_SECONDS = 0.4  # together: one wait for a connection, one dead connection, one new one, below 2 s
HEALTH_CHECK_SECONDS = 15


def sync_client(url: str, *, max_connections: int = 32) -> SyncRedis:
    """Return a client for threads; at most `max_connections` of them talk at once, the others wait briefly."""
    retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    pool = redis.BlockingConnectionPool.from_url(url, retry=retry, **_options(max_connections))
    return redis.Redis.from_pool(pool)


def async_client(url: str, *, max_connections: int = 16) -> AsyncRedis:
    """Return a client for one event loop."""
    retry = AsyncRetry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, retry=retry, **_options(max_connections))
    return redis.asyncio.Redis.from_pool(pool)


def _options(max_connections: int) -> dict[str, Any]:
    return {
        # A connection that Redis closed is opened anew once; what timed out is not tried again: it costs time.
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        "max_connections": max_connections,
        "timeout": POOL_WAIT_SECONDS,
        "protocol": 2,  # RESP3 adds nothing here and makes redis-py ask for cloud maintenance news
        "driver_info": None,  # spares two commands per connection
    }


@contextmanager
def redis_faults() -> Iterator[None]:
    """Turn what redis-py raises into our RedisFaultError."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise RedisFaultError from error
