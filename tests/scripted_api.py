"""A tiny HTTP server that answers what a test tells it to, and remembers what it was asked."""

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Reply:
    """One answer; a cut one stops in the middle of its body."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False

    @property
    def content(self) -> bytes:
        """The body as it is sent."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, ensure_ascii=False).encode()


CUT = Reply(is_cut=True)
"""A connection that ends before anything useful was said."""


@dataclass(frozen=True)
class Seen:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes


class ScriptedApi:
    """Answers each address with its replies, in order; the last one again and again."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._replies: dict[tuple[str, str], deque[Reply]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def on(self, method: str, path: str, *replies: Reply) -> None:
        """Say how an address answers."""
        self._replies[method, path] = deque(replies)

    def job(self, job_id: str = "job_1", status: str = "queued", **changes: Any) -> dict[str, Any]:
        """A job as the API would show it, whose links lead where only the API knows."""
        names = ("get", "cancel", "retry", "events", "result")
        urls = {name: f"{self.url}/links/{job_id}/{name}" for name in names}
        return {
            "id": job_id,
            "kind": "text",
            "model": "echo",
            "status": status,
            "artifacts": [],
            "urls": urls,
        } | changes

    def asked(self, path: str) -> list[Seen]:
        """The requests for one address."""
        return [seen for seen in self.seen if seen.path == path]

    def _reply(self, method: str, path: str) -> Reply:
        replies = self._replies.get((method, path))
        if not replies:
            return error(404, "not_found", f"The test has no reply to {method} {path}.")
        return replies.popleft() if len(replies) > 1 else replies[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                at = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                api.seen.append(Seen(self.command, at.path, dict(parse_qsl(at.query)), headers, body))
                reply = api._reply(self.command, at.path)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.content) + reply.is_cut))
                self.end_headers()
                self.wfile.write(reply.content)
                self.close_connection = self.close_connection or reply.is_cut

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server finds them by these names

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
                """Say nothing."""

        return Handler


def error(status: int, code: str, message: str, **headers: str) -> Reply:
    """An error in the API's shape; headers are given with underscores."""
    told = {"type": "some_error", "code": code, "message": message, "param": "input.n", "request_id": "req_7"}
    return Reply(status, {"error": told}, {name.replace("_", "-"): value for name, value in headers.items()})


def frame(attempt: int, seq: int, kind: str, **data: Any) -> bytes:
    """One event as the API streams it."""
    envelope = {"attempt": attempt, "seq": seq, "type": kind, "at": 1.5, "data": data}
    return f"id: {attempt}-{seq}\nevent: {kind}\ndata: {json.dumps(envelope, ensure_ascii=False)}\n\n".encode()
