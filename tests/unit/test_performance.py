"""How an attempt hears its engine: what counts as the first token, and when the gate learns that a prompt was read."""

import asyncio
from collections.abc import AsyncGenerator

from schemas.events import Token
from tasks.engine import EngineRequest
from tasks.gate import Gate
from tasks.performance import Performance
from tasks.story import Story
from tests.decoders import ToyDecoder, ToyPiece, ToyPlan, ToyStep, toy_text_engine


class HalfDecoder(ToyDecoder):
    """Its first token is no whole character yet."""

    async def decode(self, name: str, plan: ToyPlan) -> AsyncGenerator[ToyStep, None]:
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
    async with asyncio.timeout(10):
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
