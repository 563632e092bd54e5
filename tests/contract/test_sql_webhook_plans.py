"""Which index each statement about deliveries uses when there are many: most of them ended long ago."""

import re
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.webhooks import deliveries, endpoints, sending
from storage.webhooks.deliveries import Delivery, DeliveryFilter
from storage.webhooks.sending import Result, Wish
from tests.contract.test_sql_plans import NUMBERS, new_database, plans

PENDING, TOTAL = 2_000, 40_000
FILL = """
    INSERT INTO webhook_deliveries (
      id, caller_id, endpoint_id, origin, event, job_id, status, attempts, tries, next_at, fence, occurred_at,
      ended_at)
    SELECT 'msg_' || n, 'caller_' || (n % 40), 'ep_' || (n % 90), 'https://h' || (n % 50) || '.example', 'job.failed',
      'job_' || n, CASE WHEN n <= :pending THEN 'pending' ELSE 'delivered' END, 0, 0,
      CASE WHEN n <= :pending THEN n END, 0, n, CASE WHEN n > :pending THEN n END
    FROM ({numbers}) AS numbers"""
READS_ALL = re.compile(r"Seq Scan on webhook_deliveries|SCAN (webhook_deliveries|due)(?! USING)")
HELD = Delivery("msg_7", "caller_7", "ep_7", None, "o", "e", "job_7", "pending", 0, 0, None, 0, 0.0, None, None, None)

CASES: dict[str, tuple[Callable[[sa.Connection], object], str]] = {
    "who has some due": (sending.due_origins, "webhook_deliveries_due"),
    "claim": (
        lambda c: sending.claim(c, [Wish({"https://h1.example": 5, "https://h2.example": 5}, 9)]),
        "webhook_deliveries_due",
    ),
    "record": (lambda c: sending.record(c, [Result(HELD, 200, 1.0, None, is_delivered=True)]), "PRIMARY"),
    "list": (
        lambda c: deliveries.page(c, DeliveryFilter("caller_7", 20, after="msg_5", status="pending")),
        "webhook_deliveries_caller",
    ),
    "look": (lambda c: deliveries.find(c, "msg_7", "caller_7"), "PRIMARY"),
    "replay since": (lambda c: deliveries.replay_since(c, "ep_7", 9.0), "webhook_deliveries_endpoint"),
    "end what waits": (lambda c: endpoints.end_waiting(c, "ep_7", "gone"), "webhook_deliveries_endpoint"),
    "forget": (lambda c: deliveries.forget(c, 100.0, 50), "webhook_deliveries_ended"),
}
PRIMARY = {"postgresql": "webhook_deliveries_pkey", "sqlite": "sqlite_autoindex_webhook_deliveries_1"}


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Many deliveries, in a database of each kind."""
    with new_database(request, tmp_path_factory) as database:
        fill = sa.text(FILL.format(numbers=NUMBERS[database.dialect]))
        database.transact(lambda connection: connection.execute(fill, {"pending": PENDING, "total": TOTAL}))
        database.read(lambda connection: connection.execute(sa.text("ANALYZE")))
        yield database


@pytest.mark.parametrize("name", CASES)
def test_a_statement_reads_only_what_it_is_about(filled: Database, name: str) -> None:
    work, index = CASES[name]
    plan = plans(filled, work)
    assert (PRIMARY[filled.dialect] if index == "PRIMARY" else index) in plan, plan
    assert not READS_ALL.search(plan), plan
    assert "Sort" not in plan, plan
    assert "TEMP B-TREE FOR ORDER BY" not in plan, plan
