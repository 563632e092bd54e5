"""Workers that die, freeze or lose their engine lose no job and never give it two results."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from storage import jobs
from tests.integration.site import Site, left_behind, until


def test_the_jobs_of_a_killed_worker_run_elsewhere(site: Site) -> None:
    site.maintenance()
    victim = site.worker()
    job_ids = [site.submit("fake:sleep-ms=1000") for _ in range(3)]
    site.wait_for("running", *job_ids)
    victim.send(signal.SIGKILL)
    victim.wait()
    assert left_behind(victim) == []
    site.worker()
    rows = site.wait_for("succeeded", *job_ids)
    assert [(row.attempt, row.lost, row.errors) for row in rows] == [(2, 1, 0)] * 3


def test_a_frozen_worker_drops_what_was_taken_from_it_and_goes_on(site: Site) -> None:
    site.maintenance()
    frozen = site.worker()
    job_id = site.submit("fake:sleep-ms=500")
    [row] = site.wait_for("running", job_id)
    frozen.send(signal.SIGSTOP)
    until(lambda: site.row(job_id).lost == 1, "its job was taken back")
    other = site.worker("cpu1")
    [done] = site.wait_for("succeeded", job_id)
    frozen.send(signal.SIGCONT)
    until(lambda: len(site.living()) == 2, "it has introduced itself anew")
    assert row.owner not in {worker.id for worker in site.living()}
    assert site.row(job_id) == done
    other.send(signal.SIGTERM)
    other.wait()
    site.wait_for("succeeded", site.submit())


def test_a_worker_whose_engine_died_ends_and_its_jobs_are_taken_back_at_once(site: Site) -> None:
    site.maintenance()
    worker = site.worker(lease_seconds="600")
    beside = site.submit("fake:hang", timeout_seconds=2)
    site.wait_for("running", beside)
    killer = site.submit("fake:dead")
    assert worker.wait() == 70
    until(lambda: site.row(killer).lost == site.row(beside).lost == 1, "both were taken back")
    assert site.living() == []


@contextmanager
def keep_alive(site: Site) -> Iterator[None]:
    """Restart the worker whenever it dies, as the supervisor does."""
    over = threading.Event()

    def supervise() -> None:
        while not over.is_set():
            has_ended = site.worker().popen.poll
            while has_ended() is None and not over.wait(0.05):
                pass

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_poison_ends_alone_and_its_neighbours_succeed(site: Site) -> None:
    site.maintenance()
    neighbours = [site.submit("fake:sleep-ms=300") for _ in range(3)]
    poison = site.submit("fake:sleep-ms=100 fake:exit")
    with keep_alive(site):
        site.wait_for("succeeded", *neighbours)
        [row] = site.wait_for("failed", poison)
    assert '"worker_lost"' in (row.error or "")
    assert row.lost == 3


def test_a_cancel_reaches_a_worker_without_any_order(site: Site) -> None:
    site.worker()
    job_id = site.submit("fake:hang")
    site.wait_for("running", job_id)
    site.database.transact(lambda connection: jobs.cancel(connection, job_id))
    [row] = site.wait_for("canceled", job_id)
    assert (row.attempt, row.lost, row.errors) == (1, 0, 0)
