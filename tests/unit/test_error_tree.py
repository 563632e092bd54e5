"""The error tree: the drawing in the docstring, the classes and what they promise are one thing."""

import json
import re
from itertools import chain

import pytest

from schemas import errors
from schemas.errors import CallerError, InvalidError, JobError, ServiceError, StokerError, WorkerLostError

LINE = re.compile(
    r"^(?P<lead>[│├└─ ]*)(?P<names>\w+Error(?:, \w+Error)*)\s*(?P<status>\d{3})?\s*(?P<said>\w+)?(?P<rest>.*)$"
)


def subclasses(root: type[StokerError]) -> list[type[StokerError]]:
    return [root, *chain.from_iterable(subclasses(child) for child in root.__subclasses__())]


CLASSES = {one.__name__: one for one in subclasses(StokerError) if one.__module__ == errors.__name__}


def drawing() -> list[tuple[int, str, re.Match[str]]]:
    """The drawn lines: depth, name, and what stands beside it."""
    lines = (LINE.match(line) for line in (errors.__doc__ or "").splitlines())
    return [
        (len(line["lead"]) // 4, name, line)
        for line in lines
        if line is not None
        for name in line["names"].split(", ")
    ]


def test_the_drawing_is_the_tree() -> None:
    path: list[str] = []
    drawn = {}
    for depth, name, _ in drawing():
        path[depth:] = [name]
        drawn[name] = path[depth - 1] if depth else "Exception"
    assert drawn == {name: one.__bases__[0].__name__ for name, one in CLASSES.items()}


@pytest.mark.parametrize(("name", "line"), [(name, line) for _, name, line in drawing() if line["status"]])
def test_the_drawing_says_the_status_and_the_code(name: str, line: re.Match[str]) -> None:
    assert (CLASSES[name].status, CLASSES[name].code) == (int(line["status"]), line["said"])


def test_the_drawing_says_the_codes_of_failed_jobs() -> None:
    said = {name: line for _, name, line in drawing() if issubclass(CLASSES[name], JobError) and name != "JobError"}
    assert {name: line["said"] for name, line in said.items()} == {name: CLASSES[name].code for name in said}
    assert all(CLASSES[name].retryable for name, line in said.items() if "retryable" in line["rest"])


@pytest.mark.parametrize("one", CLASSES.values(), ids=CLASSES.keys())
def test_every_error_speaks_in_a_sentence_with_a_code(one: type[StokerError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", one.code)
    assert one.sentence[0].isupper()
    assert one.sentence.endswith(".")
    assert str(one()) == one.sentence
    assert str(one("Another sentence.")) == "Another sentence."


@pytest.mark.parametrize("one", subclasses(CallerError), ids=lambda one: one.__name__)
def test_callers_errors_are_4xx(one: type[CallerError]) -> None:
    assert 400 <= one.status < 500
    assert one.type.endswith("_error")


@pytest.mark.parametrize("one", subclasses(ServiceError), ids=lambda one: one.__name__)
def test_service_errors_are_5xx(one: type[ServiceError]) -> None:
    assert 500 <= one.status < 600


def test_the_wire_shape_is_openais() -> None:
    error = InvalidError("'policy.ttl_seconds' must be above 0.", param="policy.ttl_seconds")
    assert error.as_wire_error("req_1") == {
        "error": {
            "type": "invalid_request_error",
            "code": "invalid",
            "message": "'policy.ttl_seconds' must be above 0.",
            "param": "policy.ttl_seconds",
            "request_id": "req_1",
        }
    }


def test_an_error_that_crosses_a_process_is_plain_data() -> None:
    data = WorkerLostError().as_job_error()
    assert json.loads(json.dumps(data)) == data
    assert data["code"] == "worker_lost"
    assert data.keys() == {"type", "code", "message", "retryable"}
