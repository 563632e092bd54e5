"""Sick backends cost time, never a job, an attempt or a loss."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.site import LEASE_SECONDS, Site, open_site, until
from tests.services import RedisServer, S3Server, run_redis, run_s3


@pytest.fixture
def redis_of_its_own(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis without an append-only file: killed, it forgets everything."""
    with run_redis(tmp_path / "redis", append_only=False) as server:
        yield server


@pytest.fixture
def s3_of_its_own(tmp_path: Path) -> Iterator[S3Server]:
    with run_s3(tmp_path / "s3") as server:
        yield server


def test_a_redis_that_forgets_everything_forgets_no_job(
    database_url: str, redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path
) -> None:
    with open_site(database_url, redis_of_its_own.url, s3_server, tmp_path) as site:
        site.maintenance()
        site.worker()
        running = [site.submit("fake:sleep-ms=2000") for _ in range(4)]
        site.wait_for("running", *running)
        waiting = [site.submit() for _ in range(10)]
        redis_of_its_own.kill()
        site.wait_for("succeeded", *running)
        redis_of_its_own.start()
        rows = site.wait_for("succeeded", *waiting)
        assert {(row.attempt, row.lost, row.errors) for row in rows} == {(1, 0, 0)}


def test_a_store_that_is_away_delays_results(
    database_url: str, redis_url: str, s3_of_its_own: S3Server, tmp_path: Path
) -> None:
    with open_site(database_url, redis_url, s3_of_its_own, tmp_path) as site:
        worker = site.worker()
        s3_of_its_own.kill()
        job_id = site.submit()
        until(lambda: "A backend is sick" in worker.said(), "the worker noticed")
        assert site.row(job_id).status == "running"
        s3_of_its_own.start()
        [row] = site.wait_for("succeeded", job_id)
        assert (row.attempt, row.lost, row.errors) == (1, 0, 0)
        assert site.result(job_id)["finish_reason"] == "length"


@contextmanager
def locked(database_url: str) -> Iterator[None]:
    """Hold what SQLite's writers take turns with."""
    with Path(database_url.removeprefix("sqlite:///").removeprefix("sqlite+pysqlite:///") + ".lock").open(
        "wb"
    ) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_database_that_is_locked_for_longer_than_the_lease_costs_nobody_a_loss(
    site: Site, database_url: str
) -> None:
    site.maintenance()
    site.worker()
    job_ids = [site.submit("fake:sleep-ms=500") for _ in range(4)]
    site.wait_for("running", *job_ids)
    with locked(database_url):
        time.sleep(2 * LEASE_SECONDS)
    rows = site.wait_for("succeeded", *job_ids)
    assert {(row.attempt, row.lost, row.errors) for row in rows} == {(1, 0, 0)}


def test_beat_and_the_maintenance_worker_send_hints_that_nobody_sent(site: Site) -> None:
    site.worker()
    job_ids = [site.submit(hints=0) for _ in range(10)]
    assert {site.row(job_id).status for job_id in job_ids} == {"queued"}
    site.maintenance()
    rows = site.wait_for("succeeded", *job_ids)
    assert {(row.attempt, row.lost, row.errors) for row in rows} == {(1, 0, 0)}
