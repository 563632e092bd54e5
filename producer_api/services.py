"""What the API stands on: the stores, opened once per process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from producer_api.settings import ApiSettings
from schemas.catalog import Catalog
from storage.bell import Bell, RedisBell
from storage.control import Control
from storage.database import Database
from storage.event_log.port import EventLog
from storage.event_log.streams import RedisEventLog
from storage.hints import AsyncHints
from storage.objects.port import ObjectStore
from storage.objects.s3 import open_bucket
from storage.redis import AsyncRedis, async_client
from storage.settings import StorageSettings
from tasks.dispatch import HINT_TASK
from tasks.settings import TaskSettings
from tasks.weights import Weights


@dataclass(frozen=True, slots=True)
class Services:
    """Every store and setting that a request may need."""

    settings: ApiSettings
    task_settings: TaskSettings
    catalog: Catalog
    database: Database
    objects: ObjectStore
    weights: Weights
    redis: AsyncRedis
    hints: AsyncHints
    events: EventLog
    bell: Bell
    control: Control

    async def aclose(self) -> None:
        """Send what is waiting to be sent and give back every connection."""
        await self.hints.flush()
        await self.bell.aclose()
        await self.redis.aclose()
        self.database.close()


def open_services(
    settings: ApiSettings, task_settings: TaskSettings, storage: StorageSettings, catalog: Catalog, database: Database
) -> Services:
    """Open what a database that is ready needs beside it; neither Redis nor the object store must be there yet."""
    redis = async_client(storage.redis_url)
    return Services(
        settings=settings,
        task_settings=task_settings,
        catalog=catalog,
        database=database,
        objects=open_bucket(storage),
        weights=Weights(partial(open_bucket, storage), Path(storage.weights_dir)),
        redis=redis,
        hints=AsyncHints(redis, HINT_TASK),
        events=RedisEventLog(redis),
        bell=RedisBell(redis),
        control=Control(redis),
    )
