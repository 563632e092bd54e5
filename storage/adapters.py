"""Adapters: what callers have uploaded for which model, row by row; the bytes are objects that equal ones share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from schemas.errors import ConflictError, NotFoundError
from storage.clock import db_now
from storage.dialects import insert_new
from storage.tables import IS_UNFINISHED, adapters, batches, jobs

EVERYBODY = ""
"""The owner of what all callers may use."""
VISIBLE = sa.and_(adapters.c.ready_at.is_not(None), adapters.c.deleted_at.is_(None))
GRACE_SECONDS = 60.0
"""A deleted adapter stays so long at least: a job that was being submitted has its row by then."""


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """A row of `adapters`, whole, in the order of its columns."""

    id: str
    caller_id: str
    name: str
    model: str
    kind: str
    sha256: str
    bytes: int
    object: str
    rank: int | None
    dtype: str | None
    config: str | None
    created_at: float
    ready_at: float | None
    deleted_at: float | None


@dataclass(frozen=True, slots=True)
class NewAdapter:
    """An adapter to be; its bytes lie under its own id when it is ready."""

    id: str
    caller_id: str
    name: str
    model: str
    kind: str
    sha256: str
    bytes: int
    rank: int | None = None
    dtype: str | None = None
    config: str | None = None


@dataclass(frozen=True, slots=True)
class AdapterFilter:
    """Which adapters a list shows, newest first."""

    caller_id: str
    limit: int
    after: str | None = None
    model: str | None = None
    kind: str | None = None


def add(connection: sa.Connection, new: NewAdapter) -> AdapterRow:
    """Write an adapter's row, or return the one of that name when its bytes are the same.

    The new row points to an object with the same bytes where there is one: then its own is an orphan.
    """
    awaiting = sa.delete(adapters).where(adapters.c.id == new.id).returning(adapters.c.deleted_at)
    if connection.execute(awaiting).scalar_one_or_none() is not None:
        raise NotFoundError(f"The upload '{new.id}' was deleted before it was complete; begin another one.")
    known = _named(connection, new.caller_id, new.model, new.name)
    if known is not None:
        if (known.sha256, known.config) != (new.sha256, new.config):
            raise ConflictError(
                f"You have another adapter '{new.name}' for '{new.model}'; delete {known.id} first, or choose "
                "another name."
            )
        return known
    # One that is going may lose its object at any moment.
    same = sa.select(adapters.c.object).where(adapters.c.sha256 == new.sha256, VISIBLE).limit(1)
    shared = connection.execute(same).scalar_one_or_none()
    # Nothing is inserted when somebody was quicker with the name: then his is met.
    return _insert(connection, new, object=shared or new.id, ready_at=db_now()) or add(connection, new)


def await_bytes(connection: sa.Connection, new: NewAdapter) -> AdapterRow:
    """Write the row of an adapter whose bytes are still to come: only its owner's `complete` knows it."""
    row = _insert(connection, new, object=new.id, ready_at=None)
    if row is None:
        raise ConflictError(f"There is an adapter '{new.id}' already.")
    return row


def _insert(connection: sa.Connection, new: NewAdapter, **more: object) -> AdapterRow | None:
    said = {name: getattr(new, name) for name in NewAdapter.__slots__}
    insert = insert_new(adapters, connection.dialect.name)
    row = connection.execute(insert.values(**said, **more, created_at=db_now()).returning(adapters)).one_or_none()
    return AdapterRow(*row) if row else None


def _named(connection: sa.Connection, caller_id: str, model: str, name: str) -> AdapterRow | None:
    mine = sa.and_(adapters.c.caller_id == caller_id, adapters.c.model == model, adapters.c.name == name)
    row = connection.execute(sa.select(adapters).where(mine, VISIBLE)).one_or_none()
    return AdapterRow(*row) if row else None


def find(connection: sa.Connection, adapter_id: str) -> AdapterRow | None:
    """Return an adapter that has its bytes, also one that is deleted and still used."""
    query = sa.select(adapters).where(adapters.c.id == adapter_id, adapters.c.ready_at.is_not(None))
    row = connection.execute(query).one_or_none()
    return AdapterRow(*row) if row else None


def find_awaited(connection: sa.Connection, adapter_id: str, owners: Sequence[str]) -> AdapterRow | None:
    """Return an adapter whose bytes are awaited."""
    mine = sa.and_(adapters.c.id == adapter_id, adapters.c.caller_id.in_(owners))
    is_awaited = sa.and_(adapters.c.ready_at.is_(None), adapters.c.deleted_at.is_(None))
    row = connection.execute(sa.select(adapters).where(mine, is_awaited)).one_or_none()
    return AdapterRow(*row) if row else None


def find_visible(connection: sa.Connection, adapter_id: str, caller_id: str) -> AdapterRow | None:
    """Return an adapter that a caller may use."""
    row = find(connection, adapter_id)
    return row if row and row.deleted_at is None and row.caller_id in (caller_id, EVERYBODY) else None


def resolve(connection: sa.Connection, caller_id: str, model: str, names: Sequence[str]) -> dict[str, str]:
    """Return the ids of those that a caller may use, by what he called them: an id, or a name, his own ones first."""
    query = (
        sa.select(adapters.c.id, adapters.c.name)
        .where(
            adapters.c.caller_id.in_((caller_id, EVERYBODY)),
            adapters.c.model == model,
            sa.or_(adapters.c.id.in_(names), adapters.c.name.in_(names)),
            VISIBLE,
        )
        .order_by(adapters.c.caller_id)  # everybody's come first, so that a caller's own name beats theirs
    )
    rows = connection.execute(query).all()
    found = {row.name: row.id for row in rows} | {row.id: row.id for row in rows}
    return {name: found[name] for name in names if name in found}


def models_of(connection: sa.Connection, caller_id: str, name: str) -> list[str]:
    """Return the models for which a caller may use an adapter of this id or name."""
    query = (
        sa.select(adapters.c.model)
        .distinct()
        .where(
            adapters.c.caller_id.in_((caller_id, EVERYBODY)),
            sa.or_(adapters.c.id == name, adapters.c.name == name),
            VISIBLE,
        )
    )
    return sorted(connection.execute(query).scalars())


def page(connection: sa.Connection, wanted: AdapterFilter) -> list[AdapterRow]:
    """Return up to limit + 1 adapters that a caller may use, newest first: the one too many says there are more."""
    # One index range for each owner: a plan for both at once would walk through everybody's.
    found = [row for owner in (wanted.caller_id, EVERYBODY) for row in _page_of(connection, owner, wanted)]
    return sorted(found, key=lambda row: row.id, reverse=True)[: wanted.limit + 1]


def _page_of(connection: sa.Connection, owner: str, wanted: AdapterFilter) -> list[AdapterRow]:
    query = sa.select(adapters).where(adapters.c.caller_id == owner, VISIBLE)
    for column in ("model", "kind"):
        value = getattr(wanted, column)
        if value is not None:
            query = query.where(adapters.c[column] == value)
    if wanted.after is not None:
        query = query.where(adapters.c.id < wanted.after)
    newest_first = query.order_by(adapters.c.id.desc()).limit(wanted.limit + 1)
    return [AdapterRow(*row) for row in connection.execute(newest_first)]


def count(connection: sa.Connection, caller_id: str, awaited_seconds: float, but: str = "") -> int:
    """Return how many adapters a caller has, or has begun to upload within so many seconds, but for one."""
    mine = sa.and_(adapters.c.caller_id == caller_id, adapters.c.deleted_at.is_(None), adapters.c.id != but)
    counts = sa.or_(adapters.c.ready_at.is_not(None), adapters.c.created_at > db_now() - awaited_seconds)
    return connection.execute(sa.select(sa.func.count()).select_from(adapters).where(mine, counts)).scalar_one()


def delete(connection: sa.Connection, adapter_id: str, owners: Sequence[str]) -> bool:
    """Make an adapter invisible at once; its bytes stay until its jobs have ended. False when there is none.

    One whose bytes are awaited can be completed no more.
    """
    mine = sa.and_(adapters.c.id == adapter_id, adapters.c.caller_id.in_(owners))
    which = sa.and_(mine, adapters.c.deleted_at.is_(None))
    return connection.execute(sa.update(adapters).where(which).values(deleted_at=db_now())).rowcount == 1


def forget(connection: sa.Connection, awaited_seconds: float) -> list[str]:
    """Delete rows that no unfinished job needs, or whose bytes never came; return the objects nobody points to now."""
    going = sa.select(adapters.c.id, adapters.c.object).where(adapters.c.deleted_at <= db_now() - GRACE_SECONDS)
    rows = {row.id: row.object for row in connection.execute(going)}
    used = _used(connection) if rows else frozenset()
    late = adapters.c.ready_at.is_(None) & (adapters.c.created_at <= db_now() - awaited_seconds)
    rows |= {row.id: row.object for row in connection.execute(sa.select(adapters.c.id, adapters.c.object).where(late))}
    gone = sorted(rows.keys() - used)
    connection.execute(sa.delete(adapters).where(adapters.c.id.in_(gone)))
    kept = with_objects(connection, [rows[one] for one in gone])
    return sorted({rows[one] for one in gone} - kept.keys())


def _used(connection: sa.Connection) -> frozenset[str]:
    query = sa.select(jobs.c.adapters).distinct().where(jobs.c.adapters.is_not(None), jobs.c.finished_at.is_(None))
    of_jobs = frozenset(one for names in connection.execute(query).scalars() for one in names.split())
    busy = sa.select(batches.c.caller_id).where(IS_UNFINISHED)
    is_busy = sa.or_(adapters.c.caller_id.in_(busy), sa.and_(adapters.c.caller_id == EVERYBODY, busy.exists()))
    of_batches = sa.select(adapters.c.id).where(adapters.c.deleted_at.is_not(None), is_busy)  # any line may name them
    return of_jobs | frozenset(connection.execute(of_batches).scalars())


def with_objects(connection: sa.Connection, objects: Sequence[str]) -> dict[str, bool]:
    """For each object that a row points to: it may exist."""
    query = sa.select(adapters.c.object).where(adapters.c.object.in_(objects))
    return dict.fromkeys(connection.execute(query).scalars(), True)


def awaited(connection: sa.Connection, ids: Sequence[str]) -> dict[str, bool]:
    """For each of these whose bytes are awaited: they may be there."""
    query = sa.select(adapters.c.id).where(adapters.c.id.in_(ids), adapters.c.ready_at.is_(None))
    return dict.fromkeys(connection.execute(query).scalars(), True)
