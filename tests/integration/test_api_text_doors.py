"""Short ways to a text job, and models with their adapters: POST /v1/text, POST /v1/lora/generate, GET /v1/models."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from producer_api.documents import LoraJob, ModelAnswer, ModelList
from schemas.base import JsonObject
from schemas.catalog import Adapter, Catalog, Model
from schemas.jobs import Job
from storage.database import Database
from tests.api import Desk, eventually, memory_services, open_desk
from tests.words import text_models

QUEUE = "text.wordy.cpu0"
USER: JsonObject = {"role": "user", "content": "one two"}
TEXT: JsonObject = {"model": "wordy", "messages": [USER]}
LORA: JsonObject = {"lora_id": "pirate", "prompt": "one two"}
ENDING: JsonObject = {
    "output": {"text": "Arr!", "finish_reason": "stop"},
    "usage": {"prompt_tokens": 4, "completion_tokens": 2},
    "metrics": {"device": "cpu0", "ttft_ms": 3.0},
}


@pytest.fixture
async def desk(api_database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    """An API whose model 'wordy' counts words, beside one for images with an adapter."""
    models = text_models(tmp_path).models
    sketch = models["sketch"].model_copy(update={"adapters": {"ink": Adapter(source="./ink")}})
    catalog = Catalog(models={**models, "sketch": sketch})
    async with open_desk(replace(memory_services(api_database), catalog=catalog)) as opened:
        yield opened


async def finished(desk: Desk, path: str, body: JsonObject) -> httpx.Response:
    """The answer of a door that waits, whose job ends."""
    asking = asyncio.ensure_future(desk.client.post(path, json=body, headers={"Prefer": "wait=30"}))

    async def is_there() -> bool:
        return desk.count_rows() > 0

    await eventually(is_there)
    worker = desk.worker(QUEUE)
    await worker.finish(worker.claim(), **ENDING)
    return await asking


def error_of(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


async def test_the_short_way_makes_the_same_job(desk: Desk) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    given: JsonObject = {
        "adapter": "poet",
        "max_tokens": 5,
        "stop": ["."],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    }
    policy = {"priority": "high", "run_at": tomorrow.isoformat()}
    body = {**TEXT, **given, "policy": policy, "metadata": {"run": "a"}, "retention_seconds": 60.0}
    short = await desk.client.post("/v1/text", json=body)
    assert short.status_code == 202
    Job.model_validate_json(short.content)
    told = {"kind": "text", "model": "wordy", "input": {"messages": [USER], **given}, "policy": policy}
    long = (await desk.client.post("/v1/jobs", json={**told, "metadata": {"run": "a"}})).json()
    same = ("kind", "model", "status", "input", "metadata")
    assert [short.json()[name] for name in same] == [long[name] for name in same]
    assert short.headers["location"].endswith(short.json()["id"])
    row = desk.row(short.json()["id"])
    assert (row.priority, row.retention_seconds, row.run_at) == ("high", 60, tomorrow.timestamp())
    assert (row.prefill_tokens, row.max_new_tokens) == (4, 5)


async def test_the_short_way_waits_for_the_end(desk: Desk) -> None:
    answer = await finished(desk, "/v1/text", TEXT)
    assert (answer.status_code, answer.json()["output"]) == (200, ENDING["output"])


async def test_the_short_way_knows_idempotency_keys(desk: Desk) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = [await desk.client.post("/v1/text", json=TEXT, headers=key) for _ in range(2)]
    assert first.json()["id"] == again.json()["id"]
    other = await desk.client.post("/v1/text", json={**TEXT, "seed": 1}, headers=key)
    assert error_of(other) == (422, "idempotency_mismatch", "Idempotency-Key")


BAD_TEXT: dict[str, tuple[JsonObject, int, str, str | None, str]] = {
    "an unknown model": (
        {"model": "gpt"},
        404,
        "model_not_found",
        "model",
        "Known models: echo, sketch, twin, wordy.",
    ),
    "another kind": (
        {"model": "sketch"},
        422,
        "invalid",
        "model",
        "makes images, not text; choose one of: echo, wordy.",
    ),
    "an unknown adapter": ({"adapter": "x"}, 422, "invalid", "adapter", "Known adapters: pirate, poet."),
    "no answers": ({"n": 0}, 422, "invalid", "n", "greater than or equal to 1"),
    "both": ({"prompt": "x"}, 422, "invalid", None, "send either 'messages' or 'prompt'"),
    "an unknown field": ({"input": {}}, 422, "invalid", "input", "There is no field 'input' here"),
    "no model": ({"model": None}, 422, "invalid", "model", "valid string"),
    "a short life": ({"policy": {"ttl_seconds": 0}}, 422, "invalid", "policy.ttl_seconds", "greater than 0"),
    "too long": (
        {"messages": [{"role": "user", "content": "x " * 60}]},
        422,
        "context_length_exceeded",
        "messages",
        "13 tokens too many",
    ),
    "too much": ({"max_tokens": 47}, 422, "context_length_exceeded", "max_tokens", "ask for at most 46"),
}


@pytest.mark.parametrize("name", BAD_TEXT)
async def test_the_short_way_refuses_by_its_own_names(desk: Desk, name: str) -> None:
    fields, status, code, param, words = BAD_TEXT[name]
    answer = await desk.client.post("/v1/text", json={**TEXT, **fields})
    assert error_of(answer) == (status, code, param), answer.text
    assert words in answer.json()["error"]["message"]
    assert desk.count_rows() == 0


@pytest.mark.parametrize("path", ["/v1/text", "/v1/lora/generate"])
async def test_what_is_no_request_is_malformed(desk: Desk, path: str) -> None:
    for body in (b"", b"[]", b"{", b'{"prompt":"\\ud800"}'):
        answer = await desk.client.post(path, content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
    assert (await desk.client.post(path, json={}, headers=desk.bearer("r", ("read",)))).status_code == 403


async def test_an_adapter_by_its_id_makes_a_text_job(desk: Desk) -> None:
    body = {**LORA, "seed": 7, "strength": 1, "safety_mode": "off", "max_tokens": 5, "metadata": {"a": 1}}
    answer = await desk.client.post("/v1/lora/generate", json=body)
    assert answer.status_code == 202, answer.text
    view = answer.json()
    LoraJob.model_validate_json(answer.content)
    assert (view["kind"], view["model"], view["status"], view["result"]) == ("text", "wordy", "queued", None)
    assert view["metrics"] == {"latency_ms": None, "tokens": None, "gpu": None}
    seen = await desk.look(view["id"])
    assert seen["input"] == {"messages": [USER], "adapter": "pirate", "seed": 7, "max_tokens": 5}
    assert seen["metadata"] == {"a": 1}


async def test_an_adapters_result_is_at_the_top(desk: Desk) -> None:
    answer = await finished(desk, "/v1/lora/generate", LORA)
    told = LoraJob.model_validate_json(answer.content)
    assert (answer.status_code, told.result, told.output) == (200, "Arr!", ENDING["output"])
    assert (told.metrics["tokens"], told.metrics["gpu"], told.metrics["ttft_ms"]) == (2, "cpu0", 3.0)
    assert told.metrics["latency_ms"] >= 0


BAD_LORA: dict[str, tuple[JsonObject, int, str, str, str]] = {
    "an unknown adapter": (
        {"lora_id": "x"},
        404,
        "not_found",
        "lora_id",
        "There is no adapter 'x'. Known adapters: ink, pirate, poet.",
    ),
    "one of another model": ({"model": "echo"}, 404, "not_found", "lora_id", "Known adapters: none."),
    "one for images, with tokens": ({"lora_id": "ink", "max_tokens": 5}, 422, "invalid", "max_tokens", "is for text"),
    "one for images, without steps": ({"lora_id": "ink", "steps": 0}, 422, "invalid", "steps", "equal to 1"),
    "steps": ({"steps": 8}, 422, "invalid", "steps", "'steps' is for image adapters, 'pirate' is for text"),
    "a negative prompt": ({"negative_prompt": "x"}, 422, "invalid", "negative_prompt", "is for image adapters"),
    "half of it": ({"strength": 0.5}, 422, "invalid", "strength", "works whole"),
    "a filter": ({"safety_mode": "block"}, 422, "invalid", "safety_mode", "not filtered here"),
    "no prompt": ({"prompt": ""}, 422, "invalid", "prompt", "at least 1 character"),
    "too long": ({"prompt": "x " * 60}, 422, "context_length_exceeded", "prompt", "13 tokens too many"),
    "an unknown field": ({"scale": 1}, 422, "invalid", "scale", "There is no field 'scale'"),
}


@pytest.mark.parametrize("name", BAD_LORA)
async def test_a_bad_wish_for_an_adapter_is_refused(desk: Desk, name: str) -> None:
    fields, status, code, param, words = BAD_LORA[name]
    answer = await desk.client.post("/v1/lora/generate", json={**LORA, **fields})
    assert error_of(answer) == (status, code, param), answer.text
    assert words in answer.json()["error"]["message"]
    assert desk.count_rows() == 0


async def test_two_adapters_of_one_id_are_told_apart_by_their_models(api_database: Database, tmp_path: Path) -> None:
    models = text_models(tmp_path).models
    second = Model.model_validate({**models["wordy"].model_dump(), "alias": "other"})
    catalog = Catalog(models={**models, "other": second})
    async with open_desk(replace(memory_services(api_database), catalog=catalog)) as desk:
        unclear = await desk.client.post("/v1/lora/generate", json=LORA)
        assert error_of(unclear) == (422, "invalid", "model")
        assert "'wordy' and 'other' have an adapter 'pirate'; say which one" in unclear.text
        answer = await desk.client.post("/v1/lora/generate", json={**LORA, "model": "other"})
        assert answer.json()["model"] == "other"


async def test_models_are_listed_with_each_of_their_text_adapters(desk: Desk) -> None:
    listed = ModelList.model_validate_json((await desk.client.get("/v1/models")).content).data
    assert [(one.id, one.base_model) for one in listed] == [
        ("echo", None),
        ("sketch", None),
        ("twin", None),
        ("wordy", None),
        ("wordy:pirate", "wordy"),
        ("wordy:poet", "wordy"),
    ]
    wordy, pirate = listed[3:5]
    assert [(one.id, one.description) for one in wordy.adapters] == [("pirate", "Talks like one."), ("poet", "")]
    assert (pirate.description, pirate.adapters, pirate.placements) == ("Talks like one.", [], wordy.placements)
    assert "./pirate" not in json.dumps([one.model_dump() for one in listed])
    answer = await desk.client.get("/v1/models/wordy:pirate")
    assert ModelAnswer.model_validate_json(answer.content) == pirate
    unknown: Any = await desk.client.get("/v1/models/wordy:x")
    assert error_of(unknown) == (404, "model_not_found", "model")
