"""The HTTP server: one process, ended politely by a signal or by the end of its supervisor."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import uvicorn
import uvloop
from fastapi import FastAPI

from producer_api.protocol import BoundedProtocol
from producer_api.settings import ApiSettings
from producer_api.state import Api
from schemas.errors import StartError
from storage.database import favor_writers
from tasks.collector import spare_what_stays
from tasks.logs import get_logger
from tasks.parent import watch_parent

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections, so that it is never we who close one that is about to be used."""
GRACE_SECONDS = 2.0
BACKLOG = 2048

log = get_logger(__name__)


class Server(uvicorn.Server):
    """Says when it is ready, and lets go of those who wait when it stops."""

    def __init__(self, app: FastAPI, settings: ApiSettings) -> None:
        self._settings = settings
        self._api: Api = app.state.api
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(settings.stop_seconds),
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        spare_what_stays()
        if self.started and self._settings.ready_file:
            Path(self._settings.ready_file).touch()  # noqa: ASYNC240 - one file, before the first request

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; those who wait for a job are answered with what there is."""
        self._api.watch.close()
        await super().shutdown(sockets)


def serve(app: FastAPI, settings: ApiSettings) -> None:
    """Serve until told to stop."""
    listening = _listen(settings.api_host, settings.api_port)
    host, port = listening.getsockname()[:2]
    log.info("The API listens.", host=host, port=port)
    watch_parent(settings.parent_fd, signal.SIGTERM, grace_seconds=settings.stop_seconds + GRACE_SECONDS)
    favor_writers()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Server(app, settings).serve(sockets=[listening]))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise StartError(
            f"The API cannot listen on {host}:{port} ({error.strerror}); stop what does, or set STOKER_API_HOST "
            "and STOKER_API_PORT to another address."
        ) from None
