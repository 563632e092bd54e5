"""The client's error tree: what the API answers, as exceptions, and what happens when it does not.

StokerError
├── UnreachableError           no answer, or none that can be read
├── WaitTimeoutError           the job goes on; we stopped waiting (a TimeoutError, too)
├── BatchTimeoutError          the same of a batch
├── DamagedError               the bytes that came are not those that were stored
└── ApiError                   an answer that is an error: code, message, param, request_id, status
    ├── InvalidError                400, 413, 422: mend the request
    ├── UnauthenticatedError        401
    ├── ForbiddenError              403
    ├── NotFoundError               404
    ├── ConflictError               409: the job's state does not allow it
    ├── GoneError                   410: past its retention
    ├── TooManyError                429, after as many tries as patience allowed
    └── ServiceError                5xx: not your fault
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from stoker.client.documents import Batch, Job


class StokerError(Exception):
    """The root; `message` is a sentence that says what to do next."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UnreachableError(StokerError):
    """No answer came, however often we asked."""


class WaitTimeoutError(StokerError, TimeoutError):
    """The job had not ended in time; `job` is what it was at last."""

    def __init__(self, message: str, job: Job) -> None:
        super().__init__(message)
        self.job = job


class BatchTimeoutError(StokerError, TimeoutError):
    """The batch had not ended in time; `batch` is what it was at last."""

    def __init__(self, message: str, batch: Batch) -> None:
        super().__init__(message)
        self.batch = batch


class DamagedError(StokerError):
    """What was downloaded has another checksum than what was stored."""


class ApiError(StokerError):
    """The API refused, in its own words."""

    def __init__(self, message: str, *, status: int, code: str, param: str | None, request_id: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.request_id = request_id


class InvalidError(ApiError):
    """The request is not valid; `param` names the field at fault."""


class UnauthenticatedError(ApiError):
    """No key, or one that opens nothing."""


class ForbiddenError(ApiError):
    """The key lacks a scope."""


class NotFoundError(ApiError):
    """There is no such thing, or it is somebody else's."""


class ConflictError(ApiError):
    """The job's state does not allow this."""


class GoneError(ApiError):
    """It was kept until its retention passed."""


class TooManyError(ApiError):
    """A limit is reached; try again later."""


class ServiceError(ApiError):
    """The fault is on the other side."""


OF_STATUS: dict[int, type[ApiError]] = {
    400: InvalidError,
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: InvalidError,
    422: InvalidError,
    429: TooManyError,
}


def error_of(answer: httpx.Response) -> ApiError:
    """Return an answer as the error that it is; one that is not in our shape is told by its status."""
    status = answer.status_code
    fallback = ServiceError if status >= httpx.codes.INTERNAL_SERVER_ERROR else ApiError
    try:
        told = dict(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        told = {}
    message = told.get("message") or f"{answer.url.host} answered {status} {answer.reason_phrase}."
    return OF_STATUS.get(status, fallback)(
        str(message),
        status=status,
        code=str(told.get("code", "unknown")),
        param=told.get("param"),
        request_id=told.get("request_id") or answer.headers.get("x-request-id"),
    )
