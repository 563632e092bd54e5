"""Doors for other people's clients: a request becomes a job like any other, and the answer waits for its end."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from producer_api.admission import Accepted
from producer_api.answers import error_answer, replayed
from producer_api.edge import request_id_of
from producer_api.jobs import abandon, wait_for_end
from producer_api.plain import PlainRoute
from producer_api.seats import Seat
from producer_api.state import Api, api_of
from schemas.errors import (
    ConflictError,
    DoorTimeoutError,
    FaultError,
    GoneError,
    StokerError,
    UnavailableError,
)
from schemas.jobs import TERMINAL, Kind, Status
from schemas.refusals import as_public, invalid
from storage.rows import JobRow
from tasks.attempt import OUTPUT_NAME
from tasks.doors.failures import door_param, door_status, failure_of

CLIENT_LEFT = 499
"""Nobody reads this status but our own log."""
JOB_HEADER = "X-Stoker-Job-Id"
CANCELED = (
    "The job was canceled before it had an answer; if you want one, send the request again, "
    "with another Idempotency-Key if it had one."
)
DELETED = "The job was deleted; send the request again, with another Idempotency-Key if it had one."


class DoorRoute(PlainRoute):
    """A route that fails as OpenAI's clients expect, and says in a header which job it made."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            try:
                response = await endpoint(request, **scope["path_params"])
            except ValidationError as error:
                response = refusal(invalid(error), request)
            except FaultError:
                raise  # the log wants to know
            except StokerError as error:
                response = refusal(error, request)
            if "job_id" in scope:
                response.headers[JOB_HEADER] = scope["job_id"]
                response.headers.update(replayed(scope.get("is_new_job", True)))
            await response(scope, receive, send)

        self.app = serve


def refusal(error: StokerError, request: Request) -> Response:
    """Return an error as OpenAI's clients expect it."""
    # Their clients try again by themselves; a job that ended was tried as often as it may be.
    is_over = "job_id" in request.scope and not isinstance(error, UnavailableError)
    headers = {"x-should-retry": "false"} if is_over else {}
    answer = error_answer(error, request_id_of(request.scope), headers)
    answer.status_code = door_status(as_public(error))
    return answer


def take_seat(request: Request, accepted: Accepted) -> Seat:
    """Begin to wait for a request's job, which the answer names."""
    request.scope["job_id"], request.scope["is_new_job"] = accepted.job_id, accepted.job is not None
    return api_of(request).seats.take(accepted)


async def wait_at_door(request: Request, accepted: Accepted) -> JobRow | None:
    """Return the row of a job that succeeded, nothing when the client left; a job that nobody waits for is canceled.

    However else it ended, the error says so.
    """
    api, seat = api_of(request), take_seat(request, accepted)
    try:
        has_left = await _wait_for_end_or_leaving(request, accepted.job_id, api.services.settings.door_timeout_seconds)
    finally:
        is_last = seat.leave()
    stored = await api.views.find(accepted.job_id)
    if stored is None:
        raise GoneError(DELETED)
    row = stored.row
    if row.status not in TERMINAL:
        if is_last:
            await abandon(api, accepted)
        if api.watch.closing:
            raise UnavailableError("This server is about to stop; send the request again.")
        if not has_left:
            raise DoorTimeoutError
    if has_left:
        return None
    if row.status != Status.SUCCEEDED:
        raise what_became_of(row)
    return row


async def _wait_for_end_or_leaving(request: Request, job_id: str, seconds: float) -> bool:
    """Wait; return whether the client left first."""
    end = asyncio.create_task(wait_for_end(request, job_id, seconds))
    leaving = asyncio.create_task(until_left(request))
    try:
        await asyncio.wait([end, leaving], return_when=asyncio.FIRST_COMPLETED)
        return not end.done()
    finally:
        for task in (end, leaving):
            task.cancel()
        await asyncio.gather(end, leaving, return_exceptions=True)


async def until_left(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def what_became_of(row: JobRow) -> StokerError:
    """Return the error that tells a waiting client how a job ended that did not succeed."""
    if row.status == Status.CANCELED:
        return ConflictError(CANCELED)
    if row.status == Status.EXPIRED:
        return DoorTimeoutError()
    failure = failure_of(from_json(row.error or "{}"))
    failure.param = door_param(failure.param, Kind(row.kind))
    return failure


async def output_of(api: Api, row: JobRow) -> bytes:
    """Return the JSON of an ended job's output, wherever it lies."""
    if row.output is not None:
        return row.output.encode()
    keys = [one["key"] for one in from_json(row.artifacts or "[]") if one["name"] == OUTPUT_NAME]
    if not keys:
        raise GoneError
    return await asyncio.to_thread(api.services.objects.get, keys[0])
