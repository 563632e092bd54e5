"""Whoever speaks for nobody does so seldom; whoever is followed speaks word by word, from the next word on."""

import asyncio

import pytest

from schemas.events import EngineEvent, Finished, Token
from tasks.audience import Audience
from tasks.engine import EngineRequest
from tests.decoders import ToyDecoder, toy_text_engine
from workers.engines import pacing
from workers.engines.pacing import AT_ONCE, EACH
from workers.engines.text import TextEngine

SAID = "a story that is long enough to come in pieces"


@pytest.fixture
def decoder() -> ToyDecoder:
    return ToyDecoder()


@pytest.fixture
async def engine(decoder: ToyDecoder) -> TextEngine:
    made = toy_text_engine(decoder)
    await made.load()
    return made


@pytest.fixture
def nobody() -> Audience:
    audience = Audience()
    audience.is_there = False
    return audience


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody speak by himself."""
    monkeypatch.setattr(pacing, "QUIET_SECONDS", 3600)


async def run(engine: TextEngine, audience: Audience, events: list[EngineEvent], **given: object) -> None:
    request = EngineRequest("job_1", 1, "text", {"prompt": SAID, **given}, audience=audience)
    async for event in engine.run(request):
        events.append(event)  # noqa: PERF401 - the list is looked at meanwhile


def pieces(events: list[EngineEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Token)]


@pytest.mark.usefixtures("patience")
async def test_words_for_nobody_come_with_the_end(engine: TextEngine, nobody: Audience) -> None:
    events: list[EngineEvent] = []
    await run(engine, nobody, events)
    assert pieces(events) == [SAID[0], SAID[1:]]
    assert isinstance(events[-1], Finished)
    assert events[-1].usage["completion_tokens"] == len(SAID)
    assert nobody.on_change is None


async def test_whoever_is_hushed_says_what_he_has_after_a_while(
    engine: TextEngine, decoder: ToyDecoder, nobody: Audience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "QUIET_SECONDS", 0.001)
    decoder.may_go_on.clear()
    events: list[EngineEvent] = []
    running = asyncio.create_task(run(engine, nobody, events))
    async with asyncio.timeout(10):
        while len(decoder.paces) < 2:  # noqa: ASYNC110 - it comes without an event
            await asyncio.sleep(0)
    monkeypatch.setattr(pacing, "QUIET_SECONDS", 3600)
    decoder.may_go_on.set()
    await running
    assert decoder.paces[:3] == [AT_ONCE, EACH, AT_ONCE]
    assert pieces(events)[:2] == list(SAID[:2])
    assert len(pieces(events)) < 6
    assert "".join(pieces(events)) == SAID


@pytest.mark.usefixtures("patience")
async def test_who_begins_to_follow_hears_each_word(engine: TextEngine, decoder: ToyDecoder, nobody: Audience) -> None:
    decoder.may_go_on.clear()
    events: list[EngineEvent] = []
    running = asyncio.create_task(run(engine, nobody, events))
    async with asyncio.timeout(10):
        while not decoder.paces:  # noqa: ASYNC110 - it comes without an event
            await asyncio.sleep(0)
    nobody.is_there = True
    decoder.may_go_on.set()
    await running
    assert pieces(events) == list(SAID)
    assert decoder.paces == [AT_ONCE, EACH]


@pytest.mark.usefixtures("patience")
async def test_where_everybody_has_left_nobody_is_told(
    engine: TextEngine, decoder: ToyDecoder, nobody: Audience
) -> None:
    nobody.is_there = True
    events: list[EngineEvent] = []
    running = asyncio.create_task(run(engine, nobody, events))
    async with asyncio.timeout(10):
        while len(pieces(events)) < 3:  # noqa: ASYNC110 - it comes without an event
            await asyncio.sleep(0)
    nobody.is_there = False
    await running
    assert len(pieces(events)) < 10
    assert "".join(pieces(events)) == SAID


@pytest.mark.usefixtures("patience")
async def test_answers_that_must_be_told_apart_are_not_held_back(
    engine: TextEngine, decoder: ToyDecoder, nobody: Audience
) -> None:
    events: list[EngineEvent] = []
    await run(engine, nobody, events, n=2)
    assert len(pieces(events)) == 2 * len(SAID)
    assert decoder.paces == []
    assert nobody.is_spared
