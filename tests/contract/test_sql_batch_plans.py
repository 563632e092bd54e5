"""Which index each statement about lines uses when there are many: most of them have ended, or wait."""

import re
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from schemas.batches import LineStatus
from storage import batch_lines, batch_upkeep, batch_work, batches, queues
from storage.batch_lines import EndedGroup, LineClaim, LineEnding, LineRelease
from storage.batches import BatchFilter
from storage.database import Database
from storage.queues import QueueRow
from tests.contract.sql import QUEUE
from tests.contract.test_sql_plans import NUMBERS, new_database, plans

BATCHES, LINES = 200, 60_000
ENDED, RUNNING = 30_000, 1_000
FILL_BATCHES = """
    INSERT INTO batches (
      number, id, caller_id, endpoint, input_file_id, completion_window, status, paused, total, completed, failed,
      prompt_tokens, completion_tokens, fence, created_at, expires_at)
    SELECT n, 'batch_' || n, 'caller_' || (n % 40), '/v1/embeddings', 'file_' || n, '24h',
      CASE WHEN n <= 150 THEN 'completed' ELSE 'in_progress' END, 0, 300, 0, 0, 0, 0, 0, n, 9e9
    FROM ({numbers}) AS numbers"""
FILL_LINES = """
    INSERT INTO batch_lines (id, queue, rank, status, attempt, errors, lost, owner, run_at, chunk, place, answer)
    SELECT ((n - 1) / 300 + 1) * 1048576 + n % 300, 'text.echo.cpu' || (n % 8), n,
      CASE WHEN n <= :ended THEN 'succeeded' WHEN n <= :running THEN 'running' ELSE 'queued' END, 1, 0,
      CASE WHEN n % 200 = 0 THEN 1 ELSE 0 END, CASE WHEN n > :ended AND n <= :running THEN 'worker_' || (n % 10) END,
      CASE WHEN n > :running AND n % 100 = 1 THEN 9e9 END, n / 256, n % 256, CASE WHEN n <= :ended THEN 'a' END
    FROM ({numbers}) AS numbers"""
PRIMARY = {"postgresql": "batch_lines_pkey", "sqlite": "INTEGER PRIMARY KEY"}
READS_ALL = re.compile(r"Seq Scan on batch|SCAN batch\w*\b(?! USING)")
LINE = (120 << 20) + 5
ENDINGS = [LineEnding(LINE + place, 1, LineStatus.SUCCEEDED, 0, 5) for place in range(8)]

CASES: dict[str, tuple[Callable[[sa.Connection], object], str]] = {
    "claim": (lambda c: batch_lines.claim(c, [LineClaim(QUEUE, "w", 32)]), "batch_lines_claim"),
    "claim suspects": (lambda c: batch_lines.claim(c, [LineClaim(QUEUE, "w", 2, 2)]), "batch_lines_suspect"),
    "probe": (lambda c: batch_lines.has_more(c, QUEUE), "batch_lines_claim"),
    "finish": (lambda c: batch_lines.finish(c, [EndedGroup("a", ENDINGS)]), "PRIMARY"),
    "release": (lambda c: batch_lines.release(c, [[LineRelease(LINE, 1)]]), "PRIMARY"),
    "walk": (lambda c: batch_lines.walk(c, 120, LINE, 100), "PRIMARY"),
    "held by": (lambda c: batch_lines.held_by(c, "worker_1"), "batch_lines_running"),
    "cancel": (lambda c: batches.request_cancel(c, "batch_170", "caller_10"), "PRIMARY"),
    "pause": (lambda c: batches.set_paused(c, "batch_170", "caller_10", paused=True), "PRIMARY"),
    "close windows": (lambda c: batches.close_windows(c, 5), "batches_unfinished"),
    "work": (lambda c: batch_work.claim(c, 15), "batches_unfinished"),
    "list": (lambda c: batches.page(c, BatchFilter("caller_7", 20, "batch_5")), "batches_caller"),
    "needed file": (lambda c: batches.unfinished_with(c, "file_7"), "batches_"),
    "requeue lost": (batch_upkeep.requeue_lost, "batch_lines_running"),
    "release scheduled": (batch_upkeep.release_scheduled, "batch_lines_scheduled"),
    "count": (lambda c: queues.claimable_up_to(c, 50), "batch_lines_claim"),
}


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Many lines in a database of each kind, which nothing has analyzed: a batch comes faster than that."""
    with new_database(request, tmp_path_factory) as database:
        for fill, total in ((FILL_BATCHES, BATCHES), (FILL_LINES, LINES)):
            statement = sa.text(fill.format(numbers=NUMBERS[database.dialect]))
            said = {"total": total} | ({"ended": ENDED, "running": ENDED + RUNNING} if total == LINES else {})
            database.transact(lambda connection, s=statement, v=said: connection.execute(s, v))  # type: ignore[misc]  # bound
        database.transact(lambda connection: queues.declare(connection, [QueueRow(QUEUE, "text", "echo", "cpu0", 0)]))
        yield database


@pytest.mark.parametrize("name", CASES)
def test_a_statement_reads_only_what_it_is_about(filled: Database, name: str) -> None:
    work, index = CASES[name]
    plan = plans(filled, work)
    assert (PRIMARY[filled.dialect] if index == "PRIMARY" else index) in plan, plan
    assert not READS_ALL.search(plan), plan
