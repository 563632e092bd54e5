"""Redis clients whose every call ends soon: a sick Redis is an error within two seconds, never a wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

# In the worst case one call waits for all three.
POOL_SECONDS = 0.3
CONNECT_SECONDS = 0.7
ANSWER_SECONDS = 0.8
HEALTH_CHECK_SECONDS = 15


def sync_client(url: str, *, max_connections: int = 32) -> SyncRedis:
    """Return a client for threads; when `max_connections` of them talk, the next one waits briefly."""
    retry = Retry(NoBackoff(), 0, supported_errors=())
    return redis.Redis.from_pool(
        redis.BlockingConnectionPool.from_url(url, retry=retry, max_connections=max_connections, **_options())
    )


def async_client(url: str, *, max_connections: int = 16) -> AsyncRedis:
    """Return a client for one event loop; when all its connections are busy, the next call waits briefly."""
    retry = AsyncRetry(NoBackoff(), 0, supported_errors=())
    return redis.asyncio.Redis.from_pool(
        redis.asyncio.BlockingConnectionPool.from_url(url, retry=retry, max_connections=max_connections, **_options())
    )


def _options() -> dict[str, Any]:
    # No retries: the pools notice closed connections and open new ones, and a retry would double each time limit.
    return {
        "timeout": POOL_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        "protocol": 2,  # RESP3 gives us nothing, and redis-py then asks for a cloud's maintenance news
        "driver_info": None,  # spares two commands per connection
    }


@contextmanager
def redis_faults() -> Iterator[None]:
    """Turn what redis-py raises into RedisFaultError, which keeps it as its cause."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise RedisFaultError from error
