"""OpenAI's chat, asked with OpenAI's own client; the worker behind the queue is played by the test."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from schemas.base import JsonObject
from schemas.events import EventType
from schemas.jobs import Status
from storage.database import Database
from storage.rows import ClaimedJob
from tests.api import Desk, Puppet, eventually, memory_services, open_desk
from tests.words import text_models

QUEUE = "text.wordy.cpu0"
USER: Any = {"role": "user", "content": "one two"}
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"it"}'}}
HELLO: JsonObject = {
    "output": {"text": "hello", "finish_reason": "stop", "messages": [{"role": "assistant", "content": "hello"}]},
    "usage": {"prompt_tokens": 4, "completion_tokens": 1, "cached_prompt_tokens": 2},
}
STARTED: tuple[EventType, JsonObject] = (EventType.STARTED, {})
FINISHED: tuple[EventType, JsonObject] = (EventType.FINISHED, {"status": "succeeded", "error": None})
FAILED: JsonObject = {"type": "job_error", "code": "engine_error", "message": "So it was.", "retryable": True}
Answer = TypeVar("Answer")


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


def openai_client(desk: Desk, **options: Any) -> openai.AsyncOpenAI:
    """The official client on the desk's transport."""
    common: dict[str, Any] = {"max_retries": 0, "http_client": desk.client, "base_url": "http://stoker.test/v1"}
    return openai.AsyncOpenAI(**{"api_key": desk.key(), **common, **options})


def ask(client: openai.AsyncOpenAI, **fields: Any) -> Awaitable[Any]:
    """Ask a question, with other fields."""
    return client.chat.completions.create(**{"model": "wordy", "messages": [USER], **fields})


async def claimed(desk: Desk, worker: Puppet) -> ClaimedJob:
    """The job that the door has made, claimed."""

    async def is_there() -> bool:
        return desk.count_rows() > 0

    await eventually(is_there)
    return worker.claim()


async def answered(desk: Desk, call: Awaitable[Answer], **ending: Any) -> Answer:
    """What a call returns whose job ends so."""
    worker = desk.worker(QUEUE)
    asking = asyncio.ensure_future(call)
    await worker.finish(await claimed(desk, worker), **(ending or HELLO))
    return await asking


async def told(desk: Desk, call: Awaitable[Any], *events: tuple[EventType, JsonObject], **ending: Any) -> list[Any]:
    """The chunks of a stream whose job says this and ends so."""
    worker = desk.worker(QUEUE)
    asking = asyncio.ensure_future(call)
    job = await claimed(desk, worker)
    await worker.say(job, STARTED, *events)
    await worker.finish(job, **(ending or HELLO))
    await worker.say(job, FINISHED, begin=len(events) + 2)
    return [chunk async for chunk in await asking]


def words(chunks: list[ChatCompletionChunk]) -> str:
    """The text of a stream."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def token(text: str) -> tuple[EventType, JsonObject]:
    return EventType.TOKEN, {"text": text}


async def test_an_answer(desk: Desk, client: openai.AsyncOpenAI) -> None:
    answer = await answered(desk, ask(client))
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "hello", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (4, 1, 5)
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert (answer.model, answer.object) == ("wordy", "chat.completion")


async def test_the_wire_is_openais(desk: Desk) -> None:
    body = {"model": "wordy", "messages": [USER]}
    answer = await answered(desk, desk.client.post("/v1/chat/completions", json=body))
    told = answer.json()
    assert {**told, "id": "", "created": 0} == {
        "id": "",
        "object": "chat.completion",
        "created": 0,
        "model": "wordy",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 4,
            "completion_tokens": 1,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }
    assert told["id"] == answer.headers["X-Stoker-Job-Id"].replace("job_", "chatcmpl-")


async def test_the_request_is_a_job_like_any_other(desk: Desk, client: openai.AsyncOpenAI) -> None:
    fields: JsonObject = {
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "seed": 7,
        "n": 2,
        "stop": [".", "!"],
        "tools": [TOOL],
        "response_format": {"type": "json_object"},
    }
    ignored: JsonObject = {"user": "me", "store": True, "parallel_tool_calls": False, "service_tier": "auto"}
    choices = [{"index": index, "text": "a", "finish_reason": "stop"} for index in range(2)]
    answer = await answered(
        desk,
        client.chat.completions.with_raw_response.create(
            model="wordy:poet",
            messages=[{"role": "developer", "content": "Be kind."}, USER],
            max_completion_tokens=5,
            metadata={"run": "a"},
            extra_body={"top_k": 5, "min_p": 0.1},
            **fields,
            **ignored,
        ),
        output={"text": "a", "finish_reason": "stop", "choices": choices},
    )
    assert [choice.message.content for choice in answer.parse().choices] == ["a", "a"]
    assert answer.parse().model == "wordy:poet"
    [job] = (await desk.client.get("/v1/jobs", params={"kind": "text"})).json()["data"]
    assert job["id"] == answer.headers["X-Stoker-Job-Id"]
    seen = await desk.look(job["id"])
    assert (seen["model"], seen["metadata"]) == ("wordy", {"run": "a"})
    assert seen["input"] == {
        "messages": [{"role": "system", "content": "Be kind."}, USER],
        "adapter": "poet",
        "max_tokens": 5,
        "top_k": 5,
        "min_p": 0.1,
        "stream": False,
        **fields,
    }


async def test_what_a_client_got_can_be_sent_back(desk: Desk, client: openai.AsyncOpenAI) -> None:
    output = {"text": "", "finish_reason": "tool_calls", "tool_calls": [CALL]}
    answer = await answered(desk, ask(client, tools=[TOOL]), output=output)
    message = answer.choices[0].message
    assert (message.content, answer.choices[0].finish_reason) == (None, "tool_calls")
    [call] = message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("c1", "look", '{"at":"it"}')
    turns = [USER, message, {"role": "tool", "tool_call_id": call.id, "content": "It is there."}]
    asking = asyncio.ensure_future(ask(client, messages=turns, tools=[TOOL]))
    await eventually_rows(desk, 2)
    worker = desk.worker(QUEUE)
    await worker.finish(worker.claim(), **HELLO)
    assert (await asking).choices[0].message.content == "hello"


async def eventually_rows(desk: Desk, count: int) -> None:
    async def are_there() -> bool:
        return desk.count_rows() == count

    await eventually(are_there)


class Place(BaseModel):
    """What a model is asked for."""

    city: str
    kind: Literal["town", "village"]


async def test_an_answer_is_parsed_into_what_was_asked_for(desk: Desk, client: openai.AsyncOpenAI) -> None:
    call = client.chat.completions.parse(model="wordy", messages=[USER], response_format=Place)
    output = {"text": '{"city":"서울","kind":"town"}', "finish_reason": "stop"}
    answer = await answered(desk, call, output=output)
    assert answer.choices[0].message.parsed == Place(city="서울", kind="town")
    [job] = (await desk.client.get("/v1/jobs")).json()["data"]
    asked = (await desk.look(job["id"]))["input"]["response_format"]["json_schema"]
    assert (asked["name"], asked["strict"], asked["schema"]["required"]) == ("Place", True, ["city", "kind"])


async def test_a_stream(desk: Desk, client: openai.AsyncOpenAI) -> None:
    call = ask(client, stream=True, stream_options={"include_usage": True})
    chunks = await told(desk, call, token("hel"), token("lo"))
    assert [chunk.choices[0].delta.content for chunk in chunks[:-1]] == ["", "hel", "lo", None]
    assert (chunks[0].choices[0].delta.role, chunks[-2].choices[0].finish_reason) == ("assistant", "stop")
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 5)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_streams_headers_and_last_words(desk: Desk) -> None:
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


@pytest.mark.parametrize(("again", "text"), [("hello", "hello"), ("help", None)])
async def test_a_worker_that_dies_in_a_stream_is_continued_or_it_ends(
    desk: Desk, client: openai.AsyncOpenAI, again: str, text: str | None
) -> None:
    worker = desk.worker(QUEUE)

    async def listen() -> list[Any]:
        return [chunk async for chunk in await ask(client, stream=True)]

    asking = asyncio.ensure_future(listen())
    job = await claimed(desk, worker)
    await worker.say(job, STARTED, token("hell"))
    await asyncio.sleep(0.05)
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
    body = {"model": "wordy", "messages": [USER], "stream": True}
    asking = asyncio.ensure_future(desk.client.post("/v1/chat/completions", json=body))
    worker = desk.worker(QUEUE)
    job = await claimed(desk, worker)
    await asyncio.sleep(0.2)
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


def tools(count: int) -> list[JsonObject]:
    return [{"type": "function", "function": {"name": f"t{number}"}} for number in range(count)]


REFUSED: dict[str, tuple[JsonObject, str | None, str]] = {
    "no messages": ({"messages": []}, "messages", "at least 1 item"),
    "roles out of order": (
        {"messages": [USER, {"role": "developer", "content": "x"}, USER]},
        None,
        "messages[1] is a system turn in mid-conversation",
    ),
    "an unknown role": ({"messages": [{"role": "dog", "content": "x"}]}, "messages.0.role", "'system'"),
    "a picture": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
        "messages.0.content",
        "reads only text",
    ),
    "logit bias": ({"logit_bias": {"7": 1}}, "logit_bias", "'logit_bias' is not supported here; take it out."),
    "log probabilities": ({"logprobs": True, "top_logprobs": 3}, "logprobs", "'logprobs' is not supported here"),
    "two limits": ({"max_tokens": 4, "max_completion_tokens": 5}, "max_tokens", "send only one of them"),
    "no tokens": ({"max_completion_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    "no answers": ({"n": 0}, "n", "greater than or equal to 1"),
    "too hot": ({"temperature": 3}, "temperature", "less than or equal to 2"),
    "too many stop strings": ({"stop": ["x"] * 2000}, "stop", "at most 16 items"),
    "too many tools": ({"tools": tools(129)}, "tools", "at most 128 items"),
    "a tool without a name": (
        {"tools": [{"type": "function", "function": {}}]},
        "tools.0.function.name",
        "is missing; add it",
    ),
    "an unknown field": ({"extra_body": {"functions": []}}, "functions", "There is no field 'functions' here"),
    "a model of another kind": (
        {"model": "sketch"},
        "model",
        "'sketch' makes image, not text; choose one of: echo, wordy",
    ),
    "a bad schema": (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"type": "strin"}},
            }
        },
        "response_format.json_schema.schema",
        "is not a valid JSON schema",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_bad_requests_are_openais_bad_requests(desk: Desk, client: openai.AsyncOpenAI, name: str) -> None:
    fields, param, sentence = REFUSED[name]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as raised:
            await ask(client, stream=stream, **fields)
        error = raised.value
        assert (error.status_code, error.type, error.param) == (400, "invalid_request_error", param)
        assert sentence in error.message
    assert desk.count_rows() == 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": "x " * 100}]}, "messages"),
        ({"max_completion_tokens": 47}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "x" * 5_000_000}]}, "messages"),
    ],
)
async def test_too_long_is_openais_too_long(
    desk: Desk, client: openai.AsyncOpenAI, fields: JsonObject, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await ask(client, **fields)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", param)
    assert desk.count_rows() == 0


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("gpt", "There is no model 'gpt'. Known models: echo, sketch, twin, wordy."),
        ("gpt:pirate", "There is no model 'gpt:pirate'. Known models: echo"),
        (
            "wordy:piratte",
            "There is no model 'wordy:piratte'. Known ones of that kind: wordy, wordy:pirate, wordy:poet.",
        ),
        ("wordy:", "There is no model 'wordy:'"),
    ],
)
async def test_an_unknown_model_is_openais_not_found(
    desk: Desk, client: openai.AsyncOpenAI, model: str, sentence: str
) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await ask(client, model=model)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert sentence in raised.value.message


async def test_wrong_keys_are_openais_errors(desk: Desk) -> None:
    keys = (
        ("sk-stoker-nobody", openai.AuthenticationError),
        (desk.key(scopes=("read",)), openai.PermissionDeniedError),
    )
    for key, expected in keys:
        with pytest.raises(expected):
            await ask(openai_client(desk, api_key=key))


@pytest.mark.parametrize("body", [b"", b"{", b'{"model":"wordy","messages":"\\ud800"}', b"\xff", b"[]"])
async def test_what_is_no_json_is_malformed(desk: Desk, body: bytes) -> None:
    answer = await desk.client.post("/v1/chat/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")


async def test_nothing_is_said_by_null(desk: Desk) -> None:
    nothing = dict.fromkeys(("stop", "temperature", "n", "tools", "response_format", "seed", "stream", "logit_bias"))
    body = {"model": "wordy", "messages": [{**USER, "name": None, "refusal": None, "annotations": []}], **nothing}
    answer = await answered(desk, desk.client.post("/v1/chat/completions", content=json.dumps(body)))
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
