"""Where requests come in and answers go out: request ids, what each request cost, one log line for each."""

from __future__ import annotations

import re
import secrets
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from producer_api.access import log_request
from producer_api.answers import error_answer
from producer_api.headers import header_of
from producer_api.measures import Measures
from producer_api.state import Api
from schemas.errors import InternalError, MalformedError, StokerError
from tasks.logs import get_logger

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
QUIET = ("/health/", "/metrics")

log = get_logger(__name__)


def note_wait(scope: Scope, seconds: float) -> None:
    """Note that a request waited for a job for so long: that is not our overhead."""
    scope["waited_seconds"] = scope.get("waited_seconds", 0.0) + seconds


def request_id_of(scope: Scope) -> str:
    """Return the id under which a request is logged."""
    request_id: str = scope["request_id"]
    return request_id


class Edge:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, api: Api) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["api"] = self._api
        visit = Visit(scope, send)
        bind_contextvars(request_id=visit.request_id)
        try:
            if b"%00" in scope["raw_path"] or b"%00" in scope["query_string"]:
                await error_answer(MalformedError("The address holds a zero byte; take '%00' out."), visit.request_id)(
                    scope, receive, visit.send
                )
            else:
                await self._app(scope, receive, visit.send)
        except Exception as error:
            if visit.status is not None and isinstance(error.__cause__, StokerError):  # as the framework passes it on
                log.warning("An answer was cut short.", path=scope["path"], why=error.__cause__.message)
                return  # the server cuts the connection, so that nobody takes it for whole
            log.exception("A request failed in a way nobody foresaw.", method=scope["method"], path=scope["path"])
            if visit.status is None:
                await error_answer(InternalError(), visit.request_id)(scope, receive, visit.send)
        finally:
            visit.close(self._api.measures)


class Visit:
    """One request from its first byte to the end of its answer."""

    __slots__ = ("_began_at", "_overhead_seconds", "_scope", "_send", "request_id", "status")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._began_at = perf_counter()
        self._overhead_seconds = 0.0
        given = header_of(scope, b"x-request-id") or ""
        self.request_id = given if REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        self.status: int | None = None
        self._scope = scope
        self._send = send
        scope["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        """Pass a message on; the first one gets our headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            waited = float(self._scope.get("waited_seconds", 0.0))
            self._overhead_seconds = perf_counter() - self._began_at - waited
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self.request_id.encode()),
                (b"x-stoker-overhead-ms", b"%.2f" % (self._overhead_seconds * 1000)),
            ]
        await self._send(message)

    def close(self, measures: Measures) -> None:
        """Count the request and log it; health checks only when something is wrong."""
        scope, overhead = self._scope, self._overhead_seconds
        route = getattr(scope.get("route"), "path", "none")
        measures.count(scope["method"], route, self.status, overhead)
        if scope["path"].startswith(QUIET) and self.status is not None and self.status < InternalError.status:
            return
        log_request(
            {
                "method": scope["method"],
                "path": scope["path"],
                "status": self.status,
                "overhead_ms": round(overhead * 1000, 2),
                "waited_ms": round(scope.get("waited_seconds", 0.0) * 1000),
                "request_id": self.request_id,
                "caller": scope.get("caller_id"),
                "job": scope.get("job_id"),
            }
        )
