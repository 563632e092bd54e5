"""What clients wish for in headers and addresses: how long to wait, which jobs to list."""

import pytest
from pydantic import ValidationError
from starlette.requests import Request

from producer_api.admission import check_idempotency_key
from producer_api.listing import JobQuery
from producer_api.plain import wanted_wait
from schemas.errors import InvalidError

LIMIT = 60.0


def request(prefer: str = "", query: str = "") -> Request:
    headers = [(b"prefer", prefer.encode())] if prefer else []
    return Request({"type": "http", "headers": headers, "query_string": query.encode()})


@pytest.mark.parametrize(
    ("prefer", "query", "seconds"),
    [
        ("", "", None),
        ("wait=10", "", 10.0),
        ("wait=10", "wait=20", 10.0),
        ("", "wait=2.5", 2.5),
        ("", "wait=0", 0.0),
        ("respond-async, wait=7", "", 7.0),
        ("Wait = 7; foo", "", 7.0),
        ("wait=100000", "", LIMIT),
        ("", "wait=1e9", None),
        ("handling=strict", "", None),
        ("wait=soon", "", None),
        ("await=5", "", None),
    ],
)
def test_a_wait_is_read_from_header_or_address_and_limited(prefer: str, query: str, seconds: float | None) -> None:
    if query == "wait=1e9":
        with pytest.raises(InvalidError, match="a number of seconds"):
            wanted_wait(request(prefer, query), LIMIT)
    else:
        assert wanted_wait(request(prefer, query), LIMIT) == seconds


@pytest.mark.parametrize("query", ["wait=", "wait=-1", "wait=NaN", "wait=1.2.3", "wait=²"])
def test_a_wait_in_the_address_that_is_no_number_is_refused(query: str) -> None:
    with pytest.raises(InvalidError, match="such as 30"):
        wanted_wait(request("", query), LIMIT)


@pytest.mark.parametrize("key", ["", "x" * 256, "naïve", "line\nbreak"])
def test_idempotency_keys_that_cannot_be_kept_are_refused(key: str) -> None:
    with pytest.raises(InvalidError, match="Idempotency-Key"):
        check_idempotency_key(key)


def test_good_idempotency_keys_stay_as_they_are() -> None:
    assert check_idempotency_key("x" * 255) == "x" * 255
    assert check_idempotency_key("order 17 / retry") == "order 17 / retry"
    assert check_idempotency_key(None) is None


def test_a_query_becomes_a_filter() -> None:
    query = JobQuery.model_validate(
        {
            "limit": "5",
            "status": "queued",
            "created_after": "2023-11-14T22:13:20Z",
            "metadata[a.b]": "c",
            "metadata[d]": "",
        }
    )
    wanted = query.as_filter("caller_x")
    assert (wanted.caller_id, wanted.limit, wanted.status, wanted.created_after) == (
        "caller_x",
        5,
        "queued",
        1_700_000_000,
    )
    assert wanted.metadata == (("a.b", "c"), ("d", ""))


@pytest.mark.parametrize("name", ["metadata", "metadata[]", "metadata[a", "foo"])
def test_a_parameter_that_nobody_knows_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidError, match="There is no parameter") as caught:
        JobQuery.model_validate({name: "x"}).as_filter("caller_x")
    assert caught.value.param == name


def test_a_list_has_at_most_a_hundred() -> None:
    assert JobQuery().limit == 20
    with pytest.raises(ValidationError):
        JobQuery(limit=101)
