"""Bad input never becomes a job: each row says what is sent, what is answered, and what the sentence must say."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from schemas.base import JsonObject
from tests.api import TEXT, Desk, eventually, open_desk, with_settings

MIB = 2**20


def text(**changes: Any) -> bytes:
    """A good request for text with some fields changed."""
    return json.dumps({**TEXT, **changes}).encode()


def given(**fields: Any) -> bytes:
    """A request for text with this input."""
    return text(input=fields)


def image(**fields: Any) -> bytes:
    """A request for an image with this input."""
    return text(kind="image", model="sketch", input={"prompt": "x", **fields})


def embed(texts: Any) -> bytes:
    """A request for embeddings of these texts."""
    return text(kind="embedding", model="twin", input={"texts": texts})


BAD = {
    "an empty body": (b"", 400, "malformed", None, "EOF while parsing"),
    "no JSON": (b"hello", 400, "malformed", None, "is not valid JSON"),
    "half a body": (text()[:-2], 400, "malformed", None, "EOF while parsing"),
    "a list": (b"[]", 400, "malformed", None, "must be one JSON object"),
    "bad UTF-8": (text().replace(b"hello", b"\xff\xfe"), 400, "malformed", None, "invalid unicode code point"),
    "half a surrogate pair": (text().replace(b"hello", b"\\ud800"), 400, "malformed", None, "cut between characters"),
    "the other half": (text().replace(b"hello", b"\\ude00"), 400, "malformed", None, "cut between characters"),
    "deep JSON": (b'{"metadata":' * 100_000, 400, "malformed", None, "recursion limit exceeded"),
    "deep metadata": (
        text(metadata={"a": 1}).replace(b"1}", b"[" * 5000 + b"]" * 5000 + b"}"),
        400,
        "malformed",
        None,
        "recursion limit exceeded",
    ),
    "an unknown field": (text(foo=1), 422, "invalid", "foo", "There is no field 'foo' here; take it out."),
    "an unknown field inside": (given(prompt="x", top_q=1), 422, "invalid", "input.top_q", "no field 'input.top_q'"),
    "two unknown fields": (text(foo=1, bar=2), 422, "invalid", "foo", "(1 more after it)"),
    "many inputs": (b'{"inputs":[]}', 422, "invalid", "inputs", "send 'inputs' to POST /v1/batches."),
    "many inputs of a kind": (text(inputs=[1]), 422, "invalid", "inputs", "A job has one 'input'"),
    "no kind": (b'{"model":"echo"}', 422, "invalid", "kind", "The field 'kind' is missing; add it."),
    "an unknown kind": (text(kind="video"), 422, "invalid", "kind", "must be one of text, image, embedding; batches"),
    "no input": (b'{"kind":"text","model":"echo"}', 422, "invalid", "input", "'input' is missing"),
    "prompt and messages": (
        given(prompt="x", messages=[{"role": "user", "content": "x"}]),
        422,
        "invalid",
        "input",
        "send either 'messages' or 'prompt'",
    ),
    "an unknown role": (
        given(messages=[{"role": "dog", "content": "x"}]),
        422,
        "invalid",
        "input.messages.0.role",
        "role",
    ),
    "an empty prompt": (given(prompt=""), 422, "invalid", "input.prompt", "at least 1 character"),
    "a number as text": (given(prompt=5), 422, "invalid", "input.prompt", "should be a valid string"),
    "text as a number": (given(prompt="x", max_tokens="5"), 422, "invalid", "input.max_tokens", "valid integer"),
    "a truth as a number": (given(prompt="x", max_tokens=True), 422, "invalid", "input.max_tokens", "valid integer"),
    "no tokens at all": (given(prompt="x", max_tokens=0), 422, "invalid", "input.max_tokens", "greater than or equal"),
    "NaN": (text(policy={"ttl_seconds": float("nan")}), 422, "invalid", "policy.ttl_seconds", "finite number"),
    "infinity": (text(policy={"ttl_seconds": float("inf")}), 422, "invalid", "policy.ttl_seconds", "finite number"),
    "NaN in metadata": (text(metadata={"a": float("nan")}), 422, "invalid", "metadata", "NaN"),
    "a zero byte in metadata": (text(metadata={"a": "\0"}), 422, "invalid", "metadata", "NUL"),
    "too many keys": (text(metadata={str(n): 1 for n in range(51)}), 422, "invalid", "metadata", "at most 50"),
    "too much metadata": (text(metadata={"a": "x" * 5000}), 422, "invalid", "metadata", "longer than 4096"),
    "an unknown priority": (text(policy={"priority": "urgent"}), 422, "invalid", "policy.priority", "'high'"),
    "a time without zone": (
        text(policy={"run_at": "2030-01-01T00:00:00"}),
        422,
        "invalid",
        "policy.run_at",
        "timezone",
    ),
    "a time too far": (
        text(policy={"run_at": "2999-01-01T00:00:00Z"}),
        422,
        "invalid",
        "policy.run_at",
        "a year away",
    ),
    "a longer timeout than the model's": (
        text(policy={"timeout_seconds": 61}),
        422,
        "invalid",
        "policy.timeout_seconds",
        "'echo' allows at most 60; ask for less",
    ),
    "an unknown model": (
        text(model="gpt"),
        404,
        "model_not_found",
        "model",
        "There is no model 'gpt'. Known models: echo, sketch, twin.",
    ),
    "a model of another kind": (text(model="sketch"), 422, "invalid", "kind", "'kind' must be 'image'"),
    "a prompt longer than the context": (
        given(prompt="x" * 1601),
        422,
        "context_length_exceeded",
        "input.prompt",
        "The prompt: 1,601 characters, which cannot fit the context of 'echo' (100 tokens); send less.",
    ),
    "messages longer than the context": (
        given(messages=[{"role": "user", "content": "x" * 900}] * 2),
        422,
        "context_length_exceeded",
        "input.messages",
        "1,800 characters, which",
    ),
    "a size not divisible by 8": (image(width=100), 422, "invalid", "input.width", "multiple of 8"),
    "too many images": (image(n=17), 422, "invalid", "input.n", "less than or equal to 16"),
    "no images": (image(n=0), 422, "invalid", "input.n", "greater than or equal to 1"),
    "too many texts": (embed(["x"] * 2049), 422, "invalid", "input.texts", "at most 2048 items"),
    "no texts": (embed([]), 422, "invalid", "input.texts", "at least 1 item"),
    "an empty text": (embed(["a", ""]), 422, "invalid", "input.texts.1", "at least 1 character"),
    "too large": (text(input={"prompt": "x" * (8 * MIB)}), 413, "too_large", None, "larger than 8 MiB; send less"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_with_a_sentence_and_leaves_no_row(desk: Desk, name: str) -> None:
    body, status, code, param, words = BAD[name]
    answer = await desk.client.post("/v1/jobs", content=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text
    assert words in error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert error.keys() == {"type", "code", "message", "param", "request_id"}
    assert len(answer.content) < 1000
    assert desk.count_rows() == 0


async def test_a_long_name_is_not_repeated_whole(desk: Desk) -> None:
    for body in (text(model="x" * 100_000), text(**{"y" * 100_000: 1})):
        answer = await desk.client.post("/v1/jobs", content=body)
        assert answer.status_code == 422
        assert len(answer.content) < 1000


HEADERS: dict[str, tuple[Callable[[Desk], dict[str, str]], int, str, str]] = {
    "no key": (lambda _: {"Authorization": ""}, 401, "unauthenticated", "Send a valid API key"),
    "another scheme": (lambda _: {"Authorization": "Basic eDp5"}, 401, "unauthenticated", "Send a valid API key"),
    "a wrong key": (lambda _: {"Authorization": "Bearer sk-stoker-x"}, 401, "unauthenticated", "unknown, revoked"),
    "an endless key": (
        lambda _: {"Authorization": "Bearer " + "x" * 5000},
        401,
        "unauthenticated",
        "unknown, revoked",
    ),
    "a key that may only read": (
        lambda desk: desk.bearer("r", ("read",)),
        403,
        "forbidden",
        "lacks the scope 'submit'",
    ),
    "an expired key": (
        lambda desk: {"Authorization": f"Bearer {desk.key('e', expires_at=1.0)}"},
        401,
        "unauthenticated",
        "expired",
    ),
    "an endless idempotency key": (lambda _: {"Idempotency-Key": "x" * 256}, 422, "invalid", "1 to 255 printable"),
    "an empty idempotency key": (lambda _: {"Idempotency-Key": ""}, 422, "invalid", "1 to 255 printable"),
}


@pytest.mark.parametrize("name", HEADERS)
async def test_bad_headers_are_refused_with_a_sentence_and_leave_no_row(desk: Desk, name: str) -> None:
    headers, status, code, words = HEADERS[name]
    answer = await desk.client.post("/v1/jobs", json=TEXT, headers=headers(desk))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert words in error["message"]
    assert desk.count_rows() == 0


@pytest.mark.parametrize(
    ("line", "status", "code", "words"),
    [
        ("GET /v1/nothing", 404, "not_found", "nothing here under that name"),
        ("PUT /v1/jobs", 405, "method_not_allowed", "Allow header"),
        ("GET /v1/jobs/", 404, "not_found", "nothing here"),
        ("GET /v1/jobs/job_unknown", 404, "not_found", "There is no job 'job_unknown' of yours"),
        ("GET /v1/jobs/%00", 400, "malformed", "zero byte"),
        ("GET /v1/jobs?after=%00", 400, "malformed", "zero byte"),
        ("GET /v1/jobs?after=garbage", 422, "invalid", "The parameter 'after' is not valid"),
        ("GET /v1/webhooks/deliveries?after=garbage", 422, "invalid", "The parameter 'after' is not valid"),
        ("GET /v1/jobs?limit=101", 422, "invalid", "The parameter 'limit' is not valid"),
        ("GET /v1/jobs?status=done", 422, "invalid", "The parameter 'status' is not valid"),
        ("GET /v1/jobs?foo=1", 422, "invalid", "There is no parameter 'foo' here"),
        ("GET /v1/jobs?created_after=yesterday", 422, "invalid", "The parameter 'created_after' is not valid"),
        ("GET /v1/jobs/job_x?wait=soon", 422, "invalid", "number of seconds"),
    ],
)
async def test_bad_addresses_are_refused_with_a_sentence(
    desk: Desk, line: str, status: int, code: str, words: str
) -> None:
    answer = await desk.client.request(*line.split(" "))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert words in error["message"]


async def pieces(size: int, count: int) -> AsyncIterator[bytes]:
    """A body that does not say how long it is."""
    yield b'{"kind":"text","model":"echo","input":{"prompt":"'
    for _ in range(count):
        yield b"x" * size


async def test_a_body_without_a_length_is_counted_while_it_comes(desk: Desk) -> None:
    answer = await desk.client.post("/v1/jobs", content=pieces(MIB, 9))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert desk.count_rows() == 0


async def test_a_caller_may_have_only_so_many_jobs_waiting(desk: Desk) -> None:
    async with open_desk(with_settings(desk.services, max_queued_per_caller=2)) as small:
        ids = [await small.submit() for _ in range(2)]
        refused = await small.client.post("/v1/jobs", json=TEXT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many")
        assert "2 jobs of yours are waiting and 2 may" in refused.text
        assert int(refused.headers["retry-after"]) >= 1
        assert small.count_rows() == 2
        others = await small.client.post("/v1/jobs", json=TEXT, headers=small.bearer("other"))
        assert others.status_code == 202
        await small.client.post(f"/v1/jobs/{ids[0]}/cancel")

        async def is_accepted() -> bool:
            return (await small.client.post("/v1/jobs", json=TEXT)).status_code == 202

        await eventually(is_accepted)  # the count is at most a second old


async def test_no_secret_and_no_input_is_logged(
    desk: Desk, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    secret = desk.client.headers["authorization"].removeprefix("Bearer ")
    view: JsonObject = (await desk.client.post("/v1/jobs", content=given(prompt="Geheimnis"))).json()
    await desk.client.post("/v1/jobs", content=given(prompt="Geheimnis", foo="Geheimnis"))
    await desk.client.get("/v1/jobs?metadata[a]=Geheimnis")
    await asyncio.sleep(0)  # the lines of a turn of the loop are written at its end
    said = capsys.readouterr().err
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["status"] for line in lines] == [202, 422, 200]
    assert lines[0]["job"] == view["id"]
    assert lines[0]["request_id"].startswith("req_")
    assert secret not in said
    assert "Geheimnis" not in said


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [("PUT", "/v1/jobs", "GET, POST"), ("POST", "/v1/jobs/job_x", "DELETE, GET"), ("GET", "/v1/embeddings", "POST")],
)
async def test_a_wrong_method_is_told_the_right_ones(desk: Desk, method: str, address: str, allowed: str) -> None:
    answer = await desk.client.request(method, address)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed
