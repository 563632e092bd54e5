"""OpenAI's own client against the whole platform with a real model: what a product would do to us."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from stoker import Stoker
from tests.acceptance.platform import Platform

PATIENCE_SECONDS = 60.0
CONTEXT = 1024


@pytest.fixture
def client(demo: Platform) -> Iterator[openai.OpenAI]:
    """The official client; it does not try again, so that every answer is seen."""
    told = demo.client
    with openai.OpenAI(base_url=f"{told['STOKER_URL']}/v1", api_key=told["STOKER_API_KEY"], max_retries=0) as opened:
        yield opened


@pytest.fixture
def stoker(demo: Platform) -> Iterator[Stoker]:
    """Our own client, to look behind the door."""
    told = demo.client
    with Stoker(told["STOKER_URL"], told["STOKER_API_KEY"]) as opened:
        yield opened


def ask(client: openai.OpenAI, words: str, **fields: Any) -> Any:
    """Ask the demo model."""
    told: Any = {"model": "chat", "messages": [{"role": "user", "content": words}], **fields}
    return client.chat.completions.create(**told)


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    words = "Repeat after me: 안녕하세요 😀👍🏽 สวัสดี"
    for model in ("chat", "chat:pirate", "chat:haiku"):
        whole = ask(client, words, model=model, temperature=0, max_tokens=60)
        with ask(
            client,
            words,
            model=model,
            temperature=0,
            max_tokens=60,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            chunks = list(stream)
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(pieces) == whole.choices[0].message.content
        assert "\ufffd" not in "".join(pieces)
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_several_answers_and_stop_strings(client: openai.OpenAI) -> None:
    answer = ask(client, "Tell me a story.", n=3, seed=7, stop=["."], max_tokens=80)
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert not any("." in text for text in texts)
    assert ask(client, "Tell me a story.", seed=7, stop=["."], max_tokens=80).choices[0].finish_reason in (
        "stop",
        "length",
    )


def test_prompts_are_counted_as_the_engine_counts_them(client: openai.OpenAI) -> None:
    used = ask(client, "What is a queue?", max_tokens=1).usage
    exactly = CONTEXT - used.prompt_tokens
    with pytest.raises(openai.BadRequestError, match=f"{used.prompt_tokens} tokens, and 'max_tokens' is") as raised:
        ask(client, "What is a queue?", max_tokens=exactly + 1)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "max_tokens")
    assert "X-Stoker-Job-Id" not in raised.value.response.headers
    assert ask(client, "What is a queue?", max_tokens=exactly).usage.prompt_tokens == used.prompt_tokens


def leave_a_story(client: openai.OpenAI) -> str:
    """Ask for a story, hear its first word and leave; the job's id."""
    told = client.chat.completions.with_raw_response.create(
        model="chat",
        messages=[{"role": "user", "content": "Tell me a story."}],
        stream=True,
        temperature=2,  # so that it does not end soon
        presence_penalty=2,
        extra_body={"top_k": 2000},
    )
    with told.parse() as stream:
        next(iter(stream))
    return told.headers["X-Stoker-Job-Id"]


def test_who_leaves_a_stream_gives_the_place_back(client: openai.OpenAI, stoker: Stoker) -> None:
    ended = [stoker.wait(leave_a_story(client), PATIENCE_SECONDS).status for _ in range(3)]
    assert "canceled" in ended  # a short story may have ended first
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(worker.in_flight or worker.stats.get("batch") for worker in stoker.workers()):
        assert time.monotonic() < deadline, [worker.raw for worker in stoker.workers()]
        time.sleep(0.2)


def test_pictures_come_as_links_that_a_browser_can_show_or_in_the_answer(client: openai.OpenAI) -> None:
    wanted: dict[str, Any] = {"model": "sketch", "prompt": "a red circle", "extra_body": {"seed": 7}}
    linked = client.images.generate(**wanted, n=2)
    assert linked.data is not None
    shown = [httpx.get(str(one.url)) for one in linked.data]
    assert [one.headers["content-type"] for one in shown] == ["image/png"] * 2
    assert all("image-" in one.headers["content-disposition"] for one in shown)
    inside = client.images.generate(**wanted, n=2, response_format="b64_json", size="64x64")
    assert inside.data is not None
    assert [base64.b64decode(one.b64_json or "") for one in inside.data] == [one.content for one in shown]


def test_a_picture_that_is_refused_is_a_bad_request(client: openai.OpenAI) -> None:
    for fields, code, param in (
        ({"prompt": "a nude circle"}, "content_policy_violation", "prompt"),
        ({"size": "1024x1024"}, "invalid", "size"),
        ({"n": 99}, "invalid", "n"),
    ):
        wanted: dict[str, Any] = {"model": "sketch", "prompt": "x", **fields}
        with pytest.raises(openai.BadRequestError) as refused:
            client.images.generate(**wanted)
        assert (refused.value.code, refused.value.param) == (code, param)
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="dall-e-3", prompt="x")


def test_a_client_that_leaves_cancels_its_picture(client: openai.OpenAI, stoker: Stoker) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.images.generate(
            model="sketch", prompt="a red circle", n=16, timeout=2.0, extra_body={"steps": 100, "seed": 424242}
        )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (job := next(iter(stoker.jobs(1, kind="image")))).has_ended:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert job.status == "canceled"
