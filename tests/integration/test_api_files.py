"""Files over HTTP, as OpenAI's own client and as plain forms bring them."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from producer_api import body, uploads
from schemas.base import JsonObject
from schemas.errors import ObjectStoreFaultError
from storage.objects.memory import MemoryObjectStore
from storage.objects.port import file_key
from storage.objects.writer import PART_BYTES
from tests.api import Desk, open_desk, with_settings

LINES = b'{"custom_id":"a"}\n{"custom_id":"b"}\n'
FORM = {"purpose": "batch"}
MIB = 2**20
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
BOUNDARY = "multipart/form-data; boundary=b"


@pytest.fixture
def client(desk: Desk) -> openai.AsyncOpenAI:
    """The official client, with a key of the caller `local`."""
    return openai_client(desk, desk.key())


def openai_client(desk: Desk, key: str) -> openai.AsyncOpenAI:
    """The official client on the desk's transport."""
    wire: Any = desk.client
    return openai.AsyncOpenAI(api_key=key, base_url="http://stoker.test/v1", http_client=wire, max_retries=0)


def given(content: bytes, name: str = "lines.jsonl") -> dict[str, tuple[str, bytes]]:
    """A form's file."""
    return {"file": (name, content)}


async def upload(desk: Desk, content: bytes = LINES, **fields: str) -> JsonObject:
    """Upload a file; what was answered."""
    answer = await desk.client.post("/v1/files", files=given(content), data=FORM | fields)
    assert answer.status_code == 200, answer.text
    told: JsonObject = answer.json()
    return told


def keys(desk: Desk) -> list[str]:
    """Every object there is."""
    return [entry.key for entry in desk.objects.list("", None, 100)]


async def test_the_official_client_lives_a_files_whole_life(desk: Desk, client: openai.AsyncOpenAI) -> None:
    made = await client.files.create(file=("lines.jsonl", LINES), purpose="batch")
    assert (made.object, made.filename, made.bytes, made.purpose) == ("file", "lines.jsonl", len(LINES), "batch")
    assert made.expires_at == pytest.approx(made.created_at + 30 * 86_400, abs=1)
    assert await client.files.retrieve(made.id) == made
    assert [one async for one in client.files.list(purpose="batch")] == [made]
    assert (await client.files.content(made.id)).content == LINES
    gone = await client.files.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "file")
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="There is no file"):
            await call(made.id)
    assert keys(desk) == []


async def test_an_upload_that_is_repeated_with_its_key_is_one_file(desk: Desk) -> None:
    async def send(content: bytes, key: str) -> httpx.Response:
        headers = {"Idempotency-Key": key}
        return await desk.client.post("/v1/files", files=given(content), data=FORM, headers=headers)

    first, again, other = [await send(LINES, key) for key in ("k", "k", "l")]
    assert first.json() == again.json() != other.json()
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    changed = await send(LINES * 2, "k")
    assert (changed.status_code, changed.json()["error"]["code"]) == (400, "idempotency_mismatch")
    assert keys(desk) == sorted(file_key(one.json()["id"]) for one in (first, other))
    await desk.client.delete(f"/v1/files/{first.json()['id']}")
    assert (await send(LINES, "k")).status_code == 410
    assert keys(desk) == [file_key(other.json()["id"])]


async def test_a_file_expires_when_its_caller_wishes(desk: Desk, client: openai.AsyncOpenAI) -> None:
    made = await client.files.create(
        file=("lines.jsonl", LINES), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == pytest.approx(made.created_at + 3600, abs=1)
    desk.database.transact(lambda connection: connection.exec_driver_sql("UPDATE files SET expires_at = 1"))
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)


async def test_lists_are_walked_page_by_page(desk: Desk, client: openai.AsyncOpenAI) -> None:
    ids = [(await upload(desk))["id"] for _ in range(5)]
    page = await client.files.list(limit=2)
    assert ([one.id for one in page.data], page.has_more) == ([ids[4], ids[3]], True)
    assert [one.id async for one in page] == ids[::-1]
    assert [one.id async for one in client.files.list(limit=2, order="asc")] == ids
    assert (await client.files.list(purpose="batch_output")).data == []


async def test_files_belong_to_their_caller(desk: Desk, client: openai.AsyncOpenAI) -> None:
    made = await upload(desk)
    other = openai_client(desk, desk.key("somebody", ("submit", "read")))
    assert (await other.files.list()).data == []
    for call in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError):
            await call(made["id"])
    admin = desk.bearer("boss")
    for address in ("/v1/files", f"/v1/files/{made['id']}", f"/v1/files/{made['id']}/content"):
        assert (await desk.client.get(address, params={"caller": "local"}, headers=admin)).status_code == 200
    with pytest.raises(openai.PermissionDeniedError):
        await other.files.list(extra_query={"caller": "local"})
    assert (await client.files.content(made["id"])).content == LINES
    gone = await desk.client.delete(f"/v1/files/{made['id']}", params={"caller": "local"}, headers=admin)
    assert (gone.status_code, gone.json()["deleted"]) == (200, True)


@pytest.mark.parametrize("scopes", [("read",), ("submit",)])
async def test_a_key_needs_its_scope(desk: Desk, scopes: tuple[str, ...]) -> None:
    made, headers = await upload(desk), desk.bearer("local", scopes)
    sent = await desk.client.post("/v1/files", files=given(LINES), data=FORM, headers=headers)
    read = await desk.client.get(f"/v1/files/{made['id']}", headers=headers)
    gone = await desk.client.delete(f"/v1/files/{made['id']}", headers=headers)
    expected = (403, 200, 403) if scopes == ("read",) else (200, 403, 200)
    assert (sent.status_code, read.status_code, gone.status_code) == expected


@pytest.mark.parametrize("size", [1, PART_BYTES, 2 * PART_BYTES + 1])
async def test_any_size_comes_back_as_it_went(desk: Desk, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    made = await upload(desk, content)
    answer = await desk.client.get(f"/v1/files/{made['id']}/content")
    assert answer.content == content
    assert int(answer.headers["content-length"]) == made["bytes"] == size
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''lines.jsonl"
    row = desk.database.read(lambda connection: connection.exec_driver_sql("SELECT sha256 FROM files").scalar_one())
    assert row == hashlib.sha256(content).hexdigest()


async def test_the_fields_may_come_after_the_file(desk: Desk) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="\xed\x95\x98\xeb\x8a\x98 1.jsonl"\r\n'
        b"Content-Type: application/json\r\n\r\n" + LINES + b"\r\n"
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
    )
    answer = await desk.client.post("/v1/files", content=body, headers={"Content-Type": BOUNDARY})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["filename"], answer.json()["bytes"]) == ("하늘 1.jsonl", len(LINES))


BAD: dict[str, tuple[Any, Any, str]] = {
    "no purpose": (given(LINES), {}, "'purpose' is missing"),
    "another purpose": (given(LINES), {"purpose": "fine-tune"}, "'purpose' is not valid"),
    "an unknown field": (given(LINES), FORM | {"color": "red"}, "no field 'color'"),
    "too short a life": (
        given(LINES),
        FORM | {"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"},
        "'expires_after.seconds' is not valid",
    ),
    "half an expiry": (given(LINES), FORM | {"expires_after[seconds]": "3600"}, "'expires_after.anchor' is missing"),
    "a field that is two things": (
        given(LINES),
        FORM | {"expires_after": "x", "expires_after[seconds]": "1"},
        "valid",
    ),
    "no file": ({"purpose": (None, "batch")}, {}, "The form has no file"),
    "a file that is a field": ({"file": (None, "x"), "purpose": (None, "batch")}, {}, "There is no field 'file' here"),
    "an empty file": (given(b""), FORM, "The form has no file, or an empty one"),
    "another file": ({"image": ("a", LINES)}, FORM, "in the field 'file'"),
    "two files": ([("file", ("a", LINES)), ("file", ("b", LINES))], FORM, "The form has one file"),
    "a long name": (given(LINES, "x" * 256), FORM, "1 to 255 printable characters"),
    "many fields": (given(LINES), {f"f{number}": "x" for number in range(30)}, "more than 20 fields"),
    "a long field": (given(LINES), {"purpose": "x" * 5000}, "more than 4096 bytes"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_form_leaves_nothing(desk: Desk, name: str) -> None:
    sent, fields, sentence = BAD[name]
    answer = await desk.client.post("/v1/files", files=sent, data=fields)
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["error"]["message"]
    assert (await desk.client.get("/v1/files")).json()["data"] == []


NO_FORM = {
    "JSON": ("application/json", b"{}", "Send a form"),
    "no boundary": ("multipart/form-data", b"", "Send a form"),
    "a long boundary": (f"multipart/form-data; boundary={'b' * 500}", b"", "Send a form"),
    "no form": (BOUNDARY, b"hello", "broken or incomplete"),
    "half a form": (BOUNDARY, PART + b"half", "broken or incomplete"),
    "long headers": (BOUNDARY, PART.replace(b'"x"', b"x" * 10_000), "broken or incomplete"),
}


@pytest.mark.parametrize("name", NO_FORM)
async def test_what_is_no_form_is_refused(desk: Desk, name: str) -> None:
    content_type, body, sentence = NO_FORM[name]
    answer = await desk.client.post("/v1/files", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
    assert sentence in answer.json()["error"]["message"]
    assert keys(desk) == []


async def test_a_name_has_no_zero_byte(desk: Desk) -> None:
    body = PART.replace(b'"x"', b'"a\0b"') + b"content\r\n--b--\r\n"
    answer = await desk.client.post("/v1/files", content=body, headers={"Content-Type": BOUNDARY})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "10001"}, {"order": "up"}, {"colour": "red"}, {"after": "file_1"}],
    ids=lambda query: str(*query),
)
async def test_a_bad_list_is_refused(desk: Desk, query: dict[str, str]) -> None:
    answer = await desk.client.get("/v1/files", params=query)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], " parameter '" in error["message"]) == (400, *query, True)


async def test_a_file_beyond_the_limit_is_refused_by_its_length_and_by_counting(desk: Desk) -> None:
    async with open_desk(with_settings(desk.services, max_file_bytes=MIB)) as small:
        assert (await upload(small, b"x" * MIB))["bytes"] == MIB

        async def endless() -> AsyncIterator[bytes]:
            yield PART
            for _ in range(100):
                yield b"x" * MIB

        by_length = await small.client.post("/v1/files", files=given(b"x" * 2 * MIB), data=FORM)
        just_over = await small.client.post("/v1/files", files=given(b"x" * (MIB + 1)), data=FORM)
        by_count = await small.client.post("/v1/files", content=endless(), headers={"Content-Type": BOUNDARY})
    for answer in (by_length, just_over, by_count):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large"), answer.text
    assert "The file is larger than 1 MiB" in just_over.text
    assert len(keys(desk)) == 1


async def test_a_gigabyte_is_refused_by_its_length_alone(desk: Desk) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield PART

    headers = {"Content-Type": BOUNDARY, "Content-Length": str(1024 * MIB)}
    answer = await desk.client.post("/v1/files", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert "larger than 200 MiB; split it into several" in answer.json()["error"]["message"]
    assert keys(desk) == []


async def test_other_bodies_keep_their_limit(desk: Desk) -> None:
    answer = await desk.client.post("/v1/jobs", content=b"x" * 9 * MIB)
    assert answer.status_code == 413


async def test_an_upload_that_falls_silent_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(body, "SILENT_SECONDS", 0.05)

    async def silent() -> AsyncIterator[bytes]:
        yield PART + b"x" * (PART_BYTES + 1)
        await asyncio.sleep(60)

    answer = await desk.client.post("/v1/files", content=silent(), headers={"Content-Type": BOUNDARY})
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "upload_timeout")
    assert desk.objects.abort_uploads("files/", 9e9) == 0


async def test_a_callers_slow_uploads_do_not_take_every_place(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PLACES", 2)
    monkeypatch.setattr(uploads, "PLACES_EACH", 1)
    monkeypatch.setattr(uploads, "PLACE_SECONDS", 0.2)
    async with open_desk(desk.services) as narrow:
        has_a_place, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            has_a_place.set()
            yield PART
            await go_on.wait()

        headers = {**narrow.bearer("somebody"), "Content-Type": BOUNDARY}
        slow_ones = [
            asyncio.create_task(narrow.client.post("/v1/files", content=slow(), headers=headers)) for _ in range(2)
        ]
        await has_a_place.wait()
        await upload(narrow)
        go_on.set()
        assert 400 in [(await one).status_code for one in slow_ones]


async def test_when_every_place_is_taken_others_are_told_to_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PLACES", 1)
    monkeypatch.setattr(uploads, "PLACE_SECONDS", 0.05)
    async with open_desk(desk.services) as narrow:
        has_a_place, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            has_a_place.set()
            yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            yield PART
            await go_on.wait()
            yield b"content\r\n--b--\r\n"

        headers = {"Content-Type": BOUNDARY}
        first = asyncio.create_task(narrow.client.post("/v1/files", content=slow(), headers=headers))
        await has_a_place.wait()
        refused = await narrow.client.post("/v1/files", files=given(LINES), data=FORM)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert "retry-after" in refused.headers
        go_on.set()
        assert (await first).status_code == 200
        await upload(narrow)


class SickStore(MemoryObjectStore):
    def put(self, key: str, content: bytes, content_type: str) -> str:
        raise ObjectStoreFaultError

    def delete(self, keys: Any) -> None:
        raise ObjectStoreFaultError


async def test_a_sick_store_takes_no_files_and_hinders_no_deletion(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await upload(desk)
    monkeypatch.setattr(MemoryObjectStore, "put", SickStore.put)
    monkeypatch.setattr(MemoryObjectStore, "delete", SickStore.delete)
    refused = await desk.client.post("/v1/files", files=given(LINES), data=FORM)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert (await desk.client.delete(f"/v1/files/{made['id']}")).status_code == 200
    assert (await desk.client.get("/v1/files")).json()["data"] == []
    assert keys(desk) == [file_key(made["id"])]  # an orphan, for the sweep


async def test_a_store_that_hangs_holds_up_files_and_nothing_else(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, hangs = threading.Event(), threading.Semaphore(0)
    put = MemoryObjectStore.put

    def hang(store: MemoryObjectStore, key: str, content: bytes, content_type: str) -> str:
        hangs.release()
        go_on.wait(60)
        return put(store, key, content, content_type)

    monkeypatch.setattr(MemoryObjectStore, "put", hang)
    many = (os.cpu_count() or 1) + 4  # as many threads as asyncio has for everything
    hanging = [asyncio.create_task(upload(desk)) for _ in range(many)]
    for _ in range(min(many, uploads.PLACES_EACH)):
        while not hangs.acquire(blocking=False):  # noqa: ASYNC110 - a thread says so
            await asyncio.sleep(0.005)
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "answered"), 30) == "answered"
        assert not any(task.done() for task in hanging)
    finally:
        go_on.set()
    await asyncio.gather(*hanging)
