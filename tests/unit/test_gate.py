"""The gate counts what the engine can take and isolates suspects; whatever happens, room comes back."""

import asyncio
import random
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine import Capacity
from tasks.gate import Gate, Place

Result = TypeVar("Result")
PATIENCE_SECONDS = 60.0


@pytest.fixture
def gate() -> Gate:
    """A gate before an engine with two slots."""
    gate = Gate()
    gate.open(Capacity(2, 2))
    return gate


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


async def isolate(gate: Gate) -> bool:
    async with gate.isolation() as granted:
        return granted


def test_there_is_no_room_before_the_engine_is_ready() -> None:
    gate = Gate()
    calls: list[int] = []
    gate.on_room = lambda: calls.append(gate.room())
    assert gate.room() == 0
    gate.open(Capacity(3, 3))
    assert calls == [3]


def test_those_on_their_way_take_room(gate: Gate) -> None:
    first, _ = gate.enter(), gate.enter()
    assert gate.room() == 0
    first.leave()
    assert gate.room() == 1


def test_what_is_in_the_engine_is_counted_by_the_engine(gate: Gate) -> None:
    gate.enter().begin(Capacity(0, 2))  # it says that one such job fills it
    assert (gate.room(), gate.in_flight) == (0, 1)


def test_a_job_that_left_the_engine_makes_room_before_its_result_is_stored(gate: Gate) -> None:
    first, second = gate.enter(), gate.enter()
    first.begin(Capacity(1, 2))
    second.begin(Capacity(0, 2))
    first.end(Capacity(1, 2))
    assert (gate.room(), gate.in_flight) == (1, 2)


def test_leaving_twice_counts_once(gate: Gate) -> None:
    place, _ = gate.enter(), gate.enter()
    place.leave()
    place.leave()
    assert gate.room() == 1


def test_whoever_leaves_calls_those_who_wait(gate: Gate) -> None:
    calls: list[int] = []
    places = [gate.enter(), gate.enter()]
    gate.on_room = lambda: calls.append(gate.room())
    places[0].begin(Capacity(0, 2))
    assert calls == []
    places[0].end(Capacity(2, 2))
    places[1].leave()
    assert calls == [1, 2]


async def test_a_closed_gate_has_no_room_and_isolates_nobody(gate: Gate) -> None:
    gate.close()
    assert gate.room() == 0
    assert await isolate(gate) is False


async def test_isolation_waits_until_everything_is_stored(gate: Gate) -> None:
    place = gate.enter()
    alone = await begin(isolate(gate))
    place.begin(Capacity(1, 2))
    place.end(Capacity(2, 2))
    await settle()
    assert not alone.done()
    place.leave()
    assert await soon(alone)


async def test_there_is_no_room_during_an_isolation_and_again_after_it(gate: Gate) -> None:
    calls: list[int] = []
    async with gate.isolation() as granted:
        assert granted
        gate.on_room = lambda: calls.append(gate.room())
        suspect = gate.enter()
        suspect.leave()
        assert gate.room() == 0
        assert calls == []
    assert calls == [2]


async def test_there_is_no_room_while_the_engine_empties(gate: Gate) -> None:
    place = gate.enter()
    alone = await begin(isolate(gate))
    assert gate.room() == 0
    place.leave()
    await soon(alone)
    assert gate.room() == 2


async def test_a_second_isolation_is_refused_at_once(gate: Gate) -> None:
    async with gate.isolation() as first, gate.isolation() as second:
        assert (first, second) == (True, False)


async def test_closing_ends_the_wait_for_isolation(gate: Gate) -> None:
    gate.enter()
    alone = await begin(isolate(gate))
    gate.close()
    assert await soon(alone) is False


async def test_an_isolation_that_is_cancelled_gives_the_room_back(gate: Gate) -> None:
    gate.enter()
    alone = await begin(isolate(gate))
    alone.cancel()
    await settle()
    assert gate.room() == 1


async def test_calm_is_when_no_job_is_on_its_way_in_or_out(gate: Gate) -> None:
    await soon(gate.calm(PATIENCE_SECONDS))
    job, _ = gate.enter(), gate.enter(is_line=True)
    waiting = await begin(gate.calm(PATIENCE_SECONDS))
    assert not waiting.done()
    job.begin(Capacity(1, 2))
    await soon(waiting)
    job.end(Capacity(2, 2))
    waiting = await begin(gate.calm(PATIENCE_SECONDS))
    assert not waiting.done()
    job.leave()
    job.leave()
    await soon(waiting)
    await soon(gate.calm(PATIENCE_SECONDS))


async def test_calm_is_waited_for_no_longer_than_was_said(gate: Gate) -> None:
    job = gate.enter()
    await soon(asyncio.gather(gate.calm(0.001), gate.calm(0.001)))
    patient = await begin(gate.calm(PATIENCE_SECONDS))
    assert not patient.done(), "the job is still on its way, and whoever gave up took nothing from those who wait"
    job.leave()
    await soon(patient)
    assert patient.done()


class Model:
    """Clean jobs and suspects before an engine, and what must never happen in it."""

    def __init__(self, slots: int, seed: int) -> None:
        self.slots = slots
        self.gate = Gate()
        self.inside = self.clean = self.suspects = self.waiting = 0
        self.wrong: list[str] = []
        self.random = random.Random(seed)
        self.tasks: set[asyncio.Task[None]] = set()
        self.gate.on_room = self.let_in
        self.gate.open(Capacity(slots, slots))

    def let_in(self) -> None:
        while self.waiting and self.gate.room():
            self.waiting -= 1
            self.tasks.add(asyncio.ensure_future(self.run_clean(self.gate.enter())))

    async def run_clean(self, place: Place) -> None:
        self.clean += 1
        await self.run(place)
        self.clean -= 1
        place.leave()

    async def run_suspects(self) -> None:
        async with self.gate.isolation() as granted:
            if granted:
                self.suspects += 1
                place = self.gate.enter()
                await self.run(place)
                place.leave()
                self.suspects -= 1

    async def run(self, place: Place) -> None:
        self.check()
        await self.dawdle()  # the claim
        if self.random.random() < 0.2:
            return  # there was nothing
        self.inside += 1
        place.begin(Capacity(self.slots - self.inside, self.slots))
        self.check()
        await self.dawdle()
        self.inside -= 1
        place.end(Capacity(self.slots - self.inside, self.slots))
        await self.dawdle()  # its result is stored
        self.check()

    async def dawdle(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    def check(self) -> None:
        if self.inside > self.slots:
            self.wrong.append(f"{self.inside} were in {self.slots} slots")
        if self.suspects and self.clean:
            self.wrong.append("a clean job ran beside suspects")

    async def end(self) -> None:
        while self.tasks:
            done, _ = await asyncio.wait(set(self.tasks), return_when=asyncio.FIRST_COMPLETED)
            self.tasks -= done
            for task in done:
                task.result()


@settings(max_examples=200, deadline=None)
@given(slots=st.integers(1, 6), hints=st.lists(st.booleans(), min_size=1, max_size=60), seed=st.integers(0, 2**32))
async def test_any_mix_ends_and_keeps_the_rules(slots: int, hints: list[bool], seed: int) -> None:
    model = Model(slots, seed)
    for suspects in hints:
        if suspects:
            model.tasks.add(asyncio.ensure_future(model.run_suspects()))
        else:
            model.waiting += 1
            model.let_in()
        await model.dawdle()
    await soon(model.end())
    assert model.wrong == []
    assert model.waiting == 0
    assert model.gate.room() == slots
