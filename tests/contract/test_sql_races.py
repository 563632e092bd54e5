"""Many at once, from threads and from processes: nothing is claimed twice, lost or deadlocked."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
import sqlalchemy as sa

from storage import versions
from storage.database import Database
from storage.tables import jobs as table
from tests.contract.racers import claim_all, migrate, race
from tests.contract.sql import claim, submit

PROCESSES = 3


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        yield pool


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def test_threads_never_claim_the_same_attempt(database: Database) -> None:
    ids = {submit(database) for _ in range(60)}

    def claim_some(number: int) -> list[str]:
        return [job.id for _ in range(20) for job in claim(database, f"worker_{number}")]

    with ThreadPoolExecutor(8) as threads:
        claimed = [job_id for some in threads.map(claim_some, range(8)) for job_id in some]
    assert sorted(claimed) == sorted(ids)


def test_processes_never_claim_the_same_attempt(database: Database, processes: ProcessPoolExecutor) -> None:
    ids = {submit(database) for _ in range(150)}
    shares = list(processes.map(claim_all, [url_of(database)] * PROCESSES))
    claimed = [pair for share in shares for pair in share]
    assert sorted(claimed) == sorted((job_id, 1) for job_id in ids)


def test_everybody_does_everything_at_once(database: Database, processes: ProcessPoolExecutor) -> None:
    for _ in range(20):
        submit(database)
    before = deadlocks(database)
    tallies = list(processes.map(race, [url_of(database)] * PROCESSES, range(PROCESSES)))
    assert [one for tally in tallies for one in tally.broken] == []
    finished = [job_id for tally in tallies for job_id in tally.finished]
    assert len(finished) == len(set(finished)) > 0
    query = sa.select(table.c.id).where(table.c.status == "succeeded")
    assert set(database.read(lambda connection: connection.execute(query).scalars().all())) == set(finished)
    assert deadlocks(database) == before


def deadlocks(database: Database) -> int:
    if database.dialect == "sqlite":
        return 0
    query = sa.text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return int(database.read(lambda connection: connection.execute(query).scalar_one()))


@pytest.mark.parametrize("kind", ["sqlite_url", "postgres_url"])
def test_all_parts_may_migrate_at_once(
    request: pytest.FixtureRequest, processes: ProcessPoolExecutor, kind: str
) -> None:
    url = request.getfixturevalue(kind)
    assert set(processes.map(migrate, [url] * PROCESSES)) == {versions.newest()}
    database = Database(url)
    versions.check(database)
    assert submit(database)
    database.close()
