"""Which index each statement uses when there are many jobs: a wrong plan costs nothing in a test, all in production.

The plans are those that serve every parameter (`force_generic_plan`), as the connections of storage get them.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from psycopg.sql import Literal
from sqlalchemy import event

from schemas.jobs import Status
from storage import claims, jobs, queues, retention, versions, workers
from storage.claims import Claim, Ending, Release
from storage.database import Database
from storage.jobs import Filter
from storage.queues import QueueRow
from storage.workers import Beat
from tests.contract.sql import QUEUE, register

QUEUED, RUNNING, ENDED = 20_000, 1_000, 30_000
PRIMARY = {"postgresql": "jobs_pkey", "sqlite": "sqlite_autoindex_jobs_1"}
NUMBERS = {
    "postgresql": "SELECT generate_series(1, :total) AS n",
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < :total) SELECT n FROM s",
}
FILL = """
    INSERT INTO jobs (
      id, caller_id, kind, model, revision, queue, status, rank, priority, attempt, lost, errors, max_attempts, owner,
      cancel_requested, run_at, expires_at, timeout_seconds, retention_seconds, created_at, queued_at, retained_until,
      erased_at)
    SELECT 'job_' || n, 'caller_' || (n % 40), 'text', 'echo', 'main', 'text.echo.cpu' || (n % 8),
      CASE WHEN n <= :queued THEN 'queued' WHEN n <= :running THEN 'running' ELSE 'succeeded' END,
      (n * 7919) % 100003, 'normal', CASE WHEN n <= :queued THEN 0 ELSE 1 END,
      CASE WHEN n % 200 = 0 THEN 1 ELSE 0 END, 0, 3,
      CASE WHEN n > :queued THEN 'worker_' || (n % 10) END, 0, CASE WHEN n <= :queued AND n % 100 = 1 THEN 9e9 END,
      9e9, 60, 3600, n, n, CASE WHEN n > :running THEN 9e9 END,
      CASE WHEN n > :running AND n % 3 = 0 THEN 9e9 END
    FROM ({numbers}) AS numbers"""


def fill(database: Database) -> None:
    """Many jobs in every state, and what a database knows of them after a while."""
    statement = sa.text(FILL.format(numbers=NUMBERS[database.dialect]))
    counts = {"queued": QUEUED, "running": QUEUED + RUNNING, "total": QUEUED + RUNNING + ENDED}
    database.transact(lambda connection: connection.execute(statement, counts))
    database.transact(lambda connection: queues.declare(connection, [QueueRow(QUEUE, "text", "echo", "cpu0", 0)]))
    for number in range(9):
        register(database, f"worker_{number}")
    database.read(lambda connection: connection.execute(sa.text("ANALYZE")))


@contextmanager
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A migrated database of the kind that a fixture's param names, for all tests of a module."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('plans') / 'stoker.db'}"
    else:
        url = request.getfixturevalue("postgres_server").new_database()
    database = Database(url)
    versions.migrate(database)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A full database of each kind, for all tests of this module: they take back what they do."""
    with new_database(request, tmp_path_factory) as database:
        fill(database)
        yield database


def plans(database: Database, work: Callable[[sa.Connection], object]) -> str:
    """The plans of all statements of some work, one line per step."""
    executed: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        executed.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.engine.connect() as connection:
            work(connection)
            connection.rollback()
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    explain = _explain_postgres if database.dialect == "postgresql" else _explain_sqlite
    wanted = [one for one in executed if not one[0].startswith("BEGIN")]
    assert wanted
    return "\n".join(line for statement, parameters in wanted for line in explain(database, statement, parameters))


def _explain_sqlite(database: Database, statement: str, parameters: Sequence[Any]) -> list[str]:
    with database.engine.connect() as connection:
        return [row[-1] for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)]


def _explain_postgres(database: Database, statement: str, parameters: dict[str, Any]) -> list[str]:
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        names.append(match[1])
        return f"${len(names)}"

    text = re.sub(r"%\((\w+)\)s", number, statement).replace("%%", "%")
    values = ", ".join(Literal(parameters[name]).as_string() for name in names)
    with database.engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(f"PREPARE asked AS {text}")
        cursor.execute("EXPLAIN (COSTS OFF) EXECUTE asked" + (f"({values})" if values else ""))
        lines = [row[0] for row in cursor.fetchall()]
        cursor.execute("DEALLOCATE asked")
    return lines


READS_ALL = re.compile(r"Seq Scan on (jobs|job_inputs)\b|SCAN (jobs|job_inputs)(?! USING)")


@dataclass(frozen=True)
class Case:
    """Some work, and the indexes of jobs that its statements must use; all others are forbidden."""

    name: str
    work: Callable[[sa.Connection], object]
    indexes: frozenset[str]


def case(name: str, work: Callable[[sa.Connection], object], *indexes: str) -> Case:
    return Case(name, work, frozenset(indexes))


ENDINGS = [Ending(f"job_{QUEUED + number}", 1, Status.SUCCEEDED, output="{}") for number in range(1, 9)]
NEAR = Claim(QUEUE, "w", 8, resident=frozenset({"night"}))
CASES = [
    case("finish", lambda c: claims.finish(c, ENDINGS[:1]), "PRIMARY"),
    case("finish a group", lambda c: claims.finish(c, ENDINGS), "PRIMARY"),
    case("finish a replaced attempt", lambda c: claims.finish(c, [Ending("job_1", 3, Status.FAILED)]), "PRIMARY"),
    case("claim", lambda c: claims.claim(c, [Claim(QUEUE, "w", 8)]), "PRIMARY", "jobs_claim"),
    case("claim what is near", lambda c: claims.claim(c, [NEAR]), "PRIMARY", "jobs_claim"),
    case("claim suspects", lambda c: claims.claim(c, [Claim(QUEUE, "w", 2, 2)]), "PRIMARY", "jobs_suspect"),
    case("probe", lambda c: claims.has_more(c, QUEUE), "jobs_claim"),
    case("release", lambda c: claims.release(c, [Release(f"job_{QUEUED + 1}", 1)]), "PRIMARY"),
    case("cancel", lambda c: jobs.cancel(c, "job_7"), "PRIMARY"),
    case("find", lambda c: jobs.find(c, "job_7"), "PRIMARY"),
    case("find all", lambda c: jobs.find_all(c, ["job_7", "job_8"]), "PRIMARY"),
    case("list", lambda c: jobs.page(c, Filter("caller_7", 20, after="job_5", status="queued")), "jobs_caller"),
    case("count waiting", lambda c: jobs.count_waiting(c, "caller_7", 1000), "jobs_waiting_of_caller"),
    case("count ahead", lambda c: jobs.count_ahead(c, QUEUE, 500.0, 1000), "jobs_claim"),
    case("count claimable", lambda c: queues.claimable_up_to(c, 50), "jobs_claim", "jobs_suspect"),
    case("beat", lambda c: workers.beat(c, [Beat("worker_1", 15, "ready", 1, None)]), "jobs_running"),
    case("requeue", workers.requeue_lost, "PRIMARY", "jobs_running"),
    case("expire", retention.expire, "PRIMARY", "jobs_expiring"),
    case("release scheduled", retention.release_scheduled, "PRIMARY", "jobs_scheduled"),
    case("past retention", lambda c: retention.past_retention(c, 100), "jobs_retained"),
    case("forget", lambda c: retention.forget(c, 100, 100, 100), "PRIMARY", "jobs_erased"),
]


def check(database: Database, case: Case) -> None:
    plan = plans(database, case.work)
    used = set(re.findall(r"\b(jobs_[a-z]\w+|sqlite_autoindex_jobs_1)\b", plan))
    assert used == {PRIMARY[database.dialect] if name == "PRIMARY" else name for name in case.indexes}, plan
    assert not READS_ALL.search(plan), plan
    assert "Sort" not in plan, plan
    assert "TEMP B-TREE FOR ORDER BY" not in plan, plan


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_statement_uses_its_index_and_no_other(filled: Database, case: Case) -> None:
    check(filled, case)


@pytest.mark.parametrize("case", CASES[:7], ids=lambda case: case.name)
def test_a_plan_that_was_made_while_there_was_nothing_is_right_too(database: Database, case: Case) -> None:
    """It is kept until somebody analyzes the tables, and a burst of jobs may come before that."""
    check(database, case)


def test_depths_never_read_the_ended_jobs(filled: Database) -> None:
    plan = plans(filled, queues.depths)
    assert not READS_ALL.search(plan), plan
