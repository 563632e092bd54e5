"""What jobs say reaches the log in order, in few writes, and a sick Redis neither stops nor falsifies it."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from schemas.errors import RedisFaultError
from schemas.events import Envelope, EventType, Token
from storage.bell import MemoryBell
from storage.event_log.memory import MemoryEventLog
from storage.event_log.port import SNAPSHOT_ENTRIES, Appended, Batch
from tasks import event_writer
from tasks.event_writer import EventWriter
from tasks.story import Story

PATIENCE_SECONDS = 60.0


class SickLog(MemoryEventLog):
    """A log that counts its writes and fails while it is sick."""

    def __init__(self) -> None:
        self.bell = MemoryBell()
        super().__init__(self.bell)
        self.is_sick = False
        self.writes = 0

    async def append_many(self, batches: Sequence[Batch]) -> Appended:
        await asyncio.sleep(0)
        if self.is_sick:
            raise RedisFaultError
        self.writes += 1
        return await super().append_many(batches)


@pytest.fixture
def log() -> SickLog:
    return SickLog()


@pytest.fixture
def writer(log: SickLog) -> EventWriter:
    return EventWriter(log)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.001)


async def read(log: SickLog, writer: EventWriter, job_id: str = "job_1") -> list[Envelope]:
    await writer.flush(PATIENCE_SECONDS)
    return await log.read(job_id, None)


def begin(writer: EventWriter, job_id: str = "job_1") -> Story:
    story = writer.open(job_id, 1)
    story.say(EventType.STARTED, {})
    return story


def text_of(envelopes: Sequence[Envelope]) -> str:
    """What a reader has in the end: a snapshot stands for all before it."""
    text = ""
    for envelope in envelopes:
        if envelope.type is EventType.SNAPSHOT:
            text = envelope.data["text"]
        elif envelope.type is EventType.TOKEN:
            text += envelope.data["text"]
    return text


async def test_events_are_numbered_without_holes(log: SickLog, writer: EventWriter) -> None:
    story = begin(writer)
    story.say_token(Token("a"))
    story.say(EventType.PROGRESS, {"fraction": 0.5, "stage": "decode"})
    story.say(EventType.FINISHED, {"status": "succeeded"}, urgent=True)
    envelopes = await read(log, writer)
    assert [envelope.id for envelope in envelopes] == ["1-1", "1-2", "1-3", "1-4"]
    assert [envelope.type for envelope in envelopes] == ["started", "token", "progress", "finished"]


async def test_tokens_that_wait_are_written_as_one(log: SickLog, writer: EventWriter) -> None:
    story = begin(writer)
    story.say_token(Token("first"))
    await until(lambda: log.writes == 1)
    for number in range(10):
        story.say_token(Token(f" {number}"))
    envelopes = await read(log, writer)
    assert [envelope.data.get("text") for envelope in envelopes] == [None, "first", " 0 1 2 3 4 5 6 7 8 9"]
    assert log.writes == 2


async def test_the_first_token_and_the_end_do_not_wait(
    log: SickLog, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_writer, "COLLECT_SECONDS", 3600)
    story = begin(writer)
    story.say_token(Token("first"))
    await until(lambda: log.writes == 1)
    story.say_token(Token(" second"))
    story.say(EventType.FINISHED, {}, urgent=True)
    await until(lambda: log.writes == 2)
    assert [envelope.type for envelope in await log.read("job_1", None)] == ["started", "token", "token", "finished"]


async def test_an_end_that_meets_a_write_does_not_wait_behind_it(
    log: SickLog, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_writer, "COLLECT_SECONDS", 3600)
    story = begin(writer)
    story.say_token(Token("first"))
    await asyncio.sleep(0)  # its write has begun
    story.say(EventType.FINISHED, {}, urgent=True)
    assert log.writes == 0
    await until(lambda: log.writes == 2)


async def test_what_comes_between_is_written_after_a_moment(log: SickLog, writer: EventWriter) -> None:
    begin(writer)
    assert await log.read("job_1", None) == []
    await until(lambda: log.writes == 1)
    assert [envelope.type for envelope in await log.read("job_1", None)] == ["started"]


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let those whom nobody follows wait for ever."""
    monkeypatch.setattr(event_writer, "UNHEARD_SECONDS", 3600)


@pytest.mark.usefixtures("patience")
async def test_what_nobody_follows_is_collected_for_longer(log: SickLog, writer: EventWriter) -> None:
    async with log.bell.listen("job_2", to_events=True):
        unheard, followed = begin(writer), begin(writer, "job_2")
        await until(lambda: log.writes == 1)  # only now it is known who is followed
        unheard.say(EventType.LOG, {"message": "x"})
        followed.say(EventType.LOG, {"message": "x"})
        await until(lambda: log.writes == 2)
    assert len(await log.read("job_2", None)) == 2
    assert len(await log.read("job_1", None)) == 1
    assert len(await read(log, writer)) == 2


@pytest.mark.usefixtures("patience")
async def test_what_nobody_follows_has_its_first_words_and_its_end_at_once(log: SickLog, writer: EventWriter) -> None:
    story = begin(writer)
    await until(lambda: log.writes == 1)
    story.say_token(Token("first"))
    await until(lambda: log.writes == 2)
    story.say_token(Token(" second"))
    story.say(EventType.FINISHED, {}, urgent=True)
    await until(lambda: log.writes == 3)
    assert [one.type for one in await log.read("job_1", None)] == ["started", "token", "token", "finished"]


async def test_what_nobody_follows_is_written_after_a_while(log: SickLog, writer: EventWriter) -> None:
    story = begin(writer)
    await until(lambda: log.writes == 1)
    story.say(EventType.LOG, {"message": "x"})
    await until(lambda: log.writes == 2)
    assert [envelope.type for envelope in await log.read("job_1", None)] == ["started", "log"]


@pytest.mark.usefixtures("patience")
async def test_what_an_engine_has_collected_is_not_collected_again(log: SickLog, writer: EventWriter) -> None:
    story = begin(writer)
    news: list[bool] = []
    story.audience.on_change = lambda: news.append(story.audience.is_there)
    await until(lambda: log.writes == 1)
    story.say_token(Token("first"))
    await until(lambda: log.writes == 2)
    story.say_token(Token(" and many more"))
    await until(lambda: log.writes == 3)
    async with log.bell.listen("job_1", to_events=True):
        story.say_token(Token(" words"))
        await until(lambda: log.writes == 4)
    assert news == [False, True]


async def test_whoever_comes_late_is_written_for_from_the_next_write_on(
    log: SickLog, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = begin(writer)
    await until(lambda: log.writes == 1)
    async with log.bell.listen("job_1", to_events=True):
        story.say(EventType.LOG, {"message": "x"})
        await until(lambda: log.writes == 2)
        monkeypatch.setattr(event_writer, "UNHEARD_SECONDS", 3600)
        story.say(EventType.LOG, {"message": "x"})
        await until(lambda: log.writes == 3)
    assert [envelope.type for envelope in await log.read("job_1", None)] == ["started", "log", "log"]


async def test_many_jobs_share_a_write(log: SickLog, writer: EventWriter) -> None:
    for number in range(50):
        begin(writer, f"job_{number}").say_token(Token("x"))
    assert len(await read(log, writer, "job_49")) == 2
    assert log.writes <= 2


async def test_a_long_story_has_snapshots(log: SickLog, writer: EventWriter) -> None:
    story = begin(writer)
    for number in range(SNAPSHOT_ENTRIES + 100):
        story.say_token(Token(f"{number} "))
        story.say(EventType.LOG, {"message": "so that tokens stay apart"})
        if number % 50 == 0:
            await writer.flush(PATIENCE_SECONDS)
    envelopes = await read(log, writer)
    snapshots = [envelope for envelope in envelopes if envelope.type is EventType.SNAPSHOT]
    assert len(snapshots) >= 2
    whole = "".join(f"{number} " for number in range(SNAPSHOT_ENTRIES + 100))
    assert text_of(envelopes) == whole
    assert all(whole.startswith(snapshot.data["text"]) for snapshot in snapshots)


async def test_a_sick_redis_delays_events(log: SickLog, writer: EventWriter) -> None:
    log.is_sick = True
    story = begin(writer)
    story.say_token(Token("a"))
    await asyncio.sleep(0.01)
    story.say_token(Token("b"))
    log.is_sick = False
    envelopes = await read(log, writer)
    assert text_of(envelopes) == "ab"
    assert writer.dropped == 0


async def test_what_is_too_much_is_dropped_and_a_snapshot_takes_its_place(
    log: SickLog, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_writer, "UNSENT_LIMIT", 10)
    monkeypatch.setattr(event_writer, "FIRST_PAUSE_SECONDS", 0.001)
    story = begin(writer)
    story.say_token(Token("before "))
    await until(lambda: log.writes == 1)
    log.is_sick = True
    for number in range(20):
        story.say_token(Token(f"{number} "))
        story.say(EventType.LOG, {"message": "so that tokens stay apart"})
    await until(lambda: writer.dropped >= 10)
    log.is_sick = False
    story.say_token(Token("after"))
    story.say(EventType.FINISHED, {}, urgent=True)
    envelopes = await read(log, writer)
    assert text_of(envelopes) == "before " + "".join(f"{number} " for number in range(20)) + "after"
    assert envelopes[-1].type is EventType.FINISHED
    assert EventType.SNAPSHOT in [envelope.type for envelope in envelopes]


async def test_a_log_that_redis_lost_is_told_once_more(log: SickLog, writer: EventWriter) -> None:
    story = begin(writer)
    story.say_token(Token("before "))
    await writer.flush(PATIENCE_SECONDS)
    await log.erase(["job_1"])
    story.say_token(Token("meanwhile "))
    await writer.flush(PATIENCE_SECONDS)
    story.say_token(Token("after"))
    envelopes = await read(log, writer)
    assert text_of(envelopes) == "before meanwhile after"
    assert [envelope.type for envelope in envelopes] == ["snapshot", "token"]


async def test_a_story_that_is_over_is_not_told_again(log: SickLog, writer: EventWriter) -> None:
    story = begin(writer)
    await writer.flush(PATIENCE_SECONDS)
    await log.erase(["job_1"])
    story.say(EventType.FINISHED, {"status": "succeeded"}, urgent=True)
    assert await read(log, writer) == []


async def test_flushing_gives_up_in_time(log: SickLog, writer: EventWriter) -> None:
    log.is_sick = True
    begin(writer).say_token(Token("x"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await writer.flush(0.05)
    assert await log.read("job_1", None) == []
