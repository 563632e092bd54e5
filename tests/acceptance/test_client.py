"""The Python client on a running platform whose parts are killed under it."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from stoker import AsyncStoker, Stoker, Transcript
from tests.acceptance.platform import Platform

LONG = {"prompt": "fake:tokens=1000 A long story.", "max_tokens": 1000}
EVENTS_BEFORE = 5


@pytest.fixture
def stoker(platform: Platform) -> Iterator[Stoker]:
    """A client that is patient enough for a restart."""
    told = platform.client
    with Stoker(told["STOKER_URL"], told["STOKER_API_KEY"], patience_seconds=60) as client:
        yield client


def watch_and_kill(platform: Platform, stoker: Stoker, *words: str) -> tuple[list[str], Transcript, str]:
    """Kill a part in the middle of a job's stream; the types and the transcript of its events, and its output."""
    job = stoker.submit("text", "echo", LONG)
    types, transcript = [], Transcript()
    for event in stoker.events(job):
        types.append(event.type)
        transcript.add(event)
        if len(types) == EVENTS_BEFORE:
            for process in platform.part_processes(*words):
                process.kill()
    ended = stoker.wait(job, 60)
    assert ended.status == "succeeded", ended.raw
    return types, transcript, ended.output["text"]


def test_a_stream_survives_the_death_of_the_api(platform: Platform, stoker: Stoker) -> None:
    types, transcript, text = watch_and_kill(platform, stoker, "producer_api")
    assert transcript.text == text
    assert "restarted" not in types
    assert types.count("started") == types.count("finished") == 1


def test_a_stream_survives_the_death_of_the_worker(platform: Platform, stoker: Stoker) -> None:
    types, transcript, text = watch_and_kill(platform, stoker, "workers", "--model", "echo")
    assert "restarted" in types
    assert transcript.text == text


def test_many_jobs_at_once_through_the_asynchronous_client(platform: Platform) -> None:
    told = platform.client

    async def run_many() -> list[bytes]:
        async with AsyncStoker(told["STOKER_URL"], told["STOKER_API_KEY"]) as client:
            prompts = [f"Job {number}" for number in range(20)]
            jobs = await asyncio.gather(*(client.submit("text", "echo", {"prompt": prompt}) for prompt in prompts))
            return await asyncio.gather(*(client.result(job, timeout_seconds=60) for job in jobs))

    texts = [json.loads(content)["text"] for content in asyncio.run(run_many())]
    assert [text.startswith(f"Job {number}") for number, text in enumerate(texts)] == [True] * 20
