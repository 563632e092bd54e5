"""Batches over HTTP, as OpenAI's own client and as plain requests make and steer them; no line runs here."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import openai
import pytest

from schemas.base import JsonObject
from storage import batches
from storage.batches import BatchRow
from storage.objects.port import file_key
from tests.api import Desk
from tests.chats import openai_client
from tests.integration.batches import Office

LINES = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"echo"}}\n'
CHAT: Final = "/v1/chat/completions"
INPUTS: list[JsonObject] = [
    {"kind": "text", "model": "echo", "input": {"prompt": "one"}},
    {"custom_id": "mine", "kind": "text", "model": "echo", "input": {"prompt": "two"}},
]


@pytest.fixture
def client(desk: Desk) -> openai.AsyncOpenAI:
    """The official client, with a key of the caller `local`."""
    return openai_client(desk)


async def upload(desk: Desk, **headers: str) -> str:
    """Upload a file; its id."""
    files = {"file": ("lines.jsonl", LINES)}
    answer = await desk.client.post("/v1/files", data={"purpose": "batch"}, files=files, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def create(desk: Desk, **changes: Any) -> JsonObject:
    """Create a batch of a file; what was answered."""
    body = {"input_file_id": await upload(desk), "endpoint": CHAT, "completion_window": "24h"}
    answer = await desk.client.post("/v1/batches", json=body | changes)
    assert answer.status_code == 200, answer.text
    told: JsonObject = answer.json()
    return told


def row(desk: Desk, batch_id: str) -> BatchRow:
    """A batch's row, which must be there."""
    found = desk.database.read(lambda connection: batches.find(connection, batch_id))
    assert found is not None
    return found


def count(desk: Desk) -> int:
    """How many batches there are, whoever owns them."""
    statement = "SELECT count(*) FROM batches"
    return desk.database.read(lambda c: int(c.exec_driver_sql(statement).scalar_one()))


def write(desk: Desk, batch_id: str, **values: Any) -> None:
    """Change a batch's row behind the API's back, as its work would."""
    said = ", ".join(f"{name} = :{name}" for name in values)
    desk.database.transact(
        lambda c: c.exec_driver_sql(f"UPDATE batches SET {said} WHERE id = :id", {**values, "id": batch_id})  # noqa: S608 - the test's own words
    )


async def test_the_official_client_makes_looks_lists_and_cancels(desk: Desk, client: openai.AsyncOpenAI) -> None:
    file_id = await upload(desk)
    made = await client.batches.create(
        input_file_id=file_id,
        endpoint=CHAT,
        completion_window="24h",
        metadata={"run": "nightly"},
        extra_body={"output_expires_after": {"anchor": "created_at", "seconds": 3600}},
    )
    assert (made.object, made.status, made.endpoint, made.input_file_id) == ("batch", "validating", CHAT, file_id)
    assert (made.expires_at or 0) - made.created_at == 86_400
    assert made.metadata == {"run": "nightly"}
    assert made.request_counts is not None
    assert made.request_counts.total == 0
    assert made.usage is not None
    assert made.usage.total_tokens == 0
    assert row(desk, made.id).output_kept_seconds == 3600
    assert await client.batches.retrieve(made.id) == made
    assert [one async for one in client.batches.list()] == [made]
    cancelled = await client.batches.cancel(made.id)
    assert (cancelled.status, bool(cancelled.cancelling_at)) == ("cancelling", True)
    assert (await client.batches.cancel(made.id)).status == "cancelling"


async def test_everything_a_row_knows_is_told(desk: Desk, client: openai.AsyncOpenAI) -> None:
    made = await create(desk)
    flaws = [{"code": "invalid_json_line", "line": 3, "message": "The line is not valid JSON.", "param": None}]
    write(
        desk,
        made["id"],
        status="failed",
        failed_at=11.5,
        in_progress_at=7.25,
        total=9,
        completed=4,
        failed=3,
        prompt_tokens=20,
        completion_tokens=30,
        cached_tokens=8,
        errors=json.dumps(flaws),
        output_file_id="file_o",
        error_file_id="file_e",
    )
    seen = await client.batches.retrieve(made["id"])
    assert (seen.status, seen.failed_at, seen.in_progress_at) == ("failed", 11, 7)
    assert (seen.output_file_id, seen.error_file_id) == ("file_o", "file_e")
    assert seen.errors is not None
    assert [one.model_dump() for one in seen.errors.data or []] == flaws
    assert seen.request_counts is not None
    assert seen.request_counts.model_dump() == {"total": 9, "completed": 4, "failed": 3}
    assert seen.usage is not None
    assert (seen.usage.input_tokens, seen.usage.output_tokens, seen.usage.total_tokens) == (20, 30, 50)
    assert seen.usage.input_tokens_details.cached_tokens == 8


async def test_lists_are_walked_page_by_page(desk: Desk, client: openai.AsyncOpenAI) -> None:
    ids = [(await create(desk))["id"] for _ in range(3)]
    page = await client.batches.list(limit=2)
    assert ([one.id for one in page.data], page.has_more) == (ids[:0:-1], True)
    assert [one.id async for one in page] == ids[::-1]


async def test_inputs_that_come_along_become_a_file_and_a_batch(desk: Desk) -> None:
    answer = await desk.client.post("/v1/batches", json={"inputs": INPUTS, "completion_window": "90m"})
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert (made["total"], made["completed"], made["failed"]) == (2, 0, 0)
    assert (made["endpoint"], made["completion_window"]) == ("/v1/jobs", "90m")
    assert made["expires_at"] - made["created_at"] == 5400
    assert row(desk, made["id"]).output_kept_seconds == 30 * 86_400  # as every file that says nothing of it
    assert answer.headers["location"] == f"http://stoker.test/v1/batches/{made['id']}"
    written = desk.objects.get(file_key(made["input_file_id"])).splitlines()
    common = {"method": "POST", "url": "/v1/jobs"}
    assert [json.loads(line) for line in written] == [
        {"custom_id": "input-0", **common, "body": INPUTS[0]},
        {"custom_id": "mine", **common, "body": {name: INPUTS[1][name] for name in ("kind", "model", "input")}},
    ]
    content = await desk.client.get(f"/v1/files/{made['input_file_id']}/content")
    assert content.content.splitlines() == written


@pytest.mark.parametrize("is_plain", [False, True])
async def test_a_repeated_idempotency_key_is_the_same_batch(desk: Desk, *, is_plain: bool) -> None:
    body: JsonObject = {"inputs": INPUTS} if is_plain else {"input_file_id": await upload(desk), "endpoint": CHAT}
    body["completion_window"] = "24h"
    headers = {"Idempotency-Key": "once"}
    first = await desk.client.post("/v1/batches", json=body, headers=headers)
    before = [entry.key for entry in desk.objects.list("", None, 100)]
    again = await desk.client.post("/v1/batches", json=body, headers=headers)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = await desk.client.post("/v1/batches", json=body | {"metadata": {"a": "b"}}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_mismatch")
    assert (await desk.client.post("/v1/jobs", json={**INPUTS[0]}, headers=headers)).status_code == 422
    assert count(desk) == 1
    assert [entry.key for entry in desk.objects.list("", None, 100)] == before


Spoil = Callable[[Desk], Awaitable[JsonObject]]


def said(**changes: Any) -> Spoil:
    """A request for a batch of a good file that says something else, or with None does not say it."""

    async def spoil(desk: Desk) -> JsonObject:
        body = {"input_file_id": await upload(desk), "endpoint": CHAT, "completion_window": "24h"} | changes
        return {name: value for name, value in body.items() if value is not None}

    return spoil


def plain(*inputs: JsonObject, **changes: Any) -> Spoil:
    """A request with these inputs."""

    async def spoil(_: Desk) -> JsonObject:
        return {"inputs": [*inputs], **changes}

    return spoil


async def of_a_stranger(desk: Desk) -> JsonObject:
    """A request for a batch of somebody else's file."""
    return await said(input_file_id=await upload(desk, **desk.bearer("stranger")))(desk)


async def of_a_deleted_file(desk: Desk) -> JsonObject:
    """A request for a batch of a file that was deleted."""
    file_id = await upload(desk)
    assert (await desk.client.delete(f"/v1/files/{file_id}")).status_code == 200
    return await said(input_file_id=file_id)(desk)


async def of_an_expired_file(desk: Desk) -> JsonObject:
    """A request for a batch of a file whose time is over."""
    file_id = await upload(desk)
    desk.database.transact(lambda c: c.exec_driver_sql("UPDATE files SET expires_at = 1"))
    return {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}


async def of_an_output_file(desk: Desk) -> JsonObject:
    """A request for a batch of what a batch gave back."""
    file_id = await upload(desk)
    desk.database.transact(lambda c: c.exec_driver_sql("UPDATE files SET purpose = 'batch_output'"))
    return {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}


FIRST, LONG = INPUTS[0], {str(number): "" for number in range(17)}
AFTER_A_MINUTE = {"anchor": "created_at", "seconds": 60}
BAD: list[tuple[Spoil, int, str | None, str]] = [
    (of_a_stranger, 404, "input_file_id", "There is no file"),
    (of_a_deleted_file, 404, "input_file_id", "There is no file"),
    (of_an_expired_file, 404, "input_file_id", "There is no file"),
    (of_an_output_file, 400, "input_file_id", "upload one with the purpose 'batch'"),
    (said(input_file_id="file_nobody"), 404, "input_file_id", "GET /v1/files"),
    (said(input_file_id=None), 400, "input_file_id", "is missing"),
    (said(input_file_id=7), 400, "input_file_id", "valid string"),
    (said(endpoint="/v1/responses"), 400, "endpoint", "'/v1/chat/completions', '/v1/embeddings'"),
    (said(endpoint=None), 400, "endpoint", "is missing"),
    (said(completion_window="soon"), 400, "completion_window", "such as '24h'"),
    (said(completion_window="8d"), 400, "completion_window", "7 days at most"),
    (said(completion_window="0h"), 400, "completion_window", "such as '24h'"),
    (said(completion_window=None), 400, "completion_window", "is missing"),
    (said(metadata=LONG), 400, "metadata", "at most 16 items"),
    (said(metadata={"a": "x" * 513}), 400, "metadata.a", "at most 512 characters"),
    (said(metadata={"a": 1}), 400, "metadata.a", "valid string"),
    (said(output_expires_after=AFTER_A_MINUTE), 400, "output_expires_after.seconds", "3600"),
    (said(webhook={"url": "http://127.0.0.1:1/"}), 400, "webhook.url", "must begin with https://"),
    (said(webhook={"url": "https://a.example", "events": ["job.failed"]}), 400, "webhook.events.0", "batch.completed"),
    (said(nonsense=1), 400, "nonsense", "There is no field 'nonsense'"),
    (plain(), 400, "inputs", "at least 1 item"),
    (plain(FIRST, {**FIRST, "kind": "embedding"}), 400, None, "inputs[1] embedding; make a batch for each kind"),
    (plain({**FIRST, "kind": "sound"}), 400, "inputs.0.kind", "'text', 'image' or 'embedding'"),
    (plain({"kind": "text", "input": {}}), 400, "inputs.0.model", "is missing"),
    (plain({**FIRST, "policy": {}}), 400, "inputs.0.policy", "There is no field"),
    (plain({**FIRST, "custom_id": "a"}, {**FIRST, "custom_id": "a"}), 400, None, "the custom_id 'a'"),
    (plain(FIRST, completion_window="soon"), 400, "completion_window", "such as '24h'"),
    (plain(FIRST, input_file_id="file_x"), 400, "input_file_id", "There is no field"),
]


@pytest.mark.parametrize(("spoil", "status", "param", "words"), BAD)
async def test_a_bad_wish_never_becomes_a_batch(
    desk: Desk, spoil: Spoil, status: int, param: str | None, words: str
) -> None:
    answer = await desk.client.post("/v1/batches", json=await spoil(desk))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert words in error["message"]
    assert count(desk) == 0


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 400), (b"[]", 400), (b"{", 400), (b"\xff", 400), (b"[" * 100_000, 400)]
)
async def test_what_is_no_object_is_refused(desk: Desk, content: bytes, status: int) -> None:
    answer = await desk.client.post("/v1/batches", content=content)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")


async def test_a_body_over_the_limit_is_refused_by_its_length(desk: Desk) -> None:
    answer = await desk.client.post("/v1/batches", content=b" " * (9 * 2**20))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


async def test_more_inputs_than_a_batch_may_have_are_refused(desk: Desk) -> None:
    inputs = [{"kind": "text", "model": "echo", "input": {}}] * 50_001
    answer = await desk.client.post("/v1/batches", json={"inputs": inputs})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "A batch has 50,000 lines at most, and this one 50,001; make several."
    assert (count(desk), [*desk.objects.list("", None, 100)]) == (0, [])


VERBS = ("cancel", "pause", "resume")


async def test_others_see_nothing_of_a_batch_and_admins_see_all(desk: Desk) -> None:
    headers: dict[str, Any] = {"headers": desk.bearer("stranger", ("submit", "read"))}
    batch_id = (await create(desk))["id"]
    answers = [await desk.client.get(f"/v1/batches/{batch_id}", **headers)]
    answers += [await desk.client.post(f"/v1/batches/{batch_id}/{verb}", **headers) for verb in VERBS]
    assert [one.status_code for one in answers] == [404] * 4
    assert "There is no batch" in answers[0].json()["error"]["message"]
    assert (await desk.client.get("/v1/batches", **headers)).json()["data"] == []
    admin: dict[str, Any] = {"headers": desk.bearer("boss"), "params": {"caller": "local"}}
    assert (await desk.client.get(f"/v1/batches/{batch_id}", **admin)).json()["id"] == batch_id
    assert [one["id"] for one in (await desk.client.get("/v1/batches", **admin)).json()["data"]] == [batch_id]
    assert row(desk, batch_id).status == "validating"


async def test_keys_do_only_what_their_scopes_say(desk: Desk) -> None:
    batch_id = (await create(desk))["id"]
    reader, writer = desk.bearer(scopes=("read",)), desk.bearer(scopes=("submit",))
    assert (await desk.client.get(f"/v1/batches/{batch_id}", headers=writer)).status_code == 403
    assert (await desk.client.get("/v1/batches", headers=writer)).status_code == 403
    for path in ("", *(f"/{batch_id}/{verb}" for verb in VERBS)):
        assert (await desk.client.post(f"/v1/batches{path}", json={}, headers=reader)).status_code == 403
    assert (await desk.client.get(f"/v1/batches/{batch_id}", headers={"Authorization": ""})).status_code == 401


async def test_a_batch_is_paused_and_resumed_until_it_ends(desk: Desk) -> None:
    batch_id = (await create(desk))["id"]
    for verb, paused in (("pause", True), ("pause", True), ("resume", False), ("resume", False)):
        answer = await desk.client.post(f"/v1/batches/{batch_id}/{verb}")
        assert (answer.status_code, answer.json()["paused"]) == (200, paused)
    write(desk, batch_id, status="completed")
    for verb in ("pause", "resume"):
        answer = await desk.client.post(f"/v1/batches/{batch_id}/{verb}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
        said = f"The batch is completed, so nothing of it is left that could be {verb.removesuffix('e')}ed."
        assert answer.json()["error"]["message"] == said
    assert (await desk.client.post(f"/v1/batches/{batch_id}/cancel")).json()["status"] == "completed"


async def test_a_file_that_a_batch_needs_stays(desk: Desk, client: openai.AsyncOpenAI) -> None:
    made = await create(desk)
    with pytest.raises(openai.ConflictError, match=f"The batch '{made['id']}' still needs this file"):
        await client.files.delete(made["input_file_id"])
    assert (await client.files.retrieve(made["input_file_id"])).id == made["input_file_id"]
    write(desk, made["id"], status="completed")
    assert (await client.files.delete(made["input_file_id"])).deleted


async def test_the_official_client_maps_what_is_wrong(desk: Desk, client: openai.AsyncOpenAI) -> None:
    good: JsonObject = {"input_file_id": await upload(desk), "endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError, match="completion_window"):
        await client.batches.create(**good | {"completion_window": "soon"})
    with pytest.raises(openai.NotFoundError, match="There is no file"):
        await client.batches.create(**good | {"input_file_id": "file_none"})
    with pytest.raises(openai.NotFoundError, match="There is no batch"):
        await client.batches.retrieve("batch_none")
    with pytest.raises(openai.PermissionDeniedError):
        await openai_client(desk, api_key=desk.key(scopes=("read",))).batches.create(**good)
    with pytest.raises(openai.AuthenticationError):
        await openai_client(desk, api_key="sk-wrong").batches.list()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "greater than or equal to 1"),
        ("limit=101", "less than or equal to 100"),
        ("x=1", "no parameter 'x'"),
    ],
)
async def test_a_bad_list_is_refused(desk: Desk, query: str, words: str) -> None:
    answer = await desk.client.get(f"/v1/batches?{query}")
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


async def test_whatever_inputs_hold_their_file_is_a_good_one(desk: Desk) -> None:
    odd = ["a\nb", "\r", "\x00", "\u2028", "한글 😀", '"', "x" * 512]
    inputs = [{**INPUTS[0], "custom_id": name, "input": {"prompt": name, "odd": {name: [name]}}} for name in odd]
    answer = await desk.client.post("/v1/batches", json={"inputs": inputs})
    assert answer.status_code == 202, answer.text
    office = Office(desk.database, desk.objects, desk.services.catalog)
    assert office.clerk.work_once()
    seen = office.row(answer.json()["id"])
    assert (seen.status, seen.errors, seen.total) == ("in_progress", None, len(odd))


@pytest.mark.parametrize(
    "content",
    [
        b'{"inputs": [{"kind": "text", "model": "echo", "input": {"temperature": NaN}}]}',
        b'{"inputs": [{"kind": "text", "model": "echo", "input": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}]}",
        b'{"inputs": [{"kind": "text", "model": "echo", "input": {"prompt": "\\ud800"}}]}',
        b'{"inputs": [{"kind": "text", "model": "echo", "input": {"prompt": "\xff"}}]}',
    ],
    ids=["nan", "deep", "half a pair", "not utf-8"],
)
async def test_inputs_that_are_no_json_are_refused(desk: Desk, content: bytes) -> None:
    answer = await desk.client.post("/v1/batches", content=content)
    assert answer.status_code == 400, answer.text
    assert (count(desk), [*desk.objects.list("", None, 100)]) == (0, [])
