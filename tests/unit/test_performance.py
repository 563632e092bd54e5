"""How an attempt hears its engine: what counts as the first token, and when the gate learns that a prompt was read."""

import asyncio
import base64
from collections.abc import AsyncGenerator

import pytest

import tasks.performance
from schemas.events import EventType, Token
from tasks.engine import Engine, EngineRequest
from tasks.gate import Gate
from tasks.performance import Performance
from tasks.story import Story
from tests.decoders import ToyDecoder, ToyPiece, ToyPlan, ToyStep, toy_text_engine
from tests.painters import ToyPainter, toy_image_engine


class HalfDecoder(ToyDecoder):
    """Its first token is no whole character yet."""

    async def decode(self, name: str, plan: ToyPlan, rank: float | None) -> AsyncGenerator[ToyStep, None]:
        yield ToyStep([ToyPiece("")])
        await self.may_go_on.wait()
        yield ToyStep([ToyPiece("안", "stop")])


async def test_half_a_character_opens_the_gate_and_is_not_told() -> None:
    decoder = HalfDecoder()
    decoder.may_go_on.clear()
    engine = toy_text_engine(decoder, slots=8, waiting_tokens=5)
    await engine.load()
    gate = Gate()
    rooms: list[int] = []
    gate.on_room = lambda: rooms.append(gate.room())
    gate.open(engine.capacity())
    performance = Performance(Story("job_1", 1, lambda *_, **__: None))
    request = EngineRequest("job_1", 1, "text", {"prompt": "hello"})
    running = asyncio.create_task(performance.run(engine, request, gate.enter()))
    async with asyncio.timeout(60):
        while engine.capacity().free != 1 or gate.room() != 1:  # noqa: ASYNC110 - it comes without an event
            await asyncio.sleep(0.001)
    before = performance.first_token_at
    assert performance.story.take() == []
    decoder.may_go_on.set()
    assert (await running).output["text"] == "안"
    assert before is None
    assert performance.first_token_at
    assert [envelope.data for envelope in performance.story.take()] == [{"text": Token("안").text}]
    await engine.close()


async def test_a_preview_is_told_unless_it_is_too_large() -> None:
    painter = ToyPainter()
    engine = toy_image_engine(painter)
    await engine.load()
    shown = EngineRequest("job_1", 1, "image", {"prompt": "hello"})
    told = []
    for limit in (tasks.performance.PREVIEW_BYTES, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tasks.performance, "PREVIEW_BYTES", limit)
            performance = Performance(Story("job_1", 1, lambda *_, **__: None))
            await performance.run(engine, shown, opened_gate(engine).enter())
        told.append([one.data for one in performance.story.take() if one.type is EventType.PREVIEW])
    [[picture], nothing] = told
    assert (picture["content_type"], base64.b64decode(picture["base64"])[:3]) == ("image/jpeg", b"\xff\xd8\xff")
    assert nothing == []
    await engine.close()


def opened_gate(engine: Engine) -> Gate:
    """A gate with room."""
    gate = Gate()
    gate.open(engine.capacity())
    return gate
