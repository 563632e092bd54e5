"""A server over real stores that stands for the whole run: each test finds it as if nobody had used it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from storage import versions
from storage.database import Database
from storage.tables import metadata, queues
from tests.api import Desk
from tests.integration.api_server import ApiServer, environment, run_server, visit
from tests.services import S3Server

NOBODY = "127.0.0.1:1"


@dataclass
class House:
    """A server, and a visitor's desk in it."""

    server: ApiServer
    desk: Desk


@dataclass
class Standing:
    """A server that many tests use one after the other."""

    server: ApiServer
    surroundings: dict[str, str]
    database_url: str

    @asynccontextmanager
    async def visited(self) -> AsyncIterator[House]:
        """Forget who was here before; the queues were declared when the server started."""
        database = Database(self.database_url)
        database.transact(_forget_everything)
        database.close()
        async with visit(self.server, self.surroundings) as desk:
            for entry in desk.objects.list("", None, 10_000):
                desk.objects.delete([entry.key])
            yield House(self.server, desk)


def told(folder: Path, database_url: str, redis_url: str, s3: S3Server | None, **settings: str) -> dict[str, str]:
    """The environment of a server over these stores."""
    places = {"s3_endpoint": f"http://{NOBODY}", "s3_access_key": "a", "s3_secret_key": "b"}
    if s3 is not None:
        places = {"s3_endpoint": s3.endpoint, "s3_access_key": s3.access_key, "s3_secret_key": s3.secret_key}
    return environment(folder, database_url=database_url, redis_url=redis_url, **places, **settings)


def migrate(url: str) -> str:
    """Bring a fresh database to today's schema."""
    database = Database(url)
    versions.migrate(database)
    database.close()
    return url


def _forget_everything(connection: sa.Connection) -> None:
    for table in reversed(metadata.sorted_tables):
        if table is not queues:
            connection.execute(sa.delete(table))


@contextmanager
def stand(folder: Path, database_url: str, redis_url: str, s3: S3Server) -> Iterator[Standing]:
    """Start a server that stays."""
    surroundings = told(folder, database_url, redis_url, s3)
    with run_server(surroundings, folder) as server:
        yield Standing(server, surroundings, database_url)
