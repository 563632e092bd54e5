"""The chat door as tests use it: OpenAI's own client, and a worker behind the queue that the test plays."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import openai
from openai.types.chat import ChatCompletionChunk

from schemas.base import JsonObject
from schemas.events import EventType
from storage.rows import ClaimedJob
from tests.api import Desk, Puppet, eventually

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
