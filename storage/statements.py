"""Statements of the hot path: rendered once per dialect, then run as text, at about half of SQLAlchemy's cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

Values = Mapping[str, Any]


class Statement:
    """An INSERT of these columns, or another statement with these parameters, that takes plain values."""

    def __init__(self, build: Callable[[str], sa.UpdateBase], names: Sequence[str]) -> None:
        self._build = build
        self._names = names
        self._rendered: dict[str, tuple[str, Sequence[str] | None]] = {}

    def run(self, connection: sa.Connection, values: Values) -> sa.CursorResult[Any]:
        """Run it once."""
        text, order = self._render(connection.dialect)
        return connection.exec_driver_sql(text, tuple([values[name] for name in order]) if order else dict(values))

    def run_all(self, connection: sa.Connection, rows: Sequence[Values]) -> None:
        """Run it for each row; how many each one changed is not known."""
        text, order = self._render(connection.dialect)
        connection.exec_driver_sql(
            text, [tuple([row[name] for name in order]) if order else dict(row) for row in rows]
        )

    def _render(self, dialect: sa.Dialect) -> tuple[str, Sequence[str] | None]:
        if dialect.name not in self._rendered:
            compiled = self._build(dialect.name).compile(dialect=dialect, column_keys=list(self._names))
            self._rendered[dialect.name] = compiled.string, compiled.positiontup
        return self._rendered[dialect.name]
