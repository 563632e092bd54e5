"""Adapters as storage knows them, on SQLite and on Postgres: add, find, resolve, delete while jobs use them."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import pytest
import sqlalchemy as sa

from schemas.errors import ConflictError, NotFoundError
from schemas.ids import new_id
from storage import adapters, batches
from storage.adapters import EVERYBODY, AdapterFilter, AdapterRow, NewAdapter
from storage.batches import NewBatch
from storage.database import Database
from storage.tables import adapters as table
from tests.contract.sql import CALLER, claim_one, finish, submit
from tests.contract.test_sql_plans import NUMBERS, new_database, plans

OTHER = "caller_b"
NEW = NewAdapter("", CALLER, "comic", "sketch", "image", "a" * 64, 12, rank=4, dtype="F32")
FILL = """
    INSERT INTO adapters (id, caller_id, name, model, kind, sha256, bytes, object, created_at, ready_at, deleted_at)
    SELECT 'lora_' || n, 'caller_' || (n % 400), 'name' || n, 'sketch', 'image', 'hash' || n, n, 'lora_' || n, n,
      CASE WHEN n % 100 = 1 THEN NULL ELSE n END, CASE WHEN n % 100 = 2 THEN n END
    FROM ({numbers}) AS numbers"""


def add(database: Database, **changes: Any) -> AdapterRow:
    new = replace(NEW, **{"id": new_id("lora"), **changes})
    return database.transact(lambda connection: adapters.add(connection, new))


def visible(database: Database, adapter_id: str, caller_id: str = CALLER) -> AdapterRow | None:
    return database.read(lambda connection: adapters.find_visible(connection, adapter_id, caller_id))


def resolve(database: Database, *names: str, caller_id: str = CALLER) -> dict[str, str]:
    return database.read(lambda connection: adapters.resolve(connection, caller_id, "sketch", names))


def page(database: Database, **changes: Any) -> list[str]:
    wanted = AdapterFilter(**{"caller_id": CALLER, "limit": 10, **changes})
    return [row.id for row in database.read(lambda connection: adapters.page(connection, wanted))]


def delete(database: Database, adapter_id: str, *owners: str) -> bool:
    return database.transact(lambda connection: adapters.delete(connection, adapter_id, owners or (CALLER,)))


def count(database: Database, awaited_seconds: float = 60, but: str = "") -> int:
    return database.read(lambda connection: adapters.count(connection, CALLER, awaited_seconds, but))


def forget(database: Database, awaited_seconds: float = 60) -> list[str]:
    return database.transact(lambda connection: adapters.forget(connection, awaited_seconds))


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "GRACE_SECONDS", -1.0)


def test_a_row_has_every_column() -> None:
    assert [field.name for field in fields(AdapterRow)] == [column.name for column in table.columns]


def test_an_adapter_is_found_as_it_was_added(database: Database) -> None:
    added = add(database, bytes=3 * 2**31, config='{"r": 4}')
    assert visible(database, added.id) == added
    assert (added.bytes, added.object, added.rank, added.config) == (3 * 2**31, added.id, 4, '{"r": 4}')
    assert visible(database, added.id, OTHER) is None


def test_the_same_bytes_under_the_same_name_are_the_same_adapter(database: Database) -> None:
    first = add(database)
    assert add(database) == first
    with pytest.raises(ConflictError, match=first.id):
        add(database, sha256="b" * 64)
    assert page(database) == [first.id]


def test_two_who_add_one_name_at_once_get_one_adapter(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda _: add(database), range(8)))
    assert len({row.id for row in rows}) == 1


def test_the_same_bytes_are_stored_once_until_the_last_row_goes(database: Database) -> None:
    first, second = add(database), add(database, caller_id=OTHER)
    assert (second.id != first.id, second.object) == (True, first.id)
    delete(database, first.id)
    assert forget(database) == []
    asked = [first.id, second.id]
    assert database.read(lambda connection: adapters.with_objects(connection, asked)) == {first.id: True}
    delete(database, second.id, OTHER)
    assert forget(database) == [first.id]


def test_bytes_that_are_going_are_not_shared(database: Database) -> None:
    going = add(database)
    delete(database, going.id)
    assert add(database).object != going.object


def test_names_are_resolved_to_what_a_caller_may_use(database: Database) -> None:
    mine, theirs = add(database), add(database, caller_id=OTHER, name="noir")
    shared = add(database, caller_id=EVERYBODY)
    only_shared = add(database, caller_id=EVERYBODY, name="ink")
    add(database, model="other", name="ink")
    assert resolve(database, "comic", "ink", "noir", theirs.id) == {"comic": mine.id, "ink": only_shared.id}
    assert resolve(database, mine.id, shared.id) == {mine.id: mine.id, shared.id: shared.id}
    assert resolve(database, "comic", "noir", caller_id=OTHER) == {"comic": shared.id, "noir": theirs.id}
    assert resolve(database) == {}


def test_models_are_found_by_what_their_adapters_are_called(database: Database) -> None:
    mine = add(database)
    add(database, model="chat", caller_id=EVERYBODY)
    add(database, model="secret", caller_id=OTHER)

    def models_of(name: str) -> list[str]:
        return database.read(lambda connection: adapters.models_of(connection, CALLER, name))

    assert (models_of("comic"), models_of(mine.id), models_of("ink")) == (["chat", "sketch"], ["sketch"], [])


def test_a_list_shows_ones_own_and_everybodys(database: Database) -> None:
    first, second = add(database), add(database, caller_id=EVERYBODY, name="ink")
    add(database, caller_id=OTHER)
    third = add(database, model="chat", kind="text")
    assert page(database) == [third.id, second.id, first.id]
    assert page(database, model="sketch") == [second.id, first.id]
    assert page(database, kind="text") == [third.id]
    assert page(database, limit=1) == [third.id, second.id]
    assert page(database, after=third.id, limit=1) == [second.id, first.id]


def test_only_the_owner_deletes(database: Database) -> None:
    mine, shared = add(database), add(database, caller_id=EVERYBODY, name="ink")
    assert not delete(database, mine.id, OTHER)
    assert not delete(database, shared.id, CALLER)
    assert delete(database, shared.id, CALLER, EVERYBODY)
    assert delete(database, mine.id)
    assert not delete(database, mine.id)
    assert page(database) == []
    assert count(database) == 0


def test_a_deleted_adapter_stays_until_its_jobs_have_ended(database: Database) -> None:
    used, unused = add(database), add(database, name="ink", sha256="b" * 64)
    submit(database, adapters=f"night {used.id}")
    delete(database, used.id)
    delete(database, unused.id)
    assert (visible(database, used.id), resolve(database, used.id)) == (None, {})
    assert forget(database) == [unused.id]
    assert database.read(lambda connection: adapters.find(connection, used.id)) is not None
    job = claim_one(database)
    assert forget(database) == []
    finish(database, job)
    assert forget(database) == [used.id]
    assert database.read(lambda connection: adapters.find(connection, used.id)) is None


def test_nothing_is_forgotten_while_a_job_may_be_on_its_way(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = add(database)
    delete(database, added.id)
    with monkeypatch.context() as patch:
        patch.setattr(adapters, "GRACE_SECONDS", 60.0)
        assert forget(database) == []
    assert forget(database) == [added.id]


@pytest.mark.parametrize("owner", [CALLER, EVERYBODY])
def test_a_deleted_adapter_stays_until_no_batch_can_name_it(database: Database, owner: str) -> None:
    used, others = add(database, caller_id=owner), add(database, caller_id=OTHER, sha256="b" * 64)
    new = NewBatch("batch_1", CALLER, "/v1/jobs", "file_1", "24h", 86_400.0)
    database.transact(lambda connection: batches.add(connection, new))
    assert delete(database, used.id, owner)
    assert delete(database, others.id, OTHER)
    assert forget(database) == [others.object]
    assert database.read(lambda connection: adapters.find(connection, used.id)) is not None
    database.transact(lambda c: c.execute(sa.text("UPDATE batches SET status = 'completed'")))
    assert forget(database) == [used.object]


def test_awaited_bytes_are_nobodys_adapter_until_they_are_there(database: Database) -> None:
    new = replace(NEW, id=new_id("lora"))
    database.transact(lambda connection: adapters.await_bytes(connection, new))
    assert (page(database), visible(database, new.id), resolve(database, "comic")) == ([], None, {})
    assert database.read(lambda c: adapters.find_awaited(c, new.id, [OTHER])) is None
    assert database.read(lambda c: adapters.find_awaited(c, new.id, [CALLER])) is not None
    ready = database.transact(lambda connection: adapters.add(connection, new))
    assert page(database) == [ready.id]
    assert database.read(lambda c: adapters.find_awaited(c, new.id, [CALLER])) is None


def test_awaited_bytes_count_for_as_long_as_they_may_come(database: Database) -> None:
    new = replace(NEW, id=new_id("lora"))
    database.transact(lambda connection: adapters.await_bytes(connection, new))
    add(database, name="ink", sha256="b" * 64)
    assert (count(database), count(database, but=new.id), count(database, awaited_seconds=-1)) == (2, 1, 1)


def test_awaited_bytes_that_are_given_up_can_make_no_adapter(database: Database) -> None:
    new = replace(NEW, id=new_id("lora"))
    database.transact(lambda connection: adapters.await_bytes(connection, new))
    assert not delete(database, new.id, OTHER)
    assert delete(database, new.id)
    assert count(database) == 0
    assert database.read(lambda c: adapters.find_awaited(c, new.id, [CALLER])) is None
    with pytest.raises(NotFoundError, match=new.id):  # somebody was completing it meanwhile
        database.transact(lambda connection: adapters.add(connection, new))
    assert page(database) == []


def test_bytes_that_never_came_are_forgotten(database: Database) -> None:
    new = replace(NEW, id=new_id("lora"))
    database.transact(lambda connection: adapters.await_bytes(connection, new))
    assert forget(database, awaited_seconds=60) == []
    assert forget(database, awaited_seconds=-1) == [new.id]


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Many adapters of many callers, in a database of each kind."""
    with new_database(request, tmp_path_factory) as database:
        fill = sa.text(FILL.format(numbers=NUMBERS[database.dialect]))
        database.transact(lambda connection: connection.execute(fill, {"total": 20_000}))
        database.read(lambda connection: connection.execute(sa.text("ANALYZE")))
        yield database


@pytest.mark.parametrize(
    ("work", "index"),
    [
        (lambda c: adapters.page(c, AdapterFilter("caller_7", 20)), "adapters_(caller|name)"),
        (lambda c: adapters.resolve(c, "caller_7", "sketch", ["a", "b"]), "adapters_(caller|name|pkey)|autoindex"),
        (lambda c: adapters.add(c, replace(NEW, id="lora_new")), "adapters_sha256"),
        (lambda c: adapters.forget(c, 60), "adapters_going"),
        (lambda c: adapters.with_objects(c, ["lora_1", "lora_2"]), "adapters_object"),
    ],
    ids=["list", "names", "same bytes", "going", "objects"],
)
def test_a_statement_reads_only_what_it_is_about(
    filled: Database, work: Callable[[sa.Connection], object], index: str
) -> None:
    plan = plans(filled, work)
    assert re.search(index, plan), plan
    assert not re.search(r"Seq Scan on (adapters|jobs)|SCAN (adapters|jobs)(?! USING)", plan), plan
