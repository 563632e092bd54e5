"""Hints are what stock Celery would have sent, never more than fit their queue, and no risk to their sender."""

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
from celery.contrib.testing.worker import start_worker

from schemas.errors import RedisFaultError
from storage import hints as hints_module
from storage import redis as redis_module
from storage.hints import AsyncHints, Hints, HintTemplate
from storage.redis import AsyncRedis, SyncRedis, async_client, sync_client
from tests.services import RedisServer, run_redis

TASK = "jobs.run"
QUEUE = "text.a.cpu0"
SUSPECTS = {"suspects": True}


@pytest.fixture
def client(redis_url: str) -> Iterator[SyncRedis]:
    with sync_client(redis_url) as client:
        yield client


@pytest.fixture
def hints(client: SyncRedis) -> Hints:
    return Hints(client, TASK)


@pytest.fixture
async def async_redis(redis_url: str) -> AsyncIterator[AsyncRedis]:
    client = async_client(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def async_hints(async_redis: AsyncRedis) -> AsyncHints:
    return AsyncHints(async_redis, TASK)


def celery_app(url: str) -> celery.Celery:
    app = celery.Celery("stock", broker=url, set_as_current=False)
    app.conf.update(accept_content=["json"], task_serializer="json", task_ignore_result=True)
    app.conf.task_default_queue = QUEUE
    return app


def shape(value: Any) -> Any:
    """A message without its values: nested keys and the types of what they lead to."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return "null" if value is None else type(value).__name__


def waiting(client: SyncRedis, queue: str = QUEUE) -> list[dict[str, Any]]:
    """The hints on a queue, the oldest first."""
    lines: Any = client.lrange(queue, 0, -1)
    return [json.loads(line) for line in reversed(lines)]


def body_of(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))


def test_a_hint_has_the_shape_of_celerys_own_message(redis_url: str, client: SyncRedis, hints: Hints) -> None:
    app = celery_app(redis_url)

    @app.task(name=TASK, shared=False)
    def run(*args: Any) -> None:
        """Never run: only its message is looked at."""

    run.apply_async(args=[QUEUE, SUSPECTS], queue=QUEUE, ignore_result=True)
    app.close()
    hints.send(QUEUE, width=8, args=[SUSPECTS])
    theirs, ours = waiting(client)
    assert shape(ours) == shape(theirs)
    assert body_of(ours) == body_of(theirs)
    varying = {"id", "root_id", "origin", "argsrepr"}
    assert {k: v for k, v in ours["headers"].items() if k not in varying} == {
        k: v for k, v in theirs["headers"].items() if k not in varying
    }
    assert ours["properties"]["delivery_info"] == theirs["properties"]["delivery_info"]


def test_a_stock_worker_runs_a_hint(redis_url: str, client: SyncRedis, hints: Hints) -> None:
    app = celery_app(redis_url)
    got: list[tuple[Any, ...]] = []
    both = threading.Event()

    @app.task(name=TASK, shared=False, bind=True)
    def run(task: Any, *args: Any) -> None:
        got.append((task.request.id, task.request.delivery_info["routing_key"], *args))
        if len(got) == 2:
            both.set()

    hints.send(QUEUE, width=8, args=[SUSPECTS])
    hints.send(QUEUE, width=8)
    ids = [message["headers"]["id"] for message in waiting(client)]
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="WARNING"):
        assert both.wait(60)
    assert got == [(ids[0], QUEUE, QUEUE, SUSPECTS), (ids[1], QUEUE, QUEUE)]
    assert not client.llen(QUEUE)


def test_each_message_has_an_id_of_its_own() -> None:
    template = HintTemplate(TASK, QUEUE)
    messages = [json.loads(template.render()) for _ in range(100)]
    for path in (("headers", "id"), ("properties", "delivery_tag"), ("properties", "correlation_id")):
        assert len({message[path[0]][path[1]] for message in messages}) == 100


def test_a_queue_keeps_its_oldest_hints_up_to_its_width(client: SyncRedis, hints: Hints) -> None:
    hints.send(QUEUE, width=3, count=2, args=["first"])
    hints.send(QUEUE, width=3, count=5, args=["second"])
    assert [body_of(message)[0][1] for message in waiting(client)] == ["first", "first", "second"]
    hints.send(QUEUE, width=2, args=["third"])
    assert [body_of(message)[0][1] for message in waiting(client)] == ["first", "first"]
    hints.send("another", width=4, count=0)
    assert hints.depths([QUEUE, "another"]) == {QUEUE: 2, "another": 0}


def test_depths_are_of_each_queue(hints: Hints) -> None:
    hints.send("q1", width=10, count=4)
    hints.send("q2", width=10)
    assert hints.depths(["q1", "q2", "q3"]) == {"q1": 4, "q2": 1, "q3": 0}
    assert hints.depths([]) == {}


async def test_hints_of_one_moment_share_a_round_trip(client: SyncRedis, async_hints: AsyncHints) -> None:
    client.config_resetstat()
    for number in range(60):
        async_hints.send(f"q{number % 3}", width=6)
    await async_hints.flush()
    assert await async_hints.depths(["q0", "q1", "q2"]) == {"q0": 6, "q1": 6, "q2": 6}
    calls: Any = client.info("commandstats")
    assert calls["cmdstat_lpush"]["calls"] == 3
    assert calls["cmdstat_ltrim"]["calls"] == 3
    assert async_hints.dropped == 0


@pytest.mark.parametrize(("slots", "jobs", "told"), [(64, 64, 1), (64, 65, 2), (8, 20, 3), (1, 2, 2), (1, 9, 2)])
async def test_of_one_moment_there_are_as_many_as_workers_are_needed(
    async_hints: AsyncHints, slots: int, jobs: int, told: int
) -> None:
    for _ in range(jobs):
        async_hints.send(QUEUE, width=2 * slots)
    await async_hints.flush()
    assert await async_hints.depths([QUEUE]) == {QUEUE: told}


async def test_both_senders_say_the_same(client: SyncRedis, hints: Hints, async_hints: AsyncHints) -> None:
    hints.send(QUEUE, width=8)
    async_hints.send(QUEUE, width=8)
    await async_hints.flush()
    first, second = waiting(client)
    assert shape(first) == shape(second)
    assert body_of(first) == body_of(second)


async def test_hints_handed_over_while_others_are_sent_follow_them(client: SyncRedis, async_hints: AsyncHints) -> None:
    for _ in range(20):
        async_hints.send(QUEUE, width=2)
        await asyncio.sleep(0)
    await async_hints.flush()
    assert len(waiting(client)) == 2


@pytest.fixture
def sick_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A Redis that accepts connections and answers nothing, asked by people who wait a fifth of a second."""
    monkeypatch.setattr(redis_module, "ANSWER_SECONDS", 0.2)
    with run_redis(tmp_path) as server:
        server.pause()
        yield server
        server.resume()


async def test_a_sick_redis_costs_hints_and_nothing_else(
    sick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "SICK_SECONDS", 3600.0)
    client = async_client(sick_redis.url)
    hints = AsyncHints(client, TASK)
    hints.send(QUEUE, width=4)
    await asyncio.sleep(0)  # under way, and stuck
    for _ in range(10):
        hints.send(QUEUE, width=4)
    with monkeypatch.context() as impatient:
        impatient.setattr(redis_module, "DEADLINE_SECONDS", 0.2)
        await hints.flush()
    assert hints.dropped == 5  # the one under way and as many as the queue is wide
    hints.send(QUEUE, width=4)
    await hints.flush()
    assert hints.dropped == 6  # not even tried
    sick_redis.resume()
    hints._sick_until = 0.0  # noqa: SLF001 - that hour is over
    hints.send(QUEUE, width=4)
    await hints.flush()
    assert hints.dropped == 6
    # The first may have arrived after all, when the server woke up; a hint too many is no harm.
    assert (await hints.depths([QUEUE]))[QUEUE] in (1, 2)
    await client.aclose()


def test_a_sick_redis_is_a_fault_for_those_who_wait_for_it(sick_redis: RedisServer) -> None:
    with sync_client(sick_redis.url) as client:
        hints = Hints(client, TASK)
        with pytest.raises(RedisFaultError):
            hints.send(QUEUE, width=4)
        with pytest.raises(RedisFaultError):
            hints.depths([QUEUE])
