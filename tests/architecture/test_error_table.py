"""The error tree: as it is drawn, so it is; every leaf has its own code, status and sentence, and an answer."""

import json
import re
from collections.abc import Iterator

import pytest

from producer_api.answers import error_answer
from producer_api.documents import ErrorAnswer
from schemas import errors
from schemas.errors import (
    CallerError,
    FaultError,
    InternalError,
    ServiceError,
    StartError,
    StokerError,
    UnavailableError,
)

DRAWN = re.compile(r"\b[A-Z]\w+Error\b")
CODE = re.compile(r"(\w+Error)\s+(\d{3}) (\w+)")
INTERNAL = "started with a secret in it"


def tree(root: type[StokerError] = StokerError) -> Iterator[type[StokerError]]:
    """Yield a class and all below it."""
    yield root
    for below in root.__subclasses__():
        yield from tree(below)


ALL = [error for error in tree() if error.__module__ == errors.__name__]
SHOWN = [
    error
    for error in ALL
    if issubclass(error, CallerError | ServiceError) and error not in (CallerError, ServiceError)
]


def test_the_drawing_shows_every_class_and_no_other() -> None:
    drawn = DRAWN.findall(errors.__doc__ or "")
    assert sorted(drawn) == sorted(error.__name__ for error in ALL)


def test_the_drawing_tells_status_and_code() -> None:
    told = {name: (int(status), code) for name, status, code in CODE.findall(errors.__doc__ or "")}
    assert told.keys() == {error.__name__ for error in SHOWN}
    assert told == {error.__name__: (error.status, error.code) for error in SHOWN}


def test_every_code_means_one_thing() -> None:
    codes = [error.code for error in SHOWN]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_has_a_sentence_for_people(error: type[StokerError]) -> None:
    assert error.sentence[0].isupper()
    assert error.sentence.endswith((".", "…'."))
    assert len(error.sentence) < 200


@pytest.mark.parametrize("error", SHOWN, ids=lambda error: error.__name__)
def test_every_shown_error_is_answered_in_the_one_shape(error: type[StokerError]) -> None:
    answer = error_answer(error(), "req_1")
    body = ErrorAnswer.model_validate_json(bytes(answer.body)).error
    assert (answer.status_code, body.code, body.type) == (error.status, error.code, error.type)
    assert (body.message, body.request_id) == (error.sentence, "req_1")
    assert ("retry-after" in answer.headers) == (error.status in (429, 503))
    assert ("www-authenticate" in answer.headers) == (error.status == 401)


@pytest.mark.parametrize("error", [error for error in ALL if error not in SHOWN], ids=lambda error: error.__name__)
def test_what_is_not_for_callers_does_not_reach_them(error: type[StokerError]) -> None:
    if issubclass(error, CallerError):
        return
    answer = error_answer(error(INTERNAL), "req_1")
    assert INTERNAL.encode() not in bytes(answer.body)
    shown = UnavailableError if issubclass(error, FaultError) else InternalError
    assert (answer.status_code, json.loads(bytes(answer.body))["error"]["code"]) == (shown.status, shown.code)


def test_only_waiting_helps_against_a_fault() -> None:
    for error in tree(FaultError):
        assert error.retryable
    assert not any(error.retryable for error in tree(StartError))
