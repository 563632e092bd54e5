"""The gate lets in what the engine can take, isolates suspects, and never locks anybody out for good."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine import Capacity
from tasks.gate import Gate, Place

Result = TypeVar("Result")
PATIENCE_SECONDS = 10.0


@pytest.fixture
def gate() -> Gate:
    """A gate before an engine with two slots."""
    gate = Gate()
    gate.open(Capacity(2, 2))
    return gate


async def enter(gate: Gate) -> Place:
    place = await gate.enter()
    assert place is not None
    return place


async def begin(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    """Start something and let it go as far as it can."""
    task = asyncio.create_task(work)
    await settle()
    return task


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def soon(work: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(work, PATIENCE_SECONDS)


async def test_nobody_enters_before_the_engine_is_ready() -> None:
    gate = Gate()
    waiting = await begin(gate.enter())
    assert not waiting.done()
    gate.open(Capacity(1, 1))
    assert await soon(waiting) is not None


async def test_as_many_enter_as_there_are_slots(gate: Gate) -> None:
    first, _ = await enter(gate), await enter(gate)
    third = await begin(gate.enter())
    assert not third.done()
    first.leave()
    assert await soon(third) is not None


async def test_those_who_came_first_enter_first(gate: Gate) -> None:
    first, second = await enter(gate), await enter(gate)
    third, fourth = await begin(gate.enter()), await begin(gate.enter())
    first.leave()
    await settle()
    assert (third.done(), fourth.done()) == (True, False)
    second.leave()
    assert await soon(fourth) is not None


async def test_what_is_in_the_engine_is_counted_by_the_engine(gate: Gate) -> None:
    (await enter(gate)).begin(Capacity(0, 2))  # it says that one such job fills it
    second = await begin(gate.enter())
    assert not second.done()
    assert gate.in_flight == 1
    gate.close()
    assert await soon(second) is None


async def test_a_job_that_left_the_engine_makes_room_before_its_result_is_stored(gate: Gate) -> None:
    first, second = await enter(gate), await enter(gate)
    first.begin(Capacity(1, 2))
    second.begin(Capacity(0, 2))
    first.end(Capacity(1, 2))
    assert gate.in_flight == 2
    await soon(enter(gate))


async def test_leaving_twice_counts_once(gate: Gate) -> None:
    place, _ = await enter(gate), await enter(gate)
    place.leave()
    place.leave()
    await soon(enter(gate))
    assert not (await begin(gate.enter())).done()
    gate.close()


async def test_a_waiter_that_is_cancelled_takes_no_place(gate: Gate) -> None:
    first, _ = await enter(gate), await enter(gate)
    waiting, next_one = await begin(gate.enter()), await begin(gate.enter())
    waiting.cancel()
    await settle()
    first.leave()
    assert await soon(next_one) is not None


async def test_a_closed_gate_sends_everybody_away(gate: Gate) -> None:
    await enter(gate)
    await enter(gate)
    waiting = [await begin(gate.enter()) for _ in range(4)]
    gate.close()
    assert await soon(asyncio.gather(*waiting)) == [None] * 4
    assert await gate.enter() is None
    async with gate.isolation() as granted:
        assert not granted


async def isolate(gate: Gate, meanwhile: Callable[[], object] = lambda: None) -> bool:
    async with gate.isolation() as granted:
        if granted:
            meanwhile()
        return granted


async def test_isolation_waits_until_everything_is_stored(gate: Gate) -> None:
    place = await enter(gate)
    alone = await begin(isolate(gate))
    place.begin(Capacity(1, 2))
    place.end(Capacity(2, 2))
    await settle()
    assert not alone.done()
    place.leave()
    assert await soon(alone)


async def test_nobody_enters_during_an_isolation(gate: Gate) -> None:
    async with gate.isolation() as granted:
        assert granted
        suspect = gate.admit()
        other = await begin(gate.enter())
        suspect.leave()
        await settle()
        assert not other.done()
    assert await soon(other) is not None


async def test_a_second_isolation_is_refused_at_once(gate: Gate) -> None:
    async with gate.isolation() as first, gate.isolation() as second:
        assert (first, second) == (True, False)


async def test_whoever_waited_through_an_isolation_goes_before_the_next(gate: Gate) -> None:
    order: list[str] = []
    async with gate.isolation():
        other = await begin(gate.enter())
        taken = gate.admit()
        taken.begin(Capacity(0, 2))  # the engine stays full for a while after the isolation
    again = await begin(isolate(gate, lambda: order.append("isolated")))
    taken.end(Capacity(2, 2))
    taken.leave()
    place = await soon(other)
    assert place is not None
    order.append("other")
    place.leave()
    assert await soon(again)
    assert order == ["other", "isolated"]


async def test_closing_ends_the_wait_for_isolation(gate: Gate) -> None:
    await enter(gate)
    alone = await begin(isolate(gate))
    gate.close()
    assert await soon(alone) is False


class Model:
    """An engine as the gate sees it, and what must never happen in it."""

    def __init__(self, slots: int, seed: int) -> None:
        self.slots = slots
        self.gate = Gate()
        self.gate.open(Capacity(slots, slots))
        self.inside = 0
        self.clean = 0
        self.suspects = 0
        self.wrong: list[str] = []
        self.random = random.Random(seed)

    async def run_clean(self) -> None:
        place = await enter(self.gate)
        self.clean += 1
        await self._run(place)
        self.clean -= 1
        place.leave()

    async def run_suspects(self) -> None:
        async with self.gate.isolation() as granted:
            if granted:
                self.suspects += 1
                await asyncio.gather(*(self._run_suspect() for _ in range(min(2, self.slots))))
                self.suspects -= 1

    async def _run_suspect(self) -> None:
        place = self.gate.admit()
        await self._run(place)
        place.leave()

    async def _run(self, place: Place) -> None:
        self._check()
        await self._dawdle()  # the claim
        if self.random.random() < 0.2:
            return  # there was nothing to claim
        self.inside += 1
        place.begin(Capacity(self.slots - self.inside, self.slots))
        self._check()
        await self._dawdle()
        self.inside -= 1
        place.end(Capacity(self.slots - self.inside, self.slots))
        await self._dawdle()  # its result is stored
        self._check()

    async def _dawdle(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    def _check(self) -> None:
        if self.inside > self.slots:
            self.wrong.append(f"{self.inside} were in {self.slots} slots")
        if self.suspects and self.clean:
            self.wrong.append("a clean job ran beside suspects")


@settings(max_examples=200, deadline=None)
@given(slots=st.integers(1, 6), hints=st.lists(st.booleans(), min_size=1, max_size=60), seed=st.integers(0, 2**32))
async def test_any_mix_of_hints_ends_and_keeps_the_rules(slots: int, hints: list[bool], seed: int) -> None:
    model = Model(slots, seed)
    await soon(asyncio.gather(*(model.run_suspects() if suspects else model.run_clean() for suspects in hints)))
    assert model.wrong == []
