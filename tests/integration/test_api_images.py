"""Doors for images: what a job's input becomes, what is refused, how a finished job answers at each of them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_core import from_json

from schemas.base import JsonObject
from storage import jobs
from storage.database import Database
from tests.api import Desk, memory_services, open_desk

QUEUE = "image.sketch.cpu0"
JOB: JsonObject = {"kind": "image", "model": "sketch"}


@pytest.fixture
async def desk(api_database: Database) -> AsyncIterator[Desk]:
    async with open_desk(memory_services(api_database)) as opened:
        yield opened


def stored_input(desk: Desk, job_id: str) -> JsonObject:
    """The input as a worker will get it."""
    found = desk.database.read(lambda connection: jobs.find_input(connection, job_id))
    assert found is not None
    given: JsonObject = from_json(found[0] or "")
    return given


async def test_what_is_left_out_is_settled_before_the_job_waits(desk: Desk) -> None:
    job_id = await desk.submit(**JOB, input={"prompt": "a red circle"})
    given = stored_input(desk, job_id)
    seed = given.pop("seed")
    assert 0 <= seed < 2**32
    assert given == {
        "prompt": "a red circle",
        "width": 64,
        "height": 64,
        "steps": 8,
        "guidance": 7.0,
        "safety_mode": "block",
    }
    assert (await desk.look(job_id))["input"] == given | {"seed": seed}


async def test_a_retry_draws_the_same_picture(desk: Desk) -> None:
    job_id = await desk.submit(**JOB, input={"prompt": "a red circle"})
    await desk.client.post(f"/v1/jobs/{job_id}/cancel")
    again = (await desk.client.post(f"/v1/jobs/{job_id}/retry")).json()
    assert stored_input(desk, again["id"]) == stored_input(desk, job_id)


async def test_the_same_key_is_the_same_job_though_seeds_are_chosen(desk: Desk) -> None:
    body = {**JOB, "input": {"prompt": "a red circle"}}
    first, second = [
        (await desk.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})).json() for _ in range(2)
    ]
    assert first["id"] == second["id"]
    assert first["input"] == second["input"]


def use(**fields: Any) -> JsonObject:
    """The input of a job with these adapters."""
    return {"adapters": [fields]}


BAD: dict[str, tuple[JsonObject, int, str, str, str]] = {
    "a width of 100": ({"width": 100}, 422, "invalid", "width", "multiple of 8"),
    "a height of 0": ({"height": 0}, 422, "invalid", "height", "greater than or equal to 8"),
    "a negative width": ({"width": -64}, 422, "invalid", "width", "greater than or equal to 8"),
    "half a pixel": ({"width": 64.5}, 422, "invalid", "width", "valid integer"),
    "more pixels than the model has": ({"width": 128, "height": 136}, 422, "invalid", "width", "at most 16,384"),
    "a side beyond all": ({"width": 8000}, 422, "invalid", "width", "less than or equal to 4096"),
    "no steps": ({"steps": 0}, 422, "invalid", "steps", "greater than or equal to 1"),
    "10,000 steps": ({"steps": 10_000}, 422, "invalid", "steps", "less than or equal to 500"),
    "more steps than the model takes": ({"steps": 101}, 422, "invalid", "steps", "takes at most 100; ask for fewer"),
    "no pictures": ({"n": 0}, 422, "invalid", "n", "greater than or equal to 1"),
    "too many pictures": ({"n": 17}, 422, "invalid", "n", "less than or equal to 16"),
    "a guidance of NaN": ({"guidance": float("nan")}, 422, "invalid", "guidance", "finite number"),
    "a guidance too strong": ({"guidance": 31}, 422, "invalid", "guidance", "less than or equal to 30"),
    "a negative seed": ({"seed": -1}, 422, "invalid", "seed", "greater than or equal to 0"),
    "a seed too large": ({"seed": 2**63}, 422, "invalid", "seed", "less than"),
    "an unknown scheduler": ({"scheduler": "karras"}, 422, "invalid", "scheduler", "'euler', 'euler_a', 'ddim'"),
    "an unknown format": ({"format": "gif"}, 422, "invalid", "format", "'png' or 'jpeg'"),
    "an unknown safety mode": ({"safety_mode": "maybe"}, 422, "invalid", "safety_mode", "'off' or 'block'"),
    "100 adapters": (
        {"adapters": [{"id": f"a{number}"} for number in range(100)]},
        *(422, "invalid", "adapters", "at most 8 items"),
    ),
    "an adapter twice": ({"adapters": [{"id": "night"}] * 2}, 422, "invalid", "adapters", "named twice"),
    "an adapter as a word": ({"adapters": ["night"]}, 422, "invalid", "adapters.0", "object"),
    "an unknown adapter": (use(id="day"), 422, "invalid", "adapters.0.id", "Known adapters: gold, night."),
    "an unknown adapter beside a known one": (
        {"adapters": [{"id": "night"}, {"id": "day"}]},
        *(422, "invalid", "adapters.1.id", "no adapter 'day'"),
    ),
    "a strength of NaN": (
        use(id="night", strength=float("nan")),
        *(422, "invalid", "adapters.0.strength", "finite number"),
    ),
    "a strength of infinity": (
        use(id="night", strength=float("inf")),
        *(422, "invalid", "adapters.0.strength", "finite number"),
    ),
    "a strength of 3": (use(id="night", strength=3), 422, "invalid", "adapters.0.strength", "less than or equal to 2"),
    "a negative strength": (use(id="night", strength=-1), 422, "invalid", "adapters.0.strength", "or equal to 0"),
    "an adapter without a name": (use(strength=1), 422, "invalid", "adapters.0.id", "is missing"),
    "a prompt of 1 MB": ({"prompt": "x" * 10**6}, 422, "invalid", "prompt", "at most 10000 characters"),
    "an empty prompt": ({"prompt": ""}, 422, "invalid", "prompt", "at least 1 character"),
    "a negative prompt of 1 MB": ({"negative_prompt": "x" * 10**6}, 422, "invalid", "negative_prompt", "10000"),
    "a banned prompt": (
        {"prompt": "a n.u.d.e circle"},
        *(422, "content_policy_violation", "prompt", "refused by the safety checker 'basic'"),
    ),
    "an unknown field": ({"sampler": "euler"}, 422, "invalid", "sampler", "There is no field 'input.sampler'"),
}


async def test_bad_input_is_refused_with_a_sentence_and_leaves_no_row(desk: Desk) -> None:
    for name, (fields, status, code, param, words) in BAD.items():
        body = json.dumps({**JOB, "input": {"prompt": "x", **fields}})
        answer = await desk.client.post("/v1/jobs", content=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, f"input.{param}"), (name, error)
        assert words in error["message"], (name, error)
    assert desk.count_rows() == 0
