"""A sick database: every fault is said at once, as ours, and everything works again afterwards."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, ProgrammingError

from schemas.errors import DatabaseFaultError, InvalidError
from storage import database as database_module
from storage import dialects, jobs
from storage.database import Database
from storage.idempotency import Admitted
from storage.jobs import Submission
from tests.contract.relay import Relay
from tests.contract.sql import new_job, status_of, submit

PATIENCE_SECONDS = 60.0
FILE_LOCK = (
    "import sys; from storage.dialects import _file_lock; lock = _file_lock(sys.argv[1] + '.lock'); lock.__enter__()"
)
BEGIN = "import sys, sqlite3; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE')"
HOLD = "; print('held', flush=True); sys.stdin.read()"


def submission() -> Submission:
    return Submission(new_job(), "{}")


def select_one(connection: sa.Connection) -> int:
    return int(connection.execute(sa.text("SELECT 1")).scalar_one())


@contextmanager
def held(database: Database, how: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the database's lock until it is told to let go."""
    path = str(database.engine.url.database)
    command = [sys.executable, "-c", how + HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.stdin.close()
        assert holder.wait(PATIENCE_SECONDS) == 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, sqlite: Database) -> Iterator[Database]:
    """The same SQLite file, opened by writers who wait a fifth of a second."""
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 0.2)
    database = Database(sqlite.engine.url.render_as_string())
    yield database
    database.close()


@pytest.mark.parametrize("how", [FILE_LOCK, BEGIN])
def test_a_locked_sqlite_is_a_fault_and_reads_go_on(impatient: Database, how: str) -> None:
    job_id = submit(impatient)
    with held(impatient, how):
        with pytest.raises(DatabaseFaultError, match="database is locked"):
            submit(impatient)
        with pytest.raises(DatabaseFaultError, match="database is locked"):
            impatient.transact(lambda connection: jobs.cancel(connection, job_id))
        assert status_of(impatient, job_id) == "queued"
    assert status_of(impatient, submit(impatient)) == "queued"


def test_a_writer_that_is_stopped_while_it_holds_the_lock_hangs_nobody(impatient: Database) -> None:
    with held(impatient, FILE_LOCK) as holder:
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(DatabaseFaultError, match="database is locked"):
            submit(impatient)
        holder.send_signal(signal.SIGCONT)
    submit(impatient)


def test_a_writer_that_is_killed_while_it_holds_the_lock_leaves_it_free(sqlite: Database) -> None:
    path = str(sqlite.engine.url.database)
    for how in (FILE_LOCK, BEGIN):
        holder = subprocess.Popen(
            [sys.executable, "-c", how + HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
        submit(sqlite)
        holder.communicate()


async def test_hundreds_who_wait_for_the_lock_wait_once(impatient: Database) -> None:
    """One after the other they would wait for twice as long as they may."""
    with held(impatient, FILE_LOCK):
        async with asyncio.timeout(PATIENCE_SECONDS):
            submits = [impatient.awrite(jobs.submit, submission()) for _ in range(600)]
            answers = await asyncio.gather(*submits, return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseFaultError] * 600
    assert (await impatient.awrite(jobs.submit, submission())).is_new


async def test_long_writes_that_wait_take_no_reads_along_and_are_answered(
    monkeypatch: pytest.MonkeyPatch, impatient: Database
) -> None:
    monkeypatch.setattr(database_module, "ANSWER_SECONDS", 0.5)
    job_id = submit(impatient)
    with held(impatient, FILE_LOCK):
        writes = [impatient.atransact(lambda connection: jobs.cancel(connection, job_id)) for _ in range(100)]
        waiting = asyncio.gather(*writes, return_exceptions=True)
        await asyncio.sleep(0)
        found = await impatient.aread(lambda connection: jobs.find(connection, job_id))
        assert found is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            answers = await waiting
    assert [type(answer) for answer in answers] == [DatabaseFaultError] * 100
    await impatient.atransact(lambda connection: jobs.cancel(connection, job_id))
    assert status_of(impatient, job_id) == "canceled"


def test_a_file_that_is_no_database_is_a_fault(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("junk") / "stoker.db"
    path.write_text("this is not a database" * 100)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(DatabaseFaultError, match="not a database"):
        database.read(select_one)
    database.close()


def kill_backends(database: Database) -> None:
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    engine = sa.create_engine(database.engine.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))  # noqa: S608 - a constant
    engine.dispose()


def test_killed_backends_are_one_fault_for_writers_and_one_for_readers(postgres: Database) -> None:
    job_id = submit(postgres)
    assert status_of(postgres, job_id) == "queued"
    kill_backends(postgres)
    with pytest.raises(DatabaseFaultError):
        submit(postgres)
    later = submit(postgres)
    with pytest.raises(DatabaseFaultError):
        status_of(postgres, job_id)
    assert [status_of(postgres, one) for one in (job_id, later)] == ["queued", "queued"]


@pytest.fixture
def relay(postgres: Database) -> Iterator[Relay]:
    with Relay(postgres.engine.url.port or 0) as relay:
        yield relay


@pytest.fixture
def relayed(postgres: Database, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Postgres behind a relay, asked by people who wait two seconds for an answer."""
    monkeypatch.setattr(database_module, "ANSWER_SECONDS", 2.0)
    url = postgres.engine.url.set(port=relay.port)
    database = Database(url.render_as_string(hide_password=False))
    yield database
    relay.thaw()
    database.close()


def test_a_connection_that_dies_at_commit_is_a_fault_and_the_write_may_be_repeated(
    relayed: Database, relay: Relay
) -> None:
    sent = submission()
    relay.cut_after = b"COMMIT"
    with pytest.raises(DatabaseFaultError):
        relayed.write(jobs.submit, sent)
    assert relayed.write(jobs.submit, sent) == Admitted(sent.job.id, is_new=True)
    assert relayed.read(lambda connection: jobs.count_waiting(connection, sent.job.caller_id, 10)) == 1


async def test_a_frozen_server_is_answered_for(relayed: Database, relay: Relay) -> None:
    await relayed.awrite(jobs.submit, submission())
    await relayed.aread(select_one)
    relay.freeze()
    asked = [
        *(relayed.awrite(jobs.submit, submission()) for _ in range(20)),
        *(relayed.aread(select_one) for _ in range(20)),
        *(relayed.atransact(select_one) for _ in range(20)),
    ]
    async with asyncio.timeout(PATIENCE_SECONDS):
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseFaultError] * 60
    relay.thaw()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                assert (await relayed.awrite(jobs.submit, submission())).is_new
                assert await relayed.aread(select_one) == 1
            except DatabaseFaultError:  # what was in flight comes first
                continue
            break


def test_a_server_that_is_gone_is_a_fault(relayed: Database, relay: Relay) -> None:
    relay.__exit__()
    with pytest.raises(DatabaseFaultError):
        relayed.read(select_one)
    with pytest.raises(DatabaseFaultError):
        submit(relayed)


def test_a_wrong_statement_is_not_a_fault(database: Database) -> None:
    for run in (database.read, database.transact):
        with pytest.raises(DBAPIError) as caught:
            run(lambda connection: connection.execute(sa.text("SELECT nothing FROM nowhere")))
        assert not isinstance(caught.value, DatabaseFaultError)
    assert not dialects.is_fault(ProgrammingError("SELECT", {}, ValueError("wrong")))


def test_one_bad_write_among_many_fails_alone(database: Database) -> None:
    good = [submission() for _ in range(40)]
    bad = replace(submission(), input="half a pair: \ud800")

    def send(one: Submission) -> str:
        try:
            return database.write(jobs.submit, one).job_id
        except InvalidError:
            return "refused"

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(send, [*good[:20], bad, *good[20:]]))
    assert answers == [*(one.job.id for one in good[:20]), "refused", *(one.job.id for one in good[20:])]
    found = database.read(lambda connection: jobs.statuses(connection, answers))
    assert len(found) == 40


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    one = submission()

    def half(connection: sa.Connection) -> None:
        jobs.submit(connection, [one])
        raise KeyError("stop")

    with pytest.raises(KeyError):
        database.transact(half)
    assert database.read(lambda connection: jobs.statuses(connection, [one.job.id])) == {}


async def test_every_door_works_from_the_event_loop(database: Database) -> None:
    one = submission()
    assert (await database.awrite(jobs.submit, one)).is_new
    canceled = await database.atransact(lambda connection: jobs.cancel(connection, one.job.id))
    assert canceled.ended is not None
    found = await database.aread(lambda connection: jobs.find(connection, one.job.id))
    assert found is not None
    assert found.status == "canceled"
