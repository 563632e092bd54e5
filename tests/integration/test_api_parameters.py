"""Query parameters of every route that the description has: an unknown one is refused, a described one is known."""

import re
from collections.abc import Iterator

from producer_api.app import route_app
from schemas.base import JsonObject
from tests.api import Desk

UNKNOWN = "There is no parameter 'color' here; take it out."


def operations() -> Iterator[tuple[str, str, JsonObject]]:
    for path, of_path in route_app().openapi()["paths"].items():
        for method, operation in of_path.items():
            yield method.upper(), re.sub(r"\{\w+\}", "x", path), operation


async def test_no_route_ignores_a_parameter_that_it_does_not_know(desk: Desk) -> None:
    for method, path, operation in operations():
        answer = await desk.client.request(method, path, params={"color": "red"})
        error = answer.json().get("error", {})
        said = answer.status_code, error.get("param"), error.get("message")
        assert said == (400 if operation["tags"] == ["openai"] else 422, "color", UNKNOWN), f"{method} {path}: {said}"
    assert desk.count_rows() == 0


async def test_every_route_knows_the_parameters_that_it_describes(desk: Desk) -> None:
    asked = 0
    for method, path, operation in operations():
        for one in operation.get("parameters", []):
            if one["in"] == "query":
                asked += 1
                answer = await desk.client.request(method, path, params={one["name"]: "1"})
                assert "There is no parameter" not in answer.text, f"{method} {path}: {answer.text}"
    assert asked


async def test_metadata_is_asked_for_by_any_name(desk: Desk) -> None:
    job_id = await desk.submit(metadata={"color": "red"})
    found = await desk.client.get("/v1/jobs", params={"metadata[color]": "red"})
    assert [one["id"] for one in found.json()["data"]] == [job_id]
