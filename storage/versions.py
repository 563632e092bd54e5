"""Whether code and database agree on the schema: migrate brings it up, check refuses a start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from schemas.errors import StartError
from storage.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

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
    from alembic import command  # noqa: PLC0415 - takes longer than the check, which is what most processes need

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def known() -> list[str]:
    """Return the versions that lead to this code's, oldest first: a step's file name begins with its number."""
    versions = sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    if not versions:
        message = f"There are no migrations in {MIGRATIONS}; the installation is damaged."
        raise StartError(message)
    return versions


def newest() -> str:
    """Return the version that this code was written for."""
    return known()[-1]


def check(database: Database, *, may_be_older: bool = False) -> None:
    """Refuse the start when the database is not of the code's version."""
    found, wanted = database.read(_current), newest()
    if found is not None and found not in known():
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
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
