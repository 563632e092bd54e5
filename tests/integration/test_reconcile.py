"""The reconciler makes the world agree with the rows, one duty at a time."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import redis

from schemas.catalog import Catalog
from schemas.errors import CatalogError, DatabaseFaultError, RedisFaultError
from storage import claims, jobs, queues, workers
from storage.claims import Claim
from storage.database import Database
from storage.hints import Hints
from storage.queues import QueueRow
from storage.redis import sync_client
from storage.rows import from_json
from tasks.dispatch import HINT_TASK, hint_width
from tasks.reconcile import Reconciler
from tests.contract.sql import QUEUE, claim, claim_one, row, status_of, submit
from tests.integration.bench import SIBLING, introduce

SILENT = -1.0


class World:
    """A reconciler and what it works on."""

    def __init__(self, database: Database, redis_url: str) -> None:
        self.database = database
        self.rung: list[str] = []
        self.devices = ["cpu0", "cpu1"]
        self.models = ["echo"]
        self.redis = redis.Redis.from_url(redis_url)
        self.client = sync_client(redis_url)
        self.reconciler = self.new_reconciler()
        rows = [QueueRow(f"text.echo.{device}", "text", "echo", device, 0) for device in self.devices]
        database.transact(lambda connection: queues.declare(connection, rows))

    def new_reconciler(self) -> Reconciler:
        return Reconciler(
            self.database,
            Hints(self.client, HINT_TASK),
            ring=self.rung.extend,
            has_redis_forgotten=lambda: False,
            read_catalog=self.read_catalog,
        )

    def read_catalog(self) -> Catalog:
        fields = {"kind": "text", "engine": "fake", "source": "builtin", "devices": self.devices}
        return Catalog.model_validate({"models": {alias: {"alias": alias, **fields} for alias in self.models}})

    def tick(self, times: int = 1) -> str:
        return [self.reconciler.tick() for _ in range(times)][-1]

    def hints(self, queue: str = QUEUE) -> int:
        count: int = self.redis.llen(queue)
        return count

    def close(self) -> None:
        self.redis.close()
        self.client.close()


@pytest.fixture
def world(database: Database, redis_url: str) -> Iterator[World]:
    world = World(database, redis_url)
    yield world
    world.close()


def test_the_jobs_of_a_worker_that_stays_silent_are_taken_back(world: World) -> None:
    introduce(world.database, "worker_a", SILENT)
    job_id = submit(world.database)
    claim_one(world.database)
    assert world.tick() == "done"
    assert status_of(world.database, job_id) == "running"
    world.tick()
    found = row(world.database, job_id)
    assert (found.status, found.lost, found.owner) == ("queued", 1, None)


def test_a_worker_that_speaks_between_two_looks_keeps_its_jobs(world: World) -> None:
    introduce(world.database, "worker_a", SILENT)
    job_id = submit(world.database)
    claim_one(world.database)
    world.tick()
    world.database.write(workers.beat, workers.Beat("worker_a", 60, "ready", 1, None))
    world.tick(3)
    assert status_of(world.database, job_id) == "running"


def test_the_jobs_of_a_worker_that_left_are_taken_back_at_once(world: World) -> None:
    job_id = submit(world.database)
    claim_one(world.database, "worker_gone")
    world.tick()
    assert row(world.database, job_id).lost == 1


def test_a_job_that_was_lost_three_times_ends_and_its_bell_rings(world: World) -> None:
    job_id = submit(world.database)
    for most_lost in (0, 1, 2):
        claim_one(world.database, "worker_gone", most_lost)
        world.tick()
    found = row(world.database, job_id)
    assert (found.status, from_json(found.error)["code"]) == ("failed", "worker_lost")
    assert world.rung == [job_id]


def test_a_canceled_job_of_a_lost_worker_is_canceled(world: World) -> None:
    job_id = submit(world.database)
    claim_one(world.database, "worker_gone")
    world.database.transact(lambda connection: jobs.cancel(connection, job_id))
    world.tick()
    assert status_of(world.database, job_id) == "canceled"
    assert world.rung == [job_id]


def test_what_waited_too_long_expires_and_its_bell_rings(world: World) -> None:
    job_id = submit(world.database, expires_at=time.time() - 1)
    world.tick()
    assert status_of(world.database, job_id) == "expired"
    assert world.rung == [job_id]


def test_a_scheduled_job_is_released_when_its_moment_has_come(world: World) -> None:
    due = submit(world.database, run_at=time.time() - 1)
    later = submit(world.database, run_at=time.time() + 1000)
    world.tick()
    assert [job.id for job in claim(world.database, limit=10)] == [due]
    assert status_of(world.database, later) == "queued"
    assert world.hints() == 1


def test_jobs_of_a_removed_model_fail(world: World) -> None:
    job_id = submit(world.database)
    running = submit(world.database)
    world.database.write(claims.claim, Claim(QUEUE, "worker_a"))
    introduce(world.database, "worker_a")
    world.models = ["other"]
    world.tick()
    ends = {status_of(world.database, one) for one in (job_id, running)}
    assert ends == {"failed", "running"}
    assert len(world.rung) == 1


def test_a_catalog_that_cannot_be_read_removes_nothing_and_stops_no_other_duty(world: World) -> None:
    def refuse() -> Catalog:
        raise CatalogError("half written")

    world.read_catalog = refuse  # type: ignore[method-assign]  # as if the file were being edited
    world.reconciler = world.new_reconciler()
    job_id = submit(world.database)
    assert world.tick() == "failed: fail_removed_models, move_to_the_living"
    assert status_of(world.database, job_id) == "queued"
    assert world.hints() == 1


def test_jobs_move_to_the_sibling_that_has_a_worker(world: World) -> None:
    worker = workers.NewWorker("worker_b", "text", "echo", "cpu1", SIBLING, "host", 1, "ready", 4)
    world.database.transact(lambda connection: workers.register(connection, worker, 60))
    job_id = submit(world.database)
    world.tick()
    assert row(world.database, job_id).queue == SIBLING
    assert world.hints(SIBLING) == 1


def test_hints_that_were_lost_are_sent_again_and_not_twice(world: World) -> None:
    introduce(world.database, "worker_a")
    for _ in range(30):
        submit(world.database)
    world.tick(3)
    assert world.hints() == 2
    world.redis.flushall()
    world.tick()
    assert world.hints() == 2


def test_the_hint_for_suspects_goes_ahead_of_all_others(world: World) -> None:
    introduce(world.database, "worker_a")
    submit(world.database)
    claim_one(world.database, "worker_gone")
    for _ in range(30):
        submit(world.database)
    world.tick()
    message = world.redis.rpop(QUEUE)
    assert isinstance(message, bytes)
    assert "suspects" in from_json(message.decode())["headers"]["argsrepr"]


class SickHints(Hints):
    """Redis is away."""

    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        raise RedisFaultError


def test_a_sick_redis_stops_no_duty_in_sql(world: World) -> None:
    def refuse(_: Sequence[str]) -> None:
        raise RedisFaultError

    reconciler = Reconciler(
        world.database,
        SickHints(world.client, HINT_TASK),
        ring=refuse,
        has_redis_forgotten=lambda: False,
        read_catalog=world.read_catalog,
    )
    expired = submit(world.database, expires_at=time.time() - 1)
    lost = submit(world.database)
    claim_one(world.database, "worker_gone")
    assert reconciler.tick() == "failed: expire, top_up_hints"
    assert status_of(world.database, expired) == "expired"
    assert status_of(world.database, lost) == "queued"


class LockedDatabase(Database):
    """Every write faults."""

    def transact(self, work: object) -> object:  # type: ignore[override]  # it only fails
        raise DatabaseFaultError("locked")


def test_a_locked_database_fails_duties_and_is_tried_again(world: World, database_url: str) -> None:
    locked = LockedDatabase(database_url)
    healthy, world.database = world.database, locked
    reconciler = world.new_reconciler()
    assert reconciler.tick().startswith("failed: requeue_lost, expire, release_scheduled")
    world.database = healthy
    locked.close()
    assert world.tick() == "done"


def test_two_reconcilers_do_no_harm(world: World) -> None:
    other = world.new_reconciler()
    ids = [submit(world.database) for _ in range(20)]
    for _ in ids[:10]:
        claim_one(world.database, "worker_gone")
    introduce(world.database, "worker_a")
    threads = [threading.Thread(target=one.tick) for one in (world.reconciler, other) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row(world.database, job_id).lost for job_id in ids) == [0] * 10 + [1] * 10
    assert 0 < world.hints() <= hint_width(4)  # each may have looked before another sent
