"""Callers and their API keys, on SQLite and on Postgres."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from storage import callers
from storage.callers import KEY_PREFIX, KeyRow, NewKey
from storage.database import Database
from storage.tables import metadata


def ensure(database: Database, name: str) -> str:
    return database.transact(lambda connection: callers.ensure_caller(connection, name))


def create(
    database: Database,
    caller_id: str,
    name: str = "key",
    scopes: Iterable[str] = ("submit",),
    expires: float | None = None,
) -> NewKey:
    return database.transact(
        lambda connection: callers.create_key(connection, caller_id, name, frozenset(scopes), expires)
    )


def valid(database: Database, secret: str) -> KeyRow | None:
    return database.read(lambda connection: callers.find_valid_key(connection, secret))


def revoke(database: Database, key_id: str) -> bool:
    return database.transact(lambda connection: callers.revoke_key(connection, key_id))


def listed(database: Database, caller_id: str | None) -> list[KeyRow]:
    return database.read(lambda connection: callers.list_keys(connection, caller_id))


def test_a_caller_is_made_once(database: Database) -> None:
    first = ensure(database, "local")
    assert ensure(database, "local") == first
    assert ensure(database, "other") != first
    assert database.read(lambda connection: callers.find_caller(connection, "local")) == first
    assert database.read(lambda connection: callers.find_caller(connection, "nobody")) is None


def test_a_caller_that_many_make_at_once_is_one(database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: ensure(database, "local"), range(16)))) == 1


def test_a_key_opens_with_its_secret_only(database: Database) -> None:
    caller = ensure(database, "local")
    key = create(database, caller, "laptop", ("read", "submit"))
    found = valid(database, key.secret)
    assert found is not None
    assert (found.id, found.caller_id, found.caller, found.name) == (key.id, caller, "local", "laptop")
    assert found.scopes == {"read", "submit"}
    assert found.created_at > time.time() - 60
    assert key.secret.startswith(KEY_PREFIX)
    assert found.hint == key.secret[-4:]
    for wrong in (key.secret[:-1], key.secret + "x", key.id, "", KEY_PREFIX):
        assert valid(database, wrong) is None


def test_sql_never_holds_a_secret(database: Database) -> None:
    secret = create(database, ensure(database, "local")).secret
    body = secret.removeprefix(KEY_PREFIX)
    for table in metadata.sorted_tables:
        rows = database.read(lambda connection: connection.execute(sa.select(table)).all())  # noqa: B023 - runs at once
        assert body not in repr(rows)


def test_secrets_differ(database: Database) -> None:
    caller = ensure(database, "local")
    assert len({create(database, caller).secret for _ in range(5)}) == 5


def test_a_revoked_key_is_closed_for_ever(database: Database) -> None:
    caller = ensure(database, "local")
    key, other = create(database, caller), create(database, caller)
    assert revoke(database, key.id)
    assert valid(database, key.secret) is None
    assert valid(database, other.secret) is not None
    [revoked_at] = [row.revoked_at for row in listed(database, caller) if row.id == key.id]
    assert revoke(database, key.id)
    assert [row.revoked_at for row in listed(database, caller) if row.id == key.id] == [revoked_at]


def test_a_key_that_is_not_there_cannot_be_revoked(database: Database) -> None:
    assert not revoke(database, "key_unknown")


def test_an_expired_key_is_closed(database: Database) -> None:
    caller = ensure(database, "local")
    assert valid(database, create(database, caller, expires=time.time() - 1).secret) is None
    assert valid(database, create(database, caller, expires=time.time() + 100).secret) is not None


def test_keys_are_listed_newest_first_by_caller(database: Database) -> None:
    mine, theirs = ensure(database, "mine"), ensure(database, "theirs")
    first, second, other = create(database, mine), create(database, mine), create(database, theirs)
    assert [row.id for row in listed(database, mine)] == [second.id, first.id]
    assert [row.id for row in listed(database, None)] == [other.id, second.id, first.id]


def test_the_keys_of_one_caller_share_what_it_owns(database: Database) -> None:
    caller = ensure(database, "local")
    found = [valid(database, create(database, caller).secret) for _ in range(2)]
    assert {row.caller_id for row in found if row} == {caller}
