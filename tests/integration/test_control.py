"""Messages reach the worker that they are for, and its end of the line survives everything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from schemas.base import JsonObject
from schemas.errors import RedisFaultError
from storage.control import Control
from storage.redis import AsyncRedis, async_client
from tests.services import run_redis

SOON = 5.0


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncRedis]:
    client = async_client(redis_url)
    yield client
    await client.aclose()


@asynccontextmanager
async def worker(client: AsyncRedis, worker_id: str) -> AsyncIterator["asyncio.Queue[JsonObject]"]:
    """A worker that listens from now on and keeps what it hears."""
    heard: asyncio.Queue[JsonObject] = asyncio.Queue()

    async def listen() -> None:
        async with aclosing(Control(client).listen(worker_id)) as messages:
            async for message in messages:
                heard.put_nowait(message)

    task = asyncio.create_task(listen())
    await listening(client, worker_id)
    yield heard
    task.cancel()
    await asyncio.wait([task])


async def listening(client: AsyncRedis, worker_id: str) -> None:
    """Wait until a worker's line stands."""
    async with asyncio.timeout(SOON):
        while not (await client.pubsub_numsub(f"stoker:worker:{worker_id}"))[0][1]:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


async def next_of(heard: "asyncio.Queue[JsonObject]") -> JsonObject:
    return await asyncio.wait_for(heard.get(), SOON)


async def test_a_message_reaches_its_worker_only(client: AsyncRedis) -> None:
    control = Control(client)
    async with worker(client, "w1") as first, worker(client, "w2") as second:
        await control.send("w1", {"cancel": "job_1", "why": "취소"})
        await control.send("w2", {"drain": True})
        assert await next_of(first) == {"cancel": "job_1", "why": "취소"}
        assert await next_of(second) == {"drain": True}


async def test_messages_come_in_order(client: AsyncRedis) -> None:
    async with worker(client, "w1") as heard:
        for number in range(50):
            await Control(client).send("w1", {"number": number})
        assert [(await next_of(heard))["number"] for _ in range(50)] == list(range(50))


async def test_garbage_is_dropped(client: AsyncRedis) -> None:
    async with worker(client, "w1") as heard:
        for garbage in (b"", b"\xff\xfe", b"{", b"[]", b"1", b'"cancel"', b"null", b"[" * 100_000):
            await client.publish("stoker:worker:w1", garbage)
        await Control(client).send("w1", {"cancel": "job_1"})
        assert await next_of(heard) == {"cancel": "job_1"}
        assert heard.empty()


async def test_a_message_to_nobody_is_lost(client: AsyncRedis) -> None:
    await Control(client).send("w1", {"cancel": "job_1"})
    async with worker(client, "w1") as heard:
        await Control(client).send("w1", {"cancel": "job_2"})
        assert await next_of(heard) == {"cancel": "job_2"}


async def test_the_line_is_mended_when_redis_comes_back(tmp_path: Path) -> None:
    with run_redis(tmp_path) as server:
        client = async_client(server.url)
        async with worker(client, "w1") as heard:
            server.kill()
            with pytest.raises(RedisFaultError):
                await Control(client).send("w1", {"cancel": "job_1"})
            server.start()
            await listening(client, "w1")
            await Control(client).send("w1", {"cancel": "job_2"})
            assert await next_of(heard) == {"cancel": "job_2"}
        await client.aclose()
