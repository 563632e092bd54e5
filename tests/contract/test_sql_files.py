"""Files as storage knows them, on SQLite and on Postgres: add, find, list, delete, expire."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import astuple, fields, replace
from typing import Any

import pytest
import sqlalchemy as sa

from schemas.errors import InvalidError
from schemas.ids import new_id
from storage import files
from storage.database import Database
from storage.files import FileFilter, FileRow, NewFile
from storage.tables import files as table
from tests.contract.sql import CALLER
from tests.contract.test_sql_plans import NUMBERS, new_database, plans

FILL = """
    INSERT INTO files (id, caller_id, purpose, filename, bytes, sha256, created_at, expires_at)
    SELECT 'file_' || n, 'caller_' || (n % 40), 'batch', 'lines.jsonl', n, '0', n, 9e9
    FROM ({numbers}) AS numbers"""
NEW = NewFile("", CALLER, "batch", "lines.jsonl", 12, "0" * 64, None)


def add(database: Database, **changes: Any) -> FileRow:
    new = replace(NEW, **{"id": new_id("file"), **changes})
    return database.transact(lambda connection: files.add(connection, new))


def find(database: Database, file_id: str, caller_id: str = CALLER) -> FileRow | None:
    return database.read(lambda connection: files.find(connection, file_id, caller_id))


def page(database: Database, **changes: Any) -> list[str]:
    wanted = FileFilter(**{"caller_id": CALLER, "limit": 10, **changes})
    return [row.id for row in database.read(lambda connection: files.page(connection, wanted))]


def delete(database: Database, file_id: str, caller_id: str = CALLER) -> bool:
    return database.transact(lambda connection: files.delete(connection, file_id, caller_id))


def delete_expired(database: Database, limit: int = 10) -> list[str]:
    return database.transact(lambda connection: files.delete_expired(connection, limit))


def test_a_row_has_every_column() -> None:
    assert [field.name for field in fields(FileRow)] == [column.name for column in table.columns]


def test_a_file_is_found_as_it_was_added(database: Database) -> None:
    added = add(database, bytes=3 * 2**31, filename="하늘.jsonl", kept_seconds=3600.0)
    assert find(database, added.id) == added
    assert astuple(added)[1:6] == (CALLER, "batch", "하늘.jsonl", 3 * 2**31, "0" * 64)
    assert added.created_at == pytest.approx(time.time(), abs=5)
    assert added.expires_at == pytest.approx(added.created_at + 3600, abs=0.1)


def test_a_file_that_cannot_be_written_is_the_callers_fault(database: Database) -> None:
    with pytest.raises(InvalidError, match="NUL"):
        add(database, filename="half\ud800")


def test_another_callers_file_is_not_found(database: Database) -> None:
    added = add(database)
    assert find(database, added.id, "caller_b") is None
    assert not delete(database, added.id, "caller_b")
    assert page(database, caller_id="caller_b") == []
    assert find(database, added.id) == added


def test_a_list_is_ordered_filtered_and_says_that_there_are_more(database: Database) -> None:
    first, second, third = (add(database).id for _ in range(3))
    output = add(database, purpose="batch_output").id
    assert page(database) == [output, third, second, first]
    assert page(database, newest_first=False) == [first, second, third, output]
    assert page(database, purpose="batch") == [third, second, first]
    assert page(database, after=third) == [second, first]
    assert page(database, after=second, newest_first=False) == [third, output]
    assert page(database, limit=2) == [output, third, second]


def test_a_deleted_file_is_gone(database: Database) -> None:
    added, kept = add(database), add(database)
    assert delete(database, added.id)
    assert not delete(database, added.id)
    assert find(database, added.id) is None
    assert page(database) == [kept.id]


def test_an_expired_file_is_gone_before_the_sweep_has_come(database: Database) -> None:
    old = add(database, kept_seconds=-1.0)
    assert find(database, old.id) is None
    assert page(database) == []
    assert not delete(database, old.id)


def test_the_sweep_deletes_what_has_expired_and_nothing_else(database: Database) -> None:
    old = {add(database, kept_seconds=-1.0).id for _ in range(3)}
    kept = [add(database, kept_seconds=3600.0).id, add(database).id]
    first = delete_expired(database, 2)
    assert len(first) == 2
    assert {*first, *delete_expired(database, 2)} == old
    assert delete_expired(database) == []
    assert sorted(page(database)) == sorted(kept)


def test_only_files_with_a_row_may_have_objects(database: Database) -> None:
    here, gone = add(database).id, add(database).id
    delete(database, gone)
    asked = [here, gone, "file_unknown"]
    assert database.read(lambda connection: files.with_objects(connection, asked)) == {here: True}


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Many files of many callers, in a database of each kind."""
    with new_database(request, tmp_path_factory) as database:
        fill = sa.text(FILL.format(numbers=NUMBERS[database.dialect]))
        database.transact(lambda connection: connection.execute(fill, {"total": 20_000}))
        database.read(lambda connection: connection.execute(sa.text("ANALYZE")))
        yield database


@pytest.mark.parametrize(
    ("work", "index"),
    [
        (lambda c: files.page(c, FileFilter("caller_7", 20, after="file_5")), "files_caller"),
        (lambda c: files.page(c, FileFilter("caller_7", 20, purpose="batch", newest_first=False)), "files_caller"),
        (lambda c: files.delete_expired(c, 100), "files_expiring"),
        (lambda c: files.with_objects(c, ["file_1", "file_2"]), "files_pkey|sqlite_autoindex_files_1"),
    ],
    ids=["newest first", "oldest first", "expired", "objects"],
)
def test_a_statement_reads_only_what_it_is_about(filled: Database, work: Any, index: str) -> None:
    plan = plans(filled, work)
    assert re.search(index, plan), plan
    assert not re.search(r"Seq Scan on files|SCAN files(?! USING)|Sort|TEMP B-TREE FOR ORDER BY", plan), plan


def test_a_file_that_is_held_is_deleted_only_afterwards(database: Database) -> None:
    row = add(database)
    with ThreadPoolExecutor(1) as pool:

        def hold(connection: sa.Connection) -> Future[bool]:
            assert files.hold(connection, row.id, CALLER) == row
            assert files.hold(connection, row.id, "caller_b") is None
            deleting = pool.submit(database.transact, lambda other: files.delete(other, row.id, CALLER))
            assert wait([deleting], timeout=0.2).not_done
            return deleting

        assert database.transact(hold).result(20)
    assert find(database, row.id) is None
