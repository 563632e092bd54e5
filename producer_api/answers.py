"""How answers are written: JSON bytes, errors in OpenAI's shape, times in RFC 3339."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from schemas.errors import InternalError, StokerError, TooManyError, UnauthenticatedError, UnavailableError
from schemas.refusals import as_public
from tasks.logs import get_logger

RETRY_SECONDS = 2

log = get_logger(__name__)


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return content as JSON."""
    return Response(to_json(content, inf_nan_mode="null"), status, headers, "application/json")


def replayed(is_new: bool) -> dict[str, str]:  # noqa: FBT001 - its only argument
    """Return the header that says when an idempotency key brought back what it made before."""
    return {} if is_new else {"Idempotent-Replayed": "true"}


def error_answer(error: StokerError, request_id: str | None, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as the caller may know it."""
    public = as_public(error)
    if isinstance(public, InternalError) and not isinstance(error, InternalError):
        log.error("A request failed for a reason that its caller may not know.", exc_info=error)
    said = dict(headers or {})
    if public.status in (TooManyError.status, UnavailableError.status):
        said["Retry-After"] = str(ceil(public.retry_after_seconds or RETRY_SECONDS))
    if public.status == UnauthenticatedError.status:
        said["WWW-Authenticate"] = "Bearer"
    return json_answer(public.as_wire_error(request_id), public.status, said)
