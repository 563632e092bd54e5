"""What Alembic runs: the connection comes from storage.versions, never from a file."""

from __future__ import annotations

from alembic import context

from storage.tables import metadata

connection = context.config.attributes["connection"]
# SQLite's DDL is transactional, too, when whoever holds the connection says BEGIN himself, as we do.
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
