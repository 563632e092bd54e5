"""A batch's lines are read and answered as the doors do it, word for word."""

import json
from dataclasses import replace

import pytest

from schemas.base import JsonObject
from schemas.batches import Endpoint
from schemas.catalog import Catalog
from schemas.embedding import EmbeddingInput
from schemas.errors import (
    AdapterGoneError,
    EngineError,
    EngineRefusedError,
    InputTooLongError,
    InvalidError,
    JobTimeoutError,
    StokerError,
)
from schemas.events import Produced
from schemas.image import ImageInput
from schemas.text import TextInput
from tasks.doors.bodies import Asked, Made, read_line, refuse_line

COMMON = {"engine": "fake", "source": "builtin", "devices": ["cpu0"]}
CATALOG = Catalog.model_validate(
    {
        "models": {
            "wordy": {
                "alias": "wordy",
                "kind": "text",
                "context_length": 64,
                "adapters": {"pirate": {"source": "p"}},
                **COMMON,
            },
            "paint": {"alias": "paint", "kind": "image", "adapters": {"ink": {"source": "i"}}, **COMMON},
            "vectors": {"alias": "vectors", "kind": "embedding", "dimensions": [2], **COMMON},
        }
    }
)
USER = {"role": "user", "content": "one two"}
CHAT: JsonObject = {"model": "wordy", "messages": [USER]}
TEXTS: JsonObject = {"model": "vectors", "input": ["a", "b"]}
NATIVE: JsonObject = {"kind": "text", "model": "wordy", "input": {"prompt": "a"}}
MADE = Made("batch_req_7", 12.5, {}, {"prompt_tokens": 3, "completion_tokens": 2})


def line(endpoint: Endpoint, body: JsonObject) -> bytes:
    return json.dumps({"custom_id": "one", "method": "POST", "url": endpoint, "body": body}).encode()


def read(endpoint: Endpoint, body: JsonObject) -> Asked:
    return read_line(endpoint, line(endpoint, body), CATALOG)


def test_a_chat_line_asks_for_what_the_door_would_make_of_it() -> None:
    body = {**CHAT, "model": "wordy:pirate", "max_completion_tokens": 5, "stop": "x", "store": True}
    asked = read(Endpoint.CHAT_COMPLETIONS, body)
    assert (asked.custom_id, asked.model.alias) == ("one", "wordy")
    expected = TextInput.model_validate(
        {"messages": [USER], "adapter": "pirate", "max_tokens": 5, "stop": ["x"], "stream": False}
    )
    assert asked.input == expected


def test_a_chat_line_is_answered_with_a_completion() -> None:
    asked = read(Endpoint.CHAT_COMPLETIONS, {**CHAT, "model": "wordy:pirate"})
    answer = asked.answer(replace(MADE, output={"text": "arr", "finish_reason": "stop"}))
    assert (answer["id"], answer["object"], answer["created"]) == ("chatcmpl-7", "chat.completion", 12)
    assert answer["model"] == "wordy:pirate"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "arr", "refusal": None}
    assert answer["usage"]["total_tokens"] == 5


@pytest.mark.parametrize(("encoding", "vector"), [("float", [1.0, 0.5]), ("base64", "AACAPwAAAD8=")])
def test_an_embeddings_line_is_answered_with_its_vectors(encoding: str, vector: object) -> None:
    asked = read(Endpoint.EMBEDDINGS, {**TEXTS, "encoding_format": encoding, "dimensions": 2})
    assert asked.input == EmbeddingInput(texts=["a", "b"], dimensions=2)
    answer = asked.answer(replace(MADE, output={"embeddings": [[1.0, 0.5]]}))
    assert answer["data"] == [{"object": "embedding", "index": 0, "embedding": vector}]
    assert (answer["model"], answer["usage"]) == ("vectors", {"prompt_tokens": 3, "total_tokens": 3})


def test_a_native_line_is_answered_with_the_jobs_output() -> None:
    asked = read(Endpoint.JOBS, NATIVE)
    assert asked.input == TextInput(prompt="a")
    assert asked.answer(replace(MADE, output={"text": "b"})) == {
        "kind": "text",
        "model": "wordy",
        "output": {"text": "b"},
        "usage": MADE.usage,
    }


@pytest.mark.parametrize("adapter", ["lora_06f4z9v3zqy8b0f5k2m1c7d", "comic"])
def test_a_line_names_only_the_catalogs_adapters(adapter: str) -> None:
    """Who runs a line does not ask whose adapter it is, so another caller's must not come so far."""
    draws = {"prompt": "a", "adapters": [{"id": adapter}]}
    lines: list[tuple[Endpoint, JsonObject]] = [
        (Endpoint.JOBS, {"kind": "text", "model": "wordy", "input": {"prompt": "a", "adapter": adapter}}),
        (Endpoint.JOBS, {"kind": "image", "model": "paint", "input": draws}),
        (Endpoint.CHAT_COMPLETIONS, {**CHAT, "model": f"wordy:{adapter}"}),
    ]
    for endpoint, body in lines:
        with pytest.raises(StokerError, match=adapter):
            read(endpoint, body)


BAD: list[tuple[Endpoint, JsonObject, tuple[int, str, str | None, str]]] = [
    (Endpoint.CHAT_COMPLETIONS, {**CHAT, "model": "nobody"}, (404, "model_not_found", "model", "Known models: ")),
    (Endpoint.CHAT_COMPLETIONS, {**CHAT, "model": "wordy:x"}, (404, "model_not_found", "model", "wordy:pirate")),
    (Endpoint.CHAT_COMPLETIONS, {**CHAT, "model": "vectors"}, (400, "invalid", "model", "choose one of: wordy")),
    (Endpoint.CHAT_COMPLETIONS, {"model": "wordy"}, (400, "invalid", "messages", "The field 'messages' is missing")),
    (Endpoint.CHAT_COMPLETIONS, {**CHAT, "nonsense": 1}, (400, "invalid", "nonsense", "no field 'nonsense'")),
    (
        Endpoint.CHAT_COMPLETIONS,
        {**CHAT, "temperature": 9},
        (400, "invalid", "temperature", "less than or equal"),
    ),
    (Endpoint.CHAT_COMPLETIONS, {**CHAT, "stream": True}, (400, "invalid", "stream", "are not streamed")),
    (Endpoint.CHAT_COMPLETIONS, {**CHAT, "max_tokens": 65}, (400, "context_length_exceeded", "max_tokens", "65")),
    (
        Endpoint.CHAT_COMPLETIONS,
        {**CHAT, "messages": [{**USER, "content": "x" * 1025}]},
        (400, "context_length_exceeded", "messages", "1,025 characters"),
    ),
    (Endpoint.EMBEDDINGS, {**TEXTS, "dimensions": 3}, (400, "invalid", "dimensions", "vectors of 2 numbers")),
    (Endpoint.EMBEDDINGS, {**TEXTS, "input": ["a", ""]}, (400, "invalid", "input.1", "at least 1 character")),
    (Endpoint.EMBEDDINGS, {**TEXTS, "input": [1]}, (400, "invalid", "input", "token arrays are not read")),
    (Endpoint.EMBEDDINGS, {**TEXTS, "input": "x" * 70_000}, (400, "context_length_exceeded", "input.0", "70,000")),
    (Endpoint.JOBS, {**NATIVE, "kind": "embedding"}, (422, "invalid", "input.texts", "'input.texts' is missing")),
    (Endpoint.JOBS, {**NATIVE, "kind": "sound"}, (422, "invalid", "kind", "must be one of text, image")),
    (Endpoint.JOBS, {**NATIVE, "model": "vectors"}, (422, "invalid", "kind", "'kind' must be 'embedding'")),
    (Endpoint.JOBS, {**NATIVE, "policy": {}}, (422, "invalid", "policy", "There is no field 'policy'")),
]


@pytest.mark.parametrize(("endpoint", "body", "expected"), BAD)
def test_what_is_wrong_with_a_line_is_said_as_its_door_says_it(
    endpoint: Endpoint, body: JsonObject, expected: tuple[int, str, str | None, str]
) -> None:
    with pytest.raises(StokerError) as refused:
        read(endpoint, body)
    status, answer = refuse_line(endpoint, refused.value, "req_1")
    error = answer["error"]
    assert (status, error["code"], error["param"]) == expected[:3]
    assert expected[3] in error["message"]
    assert error["request_id"] == "req_1"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EngineError("It broke."), 500, "engine_failed"),
        (EngineRefusedError("Never."), 400, "invalid"),
        (AdapterGoneError("It is gone."), 404, "model_not_found"),
        (InputTooLongError("Too long."), 400, "context_length_exceeded"),
        (JobTimeoutError(), 504, "door_timeout"),
    ],
)
def test_how_a_line_failed_is_said_as_its_door_says_it(error: StokerError, status: int, code: str) -> None:
    said, answer = refuse_line(Endpoint.CHAT_COMPLETIONS, error, None)
    assert (said, answer["error"]["code"]) == (status, code)
    assert answer["error"]["message"] == error.message


def test_an_images_line_has_its_pictures_in_the_answer() -> None:
    asked = read(Endpoint.IMAGES, {"model": "paint:ink", "prompt": "x", "size": "64x32", "n": 2})
    assert isinstance(asked.input, ImageInput)
    assert (asked.input.width, asked.input.height, asked.input.n, asked.input.steps) == (64, 32, 2, 25)
    assert [use.id for use in asked.input.adapters] == ["ink"]
    output = {
        "images": [{"name": None, "blocked": "no"}, {"name": "image-1.png"}],
        "safety": {"mode": "block", "checker": "basic", "blocked": 1},
    }
    answer = asked.answer(replace(MADE, output=output, produced=[Produced("image-1.png", "image/png", b"pixels")]))
    assert answer == {"created": 12, "data": [{"b64_json": "cGl4ZWxz"}], "safety": output["safety"]}


def test_a_line_that_names_no_seed_has_always_the_same() -> None:
    seeds = [
        asked.input.seed
        for body in ({"model": "paint", "prompt": "x"}, {"model": "paint", "prompt": "x"}, {"prompt": "y"})
        if isinstance((asked := read(Endpoint.IMAGES, body)).input, ImageInput)
    ]
    assert seeds[0] == seeds[1] != seeds[2]


def test_an_images_line_has_no_links_and_calls_its_size_so() -> None:
    with pytest.raises(InvalidError, match="have no links to their pictures"):
        read(Endpoint.IMAGES, {"prompt": "x", "response_format": "url"})
    with pytest.raises(InvalidError) as refused:
        read(Endpoint.IMAGES, {"prompt": "x", "size": "4096x4096"})
    status, told = refuse_line(Endpoint.IMAGES, refused.value, None)
    assert (status, told["error"]["param"]) == (400, "size")


def test_a_native_line_has_its_pictures_beside_the_output() -> None:
    asked = read(Endpoint.JOBS, {"kind": "image", "model": "paint", "input": {"prompt": "x"}})
    answer = asked.answer(replace(MADE, output={}, produced=[Produced("image-0.png", "image/png", b"pixels")]))
    assert answer["artifacts"] == [{"name": "image-0.png", "content_type": "image/png", "base64": "cGl4ZWxz"}]
