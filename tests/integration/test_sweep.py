"""The sweep erases what was kept as promised, finds orphans, and leaves everything else alone."""

import time
from collections.abc import Sequence

import pytest

from schemas.errors import ObjectStoreFaultError
from schemas.ids import new_id
from schemas.jobs import Status
from storage import adapters, batch_work, batches, files
from storage.adapters import NewAdapter
from storage.batches import NewBatch
from storage.database import Database
from storage.files import NewFile
from storage.objects.memory import MemoryObjectStore
from storage.objects.port import adapter_key, awaited_key, file_key, object_key
from tasks import orphans, sweep
from tasks.settings import TaskSettings
from tasks.sweep import Sweep
from tests.contract.sql import claim_one, finish, row, submit

NOW = 0.000_001


DUTIES = ("erase_retained", "delete_files", "delete_adapters", "delete_orphans", "abort_uploads", "forget")


def did(**counts: int) -> str:
    """What a sweep says that did so much."""
    return ", ".join(f"{duty} {counts.get(duty, 0)}" for duty in DUTIES)


class World:
    def __init__(self, database: Database, **settings: float) -> None:
        self.database = database
        self.objects = MemoryObjectStore()
        self.erased_events: list[str] = []
        self.sweep = Sweep(
            database,
            self.objects,
            TaskSettings.model_validate({"orphan_age_seconds": NOW, **settings}),
            erase_events=self.erased_events.extend,
        )

    def ended_job(self, retention_seconds: float) -> tuple[str, str]:
        """An ended job with an object; their names."""
        job_id = submit(self.database, retention_seconds=retention_seconds)
        job = claim_one(self.database)
        assert job.id == job_id
        key = self.put(job_id)
        finish(self.database, job, Status.SUCCEEDED, output='{"a":1}', artifacts=f'[{{"key":"{key}"}}]')
        return job_id, key

    def put(self, job_id: str) -> str:
        key = object_key(job_id, 1, "result.json")
        self.objects.put(key, b"{}", "application/json")
        return key

    def keys(self) -> list[str]:
        return [entry.key for entry in self.objects.list("", None, 1000)]


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def test_what_is_past_its_retention_is_erased(world: World) -> None:
    old, _ = world.ended_job(NOW)
    young, kept = world.ended_job(3600)
    time.sleep(0.01)
    assert world.sweep.run() == did(erase_retained=1)
    found = row(world.database, old)
    assert (found.status, found.output, found.artifacts) == ("succeeded", None, None)
    assert found.erased_at is not None
    assert row(world.database, young).output == '{"a":1}'
    assert world.keys() == [kept]
    assert world.erased_events == [old]


def test_a_waiting_or_running_job_keeps_its_objects(world: World) -> None:
    waiting = world.put(submit(world.database))
    submit(world.database)
    running = world.put(claim_one(world.database).id)
    time.sleep(0.01)
    world.sweep.run()
    assert sorted({waiting, running}) == sorted(set(world.keys()))


def test_an_object_without_a_row_is_an_orphan_once_it_is_old(database: Database) -> None:
    young = World(database, orphan_age_seconds=3600)
    young.put("job_unknown")
    assert young.sweep.delete_orphans() == 0
    old = World(database)
    old.put("job_unknown")
    time.sleep(0.01)
    assert old.sweep.delete_orphans() == 1
    assert old.keys() == []


def test_what_other_things_own_is_not_touched(world: World) -> None:
    world.objects.put("adapters/a/weights", b"x", "application/octet-stream")
    time.sleep(0.01)
    world.sweep.run()
    assert world.keys() == ["adapters/a/weights"]


def test_objects_of_an_erased_job_are_orphans(world: World) -> None:
    job_id, _ = world.ended_job(NOW)
    time.sleep(0.01)
    world.sweep.erase_retained()
    late = world.put(job_id)  # as when the store was sick during the erasure
    time.sleep(0.01)
    assert world.keys() == [late]
    assert world.sweep.delete_orphans() == 1


def test_a_long_list_is_searched_over_several_sweeps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "PAGE_OBJECTS", 2)
    monkeypatch.setattr(orphans, "PAGES", 1)
    kept = [world.put(submit(world.database)) for _ in range(3)]
    for number in range(3):
        world.put(f"job_unknown{number}")
    time.sleep(0.01)
    assert sum(world.sweep.delete_orphans() for _ in range(4)) == 3
    assert sorted(world.keys()) == sorted(kept)


def add_file(world: World, kept_seconds: float | None = None) -> str:
    """A file with its object; its key."""
    new = NewFile(new_id("file"), "caller_a", "batch", "lines.jsonl", 2, "0" * 64, kept_seconds)
    world.database.transact(lambda connection: files.add(connection, new))
    world.objects.put(file_key(new.id), b"{}", "application/jsonl")
    return file_key(new.id)


def test_files_are_deleted_when_their_time_has_come(world: World) -> None:
    _, kept = add_file(world, -1.0), [add_file(world, 3600.0), add_file(world)]
    time.sleep(0.01)
    assert world.sweep.run() == did(delete_files=1)
    assert world.keys() == kept


def test_a_file_without_a_row_is_an_orphan(world: World) -> None:
    kept = add_file(world)
    world.objects.put(file_key("file_unknown"), b"{}", "application/jsonl")
    time.sleep(0.01)
    assert world.sweep.delete_orphans() == 1
    assert world.keys() == [kept]


def add_adapter(world: World, sha256: str, name: str = "comic") -> str:
    """An adapter with its object; its id."""
    new = NewAdapter(new_id("lora"), "caller_a", name, "echo", "text", sha256, 2)
    world.database.transact(lambda connection: adapters.add(connection, new))
    world.objects.put(adapter_key(new.id), b"{}", "application/octet-stream")
    return new.id


def test_a_deleted_adapter_keeps_its_bytes_until_its_jobs_have_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "GRACE_SECONDS", -1.0)
    kept, gone = add_adapter(world, "a" * 64), add_adapter(world, "b" * 64, "ink")
    submit(world.database, adapters=gone)
    world.database.transact(lambda connection: adapters.delete(connection, gone, ["caller_a"]))
    assert (world.sweep.delete_adapters(), world.sweep.delete_orphans(), len(world.keys())) == (0, 0, 2)
    finish(world.database, claim_one(world.database), Status.SUCCEEDED)
    assert world.sweep.delete_adapters() == 1
    assert world.keys() == [adapter_key(kept)]


def test_bytes_of_an_adapter_without_a_row_are_orphans(world: World) -> None:
    kept = add_adapter(world, "a" * 64)
    world.objects.put(adapter_key("lora_unknown"), b"{}", "application/octet-stream")
    for name in ("lora_awaited", kept):  # one that may still come, and one that came long ago
        world.objects.put(awaited_key(name), b"{}", "application/octet-stream")
    new = NewAdapter("lora_awaited", "caller_a", "ink", "echo", "text", "c" * 64, 2)
    world.database.transact(lambda connection: adapters.await_bytes(connection, new))
    time.sleep(0.01)
    assert world.sweep.delete_orphans() == 2
    assert world.keys() == [awaited_key("lora_awaited"), adapter_key(kept)]


def test_an_upload_that_never_ended_is_forgotten(world: World) -> None:
    upload = world.objects.open_upload(file_key("file_unknown"), "application/jsonl")
    time.sleep(0.01)
    assert world.sweep.abort_uploads() == 1
    with pytest.raises(ObjectStoreFaultError):
        upload.finish()


class SickStore(MemoryObjectStore):
    def delete_prefix(self, prefix: str) -> None:
        raise ObjectStoreFaultError


def test_a_sick_store_cuts_one_duty_short(database: Database) -> None:
    world = World(database, rows_kept_seconds=0)
    world.objects = SickStore()
    world.sweep = Sweep(
        database, world.objects, TaskSettings(orphan_age_seconds=NOW), erase_events=world.erased_events.extend
    )
    world.ended_job(NOW)
    time.sleep(0.01)
    assert world.sweep.run() == "delete_files 0, delete_adapters 0, delete_orphans 1, abort_uploads 0, forget 0"


def test_rows_of_jobs_erased_long_ago_are_forgotten(database: Database) -> None:
    world = World(database, rows_kept_seconds=0)
    world.ended_job(NOW)
    world.ended_job(3600)
    time.sleep(0.01)
    assert world.sweep.run() == did(erase_retained=1, forget=1)


def test_rows_of_batches_that_ended_long_ago_are_forgotten(database: Database) -> None:
    world = World(database, rows_kept_seconds=0)
    new = NewBatch(new_id("batch"), "caller_1", "/v1/embeddings", "file_1", "24h", 86_400)
    failed = database.transact(lambda connection: batches.add(connection, new))
    assert world.sweep.run() == did()
    assert database.transact(lambda connection: batch_work.fail(connection, failed, "[]"))
    time.sleep(0.01)
    assert world.sweep.run() == did(forget=1)


def test_more_than_a_step_takes_is_done_in_one_sweep(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "STEP_ROWS", 2)
    world = World(database, rows_kept_seconds=0)
    for _ in range(5):
        world.ended_job(NOW)
        add_file(world, -1.0)
    time.sleep(0.01)
    assert world.sweep.run() == did(erase_retained=5, delete_files=5, forget=5)
    assert world.keys() == []


def test_a_duty_that_finds_ever_more_leaves_the_others_their_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "STEP_ROWS", 2)
    monkeypatch.setattr(sweep, "DUTY_SHARE", 0.0)
    world = World(database)
    for _ in range(5):
        world.ended_job(NOW)
    time.sleep(0.01)
    assert [world.sweep.run() for _ in range(3)] == [did(erase_retained=count) for count in (2, 2, 1)]


def test_a_sweep_does_not_begin_before_another_is_over(world: World) -> None:
    def sweep_again(_: Sequence[str]) -> None:
        told.append(world.sweep.run())

    told: list[str] = []
    world.sweep = Sweep(world.database, world.objects, TaskSettings(), erase_events=sweep_again)
    world.ended_job(NOW)
    time.sleep(0.01)
    assert world.sweep.run() == did(erase_retained=1)
    assert set(told) == {"the sweep before this one is not over"}
