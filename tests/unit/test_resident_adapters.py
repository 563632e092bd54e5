"""Which adapters stay in memory."""

import asyncio

import pytest

from schemas.errors import AdapterGoneError, ObjectStoreFaultError
from tasks.adapters import AdapterFile
from tests.painters import ToyLibrary
from workers.engines.adapters import Residents


class Loader:
    """Counts what is read."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.failure: Exception | None = None

    async def load(self, file: AdapterFile) -> str:
        self.read.append(file.sha256)
        await self.may_go.wait()
        if self.failure is not None:
            raise self.failure
        return file.sha256


@pytest.fixture
def library() -> ToyLibrary:
    return ToyLibrary()


@pytest.fixture
async def loader() -> Loader:
    return Loader()


@pytest.fixture
async def residents(library: ToyLibrary, loader: Loader) -> Residents[str]:
    return Residents(library, loader.load, most=2)


async def use(residents: Residents[str], *names: str) -> list[str]:
    async with residents.hold([f"lora_{name}" for name in names]) as found:
        return [weights for _, weights in found]


async def test_weights_come_in_the_order_of_the_ids(residents: Residents[str]) -> None:
    assert await use(residents, "a", "b", "c") == ["a", "b", "c"]


async def test_what_was_used_last_stays(residents: Residents[str], loader: Loader) -> None:
    for name in ("a", "b", "a", "c"):
        await use(residents, name)
    assert residents.ids == {"lora_a", "lora_c"}
    assert loader.read == ["a", "b", "c"]
    await use(residents, "b")
    assert loader.read == ["a", "b", "c", "b"]


async def test_room_is_made_before_the_next_is_loaded(library: ToyLibrary, loader: Loader) -> None:
    forgotten: list[str] = []
    residents = Residents(library, loader.load, 2, forgotten.append)
    for name in "ab":
        await use(residents, name)
    loader.may_go.clear()
    third = asyncio.create_task(use(residents, "c"))
    await asyncio.sleep(0.01)
    assert forgotten == ["a"]
    loader.may_go.set()
    assert await third == ["c"]


async def test_equal_weights_under_two_ids_are_read_once(residents: Residents[str], loader: Loader) -> None:
    assert await use(residents, "a.mine", "a.yours") == ["a", "a"]
    assert loader.read == ["a"]
    assert residents.ids == {"lora_a.mine", "lora_a.yours"}


async def test_whoever_wants_the_same_meanwhile_waits_for_the_same_load(
    residents: Residents[str], loader: Loader
) -> None:
    loader.may_go.clear()
    both = [asyncio.create_task(use(residents, "a")) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert residents.ids == set()
    loader.may_go.set()
    assert await asyncio.gather(*both) == [["a"], ["a"]]
    assert loader.read == ["a"]


async def test_what_a_job_holds_stays_however_many_others_come(residents: Residents[str], loader: Loader) -> None:
    async with residents.hold(["lora_held"]):
        for name in "abcd":
            await use(residents, name)
        assert "lora_held" in residents.ids
        residents.tidy(0)
        assert residents.ids == {"lora_held"}
    residents.tidy(0)
    assert residents.ids == set()
    assert loader.read == ["held", "a", "b", "c", "d"]


async def test_what_the_catalog_lists_stays_even_if_a_caller_brought_the_same_first(
    residents: Residents[str], library: ToyLibrary, loader: Loader
) -> None:
    library.listed.add("lora_house.listed")
    for name in ("house.mine", "house.listed", "a", "b", "c"):
        await use(residents, name)
    residents.tidy(0)
    assert residents.ids == {"lora_house.mine", "lora_house.listed"}
    assert loader.read == ["house", "a", "b", "c"]


async def test_every_file_is_released_also_when_it_cannot_be_loaded(
    residents: Residents[str], library: ToyLibrary, loader: Loader
) -> None:
    await use(residents, "a", "b")
    loader.failure = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        await use(residents, "a", "c")
    assert library.held == 0
    loader.failure = None
    assert await use(residents, "c") == ["c"]  # a failure is not kept


async def test_a_caller_that_gives_up_stops_nobody_elses_load(residents: Residents[str], loader: Loader) -> None:
    loader.may_go.clear()
    first, second = (asyncio.create_task(use(residents, "a")) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait([first])
    loader.may_go.set()
    assert await second == ["a"]
    assert loader.read == ["a"]


async def test_one_that_everybody_gave_up_while_it_was_loaded_goes_first(
    residents: Residents[str], loader: Loader
) -> None:
    async with residents.hold(["lora_a", "lora_b"]):
        loader.may_go.clear()
        given_up = asyncio.create_task(use(residents, "c"))
        await asyncio.sleep(0.01)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):  # and nothing else
            await given_up
        loader.may_go.set()
        await asyncio.sleep(0.01)
        assert residents.ids == {"lora_a", "lora_b"}


async def test_one_that_is_gone_is_told(residents: Residents[str]) -> None:
    with pytest.raises(AdapterGoneError):
        async with residents.hold(["nobody"]):
            pass


async def test_a_library_that_cannot_be_asked_is_asked_again(
    residents: Residents[str], library: ToyLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, faults = library.fetch, [ObjectStoreFaultError()]

    async def sick(adapter_id: str) -> AdapterFile:
        if faults:
            raise faults.pop()
        return await fetch(adapter_id)

    monkeypatch.setattr(library, "fetch", sick)
    assert await use(residents, "a") == ["a"]
    assert not faults
