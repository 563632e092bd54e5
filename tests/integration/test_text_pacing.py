"""Steps of a real vLLM: words for nobody come together and are those that somebody would hear, parts keep a seed."""

import asyncio
import importlib.util
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from schemas.base import JsonObject
from schemas.events import EngineEvent, Finished, Token
from tasks.audience import Audience
from tasks.engine import EngineRequest
from tests.decoders import LentDecoder
from tests.engines import ask, model
from workers.engines.catalog_adapters import CatalogAdapters
from workers.engines.text import Decoder, TextEngine

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make env brings it)"),
    pytest.mark.asyncio(loop_scope="session"),
]
LONG = {"prompt": "x", "temperature": 0, "max_tokens": 1500}


@pytest_asyncio.fixture(loop_scope="session")
async def engine(real_decoder: LentDecoder, tiny_llama: Path) -> AsyncIterator[TextEngine]:
    """An engine of its own on the run's one vLLM."""
    told = model("vllm", "text", source=str(tiny_llama), max_in_flight=32)
    made = TextEngine(told, lambda _: cast("Decoder", real_decoder), CatalogAdapters(told, str))
    await made.load()
    yield made
    await made.close()
    await real_decoder.forget()


def said(events: list[EngineEvent]) -> list[str]:
    """The pieces of an answer."""
    return [event.text for event in events if isinstance(event, Token)]


async def listen_for(
    engine: TextEngine, given: JsonObject, audience: Audience, events: list[EngineEvent]
) -> AsyncGenerator[EngineRequest, None]:
    """Run a request for somebody or for nobody, event by event."""
    request = EngineRequest("job_1", 1, "text", given, audience=audience)
    async with aclosing(engine.run(request)) as running:
        async for event in running:
            events.append(event)
            yield request


@pytest.mark.parametrize("more", [{}, {"stop": ["q", "zz"]}])
async def test_nobody_follows_so_words_come_together_and_are_the_same(engine: TextEngine, more: JsonObject) -> None:
    given = {"prompt": "x", "max_tokens": 1000, "temperature": 0, **more}
    followed = await ask(engine, given, kind="text")
    nobody = Audience()
    nobody.is_there = False
    events: list[EngineEvent] = []
    async for _ in listen_for(engine, given, nobody, events):
        pass
    assert isinstance(events[-1], Finished)
    assert events[-1].output == followed.output
    assert events[-1].usage["completion_tokens"] == followed.usage["completion_tokens"]
    assert "".join(said(events)) == followed.output["text"]
    assert len(events) < followed.usage["completion_tokens"] / 4


async def test_who_begins_to_follow_hears_token_by_token_and_all_is_counted(engine: TextEngine) -> None:
    audience = Audience()
    audience.is_there = False
    events: list[EngineEvent] = []
    running = listen_for(engine, LONG, audience, events)
    request = await anext(running)
    while len(said(events)) < 3:
        await anext(running)
    quiet = request.usage["completion_tokens"]
    assert quiet > 2 * len(events)
    audience.is_there = True
    async for _ in running:
        pass
    assert len(events) > (1500 - quiet) / 10  # characters of several tokens come whole; hushed, few
    assert request.usage["completion_tokens"] == 1500
    assert isinstance(events[-1], Finished)
    assert "".join(said(events)) == events[-1].output["text"]


async def test_what_nobody_heard_is_counted_too_when_it_is_broken_off(engine: TextEngine) -> None:
    nobody = Audience()
    nobody.is_there = False
    for stream in (True, False):
        running = listen_for(engine, LONG | {"stream": stream}, nobody, [])
        request = await anext(running)
        await asyncio.sleep(0.1)
        await running.aclose()
        assert 2 < request.usage["completion_tokens"] < 1500


async def test_a_seed_is_kept_when_prompts_are_read_in_parts(engine: TextEngine, real_decoder: LentDecoder) -> None:
    each = real_decoder.step_tokens * 2 // 7  # the fourth and the seventh have no room in one step
    questions = [{"prompt": f"{number}" * each, "max_tokens": 8, "seed": number} for number in range(8)]
    together = await asyncio.gather(*(ask(engine, one, f"job_{n}", "text") for n, one in enumerate(questions)))
    alone = [await ask(engine, one, kind="text") for one in questions]
    assert [one.output["text"] for one in together] == [one.output["text"] for one in alone]
