"""Logs of every part: one structured line per event, readable on a terminal and JSON elsewhere.

Ids (request, job, attempt, worker) are bound to the context; secrets and inputs are never passed in.
Our own lines go straight to standard error: by way of `logging`, which the libraries use, each costs twice as much,
and there is one for every request and every attempt.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)
NOISY = ("botocore", "urllib3", "alembic", "asyncio", "httpx", "kombu", "uvicorn.access", "amqp")


def write_lines(text: str) -> None:
    """Write to standard error; where nobody reads it any more, or its disk is full, the work goes on all the same."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)


class _Lines:
    """What our loggers write to: rendered lines, each at once."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def _write(self, line: str) -> None:
        write_lines(f"{line}\n")

    debug = info = warning = error = critical = _write


def configure_logs(part: str, *, level: int = logging.INFO) -> None:
    """Send every log of this process, ours and the libraries', through one formatter to standard error."""

    def name_the_part(_logger: object, _method: str, said: EventDict) -> EventDict:
        said["part"] = part  # not from the context, which every thread begins without
        return said

    shared = (name_the_part, *SHARED)
    is_terminal = sys.stderr.isatty()
    renderer: Processor = structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger; call it with a short sentence and ids as keywords."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger
