"""The database's clock: all lease arithmetic uses it, never a worker's own."""

from __future__ import annotations

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

NOW = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "extract(epoch from statement_timestamp())::float8",
}
"""The clock as SQL text, by dialect; stable within a statement, or Postgres could not look for it in an index."""


class db_now(GenericFunction[float]):  # noqa: N801 - it reads as the SQL function that it is
    """The database's current time in epoch seconds."""

    type = Double()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite(_element: db_now, _compiler: SQLCompiler, **_options: object) -> str:
    return NOW["sqlite"]


@compiles(db_now, "postgresql")
def _postgresql(_element: db_now, _compiler: SQLCompiler, **_options: object) -> str:
    return NOW["postgresql"]
