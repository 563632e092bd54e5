"""Calls to Redis end, whatever state it is in, and one that comes back is used again without a word."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import RedisFaultError
from schemas.events import Envelope, EventType
from storage.epoch import EPOCH_KEY, Epoch
from storage.event_log.streams import RedisEventLog
from storage.redis import async_client, redis_deadline, redis_faults, sync_client
from tests.services import RedisServer, run_redis

STARTED = Envelope(1, 1, EventType.STARTED, 0.0, {})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with run_redis(tmp_path) as server:
        yield server


async def test_more_calls_than_connections_share_them(server: RedisServer) -> None:
    client = async_client(server.url, max_connections=3)

    async def ping() -> bool:
        async with redis_deadline():
            return bool(await client.ping())

    assert all(await asyncio.gather(*(ping() for _ in range(50))))
    assert len(await client.client_list()) <= 3
    await client.aclose()


async def test_every_call_to_a_hanging_redis_ends_in_a_fault(server: RedisServer) -> None:
    client = async_client(server.url, max_connections=3)
    log = RedisEventLog(client)
    await log.append("job_1", [STARTED])
    server.pause()
    calls = [log.append("job_1", []), log.read("job_1", None), log.latest("job_1", EventType.PROGRESS)]
    ends = await asyncio.gather(*calls, *(log.erase(["job_1"]) for _ in range(20)), return_exceptions=True)
    assert [type(end) for end in ends] == [RedisFaultError] * 23
    server.resume()
    await log.append("job_2", [STARTED])
    assert await log.read("job_2", None) == [STARTED]
    await client.aclose()


async def test_what_redis_refuses_for_its_own_reasons_is_a_fault(server: RedisServer) -> None:
    client = async_client(server.url)
    await client.set("stoker:events:job_1", "no stream")
    with pytest.raises(RedisFaultError):
        await RedisEventLog(client).append("job_1", [STARTED])
    with pytest.raises(RedisFaultError):
        await RedisEventLog(client).read("job_1", None)
    await client.aclose()


async def test_a_canceled_call_leaves_no_answer_behind_for_the_next(server: RedisServer) -> None:
    client = async_client(server.url, max_connections=1)
    for number in range(20):
        await client.set("key", number)
        call = asyncio.ensure_future(client.get("unknown"))
        for _ in range(number):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        async with redis_deadline():
            assert await client.get("key") == str(number).encode()
    await client.aclose()


def test_threads_get_a_fault_from_a_hanging_redis(server: RedisServer) -> None:
    with sync_client(server.url, max_connections=2) as client:
        client.ping()
        ends: list[type[BaseException]] = []

        def ping() -> None:
            try:
                with redis_faults():
                    client.ping()
            except RedisFaultError as error:
                ends.append(type(error))

        server.pause()
        threads = [threading.Thread(target=ping) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ends == [RedisFaultError] * 8
        server.resume()
        assert client.ping()


async def test_connections_that_a_restart_closed_are_replaced(server: RedisServer) -> None:
    client = async_client(server.url)
    with sync_client(server.url) as sync:
        await asyncio.gather(*(client.ping() for _ in range(10)))
        sync.ping()
        await asyncio.to_thread(server.restart)  # meanwhile the loop learns that its connections were closed
        await asyncio.gather(*(client.ping() for _ in range(10)))
        assert sync.ping()
    await client.aclose()


def test_the_epoch_changes_when_redis_forgets_or_restarts(server: RedisServer) -> None:
    with sync_client(server.url) as client:
        first, second = Epoch(client), Epoch(client)
        assert first.check()  # a Redis that knows nothing is one that forgot
        assert not second.check()
        for loss in (client.flushall, server.restart, lambda: client.delete(EPOCH_KEY)):
            assert not first.check()
            assert not second.check()
            loss()
            assert first.check()
            assert second.check()
        assert not first.check()
        assert not second.check()


def test_the_epoch_of_a_sick_redis_is_a_fault(server: RedisServer) -> None:
    with sync_client(server.url) as client:
        epoch = Epoch(client)
        epoch.check()
        server.kill()
        with pytest.raises(RedisFaultError):
            epoch.check()
        server.start()
        assert epoch.check()
