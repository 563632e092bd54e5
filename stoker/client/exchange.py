"""One question and its answer: what is sent, when it is sent again, and when we give up. No IO happens here.

A flow is a generator that yields calls and is sent the responses, so that the blocking and the asynchronous client
share everything but the sending itself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from stoker.client.errors import StokerError, UnreachableError, error_of

T = TypeVar("T")

FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 8.0
ANSWER_SECONDS = 30.0
NOTHING_HAPPENED = frozenset({429, 503})
"""The API has refused and stored nothing."""
NOBODY_KNOWS = frozenset({502, 504})
"""Something between us and the API gave up; only what may be said twice is said again."""
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and how it may be repeated."""

    method: str
    url: str
    body: Mapping[str, Any] | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = True
    """Whether sending it twice does no more than sending it once."""
    wants_key: bool = True
    """Whether it goes to the API; a presigned link is its own key."""
    read_seconds: float = ANSWER_SECONDS
    pause_seconds: float = 0.0
    """How long to wait before it is sent."""
    file: Path | None = None
    """A file that goes with it, as the field `file` of a form."""


Flow = Generator[Call, httpx.Response, T]


class Backoff:
    """The delays between tries: doubling, jittered, until patience is used up."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._tries = 0
        self._gives_up_at = 0.0

    def next_delay(self, at_least: float = 0.0) -> float | None:
        """Return the seconds until the next try, None when there is to be none."""
        now = time.monotonic()
        if self._tries == 0:
            self._gives_up_at = now + self._patience_seconds
        ceiling = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**self._tries)
        delay = max(at_least, ceiling * random.uniform(0.5, 1.0))  # noqa: S311 - spreads clients, keeps no secret
        self._tries += 1
        return delay if now + delay <= self._gives_up_at else None

    def succeed(self) -> None:
        """Begin anew: something good came."""
        self._tries = 0


def exchange(call: Call, patience_seconds: float) -> Flow[httpx.Response]:
    """Send a call until it has a good answer; raise what stands in the way when patience is used up."""
    backoff = Backoff(patience_seconds)
    while True:
        try:
            answer = yield call
        except httpx.TransportError as error:
            failure: StokerError = unreachable(call, error)
            delay = backoff.next_delay() if call.is_repeatable or isinstance(error, NEVER_SENT) else None
        else:
            if answer.status_code < httpx.codes.BAD_REQUEST:
                return answer
            failure = error_of(answer)
            delay = backoff.next_delay(retry_after(answer)) if may_repeat(call, answer) else None
        if delay is None:
            raise failure
        call = replace(call, pause_seconds=delay)


def may_repeat(call: Call, answer: httpx.Response) -> bool:
    """Say whether a refusal is one that time may mend."""
    status = answer.status_code
    return status in NOTHING_HAPPENED or (call.is_repeatable and status in NOBODY_KNOWS)


def retry_after(answer: httpx.Response) -> float:
    """Return how long the answer asks us to wait, in seconds."""
    told = answer.headers.get("retry-after", "")
    if told.isdecimal():
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # TypeError: a date without a time zone
        return 0.0


def unreachable(call: Call, error: httpx.TransportError) -> UnreachableError:
    """Return a broken connection as a sentence."""
    at = httpx.URL(call.url)
    where = f"{'API' if call.wants_key else 'object store'} at {at.scheme}://{at.netloc.decode()}"
    if isinstance(error, NEVER_SENT):
        return UnreachableError(f"The {where} does not answer; start it with `make up`, or check STOKER_URL.")
    if isinstance(error, httpx.ReadTimeout):
        return UnreachableError(f"The {where} gave no answer within {call.read_seconds:g} s; try again.")
    again = "try again" if call.is_repeatable else "look whether it was done before you try again"
    return UnreachableError(f"The connection to the {where} broke before the answer came; {again}.")
