"""Workers that hold a real vLLM: killed or bereft of it, they lose no job and leave no process behind."""

import asyncio
import importlib.util
import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from schemas.events import Envelope, EventType
from storage import jobs
from storage.event_log.streams import RedisEventLog
from storage.jobs import Submission
from storage.redis import async_client
from tests.contract.sql import new_job
from tests.integration.site import Process, Site, left_behind, until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make env brings it)"
)
CATALOG = """
[models.echo]
kind = "text"
engine = "vllm"
source = "{source}"
devices = ["cpu0", "cpu1"]
max_in_flight = 8
context_length = 4096
warm_up = {{ prompt = "hello", max_tokens = 2, temperature = 0 }}
options = {{ kv_cache_gib = 0.0625 }}
"""
START_SECONDS = 120.0
TOKENS = 4000
FIRST_CHARACTERS = 20


def core_of(worker: Process) -> psutil.Process:
    """The process in which a worker's model is."""
    return max(psutil.Process(worker.popen.pid).children(), key=lambda process: process.memory_info().rss)


def submit(site: Site, tokens: int = TOKENS) -> str:
    """A job that always takes the likeliest token."""
    job = new_job()
    given = {"prompt": "hello", "max_tokens": tokens, "temperature": 0}
    site.database.write(jobs.submit, Submission(job, json.dumps(given)))
    site.hint()
    return job.id


def told(site: Site, job_id: str) -> str:
    """What readers of a job's stream have had so far."""

    async def read() -> list[Envelope]:
        client = async_client(site.environment["STOKER_REDIS_URL"])
        try:
            return await RedisEventLog(client).read(job_id, None)
        finally:
            await client.aclose()

    return "".join(one.data["text"] for one in asyncio.run(read()) if one.type is EventType.TOKEN)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_what_dies_takes_nothing_with_it(site: Site, tiny_llama: Path, temporary: Path) -> None:
    site.catalog.write_text(CATALOG.format(source=tiny_llama))
    site.environment["TMPDIR"] = str(temporary)
    site.maintenance()
    victim, heir = (site.start("workers", "--model", "echo", "--device", device) for device in ("cpu0", "cpu1"))
    for worker in (victim, heir):
        worker.wait_until_ready(START_SECONDS)

    job_ids = [submit(site) for _ in range(4)]
    site.wait_for("running", *job_ids)
    assert core_of(victim).pid in {process.pid for process in left_behind(victim)}
    until(lambda: all(len(told(site, job_id)) > FIRST_CHARACTERS for job_id in job_ids), "all have said something")
    before = {job_id: told(site, job_id) for job_id in job_ids}
    victim.send(signal.SIGKILL)
    victim.wait()
    until(lambda: left_behind(victim) == [], "the core has followed its worker")
    assert len(list(temporary.glob("stoker-*"))) == 1  # the heir's
    for row in site.wait_for("succeeded", *job_ids):
        assert (row.attempt, row.lost, row.errors) == (2, 1, 0)
        assert json.loads(row.usage or "{}")["completion_tokens"] == TOKENS
        result = site.result(row.id)
        assert result["finish_reason"] == "length"
        assert result["text"].startswith(before[row.id])  # so that a stream of OpenAI's can go on

    canceled = submit(site)
    site.wait_for("running", canceled)
    site.database.transact(lambda connection: jobs.cancel(connection, canceled))
    [row] = site.wait_for("canceled", canceled)
    assert json.loads(row.usage or "{}")["prompt_tokens"] == 5

    core_of(heir).send_signal(signal.SIGKILL)  # while nothing runs
    assert heir.wait() == 70
    assert site.living() == []
    until(lambda: left_behind(heir) == [], "what the worker had started has followed it")
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("torchinductor_")] == []
