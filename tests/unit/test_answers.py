"""What callers are told of errors, and what only the log is."""

import json

import pytest
from starlette.responses import Response
from structlog.testing import capture_logs

from producer_api.answers import error_answer
from schemas.errors import InternalError, StartError, StokerError, TooManyError


def told(error: StokerError) -> tuple[Response, str, list[str]]:
    """The answer, its message, and what was logged."""
    with capture_logs() as lines:
        answer = error_answer(error, "req_1")
    return answer, json.loads(bytes(answer.body))["error"]["message"], [line["log_level"] for line in lines]


def test_a_reason_that_callers_may_not_know_is_in_the_log() -> None:
    answer, message, logged = told(StartError("The file /etc/secret.pem cannot be read."))
    assert (answer.status_code, message, logged) == (500, InternalError.sentence, ["error"])


@pytest.mark.parametrize(("error", "status"), [(TooManyError(), 429), (InternalError(), 500)])
def test_what_callers_know_is_not_logged_again(error: StokerError, status: int) -> None:
    answer, message, logged = told(error)
    assert (answer.status_code, message, logged) == (status, error.message, [])
