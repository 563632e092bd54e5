"""The API as tests use it: the real app over SQLite and in-memory twins, and a worker that the test plays itself."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.datastructures import State

from producer_api.app import create_app, route_app
from producer_api.authentication import make_key
from producer_api.services import Services
from producer_api.settings import ApiSettings
from schemas.base import JsonObject
from schemas.catalog import Catalog, Model
from schemas.events import Envelope, EventType
from schemas.jobs import Status
from storage import claims, jobs, versions, workers
from storage.bell import MemoryBell
from storage.claims import Claim, Ending
from storage.control import Control
from storage.database import Database
from storage.event_log.memory import MemoryEventLog
from storage.event_log.port import EventLog
from storage.hints import AsyncHints
from storage.objects.memory import MemoryObjectStore
from storage.objects.port import ObjectStore, object_key
from storage.redis import async_client
from storage.rows import ClaimedJob, JobRow, to_json
from tasks.dispatch import HINT_TASK, declare_queues
from tasks.settings import TaskSettings
from tasks.weights import Weights

NOWHERE = "redis://127.0.0.1:1/0"
TEXT: JsonObject = {"kind": "text", "model": "echo", "input": {"prompt": "hello"}}
QUEUE = "text.echo.cpu0"
ALL_SCOPES = ("submit", "read", "admin")


def catalog() -> Catalog:
    """A model of each kind, the embedding one on two devices."""
    told: JsonObject = {
        "echo": {"kind": "text", "context_length": 100, "timeout_seconds": 60, "max_in_flight": 4},
        "sketch": {
            "kind": "image",
            "image": {"width": 64, "height": 64, "max_pixels": 128 * 128, "steps": 8, "safety": "basic"},
            "adapters": {"night": {"source": "./night"}, "gold": {"source": "./gold"}},
        },
        "twin": {"kind": "embedding", "devices": ["cpu0", "cpu1"], "dimensions": [128, 256]},
    }
    common = {"engine": "fake", "source": "builtin", "devices": ["cpu0"]}
    return Catalog(
        models={alias: Model.model_validate({"alias": alias, **common, **one}) for alias, one in told.items()}
    )


def migrated(template: Path, folder: Path) -> Database:
    """A fresh SQLite database; the first call makes the template that later ones copy."""
    if not template.exists():
        database = Database(f"sqlite:///{template}")
        versions.migrate(database)
        database.close()
    return Database(f"sqlite:///{shutil.copy(template, folder / 'api.db')}")


def migrated_url(template: Path, folder: Path) -> str:
    """Return the address of a fresh SQLite database, for processes of their own."""
    database = migrated(template, folder)
    database.close()
    return database.engine.url.render_as_string()


def memory_services(database: Database, **settings: Any) -> Services:
    """Services whose Redis is nowhere: hints are dropped, bells and events stay in this process."""
    redis, bell = async_client(NOWHERE), MemoryBell()
    return Services(
        settings=ApiSettings(public_url="http://stoker.test", **settings),
        task_settings=TaskSettings(),
        catalog=catalog(),
        database=database,
        objects=MemoryObjectStore(),
        weights=Weights(lambda _: MemoryObjectStore(), Path()),
        redis=redis,
        hints=AsyncHints(redis, HINT_TASK),
        events=MemoryEventLog(bell),
        bell=bell,
        control=Control(redis),
    )


@dataclass
class Desk:
    """A running API with a client that holds a key with every scope."""

    app: FastAPI
    client: httpx.AsyncClient
    services: Services

    @property
    def database(self) -> Database:
        """The database under the API."""
        return self.services.database

    @property
    def objects(self) -> ObjectStore:
        """The object store under the API."""
        return self.services.objects

    @property
    def events(self) -> EventLog:
        """The event log under the API."""
        return self.services.events

    def key(self, caller: str = "local", scopes: tuple[str, ...] = ALL_SCOPES, expires_at: float | None = None) -> str:
        """Make a key."""
        return self.database.transact(lambda c: make_key(c, caller, "test", scopes, expires_at)).secret

    def bearer(self, caller: str = "local", scopes: tuple[str, ...] = ALL_SCOPES) -> dict[str, str]:
        """Headers of somebody else."""
        return {"Authorization": f"Bearer {self.key(caller, scopes)}"}

    async def submit(self, **changes: Any) -> str:
        """Submit a job; its id."""
        answer = await self.client.post("/v1/jobs", json={**TEXT, **changes})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def look(self, job_id: str) -> JsonObject:
        """Look at a job."""
        answer = await self.client.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        view: JsonObject = answer.json()
        return view

    def row(self, job_id: str) -> JobRow:
        """A job's row, which must be there."""
        found = self.database.read(lambda connection: jobs.find(connection, job_id))
        assert found is not None
        return found

    def count_rows(self) -> int:
        """How many jobs there are, whoever owns them."""
        return self.database.read(
            lambda connection: int(connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one())
        )

    def worker(self, queue: str = QUEUE, **changes: Any) -> "Puppet":
        """A worker that this test plays."""
        return Puppet(self.services, queue, **changes)


class Puppet:
    """A worker in the hands of a test: it claims, speaks and ends jobs as a real one would."""

    def __init__(
        self, services: Services, queue: str, *, state: str = "ready", slots: int = 2, lease: float = 60
    ) -> None:
        self._services = services
        self._queue = queue
        kind, model, device = queue.split(".")
        self.id = f"worker_{device}_{time.monotonic_ns()}"
        new = workers.NewWorker(self.id, kind, model, device, queue, "host", 1, state, slots)
        services.database.transact(lambda connection: workers.register(connection, new, lease))

    def beat(self, **stats: Any) -> None:
        """Extend the lease and say what was measured."""
        said = workers.Beat(self.id, 60, "ready", 0, to_json(stats))
        self._services.database.write(workers.beat, said)

    def claim(self) -> ClaimedJob:
        """Take the one job that there must be."""
        [job] = self._services.database.write(claims.claim, Claim(self._queue, self.id)).jobs
        return job

    async def say(self, job: ClaimedJob, *events: tuple[EventType, JsonObject], begin: int = 1) -> None:
        """Append to the job's log."""
        envelopes = [
            Envelope(job.attempt, begin + index, kind, time.time(), data) for index, (kind, data) in enumerate(events)
        ]
        await self._services.events.append(job.id, envelopes)

    def store(self, job: ClaimedJob, name: str, content: bytes, content_type: str = "application/json") -> JsonObject:
        """Put a result object; its line for the row."""
        key = object_key(job.id, job.attempt, name)
        self._services.objects.put(key, content, content_type)
        return {"name": name, "key": key, "content_type": content_type, "bytes": len(content), "sha256": "0" * 64}

    async def finish(
        self,
        job: ClaimedJob,
        status: Status = Status.SUCCEEDED,
        *,
        artifacts: list[JsonObject] | None = None,
        **ending: Any,
    ) -> None:
        """End the job in its row, then ring."""
        told = {name: to_json(value) for name, value in ending.items()}
        assert self._services.database.write(
            claims.finish, Ending(job.id, job.attempt, status, artifacts=to_json(artifacts or []), **told)
        )
        await self._services.bell.ring([job.id])


@cache
def _routed() -> FastAPI:
    return route_app()


def _lend_routes() -> FastAPI:
    """An app with every route: to lay them out takes a tenth of a second, and they keep nothing."""
    app = copy(_routed())
    app.router = copy(app.router)
    app.router.routes = [*app.router.routes]
    app.router.middleware_stack = app.router.app  # which was the other router's
    app.state, app.user_middleware, app.exception_handlers = State(), [], {**app.exception_handlers}
    return app


def build_app(services: Services) -> FastAPI:
    """The real app over these services, on routes that were laid out once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("producer_api.app.route_app", _lend_routes)
        return create_app(services)


@asynccontextmanager
async def open_desk(services: Services) -> AsyncIterator[Desk]:
    """Run the app over these services, without a network between it and the client."""
    app = build_app(services)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://stoker.test") as client,
    ):
        desk = Desk(app, client, services)
        declare_queues(services.database, services.catalog)
        client.headers["Authorization"] = f"Bearer {desk.key()}"
        yield desk


def count_by_job(patch: pytest.MonkeyPatch, owner: object, method: str) -> Counter[str]:
    """Count the calls of a method from here on, by the job that they are about."""
    calls: Counter[str] = Counter()
    called = getattr(owner, method)

    def count(job_id: str, *others: Any) -> Any:
        calls[job_id] += 1
        return called(job_id, *others)

    patch.setattr(owner, method, count)
    return calls


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds; give up after a minute."""
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - what changes is in another process or in SQL
            await asyncio.sleep(0.02)


def with_settings(services: Services, **settings: Any) -> Services:
    """The same services under other limits."""
    return replace(services, settings=services.settings.model_copy(update=settings))
