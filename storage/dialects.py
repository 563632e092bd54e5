"""Where SQLite and Postgres differ: how to connect, how writers take turns, which errors mean a sick database."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from sqlite3 import OperationalError as SqliteError
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from schemas.errors import DatabaseFaultError, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

LOCK_SECONDS = 5.0
"""How long a writer waits for its turn before the database counts as sick."""
TURN_SECONDS = 0.25
"""How long it waits for the next turn: a courtesy, which a process that froze while it had the turn must not break."""
POLL_SECONDS = 0.001
POSTGRES_SETTINGS = (
    "-c idle_in_transaction_session_timeout=10s -c lock_timeout=5s -c statement_timeout=30s "
    "-c plan_cache_mode=force_generic_plan "
    "-c enable_seqscan=off"  # a plan made while a table was empty lives on; every statement of ours has its index
)
POSTGRES_CONNECT = {
    "connect_timeout": 3,
    "keepalives_idle": 5,  # a host that vanished is noticed within seconds, not after two hours
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "prepare_threshold": 1,
    "options": POSTGRES_SETTINGS,
}
READ_ONLY = "25006"  # a standby after a failover
SQLITE_PRAGMAS = ("PRAGMA synchronous=FULL", "PRAGMA journal_size_limit=67108864")
WRITER_KIBIBYTES, READER_KIBIBYTES = 16_384, 2_048
"""What a connection keeps of the file: readers are several in each process, and the system keeps it all anyway."""
SQLITE_BUSY = 5
# busy, locked, out of memory, read-only, I/O error, corrupt, full, cannot open, protocol, not a database
SQLITE_FAULTS = frozenset({5, 6, 7, 8, 10, 11, 13, 14, 15, 26})


def create_engines(url: str) -> tuple[sa.Engine, sa.Engine]:
    """Return an engine whose transactions write, and one that reads in autocommit."""
    try:
        return _engines(_parse(url))
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, OSError) as error:
        raise StartError(
            f"The setting STOKER_DATABASE_URL is not usable: {error}. Write sqlite:///PATH or "
            "postgresql://USER:PASSWORD@HOST/NAME, and see that the folder of PATH can be written."
        ) from None


def _parse(url: str) -> sa.URL:
    parsed = sa.make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _engines(parsed: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engines(parsed)
    options: dict[str, Any] = {
        "pool_pre_ping": False,
        "pool_timeout": LOCK_SECONDS,
        "max_overflow": 28,
        "connect_args": POSTGRES_CONNECT,
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
    for engine, kibibytes in ((writing, WRITER_KIBIBYTES), (reading, READER_KIBIBYTES)):
        event.listen(engine, "connect", partial(_prepare_sqlite, kibibytes=kibibytes))
    event.listen(writing, "begin", _begin_immediate)
    return writing, reading


def _prepare_sqlite(connection: Any, _record: object, *, kibibytes: int) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is deferred: two writers would deadlock
    connection.execute(f"PRAGMA busy_timeout={int(LOCK_SECONDS * 1000)}")
    _enter_wal(connection)
    for pragma in (*SQLITE_PRAGMAS, f"PRAGMA cache_size=-{kibibytes}"):
        connection.execute(pragma)


def _enter_wal(connection: Any) -> None:
    """Switch to the write-ahead log; SQLite's own waiting does not cover others who open or close at this moment."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except SqliteError as error:
            if getattr(error, "sqlite_errorcode", None) != SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


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
    """Hold the writers' lock. Who waits for it holds the next turn, so that nobody busy overtakes again and again."""
    began_at = time.monotonic()
    turn = _acquire(f"{path}.turn", began_at + TURN_SECONDS)
    try:
        lock = _acquire(path, began_at + LOCK_SECONDS)
    finally:
        if turn is not None:
            os.close(turn)
    if lock is None:
        message = "database is locked by another process"
        raise DatabaseFaultError(message)
    try:
        yield
    finally:
        os.close(lock)  # which unlocks


def _acquire(path: str, deadline: float) -> int | None:
    """Lock a file and return it, open; None when others hold it for too long."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            os.close(descriptor)
            return None
        time.sleep(POLL_SECONDS)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_fault(error: DBAPIError) -> bool:
    """Say whether the database is sick, as opposed to a statement that is wrong in itself."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in SQLITE_FAULTS
    is_sick = isinstance(error, OperationalError | InterfaceError) and not is_deadlock(error)
    return error.connection_invalidated or is_sick or _sqlstate(error) == READ_ONLY


def is_deadlock(error: DBAPIError) -> bool:
    """Say whether Postgres undid a transaction only because it stood in the way of another."""
    return _sqlstate(error) in {"40001", "40P01"}


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


@cache
def insert_new(table: sa.Table, dialect: str) -> Any:
    """Return an INSERT that leaves an existing row alone."""
    return _insert(table, dialect).on_conflict_do_nothing()


@cache
def insert_or_meet(table: sa.Table, dialect: str) -> Any:
    """Return an INSERT that answers with the row that stands: the new one, or the one that was there before."""
    insert = _insert(table, dialect)
    key = list(table.primary_key)
    unchanged = {column.name: column for column in key}
    return insert.on_conflict_do_update(index_elements=key, set_=unchanged).returning(*table.columns)


def _insert(table: sa.Table, dialect: str) -> Any:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
