"""The door to SQL: one engine per process, writes grouped into few durable commits, reads beside them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError

from schemas.errors import DatabaseFaultError, InvalidError, StartError
from storage import dialects
from storage.group_commit import GroupCommit

if TYPE_CHECKING:
    from collections.abc import Iterator

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Write = Callable[[sa.Connection, Sequence[Argument]], Sequence[Result]]
"""A set-based write: many arguments in, as many results out, in one transaction."""

READERS = 4
LONG_WRITERS = 2
UNSTORABLE = "The request holds a NUL character or half a surrogate pair, which cannot be stored; take it out."
DEADLOCK_TRIES = 3
ANSWER_SECONDS = 10.0
"""Nobody waits longer for SQL, however many wait: a request would rather have a clean refusal."""


RECENT_SECONDS = 15.0
"""So long a write that failed says that the next one would, when nobody has tried since."""
SWITCH_SECONDS = 0.0005


def favor_writers() -> None:
    """Have this process's threads take turns more often than by default.

    A writer lets others run during each statement and then waits for its turn, up to 5 ms each time, while all writers
    of all processes wait for it.
    """
    sys.setswitchinterval(SWITCH_SECONDS)


class Database:
    """Runs writes (grouped, durable when they return) and reads, from threads and from asyncio."""

    def __init__(self, url: str) -> None:
        self.engine, self._reading = dialects.create_engines(url)
        self.dialect = self.engine.dialect.name
        self._lock = dialects.write_lock(self.engine)
        self._failed_at: float | None = None
        self._group = GroupCommit(self._commit, ANSWER_SECONDS)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sql-read")
        self._long_writers = ThreadPoolExecutor(LONG_WRITERS, thread_name_prefix="sql-long-write")

    def write(self, operation: Write[Argument, Result], argument: Argument) -> Result:
        """Run one write; it is durable when this returns. Concurrent writes share a commit."""
        return self._group.run(operation, argument)  # type: ignore[no-any-return]  # results are as typed as the operation

    async def awrite(self, operation: Write[Argument, Result], argument: Argument, *, later: bool = False) -> Result:
        """Like write, without blocking the event loop; what may come later lets others go first."""
        return await self._group.arun(operation, argument, later=later)  # type: ignore[no-any-return]  # as above

    def transact(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Run work in a transaction of its own: for rare or long writes. A deadlock runs it anew."""
        for _ in range(DEADLOCK_TRIES - 1):
            try:
                return self._run_alone(work)
            except DBAPIError as error:
                if not dialects.is_deadlock(error):
                    raise
        return self._run_alone(work)

    async def atransact(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Like transact, without blocking the event loop."""
        return await _answer(self._long_writers, self.transact, work)

    def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Run statements that write nothing; each sees what was committed when it began."""
        with _faults(), self._reading.connect() as connection:
            return work(connection)

    async def aread(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Like read, without blocking the event loop."""
        return await _answer(self._readers, self.read, work)

    @property
    def fails_to_write(self) -> bool:
        """Say whether the newest write found SQL sick: where the disk is full everything can still be read."""
        return self._failed_at is not None and time.monotonic() - self._failed_at < RECENT_SECONDS

    def wait_until_ready(self, seconds: float, say: Callable[[str], None]) -> None:
        """Wait for SQL to answer; refuse the start with a sentence when it does not in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.read(lambda connection: connection.execute(sa.text("SELECT 1")))
            except DatabaseFaultError as error:
                if time.monotonic() >= deadline:
                    message = (
                        f"The database at {self.engine.url.render_as_string(hide_password=True)} does not answer: "
                        f"{error}. Start it or correct STOKER_DATABASE_URL, then start again."
                    )
                    raise StartError(message) from None
                say(f"waiting for the database: {error}")
                time.sleep(0.5)
            else:
                return

    def close(self) -> None:
        """Give back threads and connections."""
        self._group.close()
        for pool in (self._readers, self._long_writers):
            pool.shutdown(wait=True, cancel_futures=True)
        self.engine.dispose()
        self._reading.dispose()

    def _run_alone(self, work: Callable[[sa.Connection], Result]) -> Result:
        with self._transaction() as connection:
            return work(connection)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with _faults(), self._lock(), self.engine.begin() as connection:
                yield connection
        except DatabaseFaultError:
            self._failed_at = time.monotonic()
            raise
        self._failed_at = None

    def _commit(self, work: list[tuple[Write[Any, Any], list[Any]]]) -> list[Sequence[Any]]:
        with self._transaction() as connection:
            return [operation(connection, arguments) for operation, arguments in work]


async def _answer(pool: ThreadPoolExecutor, run: Callable[..., Result], work: Callable[..., Any]) -> Result:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(pool, run, work)
    except TimeoutError:
        raise DatabaseFaultError(f"SQL did not answer within {ANSWER_SECONDS:g} seconds") from None


@contextmanager
def _faults() -> Iterator[None]:
    """Turn a sick database and a value that no database takes into our own errors."""
    try:
        yield
    except DBAPIError as error:
        if dialects.is_fault(error):
            raise DatabaseFaultError(" ".join(str(error.orig).split())) from error
        if isinstance(error, DataError):
            raise InvalidError(UNSTORABLE) from error
        raise
    except UnicodeEncodeError as error:
        raise InvalidError(UNSTORABLE) from error
    except (sa.exc.TimeoutError, OSError) as error:
        raise DatabaseFaultError(str(error)) from error
