"""HTTP on the wire: uvicorn's reader, which keeps no more of a request's head than any client needs."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
"""Address and headers, or what follows a body, of one request; the stock reader would take gigabytes."""


class BoundedProtocol(HttpToolsProtocol):
    """Counts what arrives and is neither a body nor the end of anything."""

    _has_progressed = False
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head has no end."""
        self._has_progressed = False
        super().data_received(data)
        self._head_bytes = 0 if self._has_progressed else self._head_bytes + len(data)
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The request's address and headers are larger than {HEAD_BYTES // 1024} KiB.")

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._has_progressed = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin its body."""
        self._has_progressed = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass some of its body on."""
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End it."""
        self._has_progressed = True
        super().on_message_complete()
