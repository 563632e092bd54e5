"""What every event log does, whoever reads it from wherever."""

from collections.abc import AsyncIterator

import pytest

from schemas.events import Envelope, EventType
from storage.bell import NEWS_BYTES, Bell, MemoryBell, RedisBell
from storage.event_log.memory import MemoryEventLog
from storage.event_log.port import (
    ENDED_SECONDS,
    ENTRIES_KEPT,
    LATEST_SECONDS,
    LATEST_TYPES,
    LONGEST_SECONDS,
    SNAPSHOT_ENTRIES,
    EventLog,
)
from storage.event_log.streams import RedisEventLog, erase_events
from storage.redis import AsyncRedis, async_client, sync_client

JOB = "job_1"
SOON = 60.0  # far more than a ring takes; nothing here waits for it in vain


@pytest.fixture(params=["memory", "redis"])
async def log_and_bell(request: pytest.FixtureRequest) -> AsyncIterator[tuple[EventLog, Bell]]:
    if request.param == "memory":
        quiet = MemoryBell()
        yield MemoryEventLog(quiet), quiet
        return
    client = async_client(request.getfixturevalue("redis_url"))
    bell = RedisBell(client)
    yield RedisEventLog(client), bell
    await bell.aclose()
    await client.aclose()


@pytest.fixture
def log(log_and_bell: tuple[EventLog, Bell]) -> EventLog:
    return log_and_bell[0]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncRedis]:
    client = async_client(redis_url)
    yield client
    await client.aclose()


def event(attempt: int, seq: int, event_type: EventType = EventType.TOKEN) -> Envelope:
    return Envelope(attempt, seq, event_type, 1_700_000_000.25 + seq, {"text": f"{attempt}-{seq} 안녕"})


def attempt_of(attempt: int, last: int, *, snapshots: bool = True) -> list[Envelope]:
    """A whole attempt as a worker writes it: a beginning, tokens, a snapshot now and then."""

    def type_of(seq: int) -> EventType:
        if seq == 1:
            return EventType.STARTED if attempt == 1 else EventType.RESTARTED
        return EventType.SNAPSHOT if snapshots and seq % SNAPSHOT_ENTRIES == 0 else EventType.TOKEN

    return [event(attempt, seq, type_of(seq)) for seq in range(1, last + 1)]


def ids(envelopes: list[Envelope]) -> list[str]:
    return [envelope.id for envelope in envelopes]


async def test_a_reader_gets_everything_in_order(log: EventLog) -> None:
    events = attempt_of(1, 5)
    await log.append(JOB, events[:2])
    await log.append(JOB, events[2:])
    assert await log.read(JOB, None) == events


async def test_a_reader_resumes_after_its_position(log: EventLog) -> None:
    await log.append(JOB, attempt_of(1, 5))
    assert ids(await log.read(JOB, "1-3")) == ["1-4", "1-5"]
    assert await log.read(JOB, "1-5") == []


async def test_a_job_that_said_nothing_has_no_events(log: EventLog) -> None:
    assert await log.read(JOB, None) == []
    assert await log.read(JOB, "1-3") == []
    assert await log.latest(JOB, EventType.PROGRESS) is None
    await log.append(JOB, [])
    await log.append_many([])
    assert await log.read(JOB, None) == []


@pytest.mark.parametrize(
    "after", ["", "x", "1", "1-", "-1", "1-2-3", "1-x", "\uff11-\uff12", "1-2\n", "+", "$", "0-0", "1-" + "9" * 30]
)
async def test_a_garbled_position_is_the_start(log: EventLog, after: str) -> None:
    await log.append(JOB, attempt_of(1, 3))
    assert ids(await log.read(JOB, after)) == ["1-1", "1-2", "1-3"]


async def test_a_position_that_is_not_reached_yet_has_nothing_after_it(log: EventLog) -> None:
    await log.append(JOB, attempt_of(1, 3))
    assert await log.read(JOB, "1-7") == []
    assert await log.read(JOB, "9" * 18 + "-" + "9" * 18) == []


async def test_appending_twice_is_harmless(log: EventLog) -> None:
    events = attempt_of(1, 4)
    await log.append(JOB, events[:3])
    await log.append(JOB, events[1:])
    await log.append(JOB, events)
    assert await log.read(JOB, None) == events


async def test_a_new_attempt_voids_the_old_one_for_every_reader(log: EventLog) -> None:
    await log.append(JOB, attempt_of(1, 5))
    second = attempt_of(2, 3)
    await log.append(JOB, second)
    for after in (None, "1-2", "1-5", "1-99"):
        assert await log.read(JOB, after) == second
    assert second[0].type is EventType.RESTARTED
    assert await log.read(JOB, "2-1") == second[1:]


async def test_a_stale_attempt_cannot_write_any_more(log: EventLog) -> None:
    await log.append(JOB, attempt_of(1, 2))
    second = attempt_of(2, 2)
    await log.append(JOB, second)
    await log.append(JOB, [event(1, 3), event(1, 4, EventType.FINISHED)])
    assert await log.read(JOB, None) == second
    assert await log.read(JOB, "1-2") == second
    await log.append(JOB, [event(2, 3)])
    assert ids(await log.read(JOB, "2-2")) == ["2-3"]


async def test_a_stale_writer_does_not_hold_up_the_others_of_its_batch(log: EventLog) -> None:
    await log.append(JOB, attempt_of(2, 1))
    await log.append_many([(JOB, [event(1, 9)]), ("job_2", attempt_of(1, 2))])
    assert ids(await log.read(JOB, None)) == ["2-1"]
    assert ids(await log.read("job_2", None)) == ["1-1", "1-2"]


async def test_a_reader_whose_position_was_trimmed_gets_the_newest_snapshot_and_the_rest(log: EventLog) -> None:
    last = ENTRIES_KEPT + 600
    events = attempt_of(1, last)
    await log.append(JOB, events)
    newest = last // SNAPSHOT_ENTRIES * SNAPSHOT_ENTRIES
    for after in (None, "1-1", "1-599"):
        read = await log.read(JOB, after)
        assert read[0].type is EventType.SNAPSHOT
        assert read == events[newest - 1 :]
    assert await log.read(JOB, "1-600") == events[600:]
    assert await log.read(JOB, f"1-{last - 2}") == events[-2:]


async def test_without_a_snapshot_a_trimmed_reader_gets_what_there_is(log: EventLog) -> None:
    events = attempt_of(1, ENTRIES_KEPT + 10, snapshots=False)
    await log.append(JOB, events)
    assert await log.read(JOB, None) == events[10:]


async def test_events_lost_on_their_way_are_made_good_by_the_next_snapshot(log: EventLog) -> None:
    events = attempt_of(1, SNAPSHOT_ENTRIES + 3)
    lost = [envelope for envelope in events if not 20 <= envelope.seq < 30]
    await log.append(JOB, lost[:100])
    assert await log.read(JOB, None) == lost[:100]
    await log.append(JOB, lost[100:])
    for after in (None, "1-5", "1-19"):
        assert await log.read(JOB, after) == events[SNAPSHOT_ENTRIES - 1 :]
    assert await log.read(JOB, "1-29") == events[29:]


async def test_a_log_that_was_lost_begins_anew_with_a_snapshot_and_never_in_the_middle(log: EventLog) -> None:
    events = attempt_of(1, SNAPSHOT_ENTRIES + 3)
    await log.append_many([(JOB, events[:10]), ("job_2", attempt_of(1, 2))])
    await log.erase([JOB])
    assert (await log.append_many([(JOB, events[10:20]), ("job_2", [event(1, 3)])])).lost == {JOB}
    assert await log.read(JOB, "1-10") == []
    assert (await log.append_many([(JOB, events[20:])])).lost == {JOB}
    for after in (None, "1-10", "1-15"):
        assert await log.read(JOB, after) == events[SNAPSHOT_ENTRIES - 1 :]
    assert not (await log.append_many([(JOB, [event(1, SNAPSHOT_ENTRIES + 4)])])).lost
    await log.erase([JOB])
    assert not (await log.append_many([(JOB, attempt_of(2, 2))])).lost


async def test_a_new_attempt_that_was_trimmed_begins_with_its_own_snapshot(log: EventLog) -> None:
    await log.append(JOB, attempt_of(1, SNAPSHOT_ENTRIES))
    second = attempt_of(2, ENTRIES_KEPT + 1)
    await log.append(JOB, second)
    assert await log.read(JOB, "1-3") == second[ENTRIES_KEPT - 1 :]


async def test_each_job_has_a_log_of_its_own(log: EventLog) -> None:
    await log.append_many([("job_1", attempt_of(1, 2)), ("job_2", attempt_of(3, 1))])
    assert ids(await log.read("job_1", None)) == ["1-1", "1-2"]
    assert ids(await log.read("job_2", None)) == ["3-1"]


async def test_who_follows_a_job_hears_each_append(log_and_bell: tuple[EventLog, Bell]) -> None:
    log, bell = log_and_bell
    async with bell.listen("job_1", to_events=True) as first, bell.listen("job_2", to_events=True) as second:
        for ring in (first, second):
            assert await ring.wait(SOON)  # nothing is missed from here on
            assert ring.take() is None
        await log.append_many([("job_1", attempt_of(1, 3)), ("job_2", attempt_of(1, 1))])
        assert await first.wait(SOON)
        assert await second.wait(SOON)
        assert first.take() == attempt_of(1, 3)  # so that nobody need read who has read all before


async def test_who_waits_for_the_end_hears_only_of_that(log_and_bell: tuple[EventLog, Bell]) -> None:
    log, bell = log_and_bell
    async with bell.listen(JOB) as ring:
        assert await ring.wait(SOON)
        assert ring.take() is None
        await log.append_many([(JOB, attempt_of(1, 3)), ("job_2", [event(1, 1), event(1, 2, EventType.FINISHED)])])
        assert not await ring.wait(0.1)
        await log.append(JOB, [event(1, 4), event(1, 5, EventType.FINISHED)])
        assert await ring.wait(SOON)
        assert ring.has_ended
        assert ring.take() == []  # it has, so nobody need look


async def test_who_writes_learns_whom_somebody_follows(log_and_bell: tuple[EventLog, Bell]) -> None:
    log, bell = log_and_bell
    batches = [("job_1", attempt_of(1, 1)), ("job_2", [*attempt_of(1, 1), event(1, 2, EventType.FINISHED)])]
    async with bell.listen("job_1", to_events=True) as first, bell.listen("job_2") as second:
        for ring in (first, second):
            assert await ring.wait(SOON)
        assert (await log.append_many(batches)).followed == {"job_1"}
    assert not (await log.append_many([("job_3", attempt_of(1, 1))])).followed


async def test_news_too_long_to_be_told_must_be_looked_at(log_and_bell: tuple[EventLog, Bell]) -> None:
    log, bell = log_and_bell
    async with bell.listen(JOB, to_events=True) as ring:
        assert await ring.wait(SOON)
        await log.append(JOB, [Envelope(1, 1, EventType.PREVIEW, 0.0, {"base64": "x" * NEWS_BYTES})])
        assert await ring.wait(SOON)
        assert ring.take() is None
        assert ring.take() == []


@pytest.mark.parametrize("event_type", sorted(LATEST_TYPES))
async def test_the_latest_event_of_a_type_is_found_below_many_others(log: EventLog, event_type: EventType) -> None:
    await log.append(JOB, [*attempt_of(1, 2), event(1, 3, event_type), event(1, 4, event_type)])
    await log.append(JOB, [event(1, seq) for seq in range(5, ENTRIES_KEPT + 10)])
    assert await log.latest(JOB, event_type) == event(1, 4, event_type)


async def test_of_previews_only_the_newest_is_kept_and_no_reader_misses_anything_else(
    log_and_bell: tuple[EventLog, Bell],
) -> None:
    log, bell = log_and_bell
    events = [*attempt_of(1, 2), event(1, 3, EventType.PREVIEW), event(1, 4), event(1, 5, EventType.PREVIEW)]
    async with bell.listen(JOB, to_events=True) as ring:
        assert await ring.wait(SOON)
        ring.take()
        for one in events:
            await log.append(JOB, [one])
        heard: list[Envelope] = []
        while len(heard) < len(events):
            assert await ring.wait(SOON)
            heard += ring.take() or []
    assert heard == events  # whoever listens gets each
    assert await log.read(JOB, None) == [*events[:2], *events[3:]]
    assert await log.read(JOB, "1-2") == events[3:]
    await log.append(JOB, [event(1, 6), event(1, 7, EventType.PREVIEW), event(1, 8)])
    assert ids(await log.read(JOB, "1-2")) == ["1-4", "1-6", "1-7", "1-8"]
    await log.append(JOB, attempt_of(2, 1))
    assert ids(await log.read(JOB, "1-2")) == ["2-1"]


async def test_previews_that_were_replaced_take_no_room(client: AsyncRedis) -> None:
    log = RedisEventLog(client)
    large = [Envelope(1, seq, EventType.PREVIEW, 0.0, {"base64": "x" * 50_000}) for seq in range(2, 102)]
    await log.append(JOB, [*attempt_of(1, 1), *large])
    sizes = [await client.memory_usage(key) or 0 for key in await client.keys(f"*{JOB}*")]
    assert sum(sizes) < 100_000
    assert await log.read(JOB, None) == [*attempt_of(1, 1), large[-1]]


async def test_the_latest_progress_belongs_to_the_current_attempt(log: EventLog) -> None:
    await log.append(JOB, [*attempt_of(1, 2), event(1, 3, EventType.PROGRESS)])
    await log.append(JOB, attempt_of(2, 1))
    assert await log.latest(JOB, EventType.PROGRESS) is None
    await log.append(JOB, [event(1, 4, EventType.PROGRESS)])
    assert await log.latest(JOB, EventType.PROGRESS) is None
    await log.append(JOB, [event(2, 2, EventType.PROGRESS)])
    assert await log.latest(JOB, EventType.PROGRESS) == event(2, 2, EventType.PROGRESS)


async def test_jobs_are_erased_without_an_event_loop_as_well(client: AsyncRedis, redis_url: str) -> None:
    log = RedisEventLog(client)
    for job_id in ("job_1", "job_2"):
        await log.append(job_id, [*attempt_of(1, 2), event(1, 3, EventType.PROGRESS)])
    with sync_client(redis_url) as redis:
        erase_events(redis, ["job_1", "job_unknown"])
        erase_events(redis, [])
    assert await log.read("job_1", None) == []
    assert await log.latest("job_1", EventType.PROGRESS) is None
    assert len(await log.read("job_2", None)) == 3


async def test_erased_jobs_are_forgotten_and_others_kept(log: EventLog) -> None:
    for job_id in ("job_1", "job_2", "job_3"):
        await log.append(job_id, [*attempt_of(1, 2), event(1, 3, EventType.PROGRESS)])
    await log.erase(["job_1", "job_2", "job_unknown"])
    await log.erase([])
    assert await log.read("job_1", None) == []
    assert await log.latest("job_2", EventType.PROGRESS) is None
    assert len(await log.read("job_3", None)) == 3


async def test_memory_forgets_in_time() -> None:
    now = 0.0
    log = MemoryEventLog(clock=lambda: now)
    await log.append(JOB, [*attempt_of(1, 2), event(1, 3, EventType.PROGRESS)])
    now = LATEST_SECONDS
    assert await log.latest(JOB, EventType.PROGRESS) is None
    now = LONGEST_SECONDS - 1.0
    await log.append(JOB, [event(1, 4, EventType.FINISHED)])
    now += ENDED_SECONDS - 1
    assert len(await log.read(JOB, None)) == 4
    now += 1
    assert await log.read(JOB, None) == []


async def test_redis_forgets_in_time(client: AsyncRedis) -> None:
    log = RedisEventLog(client)

    async def seconds_left(kind: str) -> int:
        (key,) = await client.keys(f"*{kind}*")
        return int(await client.ttl(key))

    await log.append(JOB, [*attempt_of(1, 2), event(1, 3, EventType.PROGRESS)])
    assert ENDED_SECONDS < await seconds_left("events") <= LONGEST_SECONDS
    assert 0 < await seconds_left("latest") <= LATEST_SECONDS
    await log.append(JOB, [event(1, 4, EventType.FINISHED)])
    assert 0 < await seconds_left("events") <= ENDED_SECONDS


async def test_a_log_that_redis_forgot_midway_is_not_kept_for_ever(client: AsyncRedis) -> None:
    log = RedisEventLog(client)
    events = attempt_of(1, SNAPSHOT_ENTRIES + 1)
    await log.append(JOB, events[:10])
    await client.flushall()
    await log.append(JOB, events[10:])
    (key,) = await client.keys("*")
    assert 0 < await client.ttl(key) <= LONGEST_SECONDS


async def test_redis_hears_of_many_jobs_in_one_round_trip(client: AsyncRedis) -> None:
    async def reads() -> int:
        return int((await client.info("stats"))["total_reads_processed"])

    log = RedisEventLog(client)
    await log.append(JOB, attempt_of(1, 1))  # connects
    before = await reads()
    await log.append_many([(f"job_{number}", attempt_of(1, 2)) for number in range(10)])
    assert await reads() - before == 2  # ours, and the question itself


async def test_redis_keeps_no_more_than_it_should(client: AsyncRedis) -> None:
    await RedisEventLog(client).append(JOB, attempt_of(1, ENTRIES_KEPT + 1))
    (key,) = await client.keys("*")
    assert await client.xlen(key) == ENTRIES_KEPT
