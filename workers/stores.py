"""What every worker stands on."""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.objects.port import ObjectStore
from storage.settings import StorageSettings


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores, opened once per process, and where they are."""

    settings: StorageSettings
    database: Database
    objects: ObjectStore
