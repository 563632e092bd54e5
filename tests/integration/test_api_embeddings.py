"""OpenAI's embeddings, asked with OpenAI's own client; the worker behind the queue is played by the test."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import openai
import pytest

from schemas.base import JsonObject
from schemas.jobs import Status
from storage.database import Database
from tests.api import Desk, memory_services, open_desk
from tests.chats import claimed, openai_client

QUEUE = "embedding.twin.cpu0"
VECTORS = [[0.25, -0.5, 1.0], [0.125, 0.0, -2.0]]
Answer = TypeVar("Answer")


@pytest.fixture
async def desk(api_database: Database) -> AsyncIterator[Desk]:
    """An API whose doors are patient for 30 seconds."""
    async with open_desk(memory_services(api_database, door_timeout_seconds=30)) as opened:
        yield opened


@pytest.fixture
def client(desk: Desk) -> openai.AsyncOpenAI:
    """The official client; it does not try again, so that every answer is seen."""
    return openai_client(desk)


async def answered(desk: Desk, call: Awaitable[Answer], **ending: Any) -> Answer:
    """What a call returns whose job ends so."""
    worker = desk.worker(QUEUE)
    asking = asyncio.ensure_future(call)
    await worker.finish(await claimed(desk, worker), **ending)
    return await asking


GOOD: JsonObject = {
    "output": {"embeddings": VECTORS, "dimensions": 3},
    "usage": {"prompt_tokens": 7},
}


async def test_a_list_of_texts_gives_their_vectors_in_order(desk: Desk, client: openai.AsyncOpenAI) -> None:
    call = client.embeddings.create(model="twin", input=["a", "b"], user="me")
    answer = await answered(desk, call, **GOOD)
    assert [(one.index, one.embedding) for one in answer.data] == list(enumerate(VECTORS))
    assert (answer.model, answer.object) == ("twin", "list")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (7, 7)


async def test_numbers_come_as_numbers_when_asked(desk: Desk, client: openai.AsyncOpenAI) -> None:
    call = client.embeddings.create(model="twin", input=["a", "b"], encoding_format="float")
    assert [one.embedding for one in (await answered(desk, call, **GOOD)).data] == VECTORS


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_the_wire_is_openais(desk: Desk, encoding: str) -> None:
    body = {"model": "twin", "input": "a", "encoding_format": encoding}
    ending = {**GOOD, "output": {"embeddings": VECTORS[:1], "dimensions": 3}}
    answer = await answered(desk, desk.client.post("/v1/embeddings", json=body), **ending)
    told = base64.b64encode(struct.pack("<3f", *VECTORS[0])).decode() if encoding == "base64" else VECTORS[0]
    assert answer.json() == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": told}],
        "model": "twin",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


async def test_the_request_is_a_job_like_any_other(desk: Desk, client: openai.AsyncOpenAI) -> None:
    call = client.embeddings.with_raw_response.create(model="twin", input="a")
    answer = await answered(desk, call, **GOOD)
    listed = (await desk.client.get("/v1/jobs", params={"kind": "embedding"})).json()["data"]
    assert [job["id"] for job in listed] == [answer.headers["X-Stoker-Job-Id"]]
    job = await desk.look(listed[0]["id"])
    assert (job["status"], job["input"]["texts"]) == ("succeeded", ["a"])


async def test_a_large_result_is_read_from_the_object_store(desk: Desk, client: openai.AsyncOpenAI) -> None:
    worker = desk.worker(QUEUE)
    asking = asyncio.ensure_future(client.embeddings.create(model="twin", input=["a", "b"]))
    job = await claimed(desk, worker)
    content = json.dumps(GOOD["output"]).encode()
    files = [worker.store(job, "result.json", content), worker.store(job, "embeddings.npy", b"x")]
    await worker.finish(job, artifacts=files, usage=GOOD["usage"])
    assert [one.embedding for one in (await asking).data] == VECTORS


async def test_the_same_idempotency_key_gives_the_same_job(desk: Desk, client: openai.AsyncOpenAI) -> None:
    def call() -> Awaitable[openai.types.CreateEmbeddingResponse]:
        return client.embeddings.create(model="twin", input="a", extra_headers={"Idempotency-Key": "k"})

    first = await answered(desk, call(), **GOOD)
    assert (await call()).data == first.data
    assert desk.count_rows() == 1


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "tokens": ({"input": [1, 2, 3]}, "token arrays are not read here; send the text itself", "input"),
    "lists of tokens": ({"input": [[1, 2], [3]]}, "token arrays are not read here", "input"),
    "no texts": ({"input": []}, "at least 1 item", "input"),
    "an empty text": ({"input": ["a", ""]}, "at least 1 character", "input.1"),
    "an empty string": ({"input": ""}, "at least 1 character", "input.0"),
    "too many texts": ({"input": ["x"] * 2049}, "at most 2048 items", "input"),
    "no input": ({"input": None}, "valid array", "input"),
    "a wrong format": ({"encoding_format": "hex"}, "'float' or 'base64'", "encoding_format"),
    "dimensions that the model lacks": (
        {"dimensions": 64},
        "'twin' makes vectors of 128 or 256 numbers, not of 64; leave 'dimensions' out or change it.",
        "dimensions",
    ),
    "no dimensions at all": ({"dimensions": 0}, "greater than or equal to 1", "dimensions"),
    "an unknown field": ({"extra_body": {"pooling": "max"}}, "There is no field 'pooling' here", "pooling"),
    "a model of another kind": ({"model": "echo"}, "'echo' makes text, not embeddings; choose one of: twin.", "model"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_bad_requests_are_openais_bad_requests(desk: Desk, client: openai.AsyncOpenAI, name: str) -> None:
    fields, words, param = REFUSED[name]
    with pytest.raises(openai.BadRequestError) as raised:
        await client.embeddings.create(**{"model": "twin", "input": "a"} | fields)
    assert (raised.value.type, raised.value.param) == ("invalid_request_error", param)
    assert words in raised.value.message
    assert desk.count_rows() == 0


async def test_a_text_that_cannot_fit_is_refused_up_front(desk: Desk, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.embeddings.create(model="twin", input=["a", "x" * 1_000_000])
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "input.1")
    assert "Text 1 (counted from 0) has 1,000,000 characters" in raised.value.message
    assert 'send "truncate": "end"' in raised.value.message
    assert desk.count_rows() == 0


async def test_a_text_that_may_be_cut_is_cut(desk: Desk, client: openai.AsyncOpenAI) -> None:
    call = client.embeddings.create(model="twin", input="x" * 1_000_000, extra_body={"truncate": "end"})
    answer = await answered(desk, call, **GOOD)
    assert [one.embedding for one in answer.data] == list(VECTORS)


async def test_other_refusals_have_openais_classes(desk: Desk, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.embeddings.create(model="gpt", input="a")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="sk-wrong").embeddings.create(model="twin", input="a")
    reader = desk.key("reader", ("read",))
    with pytest.raises(openai.PermissionDeniedError):
        await client.with_options(api_key=reader).embeddings.create(model="twin", input="a")
    with pytest.raises(openai.APIStatusError) as large:
        await client.embeddings.create(model="twin", input=["x" * 10_000_000])
    assert large.value.status_code == 413
    assert desk.count_rows() == 0


@pytest.mark.parametrize("body", [b"", b"{", b'{"model":"twin","input":"\\ud800"}', b"\xff"])
async def test_what_is_no_json_is_malformed(desk: Desk, body: bytes) -> None:
    answer = await desk.client.post("/v1/embeddings", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")


ENDINGS: dict[str, tuple[Status, str | None, type[openai.APIStatusError], int, str]] = {
    "too long": (Status.FAILED, "context_length_exceeded", openai.BadRequestError, 400, "context_length_exceeded"),
    "refused": (Status.FAILED, "engine_refused", openai.BadRequestError, 400, "invalid"),
    "failed": (Status.FAILED, "engine_error", openai.InternalServerError, 500, "engine_failed"),
    "out of time": (Status.FAILED, "timeout", openai.InternalServerError, 504, "door_timeout"),
    "canceled": (Status.CANCELED, None, openai.ConflictError, 409, "conflict"),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_job_without_an_answer_is_an_error_and_is_not_asked_again(desk: Desk, name: str) -> None:
    status, code, expected, http_status, public = ENDINGS[name]
    told = {"error": {"type": "job_error", "code": code, "message": "So it was.", "retryable": False}} if code else {}
    call = openai_client(desk, max_retries=2).embeddings.create(model="twin", input="a")
    with pytest.raises(expected) as raised:
        await answered(desk, call, status=status, **told)
    assert (raised.value.status_code, raised.value.code) == (http_status, public)
    assert code is None or "So it was." in raised.value.message
    assert raised.value.response.headers["X-Stoker-Job-Id"].startswith("job_")
    assert desk.count_rows() == 1


async def test_a_door_that_has_waited_too_long_cancels_the_job(api_database: Database) -> None:
    async with open_desk(memory_services(api_database, door_timeout_seconds=0.2)) as desk:
        desk.worker(QUEUE)
        with pytest.raises(openai.InternalServerError) as raised:
            await openai_client(desk, max_retries=2).embeddings.create(model="twin", input="a")
        assert (raised.value.status_code, raised.value.code) == (504, "door_timeout")
        assert desk.row(raised.value.response.headers["X-Stoker-Job-Id"]).status == Status.CANCELED
        assert desk.count_rows() == 1


NATIVE: dict[str, tuple[JsonObject, int, str, str | None, str]] = {
    "an unknown way to truncate": ({"truncate": "start"}, 422, "invalid", "input.truncate", "'error' or 'end'"),
    "a text as a truth": ({"normalize": "yes"}, 422, "invalid", "input.normalize", "valid boolean"),
    "an unknown field": ({"pooling": "max"}, 422, "invalid", "input.pooling", "There is no field"),
    "wrong dimensions": ({"dimensions": 64}, 422, "invalid", "input.dimensions", "vectors of 128 or 256 numbers"),
    "a text that cannot fit": (
        {"texts": ["a", "x" * 100_000]},
        422,
        "context_length_exceeded",
        "input.texts.1",
        "has 100,000 characters",
    ),
    "half a surrogate pair": ({"texts": ["\ud800"]}, 400, "malformed", None, "not valid JSON"),
    "ten megabytes": ({"texts": ["x" * 10_000_000]}, 413, "too_large", None, "larger than 8 MiB"),
}


@pytest.mark.parametrize("name", NATIVE)
async def test_the_native_door_refuses_them_too(desk: Desk, name: str) -> None:
    fields, status, code, param, words = NATIVE[name]
    job = {"kind": "embedding", "model": "twin", "input": {"texts": ["a"], **fields}}
    answer = await desk.client.post("/v1/jobs", content=json.dumps(job))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert words in error["message"]
    assert desk.count_rows() == 0


async def test_what_may_be_cut_may_be_long(desk: Desk) -> None:
    given = {"texts": ["x" * 100_000], "truncate": "end", "dimensions": 128, "normalize": False}
    job_id = await desk.submit(kind="embedding", model="twin", input=given)
    assert (await desk.look(job_id))["status"] == "queued"
