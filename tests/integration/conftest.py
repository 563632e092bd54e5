"""Fixtures of the integration tests: an API of their own, databases with today's schema."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.database import Database
from tests.api import Desk, memory_services, migrated, open_desk
from tests.integration.bench import Bench, run_bench
from tests.integration.site import Site, open_site
from tests.services import S3Server


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
    database = migrated(api_template, tmp_path)
    database.close()
    return database.engine.url.render_as_string()


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
