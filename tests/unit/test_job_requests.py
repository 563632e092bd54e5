"""The body of POST /v1/jobs: what becomes a job, and what is refused with the field's name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.embedding import TEXTS_LIMIT
from schemas.jobs import (
    METADATA_CHARACTERS,
    METADATA_KEYS,
    EmbeddingJob,
    ImageJob,
    JobRequest,
    Priority,
    TextJob,
)

REQUEST: TypeAdapter[TextJob | ImageJob | EmbeddingJob] = TypeAdapter(JobRequest)
TEXT: dict[str, Any] = {"kind": "text", "model": "echo", "input": {"prompt": "hello"}}
IMAGE: dict[str, Any] = {"kind": "image", "model": "sketch", "input": {"prompt": "a circle"}}
EMBEDDING: dict[str, Any] = {"kind": "embedding", "model": "minilm", "input": {"texts": ["a", "b"]}}


def read(body: str | bytes) -> TextJob | ImageJob | EmbeddingJob:
    """Read a body as admission does."""
    return REQUEST.validate_json(body, strict=True)


def refusal(body: str | bytes) -> tuple[str, str]:
    """Where the first mistake is and what it is, of a body that must be refused."""
    with pytest.raises(ValidationError) as refused:
        read(body)
    first = refused.value.errors()[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]


def with_field(base: dict[str, Any], path: str, value: object) -> str:
    body = json.loads(json.dumps(base))
    *parents, last = path.split(".")
    target = body
    for name in parents:
        target = target.setdefault(name, {})
    target[last] = value
    return json.dumps(body)


@pytest.mark.parametrize("body", [TEXT, IMAGE, EMBEDDING], ids=lambda body: body["kind"])
def test_the_shortest_request_of_each_kind_is_a_job(body: dict[str, Any]) -> None:
    request = read(json.dumps(body))
    assert request.kind == body["kind"]
    assert (request.policy.priority, request.policy.max_attempts, request.policy.ttl_seconds) == (
        Priority.NORMAL,
        3,
        86_400,
    )
    assert (request.metadata, request.retention_seconds, request.policy.run_at) == ({}, None, None)


def test_a_string_is_a_list_of_one_text() -> None:
    request = read(with_field(EMBEDDING, "input.texts", "alone"))
    assert isinstance(request, EmbeddingJob)
    assert request.input.texts == ["alone"]


def test_a_whole_policy_is_kept() -> None:
    policy = {"priority": "high", "ttl_seconds": 5, "timeout_seconds": 1.5, "max_attempts": 1}
    request = read(json.dumps(TEXT | {"policy": policy | {"run_at": "2030-01-01T00:00:00+02:00"}}))
    assert request.policy.run_at is not None
    assert request.policy.run_at.timestamp() == 1893448800
    assert request.policy.model_dump(exclude={"run_at"}) == policy


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize(
    "path",
    [
        "policy.ttl_seconds",
        "policy.timeout_seconds",
        "retention_seconds",
        "input.max_tokens",
        "metadata.a",
        "metadata.b.c",
    ],
)
def test_what_is_no_number_is_refused_wherever_it_stands(path: str, number: str) -> None:
    body = with_field(TEXT, path, "HERE").replace('"HERE"', number)
    where, _ = refusal(body)
    assert where.startswith("text." + path.partition(".b")[0].replace("metadata.a", "metadata"))


@pytest.mark.parametrize("opening", ["[", '{"a":', "[[{}, "])
@pytest.mark.parametrize("path", ["metadata.deep", "input.messages", "model", "policy", "unknown"])
def test_a_nested_bomb_is_refused_without_going_off(path: str, opening: str) -> None:
    closing = {"[": "]", '{"a":': "}", "[[{}, ": "]]"}[opening]
    body = with_field(TEXT, path, "HERE").replace('"HERE"', opening * 50_000 + "1" + closing * 50_000)
    assert "recursion limit" in refusal(body)[1]
    assert refusal(body.removesuffix("}"))[1].startswith("Invalid JSON")


@pytest.mark.parametrize("path", ["input.prompt", "metadata.a", "model"])
@pytest.mark.parametrize("escape", ["\\ud800", "\\udfff", "\\ud800\\ud800", "\\ud83d x", "\\udc00\\ud800"])
def test_half_a_surrogate_pair_is_refused(path: str, escape: str) -> None:
    body = with_field(TEXT, path, "HERE").replace("HERE", escape)
    assert refusal(body)[1].startswith("Invalid JSON")


def test_a_whole_surrogate_pair_is_a_character() -> None:
    request = read(with_field(TEXT, "input.prompt", "😀"))
    assert isinstance(request, TextJob)
    assert request.input.prompt == "😀"


@pytest.mark.parametrize("raw", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"])
def test_bytes_that_are_not_utf8_are_refused(raw: bytes) -> None:
    assert refusal(with_field(TEXT, "input.prompt", "HERE").encode().replace(b"HERE", raw))[1].startswith(
        "Invalid JSON"
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ("null", "Input should be an object"),
        ('"text"', "Input should be an object"),
        ("7", "Input should be an object"),
        ("{}", "Unable to extract tag using discriminator 'kind'"),
        ('{"kind":"video"}', "Input tag 'video' found using 'kind' does not match"),
        ('{"kind":7}', "Input tag '7' found using 'kind' does not match"),
    ],
)
def test_what_is_no_request_at_all_is_refused(body: str, why: str) -> None:
    where, said = refusal(body)
    assert (where, said[: len(why)]) == ("", why)


@pytest.mark.parametrize(
    "path", ["extra", "input.extra", "policy.extra", "policy.webhook", "input.temprature", "status", "id", "caller_id"]
)
def test_unknown_fields_are_named(path: str) -> None:
    assert refusal(with_field(TEXT, path, 1)) == (f"text.{path}", "Extra inputs are not permitted")


@pytest.mark.parametrize(
    ("base", "path", "value"),
    [
        (TEXT, "model", ""),
        (TEXT, "model", 7),
        (TEXT, "model", "x" * 129),
        (TEXT, "input", "hello"),
        (TEXT, "input.prompt", ""),
        (TEXT, "input.prompt", ["a"]),
        (TEXT, "input.max_tokens", 0),
        (TEXT, "input.max_tokens", "5"),
        (TEXT, "input.max_tokens", True),
        (TEXT, "input.max_tokens", 1.5),
        (TEXT, "input.seed", -1),
        (TEXT, "input.seed", 2**63),
        (TEXT, "policy", []),
        (TEXT, "policy.priority", "urgent"),
        (TEXT, "policy.ttl_seconds", 0),
        (TEXT, "policy.ttl_seconds", -1),
        (TEXT, "policy.ttl_seconds", 31 * 86_400),
        (TEXT, "policy.timeout_seconds", 0),
        (TEXT, "policy.max_attempts", 0),
        (TEXT, "policy.max_attempts", 11),
        (TEXT, "policy.run_at", "2030-01-01T00:00:00"),
        (TEXT, "policy.run_at", "tomorrow"),
        (TEXT, "retention_seconds", 0),
        (TEXT, "metadata", "a"),
        (TEXT, "metadata", [1]),
        (IMAGE, "input.width", 65),
        (IMAGE, "input.height", 0),
        (IMAGE, "input.width", 4104),
        (IMAGE, "input.n", 17),
        (IMAGE, "input.steps", 0),
        (EMBEDDING, "input.texts", []),
        (EMBEDDING, "input.texts", ""),
        (EMBEDDING, "input.texts", ["a", ""]),
        (EMBEDDING, "input.texts", ["a", 7]),
        (EMBEDDING, "input.texts", ["a"] * (TEXTS_LIMIT + 1)),
    ],
)
def test_a_wrong_value_is_refused_by_the_fields_name(base: dict[str, Any], path: str, value: object) -> None:
    where, said = refusal(with_field(base, path, value))
    assert where.startswith(f"{base['kind']}.{path}")
    assert said


@pytest.mark.parametrize("given", [{}, {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}])
def test_either_messages_or_a_prompt(given: dict[str, Any]) -> None:
    assert "send either 'messages' or 'prompt'" in refusal(json.dumps(TEXT | {"input": given}))[1]


def test_the_input_must_be_of_the_kind() -> None:
    refused = refusal(json.dumps(TEXT | {"kind": "image", "input": {"messages": []}}))
    assert refused == ("image.input.prompt", "Field required")


def test_metadata_has_a_limit_of_keys_and_of_characters() -> None:
    most = {str(number): 1 for number in range(METADATA_KEYS)}
    assert read(json.dumps(TEXT | {"metadata": most})).metadata == most
    assert f"at most {METADATA_KEYS}" in refusal(json.dumps(TEXT | {"metadata": most | {"more": 1}}))[1]
    longest = "x" * (METADATA_CHARACTERS - len('{"a": ""}'))
    assert read(with_field(TEXT, "metadata.a", longest)).metadata == {"a": longest}
    assert "store the rest on your side" in refusal(with_field(TEXT, "metadata.a", longest + "x"))[1]


@pytest.mark.parametrize("metadata", [{"a": "\0"}, {"\0": 1}, {"a": {"b": ["x\0"]}}, {"a": "\\\0"}])
def test_a_nul_in_metadata_is_refused(metadata: dict[str, Any]) -> None:
    assert "NUL" in refusal(json.dumps(TEXT | {"metadata": metadata}))[1]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
def test_any_other_text_comes_back_as_it_was_sent(text: str) -> None:
    metadata = {text: text, "escaped": text + r"\u0000"}
    assert read(json.dumps(TEXT | {"metadata": metadata})).metadata == metadata
