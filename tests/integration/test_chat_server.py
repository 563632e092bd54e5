"""OpenAI's client, the API and a worker, each a process of its own: what streams, what stops, what is tried again."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from producer_api.authentication import make_key
from tests.api import migrated_url
from tests.integration.api_server import run_server
from tests.integration.site import Process, Site, open_site, until
from tests.services import RedisServer, S3Server
from workers.engines.fake import expected_output

CATALOG = """
[models.echo]
kind = "text"
engine = "fake"
source = "builtin"
devices = ["cpu0"]
max_in_flight = 8
options = { decode_step_ms = 4 }
adapters = { loud = { source = "./loud", description = "LOUD" } }
"""
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@dataclass
class House:
    """A worker, and a server in front of it."""

    site: Site
    worker: Process
    url: str


@pytest.fixture(scope="module")
def house(
    api_template: Path, redis_server: RedisServer, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """One house for all these tests."""
    folder = tmp_path_factory.mktemp("house")
    with open_site(migrated_url(api_template, folder), redis_server.url, s3_server, folder) as site:
        site.catalog.write_text(CATALOG)
        with run_server(site.environment, folder) as server:
            yield House(site, site.worker(), server.url)


@dataclass
class Caller:
    """Somebody who has never asked before."""

    house: House
    name: str

    def told(self, **options: Any) -> dict[str, Any]:
        """What this caller's client must be told."""
        key = self.house.site.database.transact(lambda c: make_key(c, self.name, "test", ("submit", "read"))).secret
        return {"base_url": f"{self.house.url}/v1", "api_key": key, "max_retries": 0, **options}

    def statuses(self) -> list[str]:
        """The status of each of this caller's jobs."""
        query = "SELECT status FROM jobs WHERE caller_id = (SELECT id FROM callers WHERE name = ?) ORDER BY id"
        found: list[str] = self.house.site.database.read(
            lambda connection: list(connection.exec_driver_sql(query, (self.name,)).scalars())
        )
        return found


@pytest.fixture
def caller(house: House, request: pytest.FixtureRequest) -> Caller:
    """Somebody new for each test."""
    return Caller(house, request.node.name)


@pytest.fixture
def client(caller: Caller) -> Iterator[openai.OpenAI]:
    """The official client."""
    with openai.OpenAI(**caller.told()) as opened:
        yield opened


def asked(words: str) -> dict[str, Any]:
    """The usual fields of a question."""
    return {"model": "echo", "messages": [{"role": "user", "content": words}]}


def answer_to(words: str, **fields: Any) -> Any:
    """The only right output."""
    return expected_output("text", {"messages": asked(words)["messages"], **fields})


def test_answers_whole_and_streamed(client: openai.OpenAI) -> None:
    fields: Any = {**asked("good morning"), "n": 2, "seed": 7, "max_tokens": 20}
    expected = [one["text"] for one in answer_to("good morning", n=2, seed=7, max_tokens=20)["choices"]]
    whole = client.chat.completions.create(**fields)
    assert [choice.message.content for choice in whole.choices] == expected
    assert whole.choices[0].finish_reason == "length"
    texts, chunks = ["", ""], 0
    with client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}) as stream:
        for chunk in stream:
            chunks += 1
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
    assert texts == expected
    assert chunk.usage == whole.usage
    assert chunks > 6  # it came in more than one piece


def test_an_adapter_is_a_model_by_its_own_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["echo", "echo:loud"]
    assert client.models.retrieve("echo:loud").id == "echo:loud"
    answer = client.chat.completions.with_raw_response.create(**{**asked("hi"), "model": "echo:loud"}, max_tokens=1)
    assert answer.headers["X-Stoker-Job-Id"].startswith("job_")
    assert answer.parse().model == "echo:loud"


def test_a_call_is_gathered_from_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**asked("fake:tool now"), tools=[TOOL], max_tokens=2) as stream:
        names = [event.name for event in stream if event.type == "tool_calls.function.arguments.done"]
        [choice] = stream.get_final_completion().choices
    assert (names, choice.finish_reason) == (["look"], "tool_calls")
    [call] = choice.message.tool_calls or []
    assert call.function.arguments == '{"said": "fake:tool now"}'


def test_words_come_while_the_job_still_runs_and_who_leaves_cancels_it(client: openai.OpenAI, caller: Caller) -> None:
    with client.chat.completions.create(**asked("fake:hang one"), stream=True) as stream:
        words = [next(stream).choices[0].delta.content for _ in range(2)]
        assert words == ["", "fake:hang"]
        assert caller.statuses() == ["running"]
    until(lambda: caller.statuses() == ["canceled"], "the job is canceled")
    assert client.chat.completions.create(**asked("hello"), max_tokens=1).choices[0].message.content == "hello"


@pytest.mark.parametrize(("retries", "key"), [(0, None), (1, "one answer, please")])
def test_who_does_not_wait_cancels_the_job_and_may_try_again(caller: Caller, retries: int, key: str | None) -> None:
    headers = {"Idempotency-Key": key} if key else {}
    with (
        openai.OpenAI(**caller.told(max_retries=retries), timeout=1.0, default_headers=headers) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        client.chat.completions.create(**asked("fake:hang"), max_tokens=1)
    until(lambda: caller.statuses() == ["canceled"] * (retries + 1), "each job is canceled")


@pytest.mark.parametrize("stream", [False, True])
async def test_who_repeats_a_request_is_answered_though_the_first_connection_goes(
    caller: Caller, *, stream: bool
) -> None:
    words = "fake:tokens=400 a long story"
    wanted: Any = {**asked(words), "max_tokens": 400, "stream": stream, "extra_headers": {"Idempotency-Key": "k"}}

    async def listen(client: openai.AsyncOpenAI) -> str:
        answer: Any = await client.chat.completions.create(**wanted)
        if not stream:
            return str(answer.choices[0].message.content)
        async with answer:
            return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])

    async with openai.AsyncOpenAI(**caller.told()) as client:
        first = asyncio.ensure_future(listen(client))
        await asyncio.to_thread(until, lambda: "running" in caller.statuses(), "it runs")
        repeated = asyncio.ensure_future(listen(client))
        await asyncio.sleep(0.2)  # time to meet the first; who comes later makes another job, and is answered, too
        first.cancel()
        assert await repeated == answer_to(words, max_tokens=400)["text"]
    assert caller.statuses()[-1] == "succeeded"


async def test_a_task_that_is_canceled_cancels_its_job(caller: Caller) -> None:
    async with openai.AsyncOpenAI(**caller.told()) as client:
        for stream in (False, True):
            asking: Any = asyncio.ensure_future(client.chat.completions.create(**asked("fake:hang"), stream=stream))
            await asyncio.to_thread(until, lambda: "running" in caller.statuses(), "it runs")
            asking.cancel()
            if stream:  # its first word may have come already, and then it is the stream that must be let go
                await asyncio.wait([asking])
                if not asking.cancelled():
                    await asking.result().close()
            await asyncio.to_thread(until, lambda: "running" not in caller.statuses(), "it is canceled")
    assert set(caller.statuses()) == {"canceled"}


def test_a_refusal_is_told_as_one_in_streams_too(client: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="fake:refuse") as raised:
            client.chat.completions.create(**asked("fake:refuse"), stream=stream)
        assert raised.value.response.headers["x-should-retry"] == "false"
        assert raised.value.param is None  # there is no 'input' in what was sent


def test_a_stream_goes_on_over_a_worker_that_was_killed(client: openai.OpenAI, caller: Caller) -> None:
    caller.house.site.maintenance()
    words = "fake:tokens=400 a long story"
    text, is_killed = "", False
    with client.chat.completions.create(**asked(words), stream=True, max_tokens=400) as stream:
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            if not is_killed and len(text) > len(words):
                is_killed = True
                caller.house.worker.stop()
                caller.house.site.worker()
    assert text == answer_to(words, max_tokens=400)["text"]
    assert caller.statuses() == ["succeeded"]
