"""Fixtures for every test: real servers, started once per run when first asked for, and fresh databases."""

import asyncio
import signal
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import redis

from tests.decoders import LentDecoder, start_decoder
from tests.services import PostgresServer, RedisServer, S3Server, run_postgres, run_redis, run_s3
from tests.tiny_llama import ADAPTERS, make_tiny_llama
from workers.engines import ENVIRONMENTS

pytest_plugins = ["tests.lanes"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell's `&` leaves it: what tests start would inherit that, and our supervisor heeds it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the whole run; tests that break it start their own with `run_redis`."""
    with run_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for the whole run; tests that break it start their own with `run_s3`."""
    with run_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One Postgres for the whole run."""
    with run_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The shared Redis, emptied."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """A fresh database as SQLAlchemy's URL."""
    return postgres_server.new_database()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A database file that does not exist yet, as SQLAlchemy's URL."""
    return f"sqlite+pysqlite:///{tmp_path / 'stoker.db'}"


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder, with two adapters."""
    return make_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_decoder(tiny_llama: Path) -> AsyncIterator[LentDecoder]:
    """One vLLM for the whole run, in the session's loop; tests that kill it start their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENTS["vllm"].items():
            patch.setenv(name, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what vLLM imports
            decoder = await asyncio.to_thread(start_decoder, tiny_llama, ADAPTERS, 32)
    yield LentDecoder(decoder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # vLLM leaves sockets to the garbage collector
        await asyncio.to_thread(decoder.close)
