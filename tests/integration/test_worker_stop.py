"""A worker that is told to stop loses no job and costs it nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from storage import workers
from tests.integration.site import ROOT, Process, Site, left_behind, lives, until


def assert_gone(site: Site, worker: Process) -> None:
    assert worker.wait() == 0, worker.said()
    assert left_behind(worker) == []
    assert site.living() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_lets_running_jobs_finish_and_takes_no_more(site: Site, number: signal.Signals) -> None:
    worker = site.worker()
    running = [site.submit("fake:sleep-ms=700") for _ in range(4)]
    site.wait_for("running", *running)
    waiting = [site.submit() for _ in range(6)]
    worker.send(number)
    assert_gone(site, worker)
    assert [site.row(job_id).status for job_id in running] == ["succeeded"] * 4
    assert [site.row(job_id).attempt for job_id in waiting] == [0] * 6


def test_what_does_not_finish_in_time_is_handed_back(site: Site) -> None:
    worker = site.worker(drain_seconds="0.3")
    job_id = site.submit("fake:hang")
    site.wait_for("running", job_id)
    worker.send(signal.SIGTERM)
    assert_gone(site, worker)
    row = site.row(job_id)
    assert (row.status, row.attempt, row.lost, row.errors) == ("queued", 1, 0, 0)


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM]])
def test_a_rude_stop_hands_everything_back_at_once(site: Site, signals: list[signal.Signals]) -> None:
    worker = site.worker(drain_seconds="600")
    job_ids = [site.submit("fake:hang") for _ in range(4)]
    site.wait_for("running", *job_ids)
    for number in signals:
        worker.send(number)
        until(lambda: "Stopping." in worker.said(), "it has heard the signal")
    assert_gone(site, worker)
    assert [(row.status, row.lost) for row in map(site.row, job_ids)] == [("queued", 0)] * 4


def test_what_was_handed_back_has_a_hint_for_the_next_worker(site: Site) -> None:
    worker = site.worker()
    job_id = site.submit("fake:sleep-ms=400")
    site.wait_for("running", job_id)
    worker.send(signal.SIGQUIT)
    worker.wait()
    site.worker()
    [row] = site.wait_for("succeeded", job_id)
    assert (row.attempt, row.lost) == (2, 0)


def test_a_drain_is_asked_for_on_its_row(site: Site) -> None:
    worker = site.worker()
    [row] = site.living()
    assert site.database.transact(lambda connection: workers.request_drain(connection, row.id))
    assert_gone(site, worker)


def test_a_draining_worker_says_so(site: Site) -> None:
    worker = site.worker()
    job_id = site.submit("fake:sleep-ms=1500")
    site.wait_for("running", job_id)
    worker.send(signal.SIGTERM)
    until(lambda: [row.state for row in site.living()] == ["draining"], "its row says that it drains")
    assert_gone(site, worker)
    assert site.row(job_id).status == "succeeded"


def test_it_stops_while_it_loads(site: Site) -> None:
    site.catalog.write_text(site.catalog.read_text().replace("decode_step_ms", "load_ms = 60000, decode_step_ms"))
    worker = site.start("workers", "--model", "echo")
    until(lambda: [row.state for row in site.living()] == ["loading"], "it loads")
    worker.send(signal.SIGTERM)
    assert_gone(site, worker)
    assert not worker.ready_file.exists()


def test_when_its_parent_is_gone_it_hands_everything_back_at_once(site: Site) -> None:
    worker = site.worker(drain_seconds="600")
    job_id = site.submit("fake:hang")
    site.wait_for("running", job_id)
    os.close(worker.parent_writer)
    assert_gone(site, worker)
    row = site.row(job_id)
    assert (row.status, row.lost) == ("queued", 0)


def test_it_ends_when_its_parent_goes_before_it_listens_to_signals(site: Site) -> None:
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:1/stoker"
    worker = site.start("workers", "--model", "echo", database_url=nowhere, database_wait_seconds="600")
    until(lambda: "waiting for the database" in worker.said(), "it waits for the database")
    os.close(worker.parent_writer)
    assert worker.wait() == 1


def test_the_maintenance_worker_stops_too(site: Site) -> None:
    maintenance = site.maintenance()
    maintenance.send(signal.SIGTERM)
    assert maintenance.wait() == 0


HALF_LOADED = """
import multiprocessing
import time

from workers.__main__ import leave

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    child.start()
    print(child.pid, flush=True)
    leave(3)
"""


def test_what_an_engine_started_that_never_finished_loading_ends_with_the_worker(tmp_path: Path) -> None:
    script = tmp_path / "half_loaded.py"
    script.write_text(HALF_LOADED)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 3, ended.stderr
    child = int(ended.stdout)
    until(lambda: not (psutil.pid_exists(child) and lives(psutil.Process(child))), "its child has ended as well")
