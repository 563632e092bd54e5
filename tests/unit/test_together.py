"""Who asks while others are answered shares the next answer, and gets his own."""

import asyncio
from collections.abc import Sequence

import pytest

from producer_api.together import Together
from schemas.errors import DatabaseFaultError


class Oracle:
    """Doubles numbers, slowly; remembers who asked with whom."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.free = asyncio.Event()

    async def answer(self, numbers: Sequence[int]) -> list[int]:
        self.groups.append(list(numbers))
        await self.free.wait()
        if -1 in numbers:
            raise DatabaseFaultError
        return [number * 2 for number in numbers]


async def ask_all(together: Together[int, int], numbers: Sequence[int]) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(together.ask(number)) for number in numbers]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_those_who_come_meanwhile_are_answered_together() -> None:
    oracle = Oracle()
    together = Together(oracle.answer, most=3)
    first = await ask_all(together, [1])
    others = await ask_all(together, [2, 3, 4, 5])
    oracle.free.set()
    assert await asyncio.gather(*first, *others) == [2, 4, 6, 8, 10]
    assert oracle.groups == [[1], [2, 3, 4], [5]]
    assert await together.ask(6) == 12


async def test_a_fault_is_raised_where_it_was_asked_and_the_next_are_answered() -> None:
    oracle = Oracle()
    oracle.free.set()
    together = Together(oracle.answer, most=2)
    tasks = await ask_all(together, [-1, 1, 2])
    for task in tasks[:2]:
        with pytest.raises(DatabaseFaultError):
            await task
    assert await tasks[2] == 4


async def test_whoever_leaves_takes_nobody_along() -> None:
    oracle = Oracle()
    together = Together(oracle.answer)
    leaves, stays = await ask_all(together, [1, 2])
    leaves.cancel()
    await asyncio.sleep(0)
    oracle.free.set()
    assert await stays == 4
