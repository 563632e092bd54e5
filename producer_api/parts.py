"""The table of parts: what runs, how it starts, how it is known to be ready.

The supervisor reads it as JSON; the Procfile and the commands in docker-compose.yml are the same table, and a test
compares them. Words in braces are filled in by whoever starts the part.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from schemas.catalog import Catalog
from tasks.routing import placements

PYTHON = ("python", "-m")
CELERY = (*PYTHON, "celery", "--app", "tasks.celery_app", "--quiet")
STORES = ("redis", "s3")
FILE = {"kind": "file"}
API = "api"
LOOPBACK = "127.0.0.1"
START_SECONDS = 120
WORKER_START_SECONDS = 3600
"""A model's first start fetches its weights, and gigabytes take their time; one that cannot start dies by itself."""
STOP_SECONDS = 10
WORKER_STOP_SECONDS = 40
"""Longer than a worker's drain_seconds, which is 30."""


@dataclass(frozen=True, slots=True)
class PartRow:
    """One program that runs for as long as Stoker does."""

    name: str
    command: tuple[str, ...]
    own: bool
    needs: tuple[str, ...]
    ready: Mapping[str, str]
    start_seconds: int = START_SECONDS
    stop_seconds: int = STOP_SECONDS


def table(catalog: Catalog, flower_host: str = LOOPBACK) -> list[PartRow]:
    """Return every part, in the order in which they are best read."""
    flower = (*CELERY, "flower", f"--address={flower_host}", *FLOWER_OPTIONS)
    return [
        PartRow(
            API,
            (*PYTHON, "producer_api"),
            own=True,
            needs=STORES,
            ready={"kind": "http", "path": "/health/ready", "port": API},
        ),
        *(_worker(place.model, place.device) for place in placements(catalog)),
        PartRow("maintenance", (*PYTHON, "workers", "--maintenance"), own=True, needs=STORES, ready=FILE),
        PartRow("beat", BEAT, own=False, needs=STORES, ready=FILE),
        PartRow(
            "flower",
            flower,
            own=False,
            needs=STORES,
            ready={"kind": "http", "path": "/healthcheck", "port": "flower"},
        ),
    ]


def _worker(model: str, device: str) -> PartRow:
    return PartRow(
        f"worker-{model}-{device}",
        (*PYTHON, "workers", "--model", model, "--device", device),
        own=True,
        needs=STORES,
        ready=FILE,
        start_seconds=WORKER_START_SECONDS,
        stop_seconds=WORKER_STOP_SECONDS,
    )


BEAT = (*CELERY, "beat", "--pidfile={ready_file}")
FLOWER_OPTIONS = (
    "--port={flower_port}",
    "--read-only",
    "--persistent",
    "--db={state}/flower.db",
    "--state-save-interval=10000",
    "--max-tasks=5000",  # each takes 6 kB, and all are written at each save: Flower would keep 100,000
    "--inspect-timeout=3000",  # ms; a busy worker that answers later is left out of its page
)


def table_as_json(catalog: Catalog, remark: str | None = None) -> str:
    """Return the table as the supervisor reads it, with what a person should be told beside it."""
    return json.dumps({"parts": [asdict(row) for row in table(catalog)], "remark": remark}, indent=1)


def filled(row: PartRow, values: Mapping[str, str]) -> list[str]:
    """Return a part's command with its blanks filled in."""
    return [word.format_map(values) for word in row.command]


def procfile(catalog: Catalog) -> str:
    """Return the Procfile of a catalog."""
    values = {"state": ".stoker", "ready_file": ".stoker/beat.pid", "flower_port": "5555"}
    return "".join(f"{row.name}: {shlex.join(filled(row, values))}\n" for row in table(catalog))


def container_commands(catalog: Catalog) -> dict[str, list[str]]:
    """Return what each part's container runs; Flower listens on the containers' own network."""
    values = {"state": "/state", "ready_file": "/tmp/ready", "flower_port": "5555"}  # noqa: S108 - in a container
    return {row.name: filled(row, values) for row in table(catalog, flower_host="")}
