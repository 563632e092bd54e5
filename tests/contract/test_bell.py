"""What every bell does, and what the one over Redis does to Redis."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from schemas.errors import RedisFaultError
from schemas.events import Envelope, EventType
from storage import subscription
from storage.bell import BELL, NEWS_KEPT, Bell, MemoryBell, RedisBell, Ring, Ringer, news_channel
from storage.redis import AsyncRedis, async_client, sync_client
from tests.api import eventually
from tests.services import RedisServer, run_redis

SOON = 60.0  # far more than a ring takes; nothing here waits for it in vain
NEVER = 0.1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis on which nobody else listens."""
    with run_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[AsyncRedis]:
    client = async_client(server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def redis_bell(client: AsyncRedis) -> AsyncIterator[RedisBell]:
    bell = RedisBell(client)
    yield bell
    await bell.aclose()


@pytest.fixture(params=["memory", "redis"])
def bell(request: pytest.FixtureRequest) -> Bell:
    if request.param == "memory":
        return MemoryBell()
    bell: RedisBell = request.getfixturevalue("redis_bell")
    return bell


async def settle(*rings: Ring) -> None:
    """Wait until nothing is missed any more, which rings once."""
    for ring in rings:
        assert await ring.wait(SOON)
        assert ring.take() is None


async def test_a_ring_is_heard(bell: Bell) -> None:
    async with bell.listen("job_1") as ring:
        await settle(ring)
        waiting = asyncio.create_task(ring.wait(SOON))
        await bell.ring(["job_1"])
        assert await waiting


async def test_a_ring_is_heard_by_those_who_follow_the_events(bell: Bell) -> None:
    async with bell.listen("job_1", to_events=True) as ring:
        await settle(ring)
        await bell.ring(["job_1"])
        assert await ring.wait(SOON)
        assert ring.take() is None  # a row changed: look


async def test_a_ring_before_the_wait_is_not_lost(bell: Bell) -> None:
    async with bell.listen("job_1") as ring:
        await settle(ring)
        await bell.ring(["job_1"])
        await bell.ring(["job_1"])
        assert await ring.wait(SOON)


async def test_without_a_ring_the_wait_ends_in_time(bell: Bell) -> None:
    async with bell.listen("job_1") as ring:
        await settle(ring)
        assert not await ring.wait(NEVER)
        assert not await ring.wait(0)


async def test_each_ring_is_heard_once(bell: Bell) -> None:
    async with bell.listen("job_1") as ring:
        await settle(ring)
        await bell.ring(["job_1"])
        assert await ring.wait(SOON)
        assert not await ring.wait(NEVER)


async def test_only_the_jobs_that_rang_are_heard(bell: Bell) -> None:
    async with bell.listen("job_1") as first, bell.listen("job_2") as second, bell.listen("job_3") as third:
        await settle(first, second, third)
        await bell.ring(["job_1", "job_3"])
        assert await first.wait(SOON)
        assert await third.wait(SOON)
        assert not await second.wait(NEVER)


async def test_all_who_wait_for_a_job_hear_it_until_they_leave(bell: Bell) -> None:
    async with bell.listen("job_1") as stays:
        async with bell.listen("job_1") as leaves:
            await settle(stays, leaves)
            await bell.ring(["job_1"])
            assert await stays.wait(SOON)
            assert await leaves.wait(SOON)
        await bell.ring(["job_1"])
        assert await stays.wait(SOON)
        assert not await leaves.wait(0)


async def test_whoever_joins_others_is_rung_as_well(bell: Bell) -> None:
    async with bell.listen("job_1") as first:
        await settle(first)
        async with bell.listen("job_1") as second:
            await settle(second)
            assert not await first.wait(NEVER)


async def test_whoever_comes_back_hears_again(bell: Bell) -> None:
    async with bell.listen("job_1") as ring:
        await settle(ring)
    async with bell.listen("job_1") as ring:  # at once: its channel was not given up yet
        await settle(ring)
        await bell.ring(["job_1"])
        assert await ring.wait(SOON)
    async with bell.listen("job_2") as other:
        await settle(other)
    async with bell.listen("job_1") as ring:  # later: it is subscribed anew
        await settle(ring)
        await bell.ring(["job_1"])
        assert await ring.wait(SOON)


async def test_ringing_no_bell_or_an_unheard_one_rings_nobody_else(bell: Bell) -> None:
    async with bell.listen("job_1") as ring:
        await settle(ring)
        await bell.ring([])
        await bell.ring(["job_nobody"])
        assert not await ring.wait(NEVER)


async def test_a_bare_ring_means_that_one_must_look(bell: Bell) -> None:
    async with bell.listen("job_1") as ring:
        await settle(ring)
        await bell.ring(["job_1"])
        assert await ring.wait(SOON)
        assert ring.take() is None
        assert ring.take() == []


@pytest.mark.parametrize(
    "garbage", [b"{", b"[]", b"{}", b"7", b'{"attempt":1,"seq":1,"type":"nonsense","at":0}', b"\xff"]
)
async def test_news_that_nobody_understands_are_looked_at(
    client: AsyncRedis, redis_bell: RedisBell, garbage: bytes
) -> None:
    async with redis_bell.listen("job_1", to_events=True) as ring:
        await settle(ring)
        await client.publish(news_channel("job_1"), garbage)
        assert await ring.wait(SOON)
        assert ring.take() is None


def test_a_waiter_who_is_too_slow_looks_for_itself() -> None:
    ring, news = Ring(), [Envelope(1, seq, EventType.TOKEN, 0.0, {"text": "x"}) for seq in range(1, NEWS_KEPT)]
    ring.strike(news)
    ring.strike(news[:1])
    assert len(ring.take() or ()) == NEWS_KEPT
    ring.strike(news)
    ring.strike(news)
    ring.strike(news)
    assert ring.take() is None


async def test_processes_hear_each_other(server: RedisServer, redis_bell: RedisBell) -> None:
    other_client = async_client(server.url)
    other = RedisBell(other_client)
    with sync_client(server.url) as sync:
        async with redis_bell.listen("job_1") as ring:
            assert await ring.wait(SOON)
            await other.ring(["job_1"])
            assert await ring.wait(SOON)
            Ringer(sync).ring(["job_0", "job_1"])
            assert await ring.wait(SOON)
    await other.aclose()
    await other_client.aclose()


async def test_all_who_wait_for_ends_share_a_channel_and_a_message(client: AsyncRedis, redis_bell: RedisBell) -> None:
    async with AsyncExitStack() as stack:
        rings = [await stack.enter_async_context(redis_bell.listen(f"job_{n}")) for n in range(200)]
        assert all(await asyncio.gather(*(ring.wait(SOON) for ring in rings)))
        (line,) = [line for line in await client.client_list() if int(line["sub"])]
        assert int(line["sub"]) == 2  # the anchor is one
        await client.config_resetstat()
        await redis_bell.ring([f"job_{n}" for n in range(100)])
        assert all(await asyncio.gather(*(ring.wait(SOON) for ring in rings[:100])))
        assert not any(await asyncio.gather(*(ring.wait(0) for ring in rings[100:])))


@pytest.mark.parametrize("garbage", [b"", b"!", b" ! !", b"\xff job_1"])
async def test_a_garbled_bell_is_no_end(client: AsyncRedis, redis_bell: RedisBell, garbage: bytes) -> None:
    async with redis_bell.listen("job_1") as ring:
        await settle(ring)
        await client.publish(BELL, garbage)
        await client.publish(BELL, b"job_1")
        assert await ring.wait(SOON)
        assert ring.take() is None
        assert not ring.has_ended


async def test_many_followers_cost_one_connection_and_no_thread(client: AsyncRedis, redis_bell: RedisBell) -> None:
    threads = threading.active_count()
    await client.config_resetstat()
    async with AsyncExitStack() as stack:
        rings = [
            await stack.enter_async_context(redis_bell.listen(f"job_{n % 400}", to_events=True)) for n in range(500)
        ]
        assert all(await asyncio.gather(*(ring.wait(SOON) for ring in rings)))
        assert threading.active_count() == threads
        listening = [line for line in await client.client_list() if int(line["sub"])]
        assert [int(line["sub"]) for line in listening] == [400 + 1]  # the anchor is one more
        assert (await client.info("commandstats"))["cmdstat_subscribe"]["calls"] <= 3
        await redis_bell.ring([f"job_{n}" for n in range(400)])
        assert all(await asyncio.gather(*(ring.wait(SOON) for ring in rings)))
    async with redis_bell.listen(
        "job_last", to_events=True
    ) as last:  # its confirmation comes after all that was told before
        assert await last.wait(SOON)
        (line,) = [line for line in await client.client_list() if int(line["sub"])]
        assert int(line["sub"]) == 2


async def test_a_job_that_nobody_follows_any_more_is_unsubscribed(client: AsyncRedis, redis_bell: RedisBell) -> None:
    async with redis_bell.listen("job_1", to_events=True) as ring:
        assert await ring.wait(SOON)
        assert await client.pubsub_numsub(news_channel("job_1")) == [(news_channel("job_1").encode(), 1)]
    async with redis_bell.listen("job_2", to_events=True) as ring:
        assert await ring.wait(SOON)
        assert await client.pubsub_numsub(news_channel("job_1")) == [(news_channel("job_1").encode(), 0)]


async def test_who_leaves_before_the_confirmation_leaves_nothing_behind(redis_bell: RedisBell) -> None:
    async with redis_bell.listen("first", to_events=True) as ring:
        assert await ring.wait(SOON)
    for number in range(40):
        async with redis_bell.listen(f"job_{number}", to_events=True):
            for _ in range(3):  # it is told to Redis, whose answer is not here yet
                await asyncio.sleep(0)
    async with redis_bell.listen("last", to_events=True) as ring:
        assert await ring.wait(SOON)
        heard = [redis_bell._subscription.hears(news_channel(f"job_{number}")) for number in range(40)]  # noqa: SLF001 - nobody else knows
    assert not any(heard)


async def test_a_dead_redis_is_silence_and_its_return_rings_everybody(tmp_path: Path) -> None:
    with run_redis(tmp_path) as server:
        client = async_client(server.url)
        bell = RedisBell(client)
        async with bell.listen("job_1") as first, bell.listen("job_2") as second:
            await settle(first, second)
            server.kill()
            with pytest.raises(RedisFaultError):
                await bell.ring(["job_1"])
            assert not await first.wait(NEVER)
            async with bell.listen("job_3") as third:
                assert not await third.wait(NEVER)
                server.start()
                for ring in (first, second, third):
                    assert await ring.wait(SOON)
            await bell.ring(["job_2"])
            assert await second.wait(SOON)
        await bell.aclose()
        await client.aclose()


async def test_a_connection_that_died_in_silence_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "PING_SECONDS", 0.05)
    monkeypatch.setattr(subscription, "SILENCE_SECONDS", 1.0)
    with run_redis(tmp_path) as server:
        client = async_client(server.url)
        bell = RedisBell(client)
        async with bell.listen("job_1") as ring:
            await settle(ring)
            assert not await ring.wait(1.2)  # pings and their answers keep it: no new confirmation
            server.pause()
            while bell._subscription.hears(BELL):  # noqa: ASYNC110, SLF001 - nobody is told that it is given up
                await asyncio.sleep(0.01)
            server.resume()
            assert await ring.wait(SOON)
        await bell.aclose()
        await client.aclose()


async def test_a_bell_that_is_closed_at_any_moment_leaves_nothing_running(client: AsyncRedis) -> None:
    before = asyncio.all_tasks()
    for turns in range(30):
        bell = RedisBell(client)
        async with bell.listen("job_1"):
            for _ in range(turns):
                await asyncio.sleep(0)
            await bell.aclose()
        assert asyncio.all_tasks() == before

    async def nobody_listens() -> bool:
        return not any(int(line["sub"]) for line in await client.client_list())

    await eventually(nobody_listens)
