"""The door to SQL: one engine per process, writes grouped into few durable commits, reads beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from schemas.errors import DatabaseFaultError, StartError
from storage import dialects
from storage.group_commit import GroupCommit

if TYPE_CHECKING:
    from collections.abc import Iterator

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Write = Callable[[sa.Connection, Sequence[Argument]], Sequence[Result]]
"""A set-based write: many arguments in, as many results out, in one transaction."""

READERS = 4


class Database:
    """Runs writes (grouped, durable when they return) and reads, from threads and from asyncio."""

    def __init__(self, url: str) -> None:
        self.engine, self._reading = dialects.create_engines(url)
        self.dialect = self.engine.dialect.name
        self._lock = dialects.write_lock(self.engine)
        self._group = GroupCommit(self._commit)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sql-read")

    def write(self, operation: Write[Argument, Result], argument: Argument) -> Result:
        """Run one write; it is durable when this returns. Concurrent writes share a commit."""
        return self._group.run(operation, argument)  # type: ignore[no-any-return]  # results are as typed as the operation

    async def awrite(self, operation: Write[Argument, Result], argument: Argument) -> Result:
        """Like write, without blocking the event loop."""
        return await self._group.arun(operation, argument)  # type: ignore[no-any-return]  # as above

    def transact(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Run work in a transaction of its own: for rare or long writes."""
        with _faults(), self._transaction() as connection:
            return work(connection)

    async def atransact(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Like transact, without blocking the event loop."""
        return await self._in_thread(self.transact, work)

    def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Run statements that write nothing; each sees what was committed when it began."""
        with _faults(), self._reading.connect() as connection:
            return work(connection)

    async def aread(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Like read, without blocking the event loop."""
        return await self._in_thread(self.read, work)

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
        self._readers.shutdown(wait=True, cancel_futures=True)
        self.engine.dispose()
        self._reading.dispose()

    async def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._readers, function, *arguments)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._lock(), self.engine.begin() as connection:
            yield connection

    def _commit(self, work: list[tuple[Write[Any, Any], list[Any]]]) -> list[Sequence[Any]]:
        with _faults(), self._transaction() as connection:
            return [operation(connection, arguments) for operation, arguments in work]


@contextmanager
def _faults() -> Iterator[None]:
    """Turn a sick database into our own error; a statement that is wrong in itself stays as it is."""
    try:
        yield
    except DBAPIError as error:
        if dialects.is_fault(error):
            raise DatabaseFaultError(str(error.orig)) from error
        raise
    except (SQLAlchemyError, OSError) as error:
        if isinstance(error, sa.exc.TimeoutError | OSError):
            raise DatabaseFaultError(str(error)) from error
        raise
