"""One log line for each request. It is written for every submit, so its JSON takes a shorter way than other lines."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import UTC, datetime

from pydantic_core import to_json

from schemas.base import JsonObject
from tasks.logs import get_logger, write_lines

NAME = "producer_api.access"
EVENT = "request"

log = get_logger(NAME)
_standard = logging.getLogger(NAME)
_lines: list[str] = []


def log_request(fields: JsonObject) -> None:
    """Log a request: readable on a terminal, else the JSON that tasks.logs would write."""
    if not _standard.isEnabledFor(logging.INFO):
        return
    if sys.stderr.isatty():
        log.info(EVENT, **fields)
        return
    now = datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    line = {**fields, "event": EVENT, "part": "api", "logger": NAME, "level": "info", "timestamp": now}
    if not _lines:
        asyncio.get_running_loop().call_soon(_write_lines)
    _lines.append(to_json(line).decode())


def _write_lines() -> None:
    """Write the lines of one turn of the loop together."""
    write_lines("\n".join(_lines) + "\n")
    _lines.clear()
