"""What can be asked of the API about batches, as flows: each names its calls and reads the answers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote

import httpx

from stoker.client.api import Api, once
from stoker.client.documents import Batch
from stoker.client.errors import BatchTimeoutError, StokerError, error_of
from stoker.client.exchange import Backoff, Call, Flow, may_repeat, retry_after, unreachable

BatchRef = Batch | str
"""A batch, or its id."""

LOOK_SECONDS = 0.5
LOOK_LATER_SECONDS = 5.0
PAGE_BATCHES = 100
UPLOAD_ANSWER_SECONDS = 120.0


class BatchApi(Api):
    """The calls about batches."""

    def upload(self, file: Path) -> Flow[str]:
        """Upload a file of requests; its id. However often this is sent, it is one."""
        if not file.is_file():
            raise StokerError(f"There is no file {file}.")
        form = {"purpose": "batch"}
        address, headers = f"{self.url}/v1/files", once(None)
        call = Call("POST", address, form, headers=headers, file=file, read_seconds=UPLOAD_ANSWER_SECONDS)
        return str((yield from self._json(call))["id"])

    def create(self, request: Mapping[str, Any], idempotency_key: str | None) -> Flow[Batch]:
        """Make a batch; however often this is sent, it is one."""
        call = Call("POST", f"{self.url}/v1/batches", request, headers=once(idempotency_key))
        return Batch((yield from self._json(call)))

    def look(self, batch: BatchRef) -> Flow[Batch]:
        """Look at a batch."""
        return Batch((yield from self._json(Call("GET", self.at(batch)))))

    def steer(self, batch: BatchRef, verb: str) -> Flow[Batch]:
        """Cancel, pause or resume a batch."""
        return Batch((yield from self._json(Call("POST", f"{self.at(batch)}/{verb}"))))

    def list_page(self, after: str | None, size: int) -> Flow[tuple[list[Batch], str | None]]:
        """Return some batches and where the next ones begin."""
        params = {"limit": str(size)} | ({"after": after} if after else {})
        told = yield from self._json(Call("GET", f"{self.url}/v1/batches", params=params))
        return [Batch(one) for one in told["data"]], told["last_id"] if told["has_more"] else None

    def at(self, batch: BatchRef) -> str:
        """Return a batch's address."""
        batch_id = batch if isinstance(batch, str) else batch.id
        return f"{self.url}/v1/batches/{quote(batch_id, safe='')}"


class Vigil:
    """How long a batch is waited for, and how often it is looked at: seldom when it takes long."""

    def __init__(self, timeout_seconds: float | None) -> None:
        self._began = time.monotonic()
        self._timeout_seconds = timeout_seconds

    def pause(self, seen: Batch) -> float:
        """Return the seconds until the next look, or raise when the time is up."""
        waited = time.monotonic() - self._began
        if self._timeout_seconds is not None and waited >= self._timeout_seconds:
            raise BatchTimeoutError(f"{seen.id} is still {seen.status}; it goes on. Wait for it again.", seen)
        pause = min(LOOK_LATER_SECONDS, max(LOOK_SECONDS, waited / 20))
        return pause if self._timeout_seconds is None else min(pause, self._timeout_seconds - waited)


class Fetching:
    """One download, begun anew when it breaks, until patience is used up."""

    def __init__(self, api: BatchApi, batch: BatchRef, what: str) -> None:
        self.call = Call("GET", f"{api.at(batch)}/{what}")
        self._backoff = Backoff(api.patience_seconds)

    def is_open(self, answer: httpx.Response) -> bool:
        """Say whether the bytes come now; False means that it is to be asked again after a pause."""
        if answer.status_code == httpx.codes.OK:
            return True
        if not may_repeat(self.call, answer):
            raise error_of(answer)
        self._pause(error_of(answer), retry_after(answer))
        return False

    def broke(self, error: httpx.TransportError) -> None:
        """Note that the connection broke."""
        self._pause(unreachable(self.call, error), 0.0)

    def _pause(self, failure: StokerError, at_least: float) -> None:
        delay = self._backoff.next_delay(at_least)
        if delay is None:
            raise failure
        self.call = Call("GET", self.call.url, pause_seconds=delay)


class BatchOptions(TypedDict, total=False):
    """What may be said of every batch."""

    completion_window: str
    metadata: Mapping[str, str] | None
    output_expires_after: Mapping[str, Any] | None
    webhook: Mapping[str, Any] | None


def batch_request(
    lines: Path | str | Sequence[Mapping[str, Any]], endpoint: str | None, options: BatchOptions
) -> dict[str, Any]:
    """Return the body that makes a batch, without the id of its file; what is not said is left to the API."""
    said = {"completion_window": "24h", **{name: value for name, value in options.items() if value is not None}}
    if isinstance(lines, Path | str):
        return {"endpoint": endpoint or endpoint_of(Path(lines)), **said}
    if endpoint is not None:
        raise StokerError("Inputs say their own kind; leave 'endpoint' out.")
    return {"inputs": list(lines), **said}


def endpoint_of(file: Path) -> str:
    """Return what the first line of a file asks for."""
    first = b""
    try:
        with file.open("rb") as lines:
            first = next((line for line in lines if line.strip()), b"")
        url = json.loads(first)["url"]
    except OSError as error:
        raise StokerError(f"{file} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError):
        url = None
    if not first:
        raise StokerError(f"{file} is empty; write a request on each line.")
    if not isinstance(url, str):
        raise StokerError(
            f"The first line of {file} does not say in 'url' what it asks for; each line is text in UTF-8 like "
            '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {…}}.'
        )
    return url
