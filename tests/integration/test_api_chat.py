"""OpenAI's chat, asked with OpenAI's own client; the worker behind the queue is played by the test."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from schemas.base import JsonObject
from storage.database import Database
from tasks.doors.chat import ChatRequest
from tests.api import Desk, eventually, memory_services, open_desk
from tests.chats import (
    CALL,
    HELLO,
    QUEUE,
    TOOL,
    USER,
    answered,
    ask,
    openai_client,
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
    ignored: JsonObject = {
        "user": "me",
        "store": True,
        "parallel_tool_calls": False,
        "service_tier": "scale",
        "safety_identifier": "me",
        "prompt_cache_key": "a",
        "prompt_cache_retention": "24h",
        "modalities": ["text"],
        "prompt_cache_options": {"mode": "implicit"},
    }
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


async def test_what_the_clients_helpers_made_of_an_answer_can_be_sent_back(
    desk: Desk, client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer_api.events.LAST_WORDS_SECONDS", 0.0)

    async def gather() -> Any:
        strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
        wanted: Any = {"model": "wordy", "messages": [USER], "tools": [strict]}
        async with client.chat.completions.stream(**wanted) as stream:
            return (await stream.get_final_completion()).choices[0].message

    said = await answered(desk, gather(), output={"text": "", "finish_reason": "tool_calls", "tool_calls": [CALL]})
    assert (said.tool_calls[0].index, said.tool_calls[0].function.parsed_arguments) == (0, {"at": "it"})
    parsed = {"role": "assistant", "content": '{"city":"x"}', "parsed": {"city": "x"}}  # so does Node's client
    turns = [USER, said, {"role": "tool", "tool_call_id": "c1", "content": "There."}, parsed, USER]
    asking = asyncio.ensure_future(ask(client, messages=turns, tools=[TOOL]))
    await eventually_rows(desk, 2)
    worker = desk.worker(QUEUE)
    job = worker.claim()
    await worker.finish(job, **HELLO)
    await asking
    stored = (await desk.look(job.id))["input"]["messages"]
    call = {name: said for name, said in CALL.items() if name != "type"}
    assert [turn.get("tool_calls", turn["content"]) for turn in stored[1:4:2]] == [[call], '{"city":"x"}']


async def test_a_tool_may_say_nothing_about_itself(desk: Desk, client: openai.AsyncOpenAI) -> None:
    bare = {"type": "function", "function": {"name": "look", "description": None, "parameters": None, "strict": None}}
    await answered(desk, ask(client, tools=[bare]))
    [job] = (await desk.client.get("/v1/jobs")).json()["data"]
    assert (await desk.look(job["id"]))["input"]["tools"] == [{"type": "function", "function": {"name": "look"}}]


async def test_a_repeated_request_is_told_that_it_is_one(desk: Desk) -> None:
    def send() -> Awaitable[httpx.Response]:
        body = {"model": "wordy", "messages": [USER]}
        return desk.client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "k"})

    first, again = await answered(desk, send()), await send()
    assert "Idempotent-Replayed" not in first.headers
    assert (again.headers["Idempotent-Replayed"], again.json()) == ("true", first.json())
    await desk.client.delete(f"/v1/jobs/{first.headers['X-Stoker-Job-Id']}")
    gone = await send()
    assert (gone.status_code, gone.headers["Idempotent-Replayed"]) == (410, "true")
    assert "with another Idempotency-Key" in gone.json()["error"]["message"]


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
    "an unknown field": ({"extra_body": {"colour": []}}, "colour", "There is no field 'colour' here"),
    "an older way": (
        {"functions": [{"name": "f"}]},
        "functions",
        "'functions' is not supported here; send 'tools' instead.",
    ),
    "thinking": ({"reasoning_effort": "low"}, "reasoning_effort", "'reasoning_effort' is not supported here; take it"),
    "speech": ({"modalities": ["text", "audio"]}, "modalities.1", "should be 'text'"),
    "a stop that is no text": ({"stop": ["x", 1]}, "stop.1", "should be a valid string"),
    "a model of another kind": (
        {"model": "sketch"},
        "model",
        "'sketch' makes images, not text; choose one of: echo, wordy",
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
    nothing = dict.fromkeys(set(ChatRequest.model_fields) - {"model", "messages"})
    body = {"model": "wordy", "messages": [{**USER, "name": None, "refusal": None, "annotations": []}], **nothing}
    answer = await answered(desk, desk.client.post("/v1/chat/completions", content=json.dumps(body)))
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
