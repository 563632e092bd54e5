"""Uploaded adapters on a worker's disk: fetched once, checked, healed, given up when others need the room."""

import asyncio
import hashlib
import json
import os
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from schemas.catalog import Model
from schemas.errors import AdapterGoneError, ObjectStoreFaultError
from schemas.ids import new_id
from storage import adapters
from storage.adapters import AdapterRow, NewAdapter
from storage.database import Database
from storage.objects.memory import MemoryObjectStore
from storage.objects.port import adapter_key
from tasks.adapters import AdapterFile
from tests.engines import model
from tests.safetensors_files import image_lora, weights_file
from workers.adapter_disk import AdapterDisk
from workers.engines.catalog_adapters import CatalogAdapters

CONTENT = weights_file(image_lora())


class CountingStore(MemoryObjectStore):
    """Says how often it was read; waits and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.faults = 0
        self.may_go = threading.Event()
        self.may_go.set()

    def open_read(self, key: str) -> BytesIO:
        """Count."""
        self.reads += 1
        assert self.may_go.wait(60)
        if self.faults:
            self.faults -= 1
            raise ObjectStoreFaultError
        return super().open_read(key)


class World:
    """A library and a worker's disk."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.objects = CountingStore()
        self.folder = folder / "adapters"
        shipped = folder / "night"
        shipped.mkdir()
        (shipped / "a.safetensors").write_bytes(CONTENT)
        self.model: Model = model("diffusers", "image", adapters={"night": {"source": str(shipped)}})
        self.disk = self.open()

    def open(self, most_bytes: int = 2**30) -> AdapterDisk:
        """A disk as a new process has it."""
        listed = CatalogAdapters(self.model, str)
        return AdapterDisk(self.model, listed, self.database, self.objects, self.folder, most_bytes=most_bytes)

    def add(self, content: bytes = CONTENT, *, stored: bytes | None = None, **fields: Any) -> AdapterRow:
        """Upload an adapter."""
        sha256 = hashlib.sha256(content).hexdigest()
        adapter_id = new_id("lora")
        said = {"caller_id": "a", "name": adapter_id[-20:], "model": "m", "kind": "image", **fields}
        new = NewAdapter(adapter_id, sha256=sha256, bytes=len(content), rank=4, **said)
        row = self.database.transact(lambda connection: adapters.add(connection, new))
        self.objects.put(adapter_key(row.object), stored or content, "application/octet-stream")
        return row

    def names(self) -> set[str]:
        """What is on the disk."""
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path)


def other(fill: int) -> bytes:
    """Other weights of the same size."""
    return weights_file(image_lora(), fill=fill)


async def test_an_adapter_is_fetched_once_and_checked(world: World) -> None:
    row = world.add()
    file = await world.disk.fetch(row.id)
    assert file == AdapterFile(row.id, row.name, row.sha256, file.path, 4, is_catalog=False)
    assert file.path.read_bytes() == CONTENT
    assert not (file.path.parent / "adapter_config.json").exists()
    assert await world.disk.fetch(row.id) == file
    assert await world.open().fetch(row.id) == file  # the next process finds it
    assert world.objects.reads == 1


async def test_a_text_adapter_has_its_config_beside_it(world: World) -> None:
    said, more = '{"r":4,"lora_alpha":8}', '{"r":4,"lora_alpha":16}'
    first, second = world.add(config=said), world.add(config=more)
    files = [await world.disk.fetch(row.id) for row in (first, second)]
    configs = [json.loads((file.path.parent / "adapter_config.json").read_text()) for file in files]
    assert [config["lora_alpha"] for config in configs] == [8, 16]
    assert files[0].sha256 != files[1].sha256  # the same weights, and yet they do not work the same


async def test_many_who_want_one_adapter_fetch_it_once(world: World) -> None:
    row = world.add()
    world.objects.may_go.clear()
    fetching = [asyncio.create_task(world.disk.fetch(row.id)) for _ in range(20)]
    await asyncio.sleep(0.05)
    fetching.pop().cancel()  # one that gives up takes it from nobody
    world.objects.may_go.set()
    assert len({file.path for file in await asyncio.gather(*fetching)}) == 1
    assert world.objects.reads == 1


async def test_a_file_that_cannot_be_read_is_fetched_again(world: World) -> None:
    row = world.add()
    path = (await world.disk.fetch(row.id)).path
    path.unlink()
    path.mkdir()  # root may read everything else
    assert (await world.disk.fetch(row.id)).path.read_bytes() == CONTENT
    assert world.objects.reads == 2


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], other(1), b"x" * len(CONTENT)])
async def test_a_file_that_was_damaged_is_fetched_again(world: World, damage: bytes) -> None:
    row = world.add()
    path = (await world.disk.fetch(row.id)).path
    for disk in (world.disk, world.open()):
        before = path.stat()
        path.write_bytes(damage)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert (await disk.fetch(row.id)).path.read_bytes() == CONTENT
    assert world.objects.reads == 3


async def test_a_file_that_vanished_is_fetched_again(world: World) -> None:
    row = world.add()
    (await world.disk.fetch(row.id)).path.unlink()
    assert (await world.disk.fetch(row.id)).path.read_bytes() == CONTENT


async def test_what_is_not_there_is_gone(world: World) -> None:
    lost, foreign = world.add(), world.add(model="other")
    world.objects.delete([adapter_key(lost.object)])
    for adapter_id in ("lora_unknown", foreign.id, lost.id):
        with pytest.raises(AdapterGoneError):
            await world.disk.fetch(adapter_id)


async def test_what_is_damaged_in_the_store_never_reaches_an_engine(world: World) -> None:
    row = world.add(stored=other(1))
    with pytest.raises(AdapterGoneError, match="is damaged in the object store; upload it again"):
        await world.disk.fetch(row.id)
    assert world.names() == set()


async def test_a_deleted_adapter_is_there_for_the_jobs_that_named_it(world: World) -> None:
    row = world.add()
    world.database.transact(lambda connection: adapters.delete(connection, row.id, ["a"]))
    assert (await world.disk.fetch(row.id)).path.read_bytes() == CONTENT


async def test_a_sick_store_is_a_fault_and_nothing_is_left_half(world: World) -> None:
    row = world.add()
    world.objects.faults = 1
    with pytest.raises(ObjectStoreFaultError):
        await world.disk.fetch(row.id)
    assert world.names() == set()
    assert (await world.disk.fetch(row.id)).path.read_bytes() == CONTENT


async def test_the_disk_keeps_what_was_used_last_and_what_is_held(world: World) -> None:
    disk = world.open(most_bytes=2 * len(CONTENT))
    rows = [world.add(other(fill)) for fill in range(4)]
    held = await disk.fetch(rows[0].id)
    for row in rows[1:3]:
        disk.release(await disk.fetch(row.id))
    assert world.names() == {rows[0].sha256, rows[2].sha256}
    disk.release(held)
    disk.release(await disk.fetch(rows[2].id))
    disk.release(await disk.fetch(rows[3].id))
    assert world.names() == {rows[2].sha256, rows[3].sha256}


async def test_a_new_process_counts_what_it_finds_and_clears_what_was_left_half(world: World) -> None:
    rows = [world.add(other(fill)) for fill in range(3)]
    for row in rows[:2]:
        world.disk.release(await world.disk.fetch(row.id))
    (world.folder / "tmpunfinished").mkdir()
    (world.folder / "empty").mkdir()
    os.utime(world.folder / rows[0].sha256, (1, 1))
    disk = world.open(most_bytes=2 * len(CONTENT))
    disk.release(await disk.fetch(rows[2].id))
    assert world.names() == {rows[1].sha256, rows[2].sha256}


async def test_the_catalogs_own_stay_where_they_are(world: World) -> None:
    file = await world.disk.fetch("night")
    assert (file.is_catalog, file.rank, file.sha256) == (True, 4, hashlib.sha256(CONTENT).hexdigest())
    world.disk.release(file)
    assert not world.folder.exists()
