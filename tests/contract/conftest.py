"""Fixtures of the SQL contract: SQLite and Postgres, migrated once, empty for every test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import versions
from storage.database import Database
from storage.tables import metadata
from tests.services import PostgresServer

EMPTY = sa.text("TRUNCATE " + ", ".join(table.name for table in metadata.sorted_tables))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy."""
    path = tmp_path_factory.mktemp("template") / "stoker.db"
    database = Database(f"sqlite:///{path}")
    versions.migrate(database)
    database.close()
    return path


@pytest.fixture(scope="session")
def postgres_database(postgres_server: PostgresServer) -> Iterator[Database]:
    """One migrated database for the whole run: emptying it is ten times faster than a new one."""
    database = Database(postgres_server.new_database())
    versions.migrate(database)
    yield database
    database.close()


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite file."""
    path = shutil.copy(sqlite_template, tmp_path / "stoker.db")
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


@pytest.fixture
def postgres(postgres_database: Database) -> Database:
    """An empty Postgres database."""
    postgres_database.transact(lambda connection: connection.execute(EMPTY))
    return postgres_database


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """An empty database of each kind in turn."""
    chosen: Database = request.getfixturevalue(request.param)
    return chosen
