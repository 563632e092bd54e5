"""A job's life under any order of events: Hypothesis plays everybody against a small model of what must happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from schemas.jobs import LOST_LIMIT, TERMINAL, TRANSITIONS, Status
from storage import claims, jobs, queues, retention, workers
from storage.claims import Claim, Ending, Release
from storage.database import Database
from storage.jobs import Submission
from storage.rows import Ended
from storage.tables import jobs as table
from storage.tables import metadata
from storage.tables import workers as worker_table
from tests.contract.sql import QUEUE, new_job, register

ENDS = (Status.SUCCEEDED, Status.FAILED, Status.CANCELED)
WHEN = ["now", "now", "now", "due", "later"]
MODELS = ["echo", "echo", "echo", "gone"]
SELDOM = st.sampled_from([False, False, False, True])
COLUMNS = ("id", "status", "attempt", "owner", "lost", "errors", "cancel_requested")


@dataclass(frozen=True)
class Expected:
    """What the model says of a job."""

    id: str
    rank: float
    status: Status = Status.QUEUED
    attempt: int = 0
    owner: str | None = None
    lost: int = 0
    errors: int = 0
    cancel_requested: int = 0
    is_scheduled: bool = False
    is_due: bool = False
    is_expired: bool = False
    is_modelless: bool = False

    @property
    def claimable(self) -> bool:
        return self.status is Status.QUEUED and not self.is_scheduled and not self.is_expired


class Life(RuleBasedStateMachine):
    """Every rule does one thing to SQL and to the model; afterwards both must agree."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Expected] = {}
        self.workers: dict[str, bool] = {}
        self.seen: dict[str, Status] = {}
        self.born = self.hired = 0
        self.do(lambda connection: [connection.execute(sa.delete(one)) for one in metadata.sorted_tables])

    def do(self, work: Callable[[sa.Connection], Any]) -> Any:
        return self.database.transact(work)

    def change(self, job: Expected, **changes: Any) -> None:
        self.model[job.id] = replace(job, **changes)

    def matching(self, condition: Callable[[Expected], bool]) -> list[Expected]:
        return sorted((job for job in self.model.values() if condition(job)), key=lambda job: job.rank)

    def pick(self, data: st.DataObject) -> Expected:
        """A job, more often than not a running one: most rules are about those."""
        everything = list(self.model.values())
        running = [job for job in everything if job.status is Status.RUNNING]
        return data.draw(st.sampled_from(running * 3 + everything))

    @initialize()
    def begin(self) -> None:
        for _ in range(2):
            self.introduce()
        for _ in range(4):
            self.add("now", 5, expired=False, model="echo")

    @rule(when=st.sampled_from(WHEN), rank=st.integers(0, 9), expired=SELDOM, model=st.sampled_from(MODELS))
    def submit(self, when: str, rank: int, *, expired: bool, model: str) -> None:
        self.add(when, rank, expired=expired, model=model)

    def add(self, when: str, rank: int, *, expired: bool, model: str) -> None:
        self.born += 1
        run_at = {"now": None, "due": 1.0, "later": 9e9}[when]
        expires_at = 1.0 if expired else 9e9
        job = new_job(rank=rank + self.born / 1000, run_at=run_at, model=model, expires_at=expires_at)
        self.do(lambda connection: jobs.submit(connection, [Submission(job, "{}")]))
        self.model[job.id] = Expected(
            job.id,
            job.rank,
            is_scheduled=when != "now",
            is_due=when == "due",
            is_expired=expired,
            is_modelless=model == "gone",
        )

    @rule()
    def introduce_a_worker(self) -> None:
        self.introduce()

    def introduce(self) -> None:
        self.hired += 1  # an id that was lost is never used again
        worker = f"worker_{self.hired}"
        register(self.database, worker)
        self.workers[worker] = True

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def let_a_lease_run_out(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        self.do(
            lambda c: c.execute(sa.update(worker_table).where(worker_table.c.id == worker).values(lease_until=1.0))
        )
        self.workers[worker] = False

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), limit=st.integers(1, 3), most_lost=st.sampled_from([0, 0, 0, 1, 2]))
    def claim(self, data: st.DataObject, limit: int, most_lost: int) -> None:
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        fewest = 1 if most_lost else 0
        expected = self.matching(lambda job: job.claimable and fewest <= job.lost <= most_lost)[:limit]
        [claimed] = self.do(lambda connection: claims.claim(connection, [Claim(QUEUE, worker, limit, most_lost)]))
        assert [job.id for job in claimed.jobs] == [job.id for job in expected]
        for job in expected:
            self.change(job, status=Status.RUNNING, attempt=job.attempt + 1, owner=worker)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), back=st.integers(0, 2), status=st.sampled_from(ENDS))
    def finish(self, data: st.DataObject, back: int, status: Status) -> None:
        job = self.pick(data)
        ending = Ending(job.id, job.attempt - back, status, output=f'"{self.born}"')
        holds = job.status is Status.RUNNING and back == 0
        assert self.do(lambda connection: claims.finish(connection, [ending])) == [holds]
        if holds:
            self.change(job, status=status)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), back=st.integers(0, 1), delay=st.sampled_from([None, -1.0, 500.0]), counts=st.booleans())
    def release(self, data: st.DataObject, back: int, delay: float | None, *, counts: bool) -> None:
        job = self.pick(data)
        [answer] = self.do(lambda c: claims.release(c, [Release(job.id, job.attempt - back, delay, counts)]))
        if job.status is not Status.RUNNING or back:
            assert answer is None
            return
        status = Status.CANCELED if job.cancel_requested else Status.QUEUED
        assert answer == status
        self.change(
            job,
            status=status,
            owner=None,
            errors=job.errors + counts,
            is_scheduled=delay is not None,
            is_due=delay == -1.0,
        )

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = self.pick(data)
        done = self.do(lambda connection: jobs.cancel(connection, job.id))
        assert (done.ended is not None) == (job.status is Status.QUEUED)
        assert done.owner == (job.owner if job.status is Status.RUNNING else None)
        if job.status is Status.QUEUED:
            self.change(job, status=Status.CANCELED, cancel_requested=1)
        elif job.status is Status.RUNNING:
            self.change(job, cancel_requested=1)

    @rule()
    def requeue_lost(self) -> None:
        self.workers = {worker: alive for worker, alive in self.workers.items() if alive}
        lost = self.matching(lambda job: job.status is Status.RUNNING and job.owner not in self.workers)
        ended = self.do(workers.requeue_lost)
        for job in lost:
            status = Status.FAILED if job.lost + 1 >= LOST_LIMIT else Status.QUEUED
            status = Status.CANCELED if job.cancel_requested else status
            self.change(job, status=status, lost=job.lost + 1, owner=None)
        assert {(one.id, one.status) for one in ended} == {(job.id, self.model[job.id].status) for job in lost}

    def end(self, work: Callable[[sa.Connection], Any], status: Status, condition: Callable[[Expected], bool]) -> None:
        meant = self.matching(lambda job: job.status is Status.QUEUED and condition(job))
        assert {one.id for one in self.do(work)} == {job.id for job in meant}
        for job in meant:
            self.change(job, status=status)

    @rule(how=st.sampled_from(["expire", "remove the model", "expire", "remove the model", "purge"]))
    def end_what_waits(self, how: str) -> None:
        if how == "expire":
            self.end(retention.expire, Status.EXPIRED, lambda job: job.is_expired)
        elif how == "purge":
            self.end(lambda connection: queues.purge(connection, QUEUE), Status.CANCELED, lambda _: True)
        else:
            self.end(remove_model, Status.FAILED, lambda job: job.is_modelless)

    @rule()
    def release_scheduled(self) -> None:
        self.do(retention.release_scheduled)
        for job in self.matching(lambda job: job.status is Status.QUEUED and job.is_due):
            self.change(job, is_scheduled=False, is_due=False)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), hide=st.booleans())
    def erase(self, data: st.DataObject, *, hide: bool) -> None:
        job = self.pick(data)
        erased = self.do(lambda connection: retention.erase(connection, [job.id], hide=hide))
        assert erased == ([job.id] if job.status in TERMINAL else [])

    @invariant()
    def model_and_sql_agree(self) -> None:
        query = sa.select(*(table.c[name] for name in COLUMNS))
        found = {row.id: row for row in self.database.read(lambda connection: connection.execute(query).all())}
        expected = {job.id: tuple(getattr(job, name) for name in COLUMNS) for job in self.model.values()}
        assert {job_id: tuple(row) for job_id, row in found.items()} == expected
        for job_id, row in found.items():
            before, after = self.seen.get(job_id, Status.QUEUED), Status(row.status)
            assert before is after or after in TRANSITIONS[before], f"{before} became {after}"
            self.seen[job_id] = after


def remove_model(connection: sa.Connection) -> list[Ended]:
    """What the reconciler does when the catalog has lost the model `gone`."""
    return retention.fail_removed_models(connection, ["echo"])


def test_any_order_of_events_keeps_to_the_model(database: Database) -> None:
    class LifeHere(Life):
        pass

    LifeHere.database = database
    run_state_machine_as_test(
        LifeHere,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
