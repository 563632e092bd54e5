"""`stoker webhooks listen`: a receiver for development that verifies what comes and shows it."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from stoker.commands.context import Context, StoppedError
from stoker.commands.words import one_line
from stoker.webhooks import WebhookVerificationError, verify

HOST = "127.0.0.1"
LONGEST_BODY = 1_000_000
OK, BAD_REQUEST = 200, 400


def listen(context: Context) -> int:
    """Receive until Ctrl-C; with --count, until so many have come."""
    typed = context.typed
    secret = typed.secret or str(context.client.call("GET", "/v1/webhooks/secret")["secret"])
    try:
        server = HTTPServer((HOST, typed.port), _handler(context, secret))
    except OSError as error:
        context.screen.note(f"Port {typed.port} cannot be listened on: {error.strerror}. Say another with --port.")
        return 1
    with server:
        context.screen.say(f"Listening at http://{HOST}:{server.server_port}/ for webhooks. Ctrl-C ends it.")
        try:
            _serve(server, typed.count)
        except KeyboardInterrupt:
            raise StoppedError("Stopped listening.") from None
    return 0


def _serve(server: HTTPServer, count: int | None) -> None:
    while count is None or count > 0:
        server.handle_request()
        count = None if count is None else count - 1


def _handler(context: Context, secret: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("content-length", "")
            body = self.rfile.read(min(int(length), LONGEST_BODY)) if length.isdecimal() else b""
            try:
                event = verify(body, dict(self.headers.items()), secret)
            except WebhookVerificationError as error:
                context.screen.note(f"refused: {error}")
                self._answer(BAD_REQUEST)
                return
            self._answer(OK)
            _show(context, self.headers.get("webhook-id", ""), event)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - the name is the library's
            """Say nothing of our own."""

    return Handler


def _show(context: Context, webhook_id: str, event: dict[str, Any]) -> None:
    if context.wants_json:
        context.screen.json_line(event)
        return
    about = event.get("data", {})
    context.screen.say(f"{event.get('timestamp')}  {event.get('type')}  {about.get('id', '')}  {one_line(webhook_id)}")
    context.screen.json(about)
