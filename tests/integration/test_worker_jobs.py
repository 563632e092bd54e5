"""A worker process takes hints from Redis, and Celery's events tell the truth about the jobs."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from storage.control import Control
from storage.redis import async_client
from tasks.orders import cancel_order
from tests.api import migrated_url
from tests.contract.sql import QUEUE
from tests.integration.site import Process, Site, open_site, until
from tests.services import RedisServer, S3Server
from workers.engines.fake import expected_output

TERMINAL_EVENTS = {"task-succeeded", "task-failed", "task-retried"}


@dataclass
class Staffed:
    """Services, and the worker on them."""

    site: Site
    worker: Process


@pytest.fixture(scope="module")
def staffed(
    api_template: Path, redis_server: RedisServer, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Staffed]:
    """A site with a worker, for all these tests."""
    folder = tmp_path_factory.mktemp("staffed")
    with open_site(migrated_url(api_template, folder), redis_server.url, s3_server, folder) as site:
        yield Staffed(site, site.worker())


@contextmanager
def watch_events(redis_url: str) -> Iterator[list[dict[str, Any]]]:
    """Collect Celery's events, as Flower does."""
    seen: list[dict[str, Any]] = []
    app = Celery("watcher", broker=redis_url, set_as_current=False)
    ready = threading.Event()
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        receiver.on_consume_ready = lambda *_, **__: ready.set()
        thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "timeout": None, "wakeup": False})
        thread.start()
        assert ready.wait(60)
        try:
            yield seen
        finally:
            receiver.should_stop = True
            thread.join()


def test_one_hint_starts_a_chain_that_empties_the_queue(staffed: Staffed) -> None:
    site = staffed.site
    job_ids = [site.submit(f"job {number}", hints=0) for number in range(30)]
    site.hint()
    site.wait_for("succeeded", *job_ids)
    for number, job_id in enumerate(job_ids):
        expected = expected_output("text", {"prompt": f"job {number}", "max_tokens": 5})
        assert site.result(job_id) == json.loads(site.row(job_id).output or "") == expected


def test_many_run_at_once_and_garbage_between_hints_harms_nobody(staffed: Staffed) -> None:
    site, worker = staffed.site, staffed.worker
    for garbage in (
        "",
        "not json",
        "{}",
        '{"body": 1}',
        json.dumps({"body": "e30=", "headers": {}, "properties": {}}),
    ):
        site.push(garbage)
    job_ids = [site.submit(hints=3) for _ in range(20)]
    site.wait_for("succeeded", *job_ids)
    assert worker.popen.poll() is None


def test_a_cancel_order_stops_a_running_job(staffed: Staffed) -> None:
    site = staffed.site
    job_id = site.submit("fake:hang")
    [row] = site.wait_for("running", job_id)
    _send_order(site, row.owner or "", cancel_order(job_id, row.attempt))
    [row] = site.wait_for("canceled", job_id)
    assert (row.attempt, row.lost, row.errors) == (1, 0, 0)


def _send_order(site: Site, worker_id: str, order: dict[str, Any]) -> None:
    async def send() -> None:
        client = async_client(site.redis_url)
        await Control(client).send(worker_id, order)
        await client.aclose()

    asyncio.run(send())


def test_celerys_states_are_those_of_the_jobs(staffed: Staffed) -> None:
    site = staffed.site
    with watch_events(site.redis_url) as seen:
        done = site.submit()
        failed = site.submit("fake:refuse")
        again = site.submit("fake:fail")
        site.wait_for("succeeded", done)
        site.wait_for("failed", failed)
        until(lambda: site.row(again).errors == 1, "it was tried once")

        def said() -> dict[str, str]:
            return {str(one.get("result") or one.get("exception")): one["type"] for one in list(seen)}

        until(lambda: len({*said().values()} & TERMINAL_EVENTS) == 3, "three states were told")
    told = {text: kind for text, kind in said().items() if kind in TERMINAL_EVENTS}
    assert _state_of(told, done) == "task-succeeded"
    assert _state_of(told, failed) == "task-failed"
    assert _state_of(told, again) == "task-retried"


def _state_of(told: dict[str, str], words: str) -> str:
    [kind] = {kind for text, kind in told.items() if words in text}
    return kind


def test_its_row_says_what_it_is(staffed: Staffed) -> None:
    def ended() -> int:
        [worker] = staffed.site.living()
        return int(json.loads(worker.stats or "{}").get("ended", 0))

    before = ended()
    staffed.site.wait_for("succeeded", staffed.site.submit())
    until(lambda: ended() > before, "the beat says that a job ended")
    [worker] = staffed.site.living()
    assert (worker.model, worker.device, worker.queue, worker.state) == ("echo", "cpu0", QUEUE, "ready")
    assert (worker.slots, worker.in_flight) == (4, 0)
    stats = json.loads(worker.stats or "{}")
    assert stats.keys() >= {"ended", "wait_ms", "run_ms", "sums", "engine", "events_dropped"}


def test_its_log_names_jobs_and_keeps_their_inputs_to_itself(staffed: Staffed) -> None:
    site, worker = staffed.site, staffed.worker
    job_id = site.submit("a-secret-prompt fake:fail", request_id="req_1", max_attempts=1)
    site.wait_for("failed", job_id)
    until(lambda: job_id in worker.said(), "the job is in the log")
    assert "a-secret-prompt" not in worker.said()
    [line] = [json.loads(line) for line in worker.said().splitlines() if job_id in line]
    assert (line["request_id"], line["attempt"], line["end"]) == ("req_1", 1, "failed")
    assert line["worker_id"].startswith("worker_")
