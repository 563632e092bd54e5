"""Doors for images: what a job's input becomes, what is refused, how a finished job answers at each of them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic_core import from_json

from producer_api.documents import ArtifactList, ImageList, LoraJob
from schemas.base import JsonObject
from schemas.ids import new_id
from schemas.jobs import Job
from storage import adapters, jobs
from storage.adapters import NewAdapter
from storage.callers import ensure_caller
from storage.database import Database
from tests.api import Desk, eventually, memory_services, open_desk

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


async def test_a_job_is_stored_with_what_it_will_cost(desk: Desk) -> None:
    for fields, cost in (({}, 64 * 64 * 8), ({"width": 128, "steps": 20, "n": 16}, 128 * 64 * 20 * 16)):
        job_id = await desk.submit(**JOB, input={"prompt": "a red circle", **fields})
        assert desk.row(job_id).pixel_steps == cost


MADE: JsonObject = {
    "images": [
        {"name": "image-0.png", "seed": 7, "width": 64, "height": 64},
        {"name": None, "seed": 8, "width": 64, "height": 64, "blocked": "it is too red"},
        {"name": "image-2.png", "seed": 9, "width": 64, "height": 64},
    ],
    "safety": {"mode": "block", "checker": "basic", "blocked": 1},
}
ALL_MADE: JsonObject = {
    "images": [{**image, "name": f"image-{index}.png"} for index, image in enumerate(MADE["images"])],
    "safety": {"mode": "block", "checker": "basic", "blocked": 0},
}
NONE_MADE: JsonObject = {
    "images": [{**MADE["images"][1], "seed": seed} for seed in (7, 8)],
    "safety": {"mode": "block", "checker": "basic", "blocked": 2},
}


async def finished(desk: Desk, path: str, body: JsonObject, output: JsonObject, number: int = 1) -> httpx.Response:
    """The answer of a door that waits, whose job, that number of all, ends with these pictures."""
    asking = asyncio.ensure_future(desk.client.post(path, json=body, headers={"Prefer": "wait=30"}))

    async def is_there() -> bool:
        return desk.count_rows() == number or asking.done()

    await eventually(is_there)
    assert desk.count_rows() == number, asking.result().text
    worker = desk.worker(QUEUE)
    *_, job = [worker.claim() for _ in range(number)]
    names = [image["name"] for image in output["images"] if image["name"]]
    artifacts = [worker.store(job, name, name.encode(), "image/png") for name in names]
    await worker.finish(job, artifacts=artifacts, output=output, usage={"images": len(names)})
    return await asking


async def test_the_short_way_makes_the_same_job(desk: Desk) -> None:
    given = {"prompt": "a red circle", "seed": 5, "adapters": [{"id": "night", "strength": 0.5}], "n": 2}
    answer = await desk.client.post("/v1/images", json={"model": "sketch", **given, "metadata": {"a": 1}})
    assert answer.status_code == 202, answer.text
    short = Job.model_validate_json(answer.content)
    long = (await desk.client.post("/v1/jobs", json={**JOB, "input": given})).json()
    assert (short.kind, short.input, short.metadata) == ("image", long["input"], {"a": 1})
    refused = await desk.client.post("/v1/images", json={"model": "echo", "prompt": "x"})
    assert refused.json()["error"]["message"] == "'echo' makes text, not images; choose one of: sketch."
    for fields, param in (({"width": 100}, "width"), ({"width": 4096}, "width"), ({"prompt": "nude"}, "prompt")):
        refused = await desk.client.post("/v1/images", json={"model": "sketch", "prompt": "x", **fields})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, param)


async def test_openais_door_answers_with_links(desk: Desk) -> None:
    body = {"prompt": "a red circle", "n": 3, "size": "64x32", "output_format": "jpeg", "user": "me", "seed": 7}
    answer = await finished(desk, "/v1/images/generations", body, ALL_MADE)
    told = ImageList.model_validate_json(answer.content)
    assert (answer.status_code, told.safety, len(told.data)) == (200, None, 3)
    assert "safety" not in answer.json()
    view = await desk.look(answer.headers["x-stoker-job-id"])
    assert (view["model"], view["input"]["width"], view["input"]["height"]) == ("sketch", 64, 32)
    assert (view["input"]["format"], view["input"]["n"], view["input"]["seed"]) == ("jpeg", 3, 7)
    assert [one.url for one in told.data] == [one["url"] for one in view["artifacts"]]


async def test_openais_door_answers_with_pictures_and_says_which_are_missing(desk: Desk) -> None:
    body = {"model": "sketch:night", "prompt": "x", "response_format": "b64_json", "size": "auto"}
    answer = await finished(desk, "/v1/images/generations", body, MADE)
    told = ImageList.model_validate_json(answer.content)
    assert [base64.b64decode(one.b64_json or "") for one in told.data] == [b"image-0.png", b"image-2.png"]
    assert told.safety is not None
    assert told.safety.blocked == 1
    view = await desk.look(answer.headers["x-stoker-job-id"])
    assert view["input"]["adapters"] == [{"id": "night"}]


async def test_openais_door_refuses_to_answer_with_nothing(desk: Desk) -> None:
    answer = await finished(desk, "/v1/images/generations", {"prompt": "x", "n": 2}, NONE_MADE)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "content_policy_violation", "prompt")
    assert "blocked by the safety checker 'basic' (it is too red)" in error["message"]
    assert answer.headers["x-should-retry"] == "false"


BAD_AT_DOOR: dict[str, tuple[JsonObject, int, str, str | None, str]] = {
    "a size of words": ({"size": "large"}, 400, "invalid", "size", "write WIDTHxHEIGHT"),
    "a size not divisible by 8": ({"size": "100x100"}, 400, "invalid", "size", "multiples of 8"),
    "no size": ({"size": "0x0"}, 400, "invalid", "size", "multiples of 8"),
    "more pixels than the model has": ({"size": "1024x1024"}, 400, "invalid", "size", "at most 16,384"),
    "too many": ({"n": 17}, 400, "invalid", "n", "less than or equal to 16"),
    "a stream": ({"stream": True}, 400, "invalid", "stream", "not supported"),
    "glass": ({"background": "transparent"}, 400, "invalid", "background", "'auto' or 'opaque'"),
    "webp": ({"output_format": "webp"}, 400, "invalid", "output_format", "'png' or 'jpeg'"),
    "an unknown field": ({"svg": True}, 400, "invalid", "svg", "no field 'svg'"),
    "an unknown model": ({"model": "x"}, 404, "model_not_found", "model", "no model 'x'"),
    "an unknown adapter": ({"model": "sketch:x"}, 404, "model_not_found", "model", "sketch:gold, sketch:night"),
    "another kind": ({"model": "echo"}, 400, "invalid", "model", "makes text, not images; choose one of: sketch"),
    "a banned prompt": ({"prompt": "nude"}, 400, "content_policy_violation", "prompt", "refused by"),
    "an empty prompt": ({"prompt": ""}, 400, "invalid", "prompt", "at least 1 character"),
}


async def test_openais_door_refuses_in_its_clients_words(desk: Desk) -> None:
    for name, (fields, status, code, param, words) in BAD_AT_DOOR.items():
        answer = await desk.client.post("/v1/images/generations", json={"prompt": "x", **fields})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, param), (name, error)
        assert words in error["message"], (name, error)
    assert desk.count_rows() == 0


async def test_an_adapters_picture_is_at_the_top(desk: Desk) -> None:
    body = {"lora_id": "night", "prompt": "a red circle", "negative_prompt": "blue", "steps": 4, "strength": 0.5}
    answer = await finished(desk, "/v1/lora/generate", {**body, "safety_mode": "off", "seed": 3}, ALL_MADE)
    told = LoraJob.model_validate_json(answer.content)
    assert (answer.status_code, told.kind, told.result) == (200, "image", told.artifacts[0].url)
    assert told.metrics["latency_ms"] >= 0
    assert told.input is not None
    assert (told.input["adapters"], told.input["steps"]) == ([{"id": "night", "strength": 0.5}], 4)
    assert (told.input["negative_prompt"], told.input["safety_mode"], told.input["seed"]) == ("blue", "off", 3)


async def test_an_uploaded_adapter_is_known_to_its_owner_only(desk: Desk) -> None:
    caller_id = desk.database.transact(lambda connection: ensure_caller(connection, "local"))
    new = NewAdapter(new_id("lora"), caller_id, "glow", "sketch", "image", "0" * 64, 10)
    desk.database.transact(lambda connection: adapters.add(connection, new))
    doors: list[tuple[str, JsonObject]] = [
        ("/v1/images", {"model": "sketch", "prompt": "x", "adapters": [{"id": "glow"}]}),
        ("/v1/lora/generate", {"lora_id": "glow", "prompt": "x"}),
        ("/v1/lora/generate", {"lora_id": new.id, "prompt": "x"}),
    ]
    for path, body in doors:
        answer = await desk.client.post(path, json=body)
        assert answer.status_code == 202, answer.text
        assert answer.json()["input"]["adapters"] == [{"id": new.id}]
        stranger = await desk.client.post(path, json=body, headers=desk.bearer("stranger"))
        assert stranger.status_code in (404, 422)
        assert "Known adapters: gold, night." in stranger.text
    answer = await finished(desk, "/v1/images/generations", {"model": "sketch:glow", "prompt": "x"}, ALL_MADE, 4)
    assert answer.status_code == 200
    body = {"model": "sketch:glow", "prompt": "x"}
    stranger = await desk.client.post("/v1/images/generations", json=body, headers=desk.bearer("stranger"))
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (404, "model_not_found")


async def test_several_pictures_are_a_list(desk: Desk) -> None:
    answer = await finished(desk, "/v1/images", {"model": "sketch", "prompt": "x", "n": 3}, MADE)
    job_id = answer.json()["id"]
    listed = ArtifactList.model_validate_json((await desk.client.get(f"/v1/jobs/{job_id}/result")).content)
    assert [(one.name, one.content_type) for one in listed.data] == [
        ("image-0.png", "image/png"),
        ("image-2.png", "image/png"),
    ]


async def test_the_result_of_a_job_whose_pictures_were_all_blocked_says_so(desk: Desk) -> None:
    answer = await finished(desk, "/v1/images", {"model": "sketch", "prompt": "x"}, NONE_MADE)
    result = await desk.client.get(f"/v1/jobs/{answer.json()['id']}/result")
    assert (result.status_code, result.json()) == (200, NONE_MADE)


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
