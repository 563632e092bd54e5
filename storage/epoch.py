"""Notices that Redis forgot everything or was restarted, so that hints are sent again at once."""

from __future__ import annotations

import secrets
from typing import Any

from storage.redis import SyncRedis, redis_faults

EPOCH_KEY = "stoker:epoch"


class Epoch:
    """One observer of Redis's memory; several may watch the same Redis."""

    def __init__(self, client: SyncRedis) -> None:
        self._client = client
        self._seen: bytes | None = None

    def check(self) -> bool:
        """Return whether the key vanished or the server is another process than at the last check.

        The key names the server's run, so that a restart between two observers' checks is seen by both.
        """
        with redis_faults():
            run = self._client.info("server")["run_id"]
            found: Any = self._client.get(EPOCH_KEY)
            forgotten = found is None or not found.startswith(run.encode())
            if forgotten:
                found = f"{run}:{secrets.token_hex(8)}".encode()
                self._client.set(EPOCH_KEY, found)
        changed = forgotten or self._seen not in (None, found)
        self._seen = found
        return changed
