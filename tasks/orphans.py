"""Orphans: objects that no row knows, because a process died between the bytes and the row, or a row is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from storage.database import Database
from storage.objects.port import ObjectStore, StoredObject

PAGE_OBJECTS = 1_000
PAGES = 2
"""One search looks at so many pages of objects; the next one goes on where it stopped.

A page costs a tenth of a second of CPU, and orphans are rare: there is no hurry.
"""

Owners = Callable[[Any, Sequence[str]], dict[str, bool]]
"""A statement that says of each owner that has a row whether it may have objects."""


class Orphans:
    """Those under one prefix, whose keys are `PREFIX/OWNER/…`, and how far the search for them has come."""

    def __init__(
        self, database: Database, objects: ObjectStore, prefix: str, may_have: Owners, age_seconds: float
    ) -> None:
        self._database = database
        self._objects = objects
        self._prefix = prefix
        self._may_have = may_have
        self._age_seconds = age_seconds
        self._looked_at: str | None = None

    def delete(self) -> int:
        """Delete objects whose owner has no row, or none that may have objects, once they are old enough."""
        count = 0
        for _ in range(PAGES):
            page = self._objects.list(self._prefix, self._looked_at, PAGE_OBJECTS)
            orphans = self._among(page)
            if orphans:
                self._objects.delete(orphans)
                count += len(orphans)
            self._looked_at = page[-1].key if len(page) == PAGE_OBJECTS else None
            if self._looked_at is None:
                break
        return count

    def _among(self, page: Sequence[StoredObject]) -> list[str]:
        oldest = time.time() - self._age_seconds
        owners = {one.key: one.key.split("/")[1] for one in page if one.modified_at.timestamp() < oldest}
        if not owners:
            return []
        ids = sorted(set(owners.values()))
        kept = self._database.read(lambda connection: self._may_have(connection, ids))
        return [key for key, owner in owners.items() if not kept.get(owner, False)]
