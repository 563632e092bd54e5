"""Short words for the SQL contract: jobs, claims and endings with ordinary values."""

import time
from dataclasses import replace
from typing import Any

from schemas.ids import new_id
from schemas.jobs import Status
from storage import claims, jobs, workers
from storage.claims import Claim, Ending
from storage.database import Database
from storage.jobs import NewJob, Submission
from storage.rows import ClaimedJob, JobRow

QUEUE = "text.echo.cpu0"
CALLER = "caller_a"


def new_job(**changes: Any) -> NewJob:
    """A job as admission would make it now."""
    now = time.time()
    job = NewJob(
        id=new_id("job"),
        caller_id=CALLER,
        kind="text",
        model="echo",
        revision="main",
        queue=QUEUE,
        rank=now,
        priority="normal",
        max_attempts=3,
        run_at=None,
        expires_at=now + 1000,
        timeout_seconds=60,
        retention_seconds=3600,
        created_at=now,
        metadata=None,
        retry_of=None,
        request_id=None,
    )
    return replace(job, **changes)


def submit(database: Database, **changes: Any) -> str:
    """Submit a job; its id."""
    job = new_job(**changes)
    return database.write(jobs.submit, Submission(job, '{"prompt":"hello"}')).job_id


def claim(database: Database, owner: str = "worker_a", limit: int = 1, most_lost: int = 0) -> list[ClaimedJob]:
    """Claim from the usual queue."""
    return database.write(claims.claim, Claim(QUEUE, owner, limit, most_lost)).jobs


def claim_one(database: Database, owner: str = "worker_a", most_lost: int = 0) -> ClaimedJob:
    """Claim the one job that there must be."""
    [job] = claim(database, owner, 1, most_lost)
    return job


def finish(database: Database, job: ClaimedJob, status: Status = Status.SUCCEEDED, **changes: Any) -> bool:
    """End a claimed job."""
    return database.write(claims.finish, Ending(job.id, job.attempt, status, **changes))


def row(database: Database, job_id: str) -> JobRow:
    """A job's row, which must be there."""
    found = database.read(lambda connection: jobs.find(connection, job_id))
    assert found is not None
    return found


def status_of(database: Database, job_id: str) -> str:
    """A job's status."""
    return row(database, job_id).status


def register(database: Database, worker_id: str = "worker_a", lease_seconds: float = 60) -> str:
    """Introduce a worker; a lease below zero makes one that is lost already."""
    worker = workers.NewWorker(worker_id, "text", "echo", "cpu0", QUEUE, "host", 1, "ready", 4)
    database.transact(lambda connection: workers.register(connection, worker, lease_seconds))
    return worker_id
