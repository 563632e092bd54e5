"""GET /v1/jobs/{id}/events: the log while there is one, the end from the row, whatever Redis does."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from schemas.base import JsonObject
from schemas.events import EventType, Token, ToolCallPiece
from schemas.jobs import Status
from stoker.client.documents import Event as ClientEvent
from stoker.client.transcript import Answer, ToolCall, Transcript
from storage.bell import MemoryBell, RedisBell
from storage.database import Database
from storage.event_log.streams import RedisEventLog
from tasks.event_writer import EventWriter
from tests.api import Desk, count_by_job, memory_services, open_desk

STARTED: tuple[EventType, JsonObject] = (EventType.STARTED, {})
HELLO = (EventType.TOKEN, {"text": "hel"}), (EventType.TOKEN, {"text": "lo"})
PATIENCE_SECONDS = 60.0
FINISHED = (EventType.FINISHED, {"status": "succeeded", "error": None})


@dataclass
class Event:
    """One event as it came over the wire."""

    id: str
    type: str
    data: JsonObject


def parse(text: str) -> list[Event]:
    """Read a whole stream as a browser would."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            events.append(Event(fields["id"], fields["event"], json.loads(fields["data"])))
    return events


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.005)


async def listen(desk: Desk, job_id: str, headers: dict[str, str] | None = None, query: str = "") -> list[Event]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await desk.client.get(f"/v1/jobs/{job_id}/events{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text.startswith("retry: 1000\n\n")
    return parse(answer.text)


async def told(desk: Desk) -> str:
    """A job that has ended with its whole story in the log."""
    job_id = await desk.submit()
    worker = desk.worker()
    job = worker.claim()
    await worker.say(job, STARTED, *HELLO)
    await worker.finish(job, output={"text": "hello"})
    await worker.say(job, FINISHED, begin=4)
    return job_id


async def test_an_ended_job_is_told_from_its_log(desk: Desk) -> None:
    events = await listen(desk, await told(desk))
    assert [(event.id, event.type) for event in events] == [
        ("1-1", "started"),
        ("1-2", "token"),
        ("1-3", "token"),
        ("1-4", "finished"),
    ]
    assert events[1].data | {"at": 0} == {"attempt": 1, "seq": 2, "type": "token", "at": 0, "data": {"text": "hel"}}


async def test_a_reader_resumes_after_the_last_event_that_it_saw(desk: Desk) -> None:
    job_id = await told(desk)
    assert [event.id for event in await listen(desk, job_id, {"Last-Event-ID": "1-2"})] == ["1-3", "1-4"]
    assert [event.id for event in await listen(desk, job_id, query="?after=1-3")] == ["1-4"]
    assert len(await listen(desk, job_id, {"Last-Event-ID": "nonsense"})) == 4


async def test_who_has_seen_the_end_is_told_not_to_come_back(desk: Desk) -> None:
    job_id = await told(desk)
    answer = await desk.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "1-4"})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_events_come_as_they_happen(desk: Desk) -> None:
    job_id = await desk.submit()
    listening = asyncio.create_task(listen(desk, job_id))
    worker = desk.worker()
    job = worker.claim()
    for number, event in enumerate((STARTED, *HELLO), start=1):
        await worker.say(job, event, begin=number)
    assert not listening.done()
    await worker.finish(job)
    await worker.say(job, FINISHED, begin=4)
    assert [event.type for event in await listening] == ["started", "token", "token", "finished"]


async def test_who_hears_of_everything_reads_the_log_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = count_by_job(monkeypatch, desk.events, "read")
    job_id = await desk.submit()
    listening = asyncio.create_task(listen(desk, job_id))
    await until(lambda: looks[job_id] == 1)
    worker = desk.worker()
    job = worker.claim()
    await worker.say(job, STARTED)
    for number in range(50):
        await worker.say(job, (EventType.TOKEN, {"text": f"{number} "}), begin=number + 2)
        await asyncio.sleep(0)
    await worker.say(job, FINISHED, begin=52)
    assert len(await listening) == 52
    assert looks[job_id] == 1


async def test_what_the_bell_did_not_say_is_looked_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = count_by_job(monkeypatch, desk.events, "read")
    job_id = await desk.submit()
    listening = asyncio.create_task(listen(desk, job_id))
    await until(lambda: looks[job_id] == 1)
    worker = desk.worker()
    job = worker.claim()
    await worker.say(job, STARTED)
    with monkeypatch.context() as deaf:
        deaf.setattr(MemoryBell, "tell", lambda *_: None)
        await worker.say(job, *HELLO, begin=2)
    await worker.say(job, (EventType.TOKEN, {"text": "!"}), FINISHED, begin=4)
    assert [event.id for event in await listening] == ["1-1", "1-2", "1-3", "1-4", "1-5"]


async def test_a_silent_stream_is_kept_alive(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer_api.events.HEARTBEAT_SECONDS", 0.02)
    job_id = await desk.submit()
    beats = count_by_job(monkeypatch, desk.app.state.api.watch, "ask")
    listening = asyncio.create_task(desk.client.get(f"/v1/jobs/{job_id}/events"))
    await until(lambda: beats[job_id] > 3)
    await desk.client.post(f"/v1/jobs/{job_id}/cancel")
    text = (await listening).text
    assert text.count(": heartbeat\n\n") > 1
    assert [event.type for event in parse(text)] == ["finished"]


async def test_last_words_that_come_after_the_row_are_not_lost(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer_api.events.LAST_WORDS_SECONDS", PATIENCE_SECONDS)
    job_id = await desk.submit()
    worker = desk.worker()
    job = worker.claim()
    await worker.say(job, STARTED)
    listening = asyncio.create_task(listen(desk, job_id))
    await worker.finish(job)
    await asyncio.sleep(0.1)
    await worker.say(job, *HELLO, FINISHED, begin=2)
    assert [event.type for event in await listening] == ["started", "token", "token", "finished"]


async def test_a_job_that_never_ran_ends_from_its_row(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = count_by_job(monkeypatch, desk.events, "read")
    job_id = await desk.submit()
    listening = asyncio.create_task(listen(desk, job_id))
    await until(lambda: looks[job_id] == 1)
    await desk.client.post(f"/v1/jobs/{job_id}/cancel")
    [event] = await listening
    assert (event.id, event.type, event.data["data"]) == (
        "0-999999999",
        "finished",
        {"status": "canceled", "error": None},
    )


@pytest.fixture
def no_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for none after a job's end."""
    monkeypatch.setattr("producer_api.events.LAST_WORDS_SECONDS", 0.0)


@pytest.mark.usefixtures("no_last_words")
async def test_a_lost_log_does_not_lose_the_end(desk: Desk) -> None:
    job_id = await desk.submit()
    worker = desk.worker()
    job = worker.claim()
    await worker.say(job, STARTED, *HELLO)
    error = {"type": "job_error", "code": "timeout", "message": "Too long.", "retryable": False}
    await worker.finish(job, Status.FAILED, error=error)
    await desk.events.erase([job_id])
    [event] = await listen(desk, job_id, {"Last-Event-ID": "1-3"})
    assert (event.id, event.data["data"]) == ("1-999999999", {"status": "failed", "error": error})


async def test_a_new_attempt_begins_with_restarted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = count_by_job(monkeypatch, desk.events, "read")
    job_id = await desk.submit()
    worker = desk.worker()
    job = worker.claim()
    await worker.say(job, STARTED, *HELLO)
    listening = asyncio.create_task(listen(desk, job_id, {"Last-Event-ID": "1-3"}))
    await until(lambda: looks[job_id] == 1)
    lost = desk.database.transact(lambda c: c.exec_driver_sql("UPDATE jobs SET status='queued', owner=NULL"))
    assert lost.rowcount == 1
    again = worker.claim()
    await worker.say(again, (EventType.RESTARTED, {}), HELLO[0])
    await worker.finish(again)
    await worker.say(again, FINISHED, begin=3)
    assert [(event.id, event.type) for event in await listening] == [
        ("2-1", "restarted"),
        ("2-2", "token"),
        ("2-3", "finished"),
    ]


async def tell_all(desk: Desk) -> tuple[str, Transcript]:
    """A job with two answers and two calls in Hangul and emoji, told by the worker's own pen; it has ended."""
    job_id = await desk.submit()
    worker, writer, transcript = desk.worker(), EventWriter(desk.events), Transcript()
    job = worker.claim()
    story = writer.open(job_id, job.attempt)
    story.say(EventType.STARTED, {})
    for number, letter in enumerate("안녕 👩‍👩‍👧 한글 🇰🇷"):
        story.say_token(Token(letter, number % 2))
        if number % 3 == 0:
            await writer.flush(PATIENCE_SECONDS)
    for index in range(2):
        story.say_tool_call(ToolCallPiece(index, '{"도시": ', f"call_{index}", "날씨", choice=1))
        await writer.flush(PATIENCE_SECONDS)
        story.say_tool_call(ToolCallPiece(index, '"서울 🌧"}', choice=1))
    await worker.finish(job)
    story.say(*FINISHED, urgent=True)
    await writer.flush(PATIENCE_SECONDS)
    for event in await listen(desk, job_id):
        transcript.add(as_client_sees(event))
    return job_id, transcript


def as_client_sees(event: Event) -> ClientEvent:
    attempt, _, seq = event.id.partition("-")
    return ClientEvent(int(attempt), int(seq), event.type, 0.0, event.data["data"])


async def test_choices_and_calls_arrive_whole_and_can_be_resumed_anywhere(desk: Desk) -> None:
    job_id, whole = await tell_all(desk)
    assert whole.choices == [
        Answer("안녕 👩‍👩‍👧 한글 🇰🇷"[::2]),
        Answer(
            "안녕 👩‍👩‍👧 한글 🇰🇷"[1::2],
            [ToolCall(f"call_{index}", "날씨", '{"도시": "서울 🌧"}') for index in range(2)],
        ),
    ]
    events = await listen(desk, job_id)
    for seen in range(1, len(events)):
        transcript, rest = Transcript(), await listen(desk, job_id, {"Last-Event-ID": events[seen - 1].id})
        for event in (*events[:seen], *rest):
            transcript.add(as_client_sees(event))
        assert transcript.choices == whole.choices
        assert len(rest) == len(events) - seen


@pytest.mark.usefixtures("no_last_words")
async def test_a_reader_of_calls_whose_log_was_lost_hears_the_end(desk: Desk) -> None:
    job_id, _ = await tell_all(desk)
    await desk.events.erase([job_id])
    for position in ("1-3", None):
        [event] = await listen(desk, job_id, {"Last-Event-ID": position} if position else None)
        assert event.type == "finished"
        again = await desk.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": event.id})
        assert again.status_code == 204, "a browser comes back for ever"


@pytest.fixture
async def deaf_desk(api_database: Database) -> AsyncIterator[Desk]:
    """An API whose Redis is not there at all."""
    services = memory_services(api_database)
    object.__setattr__(services, "events", RedisEventLog(services.redis))
    object.__setattr__(services, "bell", RedisBell(services.redis))
    async with open_desk(services) as opened:
        yield opened


async def test_without_redis_jobs_are_accepted_canceled_waited_for_and_told(
    deaf_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = count_by_job(monkeypatch, deaf_desk.events, "read")
    first, second = await deaf_desk.submit(), await deaf_desk.submit()
    listening = asyncio.create_task(listen(deaf_desk, first))
    waiting = asyncio.create_task(deaf_desk.client.get(f"/v1/jobs/{second}?wait=50"))
    await until(lambda: looks[first] == 1)
    for job_id in (first, second):
        assert (await deaf_desk.client.post(f"/v1/jobs/{job_id}/cancel")).json()["status"] == "canceled"
    [event] = await listening
    assert (event.type, event.data["data"]["status"]) == ("finished", "canceled")
    assert (await waiting).json()["status"] == "canceled"
    assert (await deaf_desk.client.delete(f"/v1/jobs/{first}")).status_code == 204


async def test_a_stopping_process_lets_its_listeners_go(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, asked = (
        count_by_job(monkeypatch, owner, name)
        for owner, name in ((desk.events, "read"), (desk.app.state.api.watch, "ask"))
    )
    job_id = await desk.submit()
    listening = asyncio.create_task(listen(desk, job_id))
    waiting = asyncio.create_task(desk.client.get(f"/v1/jobs/{job_id}?wait=50"))
    await until(lambda: looks[job_id] == 1 and asked[job_id] > 0)
    desk.app.state.api.watch.close()
    assert await listening == []
    assert (await waiting).json()["status"] == "queued"
