"""A worker's inside in one process: a real database and Redis, a fake engine, objects in memory, no Celery."""

import inspect
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from schemas.base import JsonObject
from schemas.catalog import Catalog, Model
from schemas.errors import ObjectStoreFaultError
from schemas.events import Envelope
from storage import claims, jobs, workers
from storage.claims import Claim
from storage.database import Database
from storage.event_log.streams import RedisEventLog
from storage.hints import AsyncHints
from storage.jobs import Submission
from storage.objects.memory import MemoryObjectStore
from storage.redis import async_client
from storage.rows import ClaimedJob, JobRow
from tasks.attempt import Reason, Workplace
from tasks.batches.running import LineExecution, LineRules
from tasks.dispatch import HINT_TASK
from tasks.event_writer import EventWriter
from tasks.execution import Execution
from tasks.gate import Gate
from tasks.outcome import End, Outcome
from tests.contract.sql import QUEUE, new_job
from workers.engines.fake import FakeEngine
from workers.host import Host

SIBLING = "text.echo.cpu1"
WORKER = "worker_a"
PATIENCE_SECONDS = 60.0


class SickObjectStore(MemoryObjectStore):
    """Objects in memory; the next `faults` puts and gets fail."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = 0
        self.failed = threading.Event()

    def put(self, key: str, content: bytes, content_type: str) -> str:
        self._maybe_fail()
        return super().put(key, content, content_type)

    def get(self, key: str) -> bytes:
        self._maybe_fail()
        return super().get(key)

    def _maybe_fail(self) -> None:
        if self.faults:
            self.faults -= 1
            self.failed.set()
            raise ObjectStoreFaultError

    def keys(self) -> list[str]:
        return [entry.key for entry in self.list("", None, 1000)]


class Bench:
    """An execution with all that it stands on, and short words to drive it."""

    def __init__(self, database: Database, redis_url: str, engine: FakeEngine, slots: int) -> None:
        self.database = database
        self.objects = SickObjectStore()
        self.engine = engine
        self.host = Host(engine)
        self.gate = Gate()
        redis = async_client(redis_url)
        self.log = RedisEventLog(redis)
        self.writer = EventWriter(self.log)
        self.redis = redis
        self.hints = AsyncHints(redis, HINT_TASK)
        self.threads = ThreadPoolExecutor(4)
        self.outcomes: list[Outcome] = []
        workplace = Workplace(database, self.objects, engine, self.writer, self.threads, "cpu0")
        self.lines = LineExecution(workplace, self.gate, CATALOG, LineRules(QUEUE, [SIBLING], max(1, slots - 1), 600))
        self.execution = Execution(
            workplace,
            self.gate,
            self.hints,
            self,
            lines=self.lines,
            slots=slots,
        )
        self.execution.worker_id = WORKER

    def submit(self, given: JsonObject | str = "hello", **changes: Any) -> str:
        """A queued job; its id."""
        content = {"prompt": given, "max_tokens": 5} if isinstance(given, str) else given
        job = new_job(**changes)
        return self.database.write(jobs.submit, Submission(job, json.dumps(content))).job_id

    def begin(self, job: ClaimedJob) -> None:
        """See an attempt begin."""

    def end(self, job: ClaimedJob, outcome: Outcome, seconds: float) -> None:
        """Note an attempt's end."""
        self.outcomes.append(outcome)

    def hint(self, *, suspects: bool = False) -> list[Outcome]:
        """Run what a hint sets in motion, to its end."""
        self.outcomes.clear()
        self.start(suspects=suspects)
        return self.finish()

    def start(self, *, suspects: bool = False) -> None:
        """Set in motion what a hint does."""
        self.do(self.execution.on_suspects if suspects else self.execution.on_hint)

    def run(self, job_id: str) -> None:
        """Start a job and wait until the engine has it."""
        self.start()
        self.until(lambda: self.row(job_id).status == "running" and self.gate.in_flight > 0)

    def finish(self) -> list[Outcome]:
        """Wait until nothing runs any more; what came of what ran since the last time."""
        self.do(self.execution.wait)
        outcomes, self.outcomes = self.outcomes, []
        return outcomes

    def do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something where it belongs: in the loop."""

        async def call() -> Any:
            answer = function(*arguments)
            return await answer if inspect.isawaitable(answer) else answer

        return self.host.submit(call()).result(PATIENCE_SECONDS)

    def row(self, job_id: str) -> JobRow:
        """A job's row, which must be there."""
        found = self.database.read(lambda connection: jobs.find(connection, job_id))
        assert found is not None
        return found

    def events(self, job_id: str) -> list[Envelope]:
        """What the job said."""
        self.host.submit(self.writer.flush(PATIENCE_SECONDS)).result()
        return self.host.submit(self.log.read(job_id, None)).result()

    def hints_waiting(self) -> int:
        """How many hints the worker sent to its own queue."""
        count: int = self.host.submit(self._count_hints()).result()
        return count

    async def _count_hints(self) -> int:
        return int(await self.redis.llen(QUEUE))

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true."""
        pause = threading.Event()
        for _ in range(int(PATIENCE_SECONDS / 0.005)):
            if condition():
                return
            pause.wait(0.005)
        raise TimeoutError("it did not become true")

    def close(self) -> None:
        """Stop everything."""
        self.do(self.gate.close)
        self.do(self.execution.stop_all, Reason.REPLACED)
        self.until(lambda: self.gate.in_flight == 0)
        self.threads.shutdown()
        self.host.submit(self._close()).result()
        self.host.close()

    async def _close(self) -> None:
        await self.writer.flush(PATIENCE_SECONDS)
        await self.hints.flush()
        await self.redis.aclose()


FIELDS = {"alias": "echo", "kind": "text", "engine": "fake", "source": "builtin", "devices": ["cpu0", "cpu1"]}
CATALOG = Catalog.model_validate({"models": {"echo": FIELDS}})


def make_engine(engine_class: type[FakeEngine] = FakeEngine, slots: int = 4, **options: Any) -> FakeEngine:
    """A fake engine that takes no time unless told to."""
    return engine_class(Model.model_validate({**FIELDS, "max_in_flight": slots, "options": options}))


@contextmanager
def run_bench(database: Database, redis_url: str, engine: FakeEngine | None = None) -> Iterator[Bench]:
    """A bench whose engine is loaded and whose worker has a row."""
    engine = engine or make_engine()
    bench = Bench(database, redis_url, engine, engine.capacity().slots)
    introduce(database, WORKER)
    bench.host.start()
    bench.host.load(None).result()
    bench.do(bench.gate.open, engine.capacity())
    try:
        yield bench
    finally:
        bench.close()


def introduce(database: Database, worker_id: str, lease_seconds: float = 60) -> None:
    """Write a worker's row; a lease below zero makes one that is lost already."""
    worker = workers.NewWorker(worker_id, "text", "echo", "cpu0", QUEUE, "host", 1, "ready", 4)
    database.transact(lambda connection: workers.register(connection, worker, lease_seconds))


def lose(database: Database, times: int = 1) -> None:
    """Have the workers of every queued job die, so often."""
    for _ in range(times):
        for most_lost in (0, 2):
            database.write(claims.claim, Claim(QUEUE, "worker_gone", 1000, most_lost))
        database.transact(workers.requeue_lost)


def ends(outcomes: Sequence[Outcome]) -> list[End]:
    """How attempts ended."""
    return [outcome.end for outcome in outcomes]
