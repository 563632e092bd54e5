"""Schema versions, starts that are refused, and what makes a commit durable; on SQLite and on Postgres."""

import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from schemas.errors import StartError
from stoker.ports import free_port
from storage import versions
from storage.database import Database
from storage.queues import QueueRow
from storage.rows import JobRow
from storage.tables import jobs, metadata, queues, workers
from storage.workers import WorkerRow
from tests.contract.relay import Relay
from tests.contract.sql import status_of, submit

NEXT = '"""Later."""\nrevision = "9999"\ndown_revision = {newest!r}\ndef upgrade() -> None: ...\n'
DEFINITIONS = {
    "sqlite": "SELECT sql FROM sqlite_master WHERE sql LIKE 'CREATE%INDEX%'",
    "postgresql": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'",
}


@pytest.fixture(params=["sqlite_url", "postgres_url"])
def bare(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database of each kind that was never migrated."""
    database = Database(request.getfixturevalue(request.param))
    yield database
    database.close()


@pytest.fixture
def later_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Code with one migration more than ours."""
    folder = Path(shutil.copytree(versions.MIGRATIONS, tmp_path / "migrations"))
    (folder / "versions" / "9999_later.py").write_text(NEXT.format(newest=versions.newest()))
    with monkeypatch.context() as patch:
        patch.setattr(versions, "MIGRATIONS", folder)
        yield patch


def index_definitions(database: Database) -> set[str]:
    rows = database.read(lambda connection: connection.execute(sa.text(DEFINITIONS[database.dialect])).scalars().all())
    return {" ".join(row.replace('"', "").split()) for row in rows}


def test_migrations_make_what_the_code_expects(bare: Database, tmp_path: Path) -> None:
    versions.migrate(bare)

    def differences(connection: sa.Connection) -> Any:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)

    assert bare.read(differences) == []
    migrated = index_definitions(bare)
    bare.transact(metadata.drop_all)
    bare.transact(metadata.create_all)
    assert migrated == index_definitions(bare)


def test_file_names_tell_the_steps_in_their_order() -> None:
    steps = ScriptDirectory.from_config(versions._config()).walk_revisions()  # noqa: SLF001 - Alembic's own view
    assert [step.revision for step in steps] == versions.known()[::-1]


def test_migrating_again_changes_nothing(bare: Database) -> None:
    assert versions.migrate(bare) == versions.newest()
    job_id = submit(bare)
    assert versions.migrate(bare) == versions.newest()
    assert status_of(bare, job_id) == "queued"


def test_every_step_can_be_taken_back(bare: Database) -> None:
    versions.migrate(bare)
    config = versions._config()  # noqa: SLF001 - the way back is for operators with Alembic at hand
    with bare.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
    assert bare.read(lambda connection: sa.inspect(connection).get_table_names()) == ["alembic_version"]
    assert versions.migrate(bare) == versions.newest()


def test_a_database_without_a_schema_refuses_the_start(bare: Database) -> None:
    with pytest.raises(
        StartError, match=r"schema version none and this code needs \d+\. Run `python -m producer_api mi"
    ):
        versions.check(bare)


def test_an_older_database_refuses_the_start(database: Database, later_release: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartError, match=r"schema version \d+ and this code needs 9999\. Run `python -m"):
        versions.check(database)


def test_a_newer_database_refuses_the_start_and_is_not_touched(
    bare: Database, later_release: pytest.MonkeyPatch
) -> None:
    assert versions.migrate(bare) == "9999"
    versions.check(bare)
    later_release.undo()
    for start in (versions.check, versions.migrate):
        with pytest.raises(
            StartError, match=r"9999, which is newer than this code \(\d+\)\. Start the release that made"
        ):
            start(bare)


@pytest.mark.parametrize(("row", "table"), [(JobRow, jobs), (WorkerRow, workers), (QueueRow, queues)])
def test_whole_rows_have_the_columns_of_their_table(row: type[Any], table: sa.Table) -> None:
    assert [field.name for field in fields(row)] == [column.name for column in table.columns]


def setting(database: Database, name: str) -> list[str]:
    """A setting as a live connection of each door has it."""
    statement = sa.text(f"PRAGMA {name}" if database.dialect == "sqlite" else f"SHOW {name}")

    def ask(connection: sa.Connection) -> str:
        return str(connection.execute(statement).scalar_one())

    return [database.transact(ask), database.read(ask)]


def test_sqlite_commits_are_durable(sqlite: Database) -> None:
    assert setting(sqlite, "journal_mode") == ["wal", "wal"]
    assert setting(sqlite, "synchronous") == ["2", "2"]  # FULL
    assert setting(sqlite, "busy_timeout") == ["5000", "5000"]


def test_postgres_commits_are_durable_and_nobody_waits_for_ever(postgres: Database) -> None:
    assert setting(postgres, "synchronous_commit") == ["on", "on"]
    assert setting(postgres, "idle_in_transaction_session_timeout") == ["10s", "10s"]
    assert setting(postgres, "lock_timeout") == ["5s", "5s"]
    assert setting(postgres, "statement_timeout") == ["30s", "30s"]
    assert setting(postgres, "plan_cache_mode") == ["force_generic_plan"] * 2


def test_a_database_that_does_not_answer_refuses_the_start_without_its_password() -> None:
    database = Database(f"postgresql://me:secret@127.0.0.1:{free_port()}/stoker")
    said: list[str] = []
    with pytest.raises(StartError) as refused:
        database.wait_until_ready(0.1, said.append)
    assert str(refused.value).startswith("The database at postgresql+psycopg://me:***@127.0.0.1:")
    assert str(refused.value).endswith("Start it or correct STOKER_DATABASE_URL, then start again.")
    assert said
    assert said[0].startswith("waiting for the database: ")
    database.close()


def test_a_database_that_is_slow_to_answer_is_waited_for(postgres: Database) -> None:
    with Relay(postgres.engine.url.port or 0) as relay:
        relay.cut_after = b"\0\x03"  # the first connection's greeting: the protocol's version
        database = Database(postgres.engine.url.set(port=relay.port).render_as_string(hide_password=False))
        said: list[str] = []
        database.wait_until_ready(30, said.append)
        assert said
        database.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql+nothing://host/name", "sqlite:////proc/no/stoker.db"])
def test_a_url_that_cannot_be_used_refuses_the_start(url: str) -> None:
    with pytest.raises(StartError, match=r"The setting STOKER_DATABASE_URL is not usable: .*Write sqlite:///PATH or"):
        Database(url)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_spelling_of_postgres_works(postgres: Database, scheme: str) -> None:
    url = postgres.engine.url.render_as_string(hide_password=False)
    database = Database(scheme + url.removeprefix("postgresql+psycopg"))
    database.wait_until_ready(0, lambda _: None)
    assert setting(database, "plan_cache_mode") == ["force_generic_plan"] * 2
    database.close()


def test_a_new_sqlite_file_gets_its_folder(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new/folder/stoker.db")
    versions.migrate(database)
    database.close()
    assert (tmp_path / "new/folder/stoker.db").exists()
