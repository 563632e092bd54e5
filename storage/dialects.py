"""Where SQLite and Postgres differ: how to connect, how writers take turns, which errors mean a sick database."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from schemas.errors import DatabaseFaultError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

LOCK_SECONDS = 5.0
POSTGRES_OPTIONS = (
    "-c idle_in_transaction_session_timeout=10s -c lock_timeout=5s -c statement_timeout=30s "
    "-c plan_cache_mode=force_generic_plan"
)
SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    f"PRAGMA busy_timeout={int(LOCK_SECONDS * 1000)}",
    "PRAGMA cache_size=-16384",
    "PRAGMA journal_size_limit=67108864",
)


def create_engines(url: str) -> tuple[sa.Engine, sa.Engine]:
    """Return an engine whose transactions write, and one that reads in autocommit."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engines(parsed)
    options: dict[str, Any] = {
        "pool_pre_ping": False,
        "pool_timeout": LOCK_SECONDS,
        "max_overflow": 28,
        "connect_args": {"connect_timeout": 3, "prepare_threshold": 1, "options": POSTGRES_OPTIONS},
    }
    return sa.create_engine(parsed, pool_size=2, **options), sa.create_engine(
        parsed, pool_size=4, isolation_level="AUTOCOMMIT", **options
    )


def _sqlite_engines(url: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"pool_timeout": LOCK_SECONDS, "max_overflow": 28}
    writing = sa.create_engine(url, pool_size=1, **options)
    reading = sa.create_engine(url, pool_size=4, isolation_level="AUTOCOMMIT", **options)
    for engine in (writing, reading):
        event.listen(engine, "connect", _prepare_sqlite)
    event.listen(writing, "begin", _begin_immediate)
    return writing, reading


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is deferred: two writers would deadlock
    for pragma in SQLITE_PRAGMAS:
        connection.execute(pragma)


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def write_lock(engine: sa.Engine) -> Callable[[], AbstractContextManager[object]]:
    """Return what writers hold: nothing on Postgres, a file lock on SQLite (its own polling starves writers)."""
    if engine.dialect.name != "sqlite":
        return nullcontext
    path = f"{engine.url.database}.lock"
    return lambda: _file_lock(path)


@contextmanager
def _file_lock(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                message = "database is locked by another process"
                raise DatabaseFaultError(message)
            time.sleep(0.001)
        yield
    finally:
        os.close(descriptor)  # which unlocks


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_fault(error: DBAPIError) -> bool:
    """Say whether the database is sick, as opposed to a statement that is wrong in itself."""
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


@cache
def insert_new(table: sa.Table, dialect: str) -> Any:
    """Return an INSERT that leaves an existing row alone."""
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return insert(table).on_conflict_do_nothing()
