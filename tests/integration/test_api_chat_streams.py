"""OpenAI's chat in streams: first and last words, lost workers, errors before and after the first byte."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from schemas.events import EventType
from schemas.jobs import Status
from storage.database import Database
from tests.api import Desk, count_by_job, eventually, memory_services, open_desk
from tests.chats import (
    CALL,
    FAILED,
    FINISHED,
    HELLO,
    QUEUE,
    STARTED,
    TOOL,
    USER,
    ask,
    claimed,
    openai_client,
    token,
    told,
    words,
)
from tests.words import text_models


@pytest.fixture
async def desk(api_database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    """An API whose doors are patient for 30 seconds."""
    services = memory_services(api_database, door_timeout_seconds=30)
    async with open_desk(replace(services, catalog=text_models(tmp_path))) as opened:
        yield opened


@pytest.fixture
def client(desk: Desk) -> openai.AsyncOpenAI:
    """The official client; it does not try again, so that every answer is seen."""
    return openai_client(desk)


async def test_a_stream(desk: Desk, client: openai.AsyncOpenAI) -> None:
    call = ask(client, stream=True, stream_options={"include_usage": True})
    chunks = await told(desk, call, token("hel"), token("lo"))
    assert [chunk.choices[0].delta.content for chunk in chunks[:-1]] == ["", "hel", "lo", None]
    assert (chunks[0].choices[0].delta.role, chunks[-2].choices[0].finish_reason) == ("assistant", "stop")
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 5)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_streams_headers_and_last_words(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer_api.events.LAST_WORDS_SECONDS", 0.0)
    body = {"model": "wordy", "messages": [USER], "stream": True}
    worker = desk.worker(QUEUE)
    asking = asyncio.ensure_future(desk.client.post("/v1/chat/completions", json=body))
    job = await claimed(desk, worker)
    await worker.finish(job, **HELLO)
    answer = await asking
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["x-accel-buffering"], answer.headers["cache-control"]) == ("no", "no-store")
    assert answer.headers["x-stoker-job-id"] == job.id
    assert "content-length" not in answer.headers
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"content":"hello"' in answer.text  # though the log had nothing
    assert "stream" not in (await desk.look(job.id))["input"]  # it is true where nothing is said


async def test_calls_in_a_stream_are_put_together_by_the_client(desk: Desk, client: openai.AsyncOpenAI) -> None:
    async def ask_and_gather() -> Any:
        async with client.chat.completions.stream(model="wordy", messages=[USER], tools=[TOOL]) as stream:
            return await stream.get_final_completion()

    worker = desk.worker(QUEUE)
    asking = asyncio.ensure_future(ask_and_gather())
    job = await claimed(desk, worker)
    pieces = [{"index": 0, "id": "c1", "name": "look"}, *({"index": 0, "arguments": one} for one in '{"at":"it"}')]
    await worker.say(job, STARTED, *((EventType.TOOL_CALL, piece) for piece in pieces))
    await worker.finish(job, output={"text": "", "finish_reason": "tool_calls", "tool_calls": [CALL]})
    await worker.say(job, FINISHED, begin=len(pieces) + 2)
    [choice] = (await asking).choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("c1", "look", '{"at":"it"}')


async def _has(calls: Counter[str], job_id: str, count: int = 1) -> bool:
    return calls[job_id] >= count


@pytest.mark.parametrize(("again", "text"), [("hello", "hello"), ("help", None)])
async def test_a_worker_that_dies_in_a_stream_is_continued_or_it_ends(
    desk: Desk, client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch, again: str, text: str | None
) -> None:
    worker, looks = desk.worker(QUEUE), count_by_job(monkeypatch, desk.events, "read")

    async def listen() -> list[Any]:
        return [chunk async for chunk in await ask(client, stream=True)]

    asking = asyncio.ensure_future(listen())
    job = await claimed(desk, worker)
    await eventually(lambda: _has(looks, job.id))
    await worker.say(job, STARTED, token("hell"))
    await asyncio.sleep(0.05)  # the stream has it: it waits for nothing else
    desk.database.transact(lambda c: c.exec_driver_sql("UPDATE jobs SET status='queued', owner=NULL"))
    second = worker.claim()
    await worker.say(second, (EventType.RESTARTED, {}), token(again[:3]), token(again[3:]))
    await worker.finish(second, output={"text": again, "finish_reason": "stop"})
    await worker.say(second, FINISHED, begin=4)
    if text is not None:
        assert words(await asking) == text
        return
    with pytest.raises(openai.APIError, match="the next one answered otherwise") as raised:
        await asking
    assert raised.value.code == "engine_failed"


async def test_a_job_that_fails_before_its_first_word_is_an_ordinary_error(desk: Desk) -> None:
    call = ask(openai_client(desk, max_retries=2), stream=True)
    with pytest.raises(openai.InternalServerError, match="So it was") as raised:
        await told(desk, call, status=Status.FAILED, error=FAILED)
    assert raised.value.response.headers["X-Stoker-Job-Id"].startswith("job_")
    assert desk.count_rows() == 1


async def test_a_job_that_fails_later_ends_the_stream_with_an_error(
    desk: Desk, client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer_api.door_streams.HOLD_SECONDS", 0.0)
    with pytest.raises(openai.APIError, match="So it was") as raised:
        await told(desk, ask(client, stream=True), token("hel"), status=Status.FAILED, error=FAILED)
    assert (raised.value.code, raised.value.type) == ("engine_failed", "api_error")


async def test_a_stream_that_waits_is_kept_alive(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer_api.door_streams.HOLD_SECONDS", 0.0)
    monkeypatch.setattr("producer_api.events.HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr("producer_api.events.LAST_WORDS_SECONDS", 0.0)
    beats = count_by_job(monkeypatch, desk.app.state.api.watch, "ask")
    body = {"model": "wordy", "messages": [USER], "stream": True}
    asking = asyncio.ensure_future(desk.client.post("/v1/chat/completions", json=body))
    worker = desk.worker(QUEUE)
    job = await claimed(desk, worker)
    await eventually(lambda: _has(beats, job.id, 4))
    await worker.finish(job, **HELLO)
    answer = await asking
    assert answer.text.startswith('data: {"id":"chatcmpl-')
    assert answer.text.count(": waiting\n\n") > 1
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("hold_seconds", [10.0, 0.0])
async def test_a_stream_that_takes_too_long_is_canceled(
    api_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold_seconds: float
) -> None:
    monkeypatch.setattr("producer_api.door_streams.HOLD_SECONDS", hold_seconds)
    services = memory_services(api_database, door_timeout_seconds=0.2)
    async with open_desk(replace(services, catalog=text_models(tmp_path))) as desk:
        desk.worker(QUEUE)
        with pytest.raises(openai.APIError) as raised:
            [_ async for _ in await ask(openai_client(desk, max_retries=2), stream=True)]
        assert raised.value.code == "door_timeout"
        assert isinstance(raised.value, openai.InternalServerError) == bool(hold_seconds)
        [job] = (await desk.client.get("/v1/jobs")).json()["data"]
        assert job["status"] == "canceled"


async def test_the_same_idempotency_key_is_the_same_answer(desk: Desk, client: openai.AsyncOpenAI) -> None:
    key = {"Idempotency-Key": "k"}
    chunks = await told(desk, ask(client, stream=True, extra_headers=key), token("hello"))
    again = [chunk async for chunk in await ask(client, stream=True, extra_headers=key)]
    assert words(again) == words(chunks) == "hello"
    assert again[0].id == chunks[0].id
    assert desk.count_rows() == 1
    with pytest.raises(openai.BadRequestError) as raised:
        await ask(client, stream=True, seed=1, extra_headers=key)
    assert raised.value.code == "idempotency_mismatch"


async def test_a_stopping_server_lets_its_streams_go(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer_api.door_streams.HOLD_SECONDS", 0.0)
    looks = count_by_job(monkeypatch, desk.events, "read")

    async def listen() -> list[Any]:
        return [chunk async for chunk in await ask(openai_client(desk, max_retries=2), stream=True)]

    asking = asyncio.ensure_future(listen())
    job = await claimed(desk, desk.worker(QUEUE))
    await eventually(lambda: _has(looks, job.id))
    desk.app.state.api.watch.close()
    with pytest.raises(openai.APIError, match="about to stop; send the request again") as raised:
        await asking
    assert raised.value.code == "unavailable"
    assert (await desk.look(job.id))["cancel_requested"]
