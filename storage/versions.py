"""Whether code and database agree on the schema: migrate brings it up, check refuses a start."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from schemas.errors import StartError
from storage.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x53746F6B6572  # any number that nobody else takes: "Stoker"


def migrate(database: Database) -> str:
    """Bring the schema to the code's version; return that version."""
    check(database, may_be_older=True)
    database.transact(_upgrade)
    return newest()


def _upgrade(connection: sa.Connection) -> None:
    """Take the steps that are missing, in one transaction: one process migrates, others wait and find it done."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def newest() -> str:
    """Return the version that this code was written for."""
    version = ScriptDirectory.from_config(_config()).get_current_head()
    if version is None:
        message = f"There are no migrations in {MIGRATIONS}; the installation is damaged."
        raise StartError(message)
    return version


def check(database: Database, *, may_be_older: bool = False) -> None:
    """Refuse the start when the database is not of the code's version."""
    found, wanted = database.read(_current), newest()
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        message = (
            f"The database has schema version {found}, which is newer than this code ({wanted}). "
            "Start the release that made it, or restore the backup from before the upgrade."
        )
        raise StartError(message)
    if found != wanted and not may_be_older:
        message = (
            f"The database has schema version {found or 'none'} and this code needs {wanted}. "
            "Run `python -m producer_api migrate`, then start again."
        )
        raise StartError(message)


def _current(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
