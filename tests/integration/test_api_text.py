"""Text jobs at the front door: what is refused with its reason, what is counted, what is stored."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from schemas.base import JsonObject
from schemas.catalog import Catalog
from storage.database import Database
from storage.objects.memory import MemoryObjectStore
from tasks.weights import Weights
from tests.api import Desk, memory_services, open_desk
from tests.words import CONTEXT, text_models, write_model

USER: JsonObject = {"role": "user", "content": "one two"}
CALL: JsonObject = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
TOOL: JsonObject = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture
async def desk(api_database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    """An API whose model 'wordy' counts words."""
    async with open_desk(replace(memory_services(api_database), catalog=text_models(tmp_path))) as opened:
        yield opened


def job(**fields: Any) -> JsonObject:
    """A good request with some fields of the input changed; None takes one out."""
    given = {"messages": [USER], **fields}
    return {"kind": "text", "model": "wordy", "input": {k: v for k, v in given.items() if v is not None}}


def turns(*messages: JsonObject) -> JsonObject:
    return {"messages": list(messages)}


def schema(inner: JsonObject) -> JsonObject:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": inner}}}


Bad = tuple[JsonObject, str, str, str]
BAD: dict[str, Bad] = {
    "an unknown adapter": (
        {"adapter": "piratte"},
        "invalid",
        "adapter",
        "'wordy' has no adapter 'piratte'. Known adapters: pirate, poet.",
    ),
    "a picture": (
        turns({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/cat.png"}}]}),
        "invalid",
        "messages.0.content",
        "'wordy' reads only text, and messages[0] has a picture; take it out.",
    ),
    "a part of no type": (
        turns({"role": "user", "content": [{"text": "a"}]}),
        "invalid",
        "messages.0.content.0",
        "'type'",
    ),
    "a sound": (
        turns({"role": "user", "content": [{"type": "input_audio"}]}),
        "invalid",
        "messages.0.content.0",
        "'type'",
    ),
    "a part without its text": (
        turns({"role": "user", "content": [{"type": "text"}]}),
        "invalid",
        "messages.0.content.0.text",
        "is missing",
    ),
    "a number for words": (
        turns({"role": "user", "content": 5}),
        "invalid",
        "messages.0.content",
        "send text, or a list",
    ),
    "no words": (turns({"role": "user"}), "invalid", "messages.0", "has no 'content'"),
    "no turns": (turns(), "invalid", "messages", "at least 1 item"),
    "a system turn in the middle": (
        turns(USER, {"role": "system", "content": "x"}, USER),
        "invalid",
        "",
        "messages[1] is a system turn in mid-conversation",
    ),
    "a tool that nobody called": (
        turns(USER, {"role": "tool", "tool_call_id": "c9", "content": "x"}),
        "invalid",
        "",
        "messages[1] answers the call 'c9'",
    ),
    "a tool that does not say which call it answers": (
        turns(USER, {"role": "tool", "content": "x"}),
        "invalid",
        "messages.1",
        "'tool_call_id'",
    ),
    "the assistant's word as the last": (
        turns(USER, {"role": "assistant", "content": "x"}),
        "invalid",
        "",
        "the last of the 'messages' is the assistant's",
    ),
    "calls of the user's": (turns({**USER, "tool_calls": [CALL]}), "invalid", "messages.0", "belong to the assistant"),
    "a tool without a name": (
        {"tools": [{"type": "function", "function": {}}]},
        "invalid",
        "tools.0.function.name",
        "is missing; add it",
    ),
    "a tool with an odd name": (
        {"tools": [{"type": "function", "function": {"name": "look up"}}]},
        "invalid",
        "tools.0.function.name",
        "pattern",
    ),
    "two tools of one name": ({"tools": [TOOL, TOOL]}, "invalid", "", "two of the 'tools' have the same name"),
    "tools beside a bare prompt": (
        {"messages": None, "prompt": "x", "tools": [TOOL]},
        "invalid",
        "",
        "'tools' need 'messages'",
    ),
    "a choice that is none": ({"tools": [TOOL], "tool_choice": "any"}, "invalid", "tool_choice", "'none', 'auto'"),
    "a choice of an unknown tool": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}},
        "invalid",
        "",
        "'tool_choice' names 'x'",
    ),
    "a required tool where there are none": ({"tool_choice": "required"}, "invalid", "", "there are no 'tools'"),
    "a schema that is none": (
        schema({"type": "strin"}),
        "invalid",
        "response_format.json_schema.schema",
        "is not a valid JSON schema",
    ),
    "a pattern that is none": (
        schema({"not": {"not": {"pattern": "("}}}),
        "invalid",
        "response_format.json_schema.schema",
        "has the pattern '('",
    ),
    "a tool's schema that is none": (
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": 7}}}]},
        "invalid",
        "tools.0.function.parameters",
        "is not a valid JSON schema",
    ),
    "a schema without a name": (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "invalid",
        "response_format.json_schema.name",
        "is missing",
    ),
    "an unknown format": ({"response_format": {"type": "xml"}}, "invalid", "response_format", "'json_schema'"),
    "no answers": ({"n": 0}, "invalid", "n", "greater than or equal to 1"),
    "too many answers": ({"n": 17}, "invalid", "n", "less than or equal to 16"),
    "2,000 stop strings": ({"stop": ["x"] * 2000}, "invalid", "stop", "at most 16 items"),
    "an empty stop string": ({"stop": [""]}, "invalid", "stop.0", "at least 1 character"),
    "an endless stop string": ({"stop": "x" * 257}, "invalid", "stop.0", "at most 256 characters"),
    "too hot": ({"temperature": 2.1}, "invalid", "temperature", "less than or equal to 2"),
    "not a number": ({"top_p": float("nan")}, "invalid", "top_p", "finite number"),
    "logit bias": ({"logit_bias": {"7": 1}}, "invalid", "logit_bias", "There is no field"),
    "more tokens than the context has": (
        {"max_tokens": CONTEXT + 1},
        "context_length_exceeded",
        "max_tokens",
        "'max_tokens' is 51, and 'wordy' has a context of 50 tokens for prompt and answer together",
    ),
    "more tokens than there is room for": (
        {"max_tokens": 47},
        "context_length_exceeded",
        "max_tokens",
        "The messages: 4 tokens, and 'max_tokens' is 47: 1 too many for 'wordy' with its context of 50.",
    ),
    "a prompt that fills the context": (
        {"messages": None, "prompt": "x " * CONTEXT},
        "context_length_exceeded",
        "prompt",
        "The prompt: 50 tokens, 1 token too many. 'wordy' has a context of 50 for prompt and answer",
    ),
    "turns that are too long": (
        turns({"role": "user", "content": "x " * 100}),
        "context_length_exceeded",
        "messages",
        "The messages: 102 tokens, 53 tokens too many.",
    ),
    "five megabytes": (
        {"messages": None, "prompt": "x" * 5_000_000},
        "context_length_exceeded",
        "prompt",
        ": 5,000,000 characters, which cannot fit",
    ),
    "five megabytes of arguments": (
        turns(
            USER,
            {
                "role": "assistant",
                "tool_calls": [{**CALL, "function": {"name": "look", "arguments": "x" * 5_000_000}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "x"},
        ),
        "context_length_exceeded",
        "messages",
        "characters, which cannot fit",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_text_is_refused_with_a_sentence_and_leaves_no_row(desk: Desk, name: str) -> None:
    fields, code, param, words = BAD[name]
    answer = await desk.client.post("/v1/jobs", content=json.dumps(job(**fields)))
    error = answer.json()["error"]
    where = f"input.{param}".rstrip(".")
    assert (answer.status_code, error["code"], error["param"]) == (422, code, where), answer.text
    assert words in error["message"]
    assert len(answer.content) < 1000
    assert desk.count_rows() == 0


async def test_half_a_surrogate_pair_is_refused(desk: Desk) -> None:
    for path in ('"content":"one two"', '"model":"wordy"'):
        body = json.dumps(job(), separators=(",", ":")).replace(path, path[:-1] + '\\ud83d"')
        answer = await desk.client.post("/v1/jobs", content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
    assert desk.count_rows() == 0


async def test_a_job_is_stored_with_its_cost_and_what_room_it_has(desk: Desk) -> None:
    view = (await desk.client.post("/v1/jobs", json=job(n=2))).json()
    assert view["input"] == {"messages": [USER], "n": 2, "max_tokens": 46}
    claimed = desk.worker("text.wordy.cpu0").claim()
    assert (claimed.prefill_tokens, claimed.max_new_tokens) == (4, 92)


async def test_what_was_asked_for_is_left_as_it_is(desk: Desk) -> None:
    whole = schema({"type": "object", "properties": {"a": {"const": None}}})
    fields: JsonObject = {"max_tokens": 46, "adapter": "poet", "seed": 7, "stop": ["."], "temperature": 0.0, **whole}
    view = (await desk.client.post("/v1/jobs", json=job(**fields))).json()
    assert view["input"] == {"messages": [USER], **fields}
    claimed = desk.worker("text.wordy.cpu0").claim()
    assert (claimed.prefill_tokens, claimed.max_new_tokens) == (4, 46)


async def test_tools_are_read_by_the_model_and_so_counted(desk: Desk) -> None:
    for fields, tokens in (({}, 5), ({"tool_choice": "none"}, 4)):
        answer = await desk.client.post("/v1/jobs", json=job(tools=[TOOL], **fields))
        assert desk.row(answer.json()["id"]).prefill_tokens == tokens


async def test_a_model_that_reads_no_tokens_is_not_counted_for(desk: Desk) -> None:
    row = desk.row(await desk.submit())
    assert (row.prefill_tokens, row.max_new_tokens) == (None, None)


async def test_a_retry_is_counted_again(desk: Desk) -> None:
    job_id = (await desk.client.post("/v1/jobs", json=job(max_tokens=5))).json()["id"]
    await desk.client.post(f"/v1/jobs/{job_id}/cancel")
    again = (await desk.client.post(f"/v1/jobs/{job_id}/retry")).json()
    row = desk.row(again["id"])
    assert (row.prefill_tokens, row.max_new_tokens) == (4, 5)


async def test_the_same_key_means_the_same_whether_it_was_counted_or_not(desk: Desk) -> None:
    key = {"Idempotency-Key": "k"}
    first = await desk.client.post("/v1/jobs", json=job(), headers=key)
    desk.app.state.api.counting._loadings.clear()  # noqa: SLF001 - as in a process that could not load it
    (Path(desk.services.catalog.models["wordy"].source) / "tokenizer.json").unlink()
    again = await desk.client.post("/v1/jobs", json=job(), headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


def without_tokenizer(models: Catalog, source: str) -> Catalog:
    wordy = models.models["wordy"].model_copy(update={"source": source})
    return Catalog(models={**models.models, "wordy": wordy})


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("./no/such/folder", "does not exist; create it"),
        ("s3://shelf/wordy", "There is nothing at s3://shelf/wordy"),
        ("package:no_such_package", "is not installed"),
        ("nobody/nothing", "could not be fetched from the hub"),
    ],
)
async def test_without_its_tokens_the_engine_is_left_to_judge(
    api_database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    reason: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    models = without_tokenizer(text_models(tmp_path), source)
    weights = Weights(lambda _: MemoryObjectStore(), tmp_path / "weights")
    services = replace(memory_services(api_database), catalog=models, weights=weights)
    with capture_logs() as lines:
        async with open_desk(services) as desk:
            for _ in range(3):
                answer = await desk.client.post("/v1/jobs", json=job(max_tokens=47))
                assert answer.status_code == 202
                assert desk.row(answer.json()["id"]).prefill_tokens is None
            bad = await desk.client.post("/v1/jobs", json=job(**schema({"type": "strin"})))
            assert bad.status_code == 422
    said = [line for line in lines if line["event"] == "Prompts are not counted before they are queued."]
    assert [(line["model"], reason in line["reason"]) for line in said] == [("wordy", True)]


def a_bucket_with(folder: str) -> MemoryObjectStore:
    bucket = MemoryObjectStore()
    for path in Path(folder).iterdir():
        bucket.put(f"wordy/{path.name}", path.read_bytes(), "application/octet-stream")
    bucket.put("wordy/model.safetensors", b"large", "application/octet-stream")
    return bucket


async def test_a_tokenizer_may_lie_in_a_bucket(api_database: Database, tmp_path: Path) -> None:
    models = text_models(tmp_path)
    bucket = a_bucket_with(models.models["wordy"].source)
    weights = Weights(lambda _: bucket, tmp_path / "weights")
    services = replace(
        memory_services(api_database), catalog=without_tokenizer(models, "s3://shelf/wordy"), weights=weights
    )
    async with open_desk(services) as desk:
        answer = await desk.client.post("/v1/jobs", json=job())
        assert desk.row(answer.json()["id"]).prefill_tokens == 4
    fetched = sorted(
        path.name for path in (tmp_path / "weights").rglob("*") if path.is_file() and path.suffix != ".lock"
    )
    assert fetched == ["chat_template.jinja", "tokenizer.json"]


async def test_a_model_without_a_template_takes_prompts_only(api_database: Database, tmp_path: Path) -> None:
    models = without_tokenizer(text_models(tmp_path), str(write_model(tmp_path / "bare", template=None)))
    async with open_desk(replace(memory_services(api_database), catalog=models)) as desk:
        refused = await desk.client.post("/v1/jobs", json=job())
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "input.messages")
        assert "has no chat template; send a 'prompt' instead" in refused.json()["error"]["message"]
        taken = await desk.client.post("/v1/jobs", json=job(messages=None, prompt="one two three"))
        assert desk.row(taken.json()["id"]).prefill_tokens == 3
