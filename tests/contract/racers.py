"""What races in the SQL contract: functions that other processes can import and run."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from schemas.ids import new_id
from schemas.jobs import Status
from storage import claims, jobs, queues, retention, versions, workers
from storage.claims import Ending, Release
from storage.database import Database
from storage.rows import ClaimedJob
from storage.workers import Beat
from tests.contract.sql import QUEUE, claim, register, submit

THREADS = 3
TURNS = 60


def claim_all(url: str) -> list[tuple[str, int]]:
    """Claim until nothing is left, one by one and in groups."""
    database = Database(url)
    claimed: list[tuple[str, int]] = []
    while found := claim(database, new_id("worker"), limit=len(claimed) % 3 + 1):
        claimed += [(job.id, job.attempt) for job in found]
    database.close()
    return claimed


def migrate(url: str) -> str:
    """Bring the schema up, as any part may at its start."""
    database = Database(url)
    version = versions.migrate(database)
    database.close()
    return version


@dataclass
class Tally:
    """What one racer has seen."""

    finished: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


class Racer:
    """A worker, a caller and a reconciler in one: does anything that somebody may do at any moment."""

    def __init__(self, database: Database, seed: int) -> None:
        self._database = database
        self._chance = random.Random(seed)
        self._stays = seed % 2 == 0
        self._worker = register(database, new_id("worker"))
        self._held: list[ClaimedJob] = []
        self.tally = Tally()

    def run(self) -> Tally:
        """Take many turns; a living worker's ending must be accepted, whatever the others do."""
        often = (self.claim, self.claim, self.finish, self.finish, self.release, self.cancel, self.submit)
        rare: tuple[Callable[[], object], ...] = (self.reconcile, self.steer, self.lapse)
        for _ in range(TURNS):
            try:
                self._chance.choice(often)()
                if self._chance.random() < 0.3:
                    self._chance.choice(rare)()
            except Exception as error:  # noqa: BLE001 - the test shows all of them
                self.tally.broken.append(repr(error))
        return self.tally

    def claim(self) -> None:
        self._held += claim(self._database, self._worker, self._chance.randint(1, 3), self._chance.choice([0, 0, 2]))

    def finish(self) -> None:
        if not self._held:
            return
        job = self._held.pop()
        if self._database.write(
            claims.finish, Ending(job.id, job.attempt, Status.SUCCEEDED, output=f'"{new_id("x")}"')
        ):
            self.tally.finished.append(job.id)
        elif self._stays:
            self.tally.broken.append(f"{self._worker} was living and lost {job.id}")

    def release(self) -> None:
        if self._held:
            job = self._held.pop(0)
            delay = self._chance.choice([None, -1.0])
            status = self._database.write(claims.release, Release(job.id, job.attempt, delay, counts_as_error=True))
            if status is None and self._stays:
                self.tally.broken.append(f"{self._worker} was living and could not release {job.id}")

    def submit(self) -> None:
        submit(self._database, rank=self._chance.random())

    def cancel(self) -> None:
        waiting = self._database.read(lambda c: jobs.page(c, jobs.Filter("caller_a", 5, status="queued")))
        chosen = self._chance.choice([*(job.id for job in waiting), *(job.id for job in self._held), "job_unknown"])
        self._database.transact(lambda connection: jobs.cancel(connection, chosen))

    def reconcile(self) -> None:
        for duty in (workers.requeue_lost, retention.expire, retention.release_scheduled):
            self._database.transact(duty)

    def steer(self) -> None:
        other = "text.echo.cpu1"
        self._database.transact(lambda connection: queues.move(connection, QUEUE, other))
        self._database.transact(lambda connection: queues.move(connection, other, QUEUE))

    def lapse(self) -> None:
        """Fall silent, or beat: one that was declared lost begins anew under another id."""
        lease_seconds = 60 if self._stays else self._chance.choice([-1, 60])
        if not self._database.write(workers.beat, Beat(self._worker, lease_seconds, "ready", 0, None)).alive:
            self._worker = register(self._database, new_id("worker"))
            self._held.clear()


def race(url: str, seed: int) -> Tally:
    """Let several racers run in this process, as the threads of one part."""
    database = Database(url)
    racers = [Racer(database, seed * THREADS + number) for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        tallies = list(threads.map(Racer.run, racers))
    database.close()
    return Tally(
        [job_id for tally in tallies for job_id in tally.finished], [one for tally in tallies for one in tally.broken]
    )
