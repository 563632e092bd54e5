"""Values read seldom and asked for often."""

import asyncio
import gc

from tasks.freshness import Fresh


class Source:
    """Counts how often it is read; each reading waits for a nod."""

    def __init__(self) -> None:
        self.readings = 0
        self.nod = asyncio.Event()
        self.nod.set()

    async def read(self) -> int:
        self.readings += 1
        mine = self.readings
        await self.nod.wait()
        return mine


async def test_a_fresh_value_is_not_read_again() -> None:
    source = Source()
    value = Fresh(source.read, 60)
    assert [await value.get() for _ in range(3)] == [1, 1, 1]


async def test_an_aged_value_is_read_again() -> None:
    source = Source()
    value = Fresh(source.read, 0)
    assert await value.get() < await value.get()


async def test_those_who_ask_together_share_one_reading() -> None:
    source = Source()
    source.nod.clear()
    value = Fresh(source.read, 0)
    asking = [asyncio.create_task(value.get()) for _ in range(50)]
    await asyncio.sleep(0)
    source.nod.set()
    assert await asyncio.gather(*asking) == [1] * 50


async def test_who_leaves_early_takes_the_reading_from_nobody() -> None:
    source = Source()
    source.nod.clear()
    value = Fresh(source.read, 60)
    first, second = asyncio.create_task(value.get()), asyncio.create_task(value.get())
    await asyncio.sleep(0)
    first.cancel()
    source.nod.set()
    assert await second == 1


async def test_a_failure_reaches_all_who_asked_and_is_not_kept() -> None:
    outcomes: list[Exception | int] = [ValueError("sick"), 7]

    async def read() -> int:
        await asyncio.sleep(0)
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    value = Fresh(read, 60)
    failed = await asyncio.gather(value.get(), value.get(), return_exceptions=True)
    assert [str(one) for one in failed] == ["sick", "sick"]
    assert await value.get() == 7


async def test_a_forgotten_value_is_read_again() -> None:
    value = Fresh(Source().read, 60)
    assert await value.get() == 1
    value.forget()
    assert await value.get() == 2


async def test_a_failure_that_nobody_waits_for_is_not_complained_about() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    reads, nod = asyncio.Event(), asyncio.Event()

    async def read() -> int:
        reads.set()
        await nod.wait()
        raise ValueError

    value = Fresh(read, 60)
    asking = asyncio.create_task(value.get())
    await reads.wait()
    asking.cancel()
    nod.set()
    await asyncio.sleep(0.01)
    value.forget()
    del asking
    gc.collect()  # complaints come when the last one lets go
    assert complaints == []
