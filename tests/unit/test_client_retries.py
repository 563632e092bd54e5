"""What the clients try again, what they never do, and how they say that they have given up."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from stoker import Stoker
from stoker.client import ApiError, ServiceError, TooManyError, UnreachableError
from stoker.client.exchange import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, Backoff, retry_after
from stoker.ports import free_port
from tests.clients import open_client
from tests.scripted_api import CUT, Reply, ScriptedApi, error

BUSY = error(503, "unavailable", "Try again.", Retry_After="0")
FULL = error(429, "too_many", "Too many jobs wait.", Retry_After="0")


def submit(client: Stoker) -> str:
    return client.submit("text", "echo", {"prompt": "hi"}).id


@pytest.mark.parametrize("failure", [BUSY, FULL, CUT, error(502, "bad_gateway", "?"), error(504, "late", "?")])
def test_a_submit_is_sent_again_under_the_same_key(api: ScriptedApi, client: Stoker, failure: Reply) -> None:
    api.on("POST", "/v1/jobs", failure, failure, Reply(202, api.job("job_9")))
    assert submit(client) == "job_9"
    keys = {seen.headers["idempotency-key"] for seen in api.seen}
    assert (len(api.seen), len(keys)) == (3, 1)
    assert len({seen.body for seen in api.seen}) == 1


def test_each_submit_has_a_key_of_its_own_unless_told(api: ScriptedApi, client: Stoker) -> None:
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    submit(client)
    submit(client)
    client.submit("text", "echo", {}, idempotency_key="mine")
    first, second, third = (seen.headers["idempotency-key"] for seen in api.seen)
    assert first != second
    assert third == "mine"


def test_a_retry_of_a_job_has_a_key_too(api: ScriptedApi, client: Stoker) -> None:
    api.on("POST", "/v1/jobs/job_1/retry", CUT, Reply(202, api.job("job_2", retry_of="job_1")))
    assert client.retry("job_1").retry_of == "job_1"
    assert len({seen.headers["idempotency-key"] for seen in api.seen}) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.delete("job_1"),
        lambda client: client.purge_queue("text.echo.cpu0"),
        lambda client: client.create_key("new", ["read"]),
    ],
)
def test_what_may_have_happened_is_not_repeated(
    api: ScriptedApi, client: Stoker, ask: Callable[[Stoker], object]
) -> None:
    for method, path in (
        ("DELETE", "/v1/jobs/job_1"),
        ("POST", "/v1/queues/text.echo.cpu0/purge"),
        ("POST", "/v1/keys"),
    ):
        api.on(method, path, CUT)
    with pytest.raises(UnreachableError, match="look whether it was done before you try again"):
        ask(client)
    assert len(api.seen) == 1


def test_what_surely_did_not_happen_is_repeated(api: ScriptedApi, client: Stoker) -> None:
    api.on("POST", "/v1/keys", BUSY, Reply(201, {"id": "key_1", "key": "sk-new"}))
    assert client.create_key("new", ["read"], expires_in_days=2).key == "sk-new"
    assert json.loads(api.seen[-1].body) == {"name": "new", "scopes": ["read"], "expires_in_days": 2}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422, 500])
def test_an_answer_that_time_will_not_mend_is_final(api: ScriptedApi, client: Stoker, status: int) -> None:
    api.on("GET", "/v1/jobs/job_1", error(status, "some_code", "A sentence."))
    with pytest.raises(ApiError, match=r"A sentence\.") as caught:
        client.get("job_1")
    assert (caught.value.status, len(api.seen)) == (status, 1)


def test_patience_ends(api: ScriptedApi, impatient: Stoker) -> None:
    api.on("POST", "/v1/jobs", FULL)
    with pytest.raises(TooManyError, match="Too many jobs wait"):
        submit(impatient)
    api.on("GET", "/v1/models", BUSY)
    with pytest.raises(ServiceError):
        impatient.models()
    assert len(api.seen) == 2


def test_a_wait_beyond_our_patience_is_not_begun(api: ScriptedApi, client: Stoker) -> None:
    api.on("POST", "/v1/jobs", error(429, "too_many", "Come back in an hour.", Retry_After="3600"))
    with pytest.raises(TooManyError, match="in an hour"):
        submit(client)
    assert len(api.seen) == 1


@pytest.mark.parametrize("shape", ["blocking", "asynchronous"])
def test_when_nobody_answers_the_sentence_says_what_to_do(shape: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    client = open_client(shape, url, patience_seconds=0)
    with pytest.raises(UnreachableError, match=f"The API at {url} does not answer; start it with `make up`"):
        client.models()
    client.close()


def test_an_answer_from_something_else_is_told_as_such(api: ScriptedApi, client: Stoker) -> None:
    api.on("GET", "/v1/models", Reply(200, b"<html>Welcome!</html>"))
    with pytest.raises(UnreachableError, match="not Stoker's API"):
        client.models()


def test_delays_double_within_bounds_and_end_with_patience() -> None:
    backoff = Backoff(patience_seconds=3600)
    delays = [backoff.next_delay() or 0.0 for _ in range(12)]
    for index, delay in enumerate(delays):
        ceiling = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**index)
        assert ceiling / 2 <= delay <= ceiling
    assert backoff.next_delay(at_least=100) == 100
    assert backoff.next_delay(at_least=4000) is None
    backoff.succeed()
    assert (backoff.next_delay() or 0.0) <= FIRST_DELAY_SECONDS


def test_retry_after_is_seconds_or_a_date() -> None:
    def told(value: str) -> float:
        return retry_after(httpx.Response(503, headers={"Retry-After": value}))

    assert told("7") == 7
    assert 3000 < told(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)) <= 3600
    assert told(format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)) == 0
    assert told("soon") == told("Sat, 21 Nov 2026 10:00:00 -0000") == retry_after(httpx.Response(503)) == 0
