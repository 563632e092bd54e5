"""Files: what callers have uploaded, row by row; the bytes are objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from storage.clock import db_now
from storage.tables import files

ALIVE = sa.or_(files.c.expires_at.is_(None), files.c.expires_at > db_now())


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of `files`, whole, in the order of its columns."""

    id: str
    caller_id: str
    purpose: str
    filename: str
    bytes: int
    sha256: str
    created_at: float
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file whose bytes are stored."""

    id: str
    caller_id: str
    purpose: str
    filename: str
    bytes: int
    sha256: str
    kept_seconds: float | None


@dataclass(frozen=True, slots=True)
class FileFilter:
    """Which files a list shows."""

    caller_id: str
    limit: int
    after: str | None = None
    purpose: str | None = None
    newest_first: bool = True


def add(connection: sa.Connection, new: NewFile) -> FileRow:
    """Write a file's row: from here on it exists."""
    said = {name: getattr(new, name) for name in NewFile.__slots__ if name != "kept_seconds"}
    expires_at = None if new.kept_seconds is None else db_now() + new.kept_seconds
    statement = sa.insert(files).values(**said, created_at=db_now(), expires_at=expires_at).returning(files)
    return FileRow(*connection.execute(statement).one())


def find(connection: sa.Connection, file_id: str, caller_id: str) -> FileRow | None:
    """Return a caller's file, unless it has expired."""
    query = sa.select(files).where(files.c.id == file_id, files.c.caller_id == caller_id, ALIVE)
    row = connection.execute(query).one_or_none()
    return FileRow(*row) if row else None


def hold(connection: sa.Connection, file_id: str, caller_id: str) -> FileRow | None:
    """Find a caller's file, and have nobody delete it before this transaction ends."""
    query = sa.select(files).where(files.c.id == file_id, files.c.caller_id == caller_id, ALIVE)
    row = connection.execute(query.with_for_update(read=True)).one_or_none()
    return FileRow(*row) if row else None


def page(connection: sa.Connection, wanted: FileFilter) -> list[FileRow]:
    """Return up to limit + 1 files in the order of their ids: the one too many says that there are more."""
    query = sa.select(files).where(files.c.caller_id == wanted.caller_id, ALIVE)
    if wanted.purpose is not None:
        query = query.where(files.c.purpose == wanted.purpose)
    if wanted.after is not None:
        query = query.where(files.c.id < wanted.after if wanted.newest_first else files.c.id > wanted.after)
    order = files.c.id.desc() if wanted.newest_first else files.c.id.asc()
    return [FileRow(*row) for row in connection.execute(query.order_by(order).limit(wanted.limit + 1))]


def delete(connection: sa.Connection, file_id: str, caller_id: str) -> bool:
    """Delete a caller's file; its object is an orphan from here on. False when there is none."""
    which = sa.and_(files.c.id == file_id, files.c.caller_id == caller_id, ALIVE)
    return connection.execute(sa.delete(files).where(which)).rowcount == 1


def delete_expired(connection: sa.Connection, limit: int) -> list[str]:
    """Delete files whose time has come; return their ids, whose objects are orphans from here on."""
    due = sa.select(files.c.id).where(files.c.expires_at <= db_now()).limit(limit).with_for_update(skip_locked=True)
    return list(connection.execute(sa.delete(files).where(files.c.id.in_(due)).returning(files.c.id)).scalars())


def with_objects(connection: sa.Connection, ids: Sequence[str]) -> dict[str, bool]:
    """For each file that has a row: it may have an object."""
    return dict.fromkeys(connection.execute(sa.select(files.c.id).where(files.c.id.in_(ids))).scalars(), True)
