"""What a batch has given so far, over HTTP: while it runs, when it has ended, when its files are gone."""

import asyncio
import gc
import json
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from producer_api import batch_output
from schemas.batches import LineStatus
from storage import batch_lines
from storage.batch_lines import ClaimedLine, EndedGroup, LineClaim, LineEnding
from storage.objects.port import answer_key
from tests.api import QUEUE, Desk
from tests.contract.sql import CALLER
from tests.integration.batches import Office, chat_lines

AT = "/v1/batches"


@pytest.fixture
def office(desk: Desk) -> Office:
    """What validates batches and makes their files, over the stores of the API."""
    return Office(desk.database, desk.objects, desk.services.catalog)


@pytest.fixture
def owner(desk: Desk) -> httpx.AsyncClient:
    """A client of the caller whose batches the office makes."""
    statement = "INSERT INTO callers (id, name, created_at) VALUES (?, 'owner', 0)"
    desk.database.transact(lambda c: c.exec_driver_sql(statement, (CALLER,)))
    desk.client.headers.update(desk.bearer("owner"))
    return desk.client


def claim(desk: Desk, limit: int) -> list[ClaimedLine]:
    """Take lines as a worker would."""
    worker = desk.worker()
    return desk.database.write(batch_lines.claim, LineClaim(QUEUE, worker.id, limit))


def finish(desk: Desk, batch_id: str, lines: list[ClaimedLine], *, failed: tuple[int, ...] = ()) -> None:
    """End lines in one group, in the wrong order."""
    content, endings = b"", []
    for line in reversed(lines):
        place = line.id & 0xFFFFF
        said = json.dumps({"custom_id": f"line-{place}"}).encode() + b"\n"
        status = LineStatus.FAILED if place in failed else LineStatus.SUCCEEDED
        endings.append(LineEnding(line.id, line.attempt, status, len(content), len(said)))
        content += said
    name = f"group{lines[0].id}"
    desk.objects.put(answer_key(batch_id, name), content, "application/jsonl")
    desk.database.write(batch_lines.finish, EndedGroup(name, endings))


async def read(client: httpx.AsyncClient, batch_id: str, what: str = "output") -> list[str]:
    """The custom_ids of what was given so far."""
    answer = await client.get(f"{AT}/{batch_id}/{what}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jsonl"), answer.text
    return [json.loads(line)["custom_id"] for line in answer.content.splitlines()]


async def test_what_is_done_so_far_comes_in_the_order_of_the_input(
    desk: Desk, office: Office, owner: httpx.AsyncClient
) -> None:
    batch_id = office.publish(chat_lines(["hello"] * 12))
    assert await read(owner, batch_id) == []
    first, second, third = (claim(desk, 4) for _ in range(3))
    finish(desk, batch_id, third, failed=(9,))
    finish(desk, batch_id, first)
    assert await read(owner, batch_id) == [f"line-{place}" for place in (0, 1, 2, 3, 8, 10, 11)]
    assert await read(owner, batch_id, "errors") == ["line-9"]
    finish(desk, batch_id, second)
    assert office.clerk.work_once()
    seen = (await owner.get(f"{AT}/{batch_id}")).json()
    assert (seen["status"], seen["request_counts"]["failed"]) == ("completed", 1)
    assert await read(owner, batch_id) == [f"line-{place}" for place in range(12) if place != 9]
    content = await owner.get(f"/v1/files/{seen['output_file_id']}/content")
    assert content.content == (await owner.get(f"{AT}/{batch_id}/output")).content
    assert await read(owner, batch_id, "errors") == ["line-9"]


async def test_lines_that_were_canceled_say_so(desk: Desk, office: Office, owner: httpx.AsyncClient) -> None:
    batch_id = office.publish(chat_lines(["hello"] * 3))
    finish(desk, batch_id, claim(desk, 1))
    assert (await owner.post(f"{AT}/{batch_id}/cancel")).json()["status"] == "cancelling"
    for _ in range(2):
        assert await read(owner, batch_id) == ["line-0"]
        assert await read(owner, batch_id, "errors") == ["line-1", "line-2"]
        office.clerk.work_once()
    errors = (await owner.get(f"{AT}/{batch_id}/errors")).content.splitlines()
    assert [json.loads(line)["error"]["code"] for line in errors] == ["batch_cancelled"] * 2


async def test_a_batch_that_failed_has_given_nothing(office: Office, owner: httpx.AsyncClient) -> None:
    batch_id = office.create(b"no json\n")
    office.clerk.work_once()
    assert (await owner.get(f"{AT}/{batch_id}")).json()["errors"]["data"][0]["line"] == 1
    assert (await read(owner, batch_id), await read(owner, batch_id, "errors")) == ([], [])


async def test_a_file_that_is_gone_is_gone(desk: Desk, office: Office, owner: httpx.AsyncClient) -> None:
    batch_id = office.publish(chat_lines(["hello"]))
    finish(desk, batch_id, claim(desk, 1))
    office.clerk.work_once()
    output = office.row(batch_id).output_file_id
    assert (await owner.delete(f"/v1/files/{output}")).status_code == 200
    answer = await owner.get(f"{AT}/{batch_id}/output")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")


async def test_others_read_nothing(desk: Desk, office: Office, owner: httpx.AsyncClient) -> None:
    batch_id = office.publish(chat_lines(["hello"]))
    stranger: dict[str, Any] = {"headers": desk.bearer("stranger")}
    for what in ("output", "errors"):
        assert (await owner.get(f"{AT}/{batch_id}/{what}", **stranger)).status_code == 404
    blind: dict[str, Any] = {"headers": desk.bearer("owner", ("submit",))}
    assert (await owner.get(f"{AT}/{batch_id}/output", **blind)).status_code == 403


@pytest.mark.parametrize("ends_at", [1, 3])
async def test_an_answer_that_the_end_has_cut_is_never_taken_for_whole(
    desk: Desk, office: Office, owner: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, ends_at: int
) -> None:
    batch_id = office.publish(chat_lines(["hello"] * 3))
    finish(desk, batch_id, claim(desk, 3))
    walk, calls = batch_lines.walk, [0]

    def walk_late(connection: Any, number: int, after: int, _: int) -> Any:
        calls[0] += 1
        if calls[0] == ends_at:
            assert office.clerk.work_once()
        return walk(connection, number, after, 1)

    monkeypatch.setattr(batch_output, "PIECE_BYTES", 1)
    monkeypatch.setattr(batch_lines, "walk", walk_late)
    if ends_at == 1:
        answer = await owner.get(f"{AT}/{batch_id}/output")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    else:  # the first line is on its way; the transport misses the end of the answer
        with pytest.raises(AssertionError), capture_logs() as logs:
            await owner.get(f"{AT}/{batch_id}/output")
        said = [(one["log_level"], one["event"]) for one in logs if one["log_level"] != "info"]
        assert said == [("warning", "An answer was cut short.")]
    monkeypatch.undo()
    assert office.row(batch_id).status == "completed"
    assert len(await read(owner, batch_id)) == 3


async def test_a_reader_who_leaves_in_the_middle_is_no_event(
    desk: Desk, office: Office, owner: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = office.publish(chat_lines(["hello"] * 40))
    finish(desk, batch_id, claim(desk, 40))
    monkeypatch.setattr(batch_output, "PIECE_BYTES", 1)
    got = asyncio.Event()
    pieces: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await got.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            pieces.append(message["body"])
            got.set()
            await asyncio.sleep(0)

    headers = [(name.lower().encode(), value.encode()) for name, value in owner.headers.items()]
    path = f"{AT}/{batch_id}/output"
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    with capture_logs() as logs:
        await desk.app(scope | {"headers": headers, "http_version": "1.1", "scheme": "http"}, receive, send)
        gc.collect()
        await asyncio.sleep(0)
    assert 0 < len(pieces) < 40
    assert [one for one in logs if one["log_level"] != "info"] == []
    assert office.row(batch_id).status == "finalizing"
