"""The HTTP interface is what was agreed on: a change to it is seen in review, and every route is described whole."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_api.admission import REQUEST
from producer_api.app import route_app
from producer_api.openapi import EXAMPLES
from schemas.base import JsonObject
from tests.architecture.source import project

AGREED = Path(__file__).with_name("openapi.json")
UPDATE = "Look at the difference; if it is meant: python -m producer_api openapi > tests/architecture/openapi.json"


@pytest.fixture(scope="module")
def described() -> JsonObject:
    """What the code says of itself."""
    return route_app().openapi()


def operations(described: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Yield every operation under its method and path."""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_interface_is_the_agreed_one(described: JsonObject) -> None:
    assert described == json.loads(AGREED.read_text()), UPDATE


def test_its_version_is_the_projects(described: JsonObject) -> None:
    assert described["info"]["version"] == project()["project"]["version"]


def test_every_operation_has_a_name_and_a_sentence(described: JsonObject) -> None:
    names = [operation["operationId"] for _, operation in operations(described)]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    assert [line for line, operation in operations(described) if not operation["description"].strip()] == []


def test_every_operation_describes_its_answers_and_its_errors(described: JsonObject) -> None:
    for line, operation in operations(described):
        answers = operation["responses"]
        assert any(code.startswith(("2", "3")) for code in answers), line
        if "/health/" not in line:
            invalid = "400" if "openai" in operation["tags"] else "422"
            assert {"401", "403", invalid, "503"} <= answers.keys(), line
            for code in filter(lambda code: code >= "400", answers):
                schema = answers[code]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}, line
                assert answers[code]["description"], line


def test_only_health_needs_no_key(described: JsonObject) -> None:
    assert described["security"] == [{"key": []}]
    assert {line for line, operation in operations(described) if operation.get("security") == []} == {
        "GET /health/live",
        "GET /health/ready",
    }


def test_every_reference_leads_somewhere(described: JsonObject) -> None:
    def references(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    known = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert set(references(described)) - known == set()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_good_requests(name: str) -> None:
    value = EXAMPLES[name]["value"]
    request = REQUEST.validate_json(json.dumps(value), strict=True)
    assert (request.kind, request.model) == (name, value["model"])
