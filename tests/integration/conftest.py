"""Fixtures of the integration tests: an API of their own, databases with today's schema."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.database import Database
from tests.api import Desk, memory_services, migrated, migrated_url, open_desk
from tests.integration.api_server import run_server, visit
from tests.integration.bench import Bench, run_bench
from tests.integration.house import House, Standing, migrate, stand, told
from tests.integration.site import Site, open_site
from tests.services import PostgresServer, RedisServer, S3Server


@pytest.fixture(scope="session")
def api_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the migrated file lies that each test's database is copied from."""
    return tmp_path_factory.mktemp("api-template") / "template.db"


@pytest.fixture
def api_database(api_template: Path, tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite database."""
    database = migrated(api_template, tmp_path)
    yield database
    database.close()


@pytest.fixture
async def desk(api_database: Database) -> AsyncIterator[Desk]:
    """An API over SQLite and in-memory twins."""
    async with open_desk(memory_services(api_database)) as opened:
        yield opened


@pytest.fixture
def database_url(api_template: Path, tmp_path: Path) -> str:
    """The address of an empty SQLite database, for processes of their own."""
    return migrated_url(api_template, tmp_path)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty SQLite database."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def site(database_url: str, redis_url: str, s3_server: S3Server, tmp_path: Path) -> Iterator[Site]:
    """Services for worker processes."""
    with open_site(database_url, redis_url, s3_server, tmp_path) as opened:
        yield opened


@pytest.fixture
def bench(database: Database, redis_url: str) -> Iterator[Bench]:
    """A worker's inside, in this process."""
    with run_bench(database, redis_url) as opened:
        yield opened


@pytest.fixture(scope="session")
def on_sqlite(
    api_template: Path, redis_server: RedisServer, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Standing]:
    """A server on SQLite that stands for the whole run."""
    folder = tmp_path_factory.mktemp("standing")
    with stand(folder, migrated_url(api_template, folder), redis_server.url, s3_server) as standing:
        yield standing


@pytest.fixture(scope="session")
def on_postgres(
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Standing]:
    """A server on Postgres that stands for the whole run."""
    url = migrate(postgres_server.new_database())
    with stand(tmp_path_factory.mktemp("standing"), url, redis_server.url, s3_server) as standing:
        yield standing


@pytest.fixture
async def sqlite_house(on_sqlite: Standing, redis_url: str) -> AsyncIterator[House]:
    """The standing server on SQLite, as if nobody had used it; tests that stop or measure one start their own."""
    async with on_sqlite.visited() as house:
        yield house


@pytest.fixture(params=["on_sqlite", "on_postgres"])
async def house(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[House]:
    """The standing server on each database in turn, as if nobody had used it."""
    standing: Standing = request.getfixturevalue(request.param)
    async with standing.visited() as visited:
        yield visited


@pytest.fixture
async def own_house(database_url: str, redis_url: str, s3_server: S3Server, tmp_path: Path) -> AsyncIterator[House]:
    """A server that nobody else uses."""
    surroundings = told(tmp_path, database_url, redis_url, s3_server)
    with run_server(surroundings, tmp_path) as server:
        async with visit(server, surroundings) as desk:
            yield House(server, desk)
