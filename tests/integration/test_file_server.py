"""Files through a real API process into real S3: large ones, several at once, and clients that leave in the middle."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import openai
import pytest

from storage.objects.writer import PART_BYTES
from tests.api import eventually
from tests.integration.house import House

MIB = 2**20
PIECE = b'{"custom_id":"a","body":"hello!"}\n' * 2048
PIECES = 200 * MIB // len(PIECE)
"""As large a file as is taken."""
GROWTH = 50 * MIB
HEAD = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="large.jsonl"\r\n\r\n'
)
TAIL = b"\r\n--b--\r\n"


def official(house: House) -> openai.AsyncOpenAI:
    """The official client as it comes."""
    return openai.AsyncOpenAI(base_url=f"{house.server.url}/v1", api_key=house.desk.key())


async def test_the_official_client_uploads_finds_reads_and_deletes(house: House) -> None:
    content = PIECE * 80  # a part and some
    async with official(house) as client:
        made = await client.files.create(file=("lines.jsonl", io.BytesIO(content)), purpose="batch")
        assert (made.bytes, made.filename, made.status) == (len(content), "lines.jsonl", "processed")
        assert await client.files.retrieve(made.id) == made
        assert made in [one async for one in client.files.list()]
        assert (await client.files.content(made.id)).content == content
        assert (await client.files.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.content(made.id)
    assert house.desk.objects.list(f"files/{made.id}/", None, 10) == []


async def large_form() -> AsyncIterator[bytes]:
    yield HEAD
    for _ in range(PIECES):
        yield PIECE
    yield TAIL


async def send(house: House) -> str:
    """Upload as large a file as is taken; its id."""
    length = len(HEAD) + PIECES * len(PIECE) + len(TAIL)
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(length)}
    answer = await house.desk.client.post("/v1/files", content=large_form(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["bytes"] == PIECES * len(PIECE)
    return str(answer.json()["id"])


async def receive(house: House, file_id: str) -> str:
    """Download a file; its hash."""
    digest = hashlib.sha256()
    async with house.desk.client.stream("GET", f"/v1/files/{file_id}/content") as answer:
        async for piece in answer.aiter_bytes():
            digest.update(piece)
    return digest.hexdigest()


async def test_the_largest_files_pass_through_and_none_stays_in_memory(own_house: House) -> None:
    memory = own_house.server.process.memory_info
    await own_house.desk.client.get("/v1/files")
    before, peak = memory().rss, 0

    async def look() -> None:
        nonlocal peak
        while True:
            peak = max(peak, memory().rss)
            assert (await own_house.desk.client.get("/health/live")).status_code == 200
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    ids = await asyncio.gather(*(send(own_house) for _ in range(2)))
    hashes = await asyncio.gather(*(receive(own_house, file_id) for file_id in ids))
    assert not looking.done()
    looking.cancel()
    expected = hashlib.sha256()
    for _ in range(PIECES):
        expected.update(PIECE)
    assert set(hashes) == {expected.hexdigest()}
    assert peak - before < GROWTH
    for file_id in ids:
        await own_house.desk.client.delete(f"/v1/files/{file_id}")


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(own_house: House) -> None:
    address = urlsplit(own_house.server.url)
    key = own_house.desk.client.headers["authorization"]
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nContent-Length: {100 * MIB}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
    )
    writer.write(HEAD + b"x" * (2 * PART_BYTES))
    await writer.drain()
    await asyncio.sleep(0.5)  # the first part is on its way
    writer.close()

    async def is_logged() -> bool:
        return '"/v1/files"' in own_house.server.log.read_text()

    await eventually(is_logged)
    [line] = [json.loads(line) for line in own_house.server.log.read_text().splitlines() if '"/v1/files"' in line]
    assert (line["status"], line["level"]) == (499, "info")
    assert own_house.desk.objects.abort_uploads("files/", 9e9) == 0
    assert own_house.desk.objects.list("files/", None, 10) == []


async def test_the_official_client_learns_that_a_file_is_too_large(sqlite_house: House) -> None:
    async with official(sqlite_house) as client:
        with pytest.raises(openai.APIStatusError, match="larger than 200") as raised:
            await client.files.create(file=("large.jsonl", bytes(240 * MIB)), purpose="batch")
    assert raised.value.status_code == 413
    assert sqlite_house.desk.objects.list("files/", None, 10) == []
