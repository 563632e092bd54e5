"""Real worker processes on real services: started, killed, frozen and asked as an operator would."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from schemas.base import JsonObject
from storage import jobs, workers
from storage.database import Database
from storage.hints import Hints
from storage.jobs import Submission
from storage.objects.s3 import S3ObjectStore
from storage.redis import sync_client
from storage.rows import JobRow
from storage.workers import WorkerRow
from tasks.dispatch import HINT_TASK
from tests.contract.sql import QUEUE, new_job
from tests.services import S3Server

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
WIDTH = 32
LEASE_SECONDS = 1.5

CATALOG = """
[models.echo]
kind = "text"
engine = "fake"
source = "builtin"
devices = ["cpu0", "cpu1"]
max_in_flight = 4
warm_up = { prompt = "hello", max_tokens = 2 }
options = { decode_step_ms = 1 }
"""


class Process:
    """One process of ours, in a session of its own."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], folder: Path, name: str) -> None:
        self.log_file = folder / f"{name}.log"
        self.ready_file = folder / f"{name}.ready"
        self._parent_reader, self.parent_writer = os.pipe()
        environment = environment | {
            "STOKER_READY_FILE": str(self.ready_file),
            "STOKER_PARENT_FD": str(self._parent_reader),
        }
        with self.log_file.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=environment,
                pass_fds=[self._parent_reader],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        os.close(self._parent_reader)

    def wait_until_ready(self, seconds: float = PATIENCE_SECONDS) -> "Process":
        """Wait for the file that it touches when it is ready."""
        until(lambda: self.ready_file.exists() or self.popen.poll() is not None, "it is ready", seconds)
        assert self.popen.poll() is None, self.said()
        return self

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it alone."""
        self.popen.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; its exit status."""
        return self.popen.wait(PATIENCE_SECONDS)

    def said(self) -> str:
        """Everything it has logged."""
        return self.log_file.read_text(errors="replace")

    def stop(self) -> None:
        """Leave nothing of it behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        with contextlib.suppress(OSError):
            os.close(self.parent_writer)


class Site:
    """A database, a Redis and an object store, the processes on them, and a client's short words."""

    def __init__(self, database_url: str, redis_url: str, s3: S3Server, folder: Path) -> None:
        self.folder = folder
        self.database = Database(database_url)
        self.redis_url = redis_url
        self._redis = sync_client(redis_url)
        self._hints = Hints(self._redis, HINT_TASK)
        self._processes: list[Process] = []
        self.catalog = folder / "models.toml"
        self.catalog.write_text(CATALOG)
        self.objects = S3ObjectStore(
            s3.bucket, endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key
        )
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("STOKER_")},
            "PYTHONPATH": str(ROOT),
            "STOKER_DATABASE_URL": database_url,
            "STOKER_DATABASE_WAIT_SECONDS": "1",
            "STOKER_REDIS_URL": redis_url,
            "STOKER_S3_ENDPOINT": s3.endpoint,
            "STOKER_S3_ACCESS_KEY": s3.access_key,
            "STOKER_S3_SECRET_KEY": s3.secret_key,
            "STOKER_S3_BUCKET": s3.bucket,
            "STOKER_CATALOG": str(self.catalog),
            "STOKER_LEASE_SECONDS": str(LEASE_SECONDS),
            "STOKER_DRAIN_SECONDS": "5",
            "STOKER_TICK_SECONDS": "0.3",
        }

    def start(self, *arguments: str, **settings: str) -> Process:
        """Start `python -m …`; settings are named without their prefix."""
        environment = self.environment | {f"STOKER_{name.upper()}": value for name, value in settings.items()}
        process = Process(arguments, environment, self.folder, f"process{len(self._processes)}")
        self._processes.append(process)
        return process

    def worker(self, device: str = "cpu0", **settings: str) -> Process:
        """Start a worker; ready when this returns."""
        return self.start("workers", "--model", "echo", "--device", device, **settings).wait_until_ready()

    def maintenance(self) -> Process:
        """Start beat and the maintenance worker; the latter is returned, ready."""
        self.start("celery", "-A", "tasks.celery_app", "beat")
        return self.start("workers", "--maintenance").wait_until_ready()

    def submit(self, prompt: str = "hello", max_tokens: int = 5, *, hints: int = 1, **changes: object) -> str:
        """A queued job and its hints; its id."""
        job = new_job(**changes)
        content = json.dumps({"prompt": prompt, "max_tokens": max_tokens})
        self.database.write(jobs.submit, Submission(job, content))
        self.hint(hints)
        return job.id

    def hint(self, count: int = 1) -> None:
        """Say that the queue has work."""
        self._hints.send(QUEUE, width=WIDTH, count=count)

    def push(self, message: str) -> None:
        """Put anything on the queue's list."""
        self._redis.lpush(QUEUE, message)

    def row(self, job_id: str) -> JobRow:
        """A job's row, which must be there."""
        found = self.database.read(lambda connection: jobs.find(connection, job_id))
        assert found is not None
        return found

    def wait_for(self, status: str, *job_ids: str) -> list[JobRow]:
        """Wait until all these jobs have a status."""
        until(lambda: all(self.row(job_id).status == status for job_id in job_ids), f"{job_ids} are {status}")
        return [self.row(job_id) for job_id in job_ids]

    def living(self) -> list[WorkerRow]:
        """The workers whose lease runs."""
        return self.database.read(workers.living)

    def result(self, job_id: str) -> JsonObject:
        """The bytes of a job's result, read."""
        artifacts = json.loads(self.row(job_id).artifacts or "[]")
        content: JsonObject = json.loads(self.objects.get(artifacts[0]["key"]))
        return content

    def close(self) -> None:
        """Stop everything."""
        for process in self._processes:
            process.stop()
        self._redis.close()
        self.objects.close()
        self.database.close()


@contextmanager
def open_site(database_url: str, redis_url: str, s3: S3Server, folder: Path) -> Iterator[Site]:
    """A site that leaves nothing behind."""
    site = Site(database_url, redis_url, s3, folder)
    try:
        yield site
    finally:
        site.close()


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


def left_behind(process: Process) -> list[psutil.Process]:
    """What still runs in a process's session."""
    return [other for other in psutil.process_iter() if _session(other.pid) == process.popen.pid and lives(other)]


def lives(process: psutil.Process) -> bool:
    """Say whether a process still runs."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended while we looked
        return False


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
